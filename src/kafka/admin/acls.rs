//! ACLs: whom the brokers let do what. They are listed, made and deleted.
//!
//! The requests are written and the answers read here (`wire.rs`), and go over krafka's connections by its
//! feature `internal`. Neither library's own calls will do: krafka 0.28 numbers the pattern types wrongly, so that
//! its "literal" is Kafka's MATCH and PREFIXED cannot be said at all; librdkafka 2.12 knows neither delegation
//! tokens nor users as resources nor the newer operations, and takes a listing that a broker refuses for an empty
//! one.

mod wire;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use krafka::__private::kafka_metadata;
use krafka::__private::protocol::ApiKey;

use self::wire::Reader;
use super::request;
use super::{Admin, Link, bounded};
use crate::kafka::fault::{Fault, FaultKind};

/// The versions of all three requests that are spoken: from the first with pattern types on.
const OLDEST: i16 = 1;
const NEWEST: i16 = 3;
/// The oldest version that knows users as resources.
const WITH_USERS: i16 = 3;

/// One of the protocol's enumerations, by Kafka's words.
pub(crate) trait KafkaWord: Copy + 'static {
    /// All of them, in the order of their numbers.
    const ALL: &'static [Self];

    /// Kafka's word for it.
    fn word(self) -> &'static str;

    /// The one of this word, in whatever case.
    fn of_word(word: &str) -> Option<Self> {
        let mut all = Self::ALL.iter();
        all.find(|one| one.word().eq_ignore_ascii_case(word))
            .copied()
    }
}

/// Defines one: its words, and the numbers that stand for them.
macro_rules! protocol_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $code:literal $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl KafkaWord for $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)*];

            fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl $name {
            fn code(self) -> i8 {
                match self {
                    $(Self::$variant => $code,)*
                }
            }

            /// The one of this number; one that came to Kafka later is unknown.
            fn of_code(code: i8) -> Self {
                match code {
                    $($code => Self::$variant,)*
                    _ => Self::Unknown,
                }
            }
        }
    };
}

protocol_enum!(
    /// What an ACL is about.
    ResourceType {
        /// One that the gateway does not know.
        Unknown = 0 "UNKNOWN",
        /// Of a filter: whichever.
        Any = 1 "ANY",
        /// A topic.
        Topic = 2 "TOPIC",
        /// A group.
        Group = 3 "GROUP",
        /// The cluster, by the name `kafka-cluster`.
        Cluster = 4 "CLUSTER",
        /// A transactional id.
        TransactionalId = 5 "TRANSACTIONAL_ID",
        /// A delegation token.
        DelegationToken = 6 "DELEGATION_TOKEN",
        /// A user, for whom others make delegation tokens.
        User = 7 "USER",
    }
);

protocol_enum!(
    /// How an ACL names its resources.
    PatternType {
        /// One that the gateway does not know.
        Unknown = 0 "UNKNOWN",
        /// Of a filter: whichever.
        Any = 1 "ANY",
        /// Of a filter: whichever applies to the resource of the filter's name.
        Match = 2 "MATCH",
        /// By the whole name; `*` is all of them.
        Literal = 3 "LITERAL",
        /// By what their names begin with.
        Prefixed = 4 "PREFIXED",
    }
);

protocol_enum!(
    /// What an ACL lets do or not.
    AclOperation {
        /// One that the gateway does not know.
        Unknown = 0 "UNKNOWN",
        /// Of a filter: whichever.
        Any = 1 "ANY",
        /// Everything.
        All = 2 "ALL",
        /// Read.
        Read = 3 "READ",
        /// Write.
        Write = 4 "WRITE",
        /// Create.
        Create = 5 "CREATE",
        /// Delete.
        Delete = 6 "DELETE",
        /// Change.
        Alter = 7 "ALTER",
        /// Describe.
        Describe = 8 "DESCRIBE",
        /// What brokers do among each other.
        ClusterAction = 9 "CLUSTER_ACTION",
        /// Describe settings.
        DescribeConfigs = 10 "DESCRIBE_CONFIGS",
        /// Change settings.
        AlterConfigs = 11 "ALTER_CONFIGS",
        /// Write idempotently.
        IdempotentWrite = 12 "IDEMPOTENT_WRITE",
        /// Make delegation tokens for a user.
        CreateTokens = 13 "CREATE_TOKENS",
        /// Describe a user's delegation tokens.
        DescribeTokens = 14 "DESCRIBE_TOKENS",
        /// Take part in two-phase commits.
        TwoPhaseCommit = 15 "TWO_PHASE_COMMIT",
    }
);

