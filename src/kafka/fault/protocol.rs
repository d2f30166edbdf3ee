//! The error codes of the Kafka protocol (as of Apache Kafka 4.3): name, kind, whether trying
//! again can help, and what to tell people.
//!
//! Whether it can help differs from Kafka's own "retriable" in a few places, because that is made
//! for a client that refreshes its metadata in between: an unknown topic stays unknown for the
//! caller of an HTTP API, while a broker that is not available comes back.

use super::{Fault, FaultKind, FaultKind as Kind};

/// The lowest code in the table.
pub(super) const FIRST: i16 = -1;
/// The highest code in the table.
pub(super) const LAST: i16 = 133;

/// One error code.
pub(super) struct Row {
    /// The number on the wire.
    pub code: i16,
    /// The name in the protocol's documentation.
    pub name: &'static str,
    /// The kind of fault.
    pub kind: FaultKind,
    /// The same operation may succeed if tried again.
    pub retriable: bool,
    /// For people.
    pub message: &'static str,
}

const fn row(
    code: i16,
    name: &'static str,
    kind: FaultKind,
    retriable: bool,
    message: &'static str,
) -> Row {
    Row {
        code,
        name,
        kind,
        retriable,
        message,
    }
}

/// The fault for `code`; one that the table does not have keeps its number in the message.
pub(super) fn fault(code: i16, detail: Option<&str>) -> Fault {
    let detail = detail.map(str::trim).filter(|d| !d.is_empty());
    let Some(row) = find(code) else {
        let message =
            format!("The broker answered with error {code}, which the gateway does not know");
        return Fault::new(
            FaultKind::Other,
            match detail {
                Some(detail) => format!("{message}: {detail}"),
                None => format!("{message}."),
            },
        );
    };
    Fault {
        kind: row.kind,
        kafka_error: Some(row.name),
        message: match detail {
            Some(detail) => format!("{} ({detail})", row.message),
            None => row.message.to_owned(),
        },
        retriable: row.retriable,
        maybe_written: false,
        field: None,
    }
}

/// The row of `code`. The codes are without a gap, so the table is its own index.
fn find(code: i16) -> Option<&'static Row> {
    let index = usize::try_from(i32::from(code) - i32::from(FIRST)).ok()?;
    TABLE.get(index).filter(|row| row.code == code)
}

