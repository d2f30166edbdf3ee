//! Requests that krafka's own calls do not make, or not as they are needed here: its messages, over its connections,
//! by its feature `internal`.

use std::ops::RangeInclusive;
use std::sync::Arc;

use krafka::__private::kafka_metadata;
use krafka::__private::network::BrokerConnection;
use krafka::__private::protocol::{ApiKey, VersionedDecode, VersionedEncode};
use krafka::error::ErrorCode;

use super::Link;
use crate::kafka::fault::addresses::told_without_addresses;
use crate::kafka::fault::{Fault, FaultKind};

/// What is asked of one broker.
pub(super) struct Question<R> {
    pub(super) key: ApiKey,
    /// The versions that the gateway speaks.
    pub(super) versions: RangeInclusive<i16>,
    pub(super) request: R,
    /// What a broker lacks that speaks none of them, with what it came.
    pub(super) missing: &'static str,
}

/// The fault of a broker that does not offer `missing`.
pub(super) fn unsupported(missing: &str) -> Fault {
    Fault {
        kafka_error: Some("UNSUPPORTED_VERSION"),
        ..Fault::new(
            FaultKind::Unsupported,
            format!("The broker does not offer {missing}."),
        )
    }
}

/// A fault that says what is missing where the broker itself says only that something is.
pub(super) fn naming(missing: &str, fault: Fault) -> Fault {
    match fault.kind {
        FaultKind::Unsupported => unsupported(missing),
        _ => fault,
    }
}

/// What an answer's error code and message mean; `None` is that nothing is wrong.
pub(super) fn wrong(code: ErrorCode, message: Option<&str>) -> Option<Fault> {
    let message = message.map(told_without_addresses);
    (!code.is_ok()).then(|| Fault::from_protocol_code(code.to_i16(), message.as_deref()))
}

/// A connection to one broker.
pub(super) async fn connection(link: &Link, broker: i32) -> Result<Arc<BrokerConnection>, Fault> {
    let connection = kafka_metadata(&link.kafka).get_broker_connection(broker);
    Ok(connection.await?)
}

/// The ids of all brokers.
pub(super) async fn brokers(link: &Link) -> Result<Vec<i32>, Fault> {
    let metadata = kafka_metadata(&link.kafka);
    if metadata.brokers().is_empty() {
        metadata.force_refresh(Some(&[])).await?;
    }
    Ok(metadata.brokers().iter().map(|one| one.id()).collect())
}

/// The fault where there is no broker to ask.
pub(super) fn no_brokers() -> Fault {
    Fault::new(FaultKind::Unavailable, "The cluster names no brokers.")
}

/// Sends a question over a connection, and reads the answer.
pub(super) async fn ask<R, A>(
    connection: &BrokerConnection,
    question: &Question<R>,
) -> Result<A, Fault>
where
    R: VersionedEncode,
    A: VersionedDecode,
{
    let (oldest, newest) = (*question.versions.start(), *question.versions.end());
    let version = connection
        .negotiate_api_version(question.key, newest, oldest)
        .ok_or_else(|| unsupported(question.missing))?;
    let answer = connection.send_request(question.key, version, |buffer| {
        question.request.encode_versioned(version, buffer)
    });
    Ok(A::decode_versioned(version, &mut answer.await?)?)
}