protocol_enum!(
    /// Whether an ACL allows or forbids.
    AclPermission {
        /// One that the gateway does not know.
        Unknown = 0 "UNKNOWN",
        /// Of a filter: whichever.
        Any = 1 "ANY",
        /// It forbids.
        Deny = 2 "DENY",
        /// It allows.
        Allow = 3 "ALLOW",
    }
);

/// An ACL. They are in order by their fields, the first of them first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Acl {
    pub(crate) resource_type: ResourceType,
    pub(crate) resource_name: String,
    pub(crate) pattern_type: PatternType,
    /// Whom it is about, such as `User:alice`.
    pub(crate) principal: String,
    /// From where, `*` being everywhere.
    pub(crate) host: String,
    pub(crate) operation: AclOperation,
    pub(crate) permission: AclPermission,
}

/// Which ACLs: those that fit each field. `None` fits all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AclFilter {
    pub(crate) resource_type: ResourceType,
    pub(crate) resource_name: Option<String>,
    pub(crate) pattern_type: PatternType,
    pub(crate) principal: Option<String>,
    pub(crate) host: Option<String>,
    pub(crate) operation: AclOperation,
    pub(crate) permission: AclPermission,
}

/// What became of the ACLs that were to be deleted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct DeletedAcls {
    /// Those that are deleted, in order.
    pub(crate) deleted: Vec<Acl>,
    /// Those that are not, and why.
    pub(crate) failed: Vec<(Acl, Fault)>,
}

impl Admin {
    /// The ACLs that fit `filter`, in order.
    ///
    /// # Errors
    ///
    /// `NotAuthorized`, `Unsupported` (the embedded broker; a broker without an authorizer), and whatever kept the
    /// brokers from answering.
    pub(crate) async fn acls(
        &self,
        filter: &AclFilter,
        bound: Duration,
    ) -> Result<Vec<Acl>, Fault> {
        let link = self.link(bound).await?;
        let request = Request {
            key: ApiKey::DescribeAcls,
            oldest: version_of(filter.resource_type),
            write: |version| wire::describe(filter, version),
        };
        let ask = |_| at_any_broker(link, &request, wire::described);
        let mut acls = link.any_broker(bound, ask).await??;
        acls.sort_unstable();
        Ok(acls)
    }

    /// Makes ACLs, and says of each in its place whether it is made.
    ///
    /// # Errors
    ///
    /// As [`Admin::acls`]: then it is not known which are made.
    pub(crate) async fn create_acls(
        &self,
        acls: &[Acl],
        bound: Duration,
    ) -> Result<Vec<Result<(), Fault>>, Fault> {
        let link = self.link(bound).await?;
        let versions = acls.iter().map(|acl| version_of(acl.resource_type));
        let request = Request {
            key: ApiKey::CreateAcls,
            oldest: versions.max().unwrap_or(OLDEST),
            write: |version| wire::create(acls, version),
        };
        let answers = bounded(bound, at_controller(link, &request, wire::created)).await?;
        if answers.len() != acls.len() {
            return Err(wire::unreadable());
        }
        Ok(answers)
    }

    /// Deletes the ACLs that fit `filter`.
    ///
    /// # Errors
    ///
    /// As [`Admin::acls`]: then it is not known which are deleted.
    pub(crate) async fn delete_acls(
        &self,
        filter: &AclFilter,
        bound: Duration,
    ) -> Result<DeletedAcls, Fault> {
        let link = self.link(bound).await?;
        let request = Request {
            key: ApiKey::DeleteAcls,
            oldest: version_of(filter.resource_type),
            write: |version| wire::delete(filter, version),
        };
        // One filter was given, so there is one answer.
        let mut answers = bounded(bound, at_controller(link, &request, wire::deleted)).await?;
        let mut deleted = answers.pop().unwrap_or_else(|| Err(wire::unreadable()))?;
        deleted.deleted.sort_unstable();
        deleted.failed.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(deleted)
    }
}