#[rustfmt::skip]
pub(super) const TABLE: &[Row] = &[
    row(-1, "UNKNOWN_SERVER_ERROR", Kind::Other, false, "The broker failed and does not say why; its log does."),
    row(0, "NONE", Kind::Other, false, "No error."),
    row(1, "OFFSET_OUT_OF_RANGE", Kind::OffsetOutOfRange, false, "The offset is not in the log: retention removed it, or it is not written yet."),
    row(2, "CORRUPT_MESSAGE", Kind::Invalid, false, "The broker found the record corrupt: a bad checksum, or no key on a compacted topic."),
    row(3, "UNKNOWN_TOPIC_OR_PARTITION", Kind::UnknownTopic, false, "The topic or partition does not exist. Create it, or check its name."),
    row(4, "INVALID_FETCH_SIZE", Kind::Invalid, false, "The fetch size is not valid."),
    row(5, "LEADER_NOT_AVAILABLE", Kind::Unavailable, true, "The partition has no leader at the moment: an election is under way."),
    row(6, "NOT_LEADER_OR_FOLLOWER", Kind::Unavailable, true, "The partition's leader has just moved to another broker."),
    row(7, "REQUEST_TIMED_OUT", Kind::TimedOut, true, "The broker could not finish the request in time."),
    row(8, "BROKER_NOT_AVAILABLE", Kind::Unavailable, true, "The broker is not available."),
    row(9, "REPLICA_NOT_AVAILABLE", Kind::Unavailable, true, "The replica is not available on that broker."),
    row(10, "MESSAGE_TOO_LARGE", Kind::TooLarge, false, "The record is larger than the topic or the broker takes. Send less, or raise max.message.bytes on the topic."),
    row(11, "STALE_CONTROLLER_EPOCH", Kind::Unavailable, true, "The controller has just moved to another broker."),
    row(12, "OFFSET_METADATA_TOO_LARGE", Kind::TooLarge, false, "The metadata of the committed offset is larger than the broker takes (offset.metadata.max.bytes)."),
    row(13, "NETWORK_EXCEPTION", Kind::Unavailable, true, "The connection to the broker broke before the answer came."),
    row(14, "COORDINATOR_LOAD_IN_PROGRESS", Kind::Unavailable, true, "The coordinator is still loading its state."),
    row(15, "COORDINATOR_NOT_AVAILABLE", Kind::Unavailable, true, "The coordinator is not available."),
    row(16, "NOT_COORDINATOR", Kind::Unavailable, true, "The coordinator has just moved to another broker."),
    row(17, "INVALID_TOPIC_EXCEPTION", Kind::Invalid, false, "The topic's name is not valid, or the topic may not be used this way."),
    row(18, "RECORD_LIST_TOO_LARGE", Kind::TooLarge, false, "The batch is larger than a segment of the topic (segment.bytes). Send fewer records at once."),
    row(19, "NOT_ENOUGH_REPLICAS", Kind::Unavailable, true, "The partition has fewer replicas in sync than min.insync.replicas asks; nothing was written."),
    row(20, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", Kind::Unavailable, true, "The records were written to fewer replicas than min.insync.replicas asks. Sending them again can make duplicates."),
    row(21, "INVALID_REQUIRED_ACKS", Kind::Invalid, false, "The broker does not take this value of acks."),
    row(22, "ILLEGAL_GENERATION", Kind::Other, false, "The group has moved on to another generation; the member has to join again."),
    row(23, "INCONSISTENT_GROUP_PROTOCOL", Kind::Invalid, false, "The member's assignment strategies do not fit those of the group's other members."),
    row(24, "INVALID_GROUP_ID", Kind::Invalid, false, "The group's name is not valid."),
    row(25, "UNKNOWN_MEMBER_ID", Kind::NotFound, false, "The coordinator does not know this member; it has to join again."),
    row(26, "INVALID_SESSION_TIMEOUT", Kind::Invalid, false, "The session timeout is outside of what the broker allows (group.min.session.timeout.ms, group.max.session.timeout.ms)."),
    row(27, "REBALANCE_IN_PROGRESS", Kind::Unavailable, true, "The group is rebalancing."),
    row(28, "INVALID_COMMIT_OFFSET_SIZE", Kind::TooLarge, false, "The offset commit is larger than the broker takes."),
    row(29, "TOPIC_AUTHORIZATION_FAILED", Kind::NotAuthorized, false, "The broker refused the user that the gateway is to it (its own, or with kafka.identity = \"passthrough\" the principal's): it has no right to this on the topic. Add an ACL for it."),
    row(30, "GROUP_AUTHORIZATION_FAILED", Kind::NotAuthorized, false, "The broker refused the user that the gateway is to it (its own, or with kafka.identity = \"passthrough\" the principal's): it has no right to this on the group. Add an ACL for it."),
    row(31, "CLUSTER_AUTHORIZATION_FAILED", Kind::NotAuthorized, false, "The broker refused the user that the gateway is to it (its own, or with kafka.identity = \"passthrough\" the principal's): it has no right to this on the cluster. Add an ACL for it."),
    row(32, "INVALID_TIMESTAMP", Kind::Invalid, false, "The record's timestamp is outside of what the topic allows (message.timestamp.before.max.ms, message.timestamp.after.max.ms)."),
    row(33, "UNSUPPORTED_SASL_MECHANISM", Kind::Unauthenticated, false, "The broker does not offer this SASL mechanism. Check sasl.mechanism."),
    row(34, "ILLEGAL_SASL_STATE", Kind::Unauthenticated, false, "The broker did not expect this SASL exchange. Check security.protocol and the port."),
    row(35, "UNSUPPORTED_VERSION", Kind::Unsupported, false, "The broker does not offer the operation in a version that the gateway speaks."),
    row(36, "TOPIC_ALREADY_EXISTS", Kind::Exists, false, "A topic of this name exists already."),
    row(37, "INVALID_PARTITIONS", Kind::Invalid, false, "The number of partitions is not valid: it must be at least 1, and can only grow."),
    row(38, "INVALID_REPLICATION_FACTOR", Kind::Invalid, false, "The replication factor is not valid: it must be at least 1 and at most the number of brokers."),
    row(39, "INVALID_REPLICA_ASSIGNMENT", Kind::Invalid, false, "The replica assignment is not valid."),
    row(40, "INVALID_CONFIG", Kind::Invalid, false, "A configuration value is not valid."),
    row(41, "NOT_CONTROLLER", Kind::Unavailable, true, "The controller has just moved to another broker."),
    row(42, "INVALID_REQUEST", Kind::Invalid, false, "The broker could not make sense of the request; its log says why."),
    row(43, "UNSUPPORTED_FOR_MESSAGE_FORMAT", Kind::Unsupported, false, "The topic's message format does not support this."),
    row(44, "POLICY_VIOLATION", Kind::Invalid, false, "A policy of the broker does not allow this."),
    row(45, "OUT_OF_ORDER_SEQUENCE_NUMBER", Kind::Other, false, "An earlier batch of the same producer was lost; the producer starts a new sequence."),
    row(46, "DUPLICATE_SEQUENCE_NUMBER", Kind::Other, false, "The broker has this batch already."),
    row(47, "INVALID_PRODUCER_EPOCH", Kind::Other, false, "The producer was fenced by a newer one with the same identity."),
    row(48, "INVALID_TXN_STATE", Kind::Invalid, false, "The transaction is not in a state that allows this."),
    row(49, "INVALID_PRODUCER_ID_MAPPING", Kind::Other, false, "The broker no longer knows this producer under its transactional id."),
    row(50, "INVALID_TRANSACTION_TIMEOUT", Kind::Invalid, false, "The transaction timeout is larger than the broker allows (transaction.max.timeout.ms)."),
    row(51, "CONCURRENT_TRANSACTIONS", Kind::Unavailable, true, "Another operation of the same transaction is still under way."),
    row(52, "TRANSACTION_COORDINATOR_FENCED", Kind::Other, false, "Another coordinator has taken over the transaction."),
    row(53, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", Kind::NotAuthorized, false, "The broker refused the user that the gateway is to it (its own, or with kafka.identity = \"passthrough\" the principal's): it has no right to this transactional id. Add an ACL for it."),
    row(54, "SECURITY_DISABLED", Kind::Unsupported, false, "The broker has no authorizer: ACLs are switched off."),
    row(55, "OPERATION_NOT_ATTEMPTED", Kind::Other, true, "The broker did not try this, because another part of the request failed."),
    row(56, "KAFKA_STORAGE_ERROR", Kind::Unavailable, true, "The broker cannot write to or read from its disk."),
    row(57, "LOG_DIR_NOT_FOUND", Kind::NotFound, false, "The broker has no such log directory."),
    row(58, "SASL_AUTHENTICATION_FAILED", Kind::Unauthenticated, false, "The broker did not accept the gateway's credentials. Check sasl.username and sasl.password."),
    row(59, "UNKNOWN_PRODUCER_ID", Kind::Other, false, "The broker has forgotten this producer; the producer starts a new sequence."),
    row(60, "REASSIGNMENT_IN_PROGRESS", Kind::Exists, false, "The partition is being reassigned already."),
    row(61, "DELEGATION_TOKEN_AUTH_DISABLED", Kind::Unsupported, false, "The broker does not issue delegation tokens."),
    row(62, "DELEGATION_TOKEN_NOT_FOUND", Kind::NotFound, false, "The delegation token does not exist."),
    row(63, "DELEGATION_TOKEN_OWNER_MISMATCH", Kind::NotAuthorized, false, "The delegation token belongs to another principal."),
    row(64, "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED", Kind::NotAuthorized, false, "Delegation tokens are not allowed on this kind of connection."),
    row(65, "DELEGATION_TOKEN_AUTHORIZATION_FAILED", Kind::NotAuthorized, false, "The broker refused the user that the gateway is to it (its own, or with kafka.identity = \"passthrough\" the principal's): it has no right to this delegation token."),
    row(66, "DELEGATION_TOKEN_EXPIRED", Kind::Unauthenticated, false, "The delegation token has expired."),
    row(67, "INVALID_PRINCIPAL_TYPE", Kind::Invalid, false, "The broker does not know this type of principal."),
    row(68, "NON_EMPTY_GROUP", Kind::Invalid, false, "The group still has members."),
    row(69, "GROUP_ID_NOT_FOUND", Kind::NotFound, false, "The group does not exist."),
    row(70, "FETCH_SESSION_ID_NOT_FOUND", Kind::Unavailable, true, "The broker has dropped the fetch session."),
    row(71, "INVALID_FETCH_SESSION_EPOCH", Kind::Unavailable, true, "The fetch session has moved on."),
    row(72, "LISTENER_NOT_FOUND", Kind::Unavailable, true, "The partition's leader has no listener of the kind that the gateway uses. Check the brokers' advertised.listeners."),
    row(73, "TOPIC_DELETION_DISABLED", Kind::Unsupported, false, "The cluster does not allow deleting topics (delete.topic.enable)."),
    row(74, "FENCED_LEADER_EPOCH", Kind::Unavailable, true, "The partition's leader has changed since the gateway last asked."),
    row(75, "UNKNOWN_LEADER_EPOCH", Kind::Unavailable, true, "The broker has not heard yet of the partition's newest leader."),
    row(76, "UNSUPPORTED_COMPRESSION_TYPE", Kind::Unsupported, false, "The topic does not take this compression. Change compression.type."),
    row(77, "STALE_BROKER_EPOCH", Kind::Unavailable, true, "The broker has been restarted since."),
    row(78, "OFFSET_NOT_AVAILABLE", Kind::Unavailable, true, "The partition's new leader does not know its end offset yet."),
    row(79, "MEMBER_ID_REQUIRED", Kind::Unavailable, true, "The member needs an id from the coordinator first."),
    row(80, "PREFERRED_LEADER_NOT_AVAILABLE", Kind::Unavailable, true, "The preferred leader is not available."),
    row(81, "GROUP_MAX_SIZE_REACHED", Kind::Unavailable, false, "The group has as many members as the broker allows (group.max.size)."),
    row(82, "FENCED_INSTANCE_ID", Kind::Other, false, "Another member with the same group.instance.id took over."),
    row(83, "ELIGIBLE_LEADERS_NOT_AVAILABLE", Kind::Unavailable, true, "No replica that may become leader is available."),
    row(84, "ELECTION_NOT_NEEDED", Kind::Invalid, false, "The partition has the right leader already."),
    row(85, "NO_REASSIGNMENT_IN_PROGRESS", Kind::NotFound, false, "The partition is not being reassigned."),
    row(86, "GROUP_SUBSCRIBED_TO_TOPIC", Kind::Invalid, false, "The group still reads this topic."),
    row(87, "INVALID_RECORD", Kind::Invalid, false, "The topic does not take the record: it fails the topic's validation, or has no key on a compacted topic."),
    row(88, "UNSTABLE_OFFSET_COMMIT", Kind::Unavailable, true, "A transaction over these offsets is still open."),
    row(89, "THROTTLING_QUOTA_EXCEEDED", Kind::Throttled, true, "A quota of the broker was exceeded."),
    row(90, "PRODUCER_FENCED", Kind::Other, false, "A newer producer with the same transactional id took over."),
    row(91, "RESOURCE_NOT_FOUND", Kind::NotFound, false, "The resource does not exist."),
    row(92, "DUPLICATE_RESOURCE", Kind::Invalid, false, "The request names the same thing twice."),
    row(93, "UNACCEPTABLE_CREDENTIAL", Kind::Invalid, false, "The credential does not meet the broker's rules."),
    row(94, "INCONSISTENT_VOTER_SET", Kind::Invalid, false, "The controllers do not agree on their voters."),
    row(95, "INVALID_UPDATE_VERSION", Kind::Invalid, false, "The feature cannot be set to this version."),
    row(96, "FEATURE_UPDATE_FAILED", Kind::Other, false, "The cluster could not change its features."),
    row(97, "PRINCIPAL_DESERIALIZATION_FAILURE", Kind::Other, false, "The brokers do not understand each other's principals; check their security setup."),
    row(98, "SNAPSHOT_NOT_FOUND", Kind::NotFound, false, "The snapshot does not exist."),
    row(99, "POSITION_OUT_OF_RANGE", Kind::Invalid, false, "The position is outside of the snapshot."),
    row(100, "UNKNOWN_TOPIC_ID", Kind::UnknownTopic, false, "The topic was deleted, and perhaps created again."),
    row(101, "DUPLICATE_BROKER_REGISTRATION", Kind::Exists, false, "A broker with this id is registered already."),
    row(102, "BROKER_ID_NOT_REGISTERED", Kind::NotFound, false, "No broker with this id is registered."),
    row(103, "INCONSISTENT_TOPIC_ID", Kind::Unavailable, true, "The topic was deleted and created again."),
    row(104, "INCONSISTENT_CLUSTER_ID", Kind::Invalid, false, "The broker belongs to another cluster."),
    row(105, "TRANSACTIONAL_ID_NOT_FOUND", Kind::NotFound, false, "The transactional id does not exist."),
    row(106, "FETCH_SESSION_TOPIC_ID_ERROR", Kind::Unavailable, true, "The fetch session mixed topic ids and names."),
    row(107, "INELIGIBLE_REPLICA", Kind::Invalid, false, "A replica may not join the in-sync set."),
    row(108, "NEW_LEADER_ELECTED", Kind::Unavailable, true, "The partition has just got a new leader."),
    row(109, "OFFSET_MOVED_TO_TIERED_STORAGE", Kind::OffsetOutOfRange, false, "The offset has moved to tiered storage."),
    row(110, "FENCED_MEMBER_EPOCH", Kind::Other, false, "The group fenced this member, which has to join again."),
    row(111, "UNRELEASED_INSTANCE_ID", Kind::Exists, false, "The group.instance.id is still used by another member, which must leave first."),
    row(112, "UNSUPPORTED_ASSIGNOR", Kind::Unsupported, false, "The group does not offer this assignor."),
    row(113, "STALE_MEMBER_EPOCH", Kind::Unavailable, true, "The member's epoch is behind the group's."),
    row(114, "MISMATCHED_ENDPOINT_TYPE", Kind::Invalid, false, "The request went to the wrong kind of listener."),
    row(115, "UNSUPPORTED_ENDPOINT_TYPE", Kind::Unsupported, false, "The broker does not support this kind of endpoint."),
    row(116, "UNKNOWN_CONTROLLER_ID", Kind::NotFound, false, "No controller with this id is known."),
    row(117, "UNKNOWN_SUBSCRIPTION_ID", Kind::Other, false, "The broker does not know this telemetry subscription."),
    row(118, "TELEMETRY_TOO_LARGE", Kind::TooLarge, false, "The telemetry report is larger than the broker takes."),
    row(119, "INVALID_REGISTRATION", Kind::Invalid, false, "The controller refused the broker's registration."),
    row(120, "TRANSACTION_ABORTABLE", Kind::Other, false, "The transaction must be aborted; then the same transactional id can go on."),
    row(121, "INVALID_RECORD_STATE", Kind::Invalid, false, "The record is not held by this share-group member any more."),
    row(122, "SHARE_SESSION_NOT_FOUND", Kind::Unavailable, true, "The broker has dropped the share session."),
    row(123, "INVALID_SHARE_SESSION_EPOCH", Kind::Unavailable, true, "The share session has moved on."),
    row(124, "FENCED_STATE_EPOCH", Kind::Other, false, "The share group's state has moved on."),
    row(125, "INVALID_VOTER_KEY", Kind::Invalid, false, "The voter's key does not fit the controller's."),
    row(126, "DUPLICATE_VOTER", Kind::Exists, false, "The voter is in the set already."),
    row(127, "VOTER_NOT_FOUND", Kind::NotFound, false, "The voter is not in the set."),
    row(128, "INVALID_REGULAR_EXPRESSION", Kind::Invalid, false, "The regular expression is not valid."),
    row(129, "REBOOTSTRAP_REQUIRED", Kind::Unavailable, true, "The broker asks its clients to find the cluster anew."),
    row(130, "STREAMS_INVALID_TOPOLOGY", Kind::Invalid, false, "The streams topology is not valid."),
    row(131, "STREAMS_INVALID_TOPOLOGY_EPOCH", Kind::Invalid, false, "The epoch of the streams topology is not valid."),
    row(132, "STREAMS_TOPOLOGY_FENCED", Kind::Other, false, "The streams topology was replaced by a newer one."),
    row(133, "SHARE_SESSION_LIMIT_REACHED", Kind::Unavailable, true, "The broker has as many share sessions as it allows."),
];
