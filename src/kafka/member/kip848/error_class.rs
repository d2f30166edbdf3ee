//! Classes of krafka's errors by what they mean for a member: try again, begin again, or end.

use krafka::error::{ErrorCode, KrafkaError, ProtocolErrorKind};

use super::group_consumer::unsupported;
use crate::kafka::fault::Fault;

/// What becomes of the member after an error of a poll.
#[derive(Debug)]
pub(super) enum ErrorClass {
    /// The next poll may succeed.
    Retry(Fault),
    /// The consumer will do nothing any more; another one may.
    Anew(Fault),
    /// The broker makes no sense of the member. After a coordinator has moved this is krafka's doing: it
    /// forgets its member id and then joins with partitions in hand, which no new member may have.
    Confused(Fault),
    /// Another member still holds the instance id.
    Unreleased(Fault),
    /// These partitions stand where the log is not.
    OutOfRange(Vec<(String, i32)>),
    /// A batch cannot be decoded: damaged on the way, if the next poll succeeds, or in the log.
    Undecodable(Fault),
    /// Nothing will help.
    End(Fault),
}

impl ErrorClass {
    pub(super) fn of(error: &KrafkaError) -> Self {
        match error {
            KrafkaError::NoOffset { partitions } => Self::OutOfRange(partitions.clone()),
            KrafkaError::Broker { code, .. } => Self::of_code(*code, error.into()),
            KrafkaError::Protocol {
                kind: ProtocolErrorKind::UnknownApiVersion,
                ..
            } => Self::End(unsupported()),
            // Some of these kinds may be the connection's, but not where a batch is named.
            KrafkaError::Protocol { kind, message }
                if !kind.is_retriable() || message.contains("undecodable record batch") =>
            {
                Self::Undecodable(error.into())
            }
            // A leave that was overtaken, or a member that gave up: only a new consumer joins again.
            KrafkaError::IllegalState { .. } | KrafkaError::Closed { .. } => {
                Self::Anew(error.into())
            }
            // Of a heartbeat, where a join says it by its code.
            KrafkaError::Fenced { .. } => {
                Self::of_code(ErrorCode::UnreleasedInstanceId, error.into())
            }
            KrafkaError::Auth { .. } | KrafkaError::Config { .. } => Self::End(error.into()),
            _ => Self::Retry(error.into()),
        }
    }

    fn of_code(code: ErrorCode, fault: Fault) -> Self {
        match code {
            ErrorCode::UnreleasedInstanceId | ErrorCode::FencedInstanceId => {
                Self::Unreleased(Fault {
                    retriable: true,
                    ..fault
                })
            }
            ErrorCode::UnsupportedVersion => Self::End(unsupported()),
            ErrorCode::InvalidRequest => Self::Confused(fault),
            ErrorCode::GroupAuthorizationFailed
            | ErrorCode::TopicAuthorizationFailed
            | ErrorCode::ClusterAuthorizationFailed
            | ErrorCode::SaslAuthenticationFailed
            | ErrorCode::InvalidGroupId
            | ErrorCode::InvalidTopic
            | ErrorCode::InvalidRegularExpression
            | ErrorCode::UnsupportedAssignor
            | ErrorCode::InconsistentGroupProtocol
            | ErrorCode::GroupIdNotFound
            | ErrorCode::GroupMaxSizeReached => Self::End(fault),
            _ => Self::Retry(fault),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_is_of_the_class_that_the_protocol_gives_it() {
        let of = |code| ErrorClass::of(&KrafkaError::broker(code, "test"));
        for code in [
            ErrorCode::GroupAuthorizationFailed,
            ErrorCode::TopicAuthorizationFailed,
            ErrorCode::InvalidGroupId,
            ErrorCode::UnsupportedAssignor,
            ErrorCode::UnsupportedVersion,
            ErrorCode::GroupMaxSizeReached,
        ] {
            assert!(matches!(of(code), ErrorClass::End(_)), "{code:?}");
        }
        for code in [
            ErrorCode::NotCoordinator,
            ErrorCode::CoordinatorLoadInProgress,
            ErrorCode::FencedMemberEpoch,
            ErrorCode::UnknownMemberId,
            ErrorCode::StaleMemberEpoch,
        ] {
            assert!(matches!(of(code), ErrorClass::Retry(_)), "{code:?}");
        }
        assert!(matches!(
            of(ErrorCode::UnreleasedInstanceId),
            ErrorClass::Unreleased(fault) if fault.retriable
        ));
    }
}