/// The oldest version of the requests that has this type of resources.
fn version_of(resource_type: ResourceType) -> i16 {
    match resource_type {
        ResourceType::User => WITH_USERS,
        _ => OLDEST,
    }
}

/// A request, in whichever version a broker speaks.
struct Request<W> {
    key: ApiKey,
    /// The oldest version that says all of it.
    oldest: i16,
    write: W,
}

/// What one broker answers: the first that does, of all in no order.
async fn at_any_broker<T, W>(
    link: &Link,
    request: &Request<W>,
    read: impl Fn(&mut Reader) -> Result<T, Fault>,
) -> Result<T, Fault>
where
    W: Fn(i16) -> Result<BytesMut, Fault>,
{
    let mut brokers = request::brokers(link).await?;
    fastrand::shuffle(&mut brokers);
    let mut last = request::no_brokers();
    for broker in brokers {
        match ask(link, broker, request, &read).await {
            Err(Unanswered { fault, .. }) if fault.retriable => last = fault,
            Err(Unanswered { fault, .. }) => return Err(fault),
            Ok(answer) => return Ok(answer),
        }
    }
    Err(last)
}

/// What the controller says of each part of a change. It is looked for once more where it has just moved.
async fn at_controller<T, W>(
    link: &Link,
    request: &Request<W>,
    read: impl Fn(&mut Reader) -> Result<Vec<Result<T, Fault>>, Fault>,
) -> Result<Vec<Result<T, Fault>>, Fault>
where
    W: Fn(i16) -> Result<BytesMut, Fault>,
{
    let metadata = kafka_metadata(&link.kafka);
    let mut is_second = false;
    loop {
        if is_second || metadata.controller().is_none() {
            metadata.force_refresh(Some(&[])).await?;
        }
        let controller = metadata.controller().ok_or_else(|| {
            let message = "The cluster has no controller at the moment.";
            Fault::new(FaultKind::Unavailable, message)
        })?;
        match ask(link, controller.id(), request, &read).await {
            Ok(answers) if is_second || !answers.iter().all(has_moved) || answers.is_empty() => {
                return Ok(answers);
            }
            // What has been sent may have been done, and is not sent again.
            Err(Unanswered { fault, is_sent }) if is_second || is_sent || !fault.retriable => {
                return Err(fault);
            }
            Ok(_) | Err(_) => is_second = true,
        }
    }
}

fn has_moved<T>(answer: &Result<T, Fault>) -> bool {
    matches!(answer, Err(fault) if fault.kafka_error == Some("NOT_CONTROLLER"))
}

/// Why there is no answer.
struct Unanswered {
    fault: Fault,
    /// The broker may have had the request.
    is_sent: bool,
}

/// Sends the request to one broker, and reads its answer.
async fn ask<T, W>(
    link: &Link,
    broker: i32,
    request: &Request<W>,
    read: impl Fn(&mut Reader) -> Result<T, Fault>,
) -> Result<T, Unanswered>
where
    W: Fn(i16) -> Result<BytesMut, Fault>,
{
    let unsent = |fault| Unanswered {
        fault,
        is_sent: false,
    };
    let sent = |fault| Unanswered {
        fault,
        is_sent: true,
    };
    let connection = request::connection(link, broker).await.map_err(unsent)?;
    let version = connection.negotiate_api_version(request.key, NEWEST, request.oldest);
    let version = version.ok_or_else(|| {
        let message = "This broker does not offer ACLs in a version that the gateway speaks.";
        unsent(Fault {
            kafka_error: Some("UNSUPPORTED_VERSION"),
            ..Fault::new(FaultKind::Unsupported, message)
        })
    })?;
    let body = (request.write)(version).map_err(unsent)?;
    let answer = connection.send_request(request.key, version, |buffer| {
        buffer.extend_from_slice(&body);
        Ok(())
    });
    let answer: Bytes = answer.await.map_err(|error| sent(error.into()))?;
    let mut reader = Reader::new(answer, version);
    let throttled = reader.i32().map_err(sent)?;
    connection.notify_throttle(throttled);
    read(&mut reader).map_err(sent)
}
