//! Commits offsets with metadata (the text of a commit), for groups that have no members.
//!
//! krafka's call for such commits has no field for a text, and its consumers commit as members only.
//! librdkafka's consumers can without joining. One is made for each commit that has a text: it costs some
//! milliseconds and half a dozen threads for as long, and it asks anew who coordinates the group, where
//! librdkafka's own call for administrators would go on asking the broker that once did.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, DefaultConsumerContext};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

use super::SLACK;
use crate::config::LimitSettings;
use crate::kafka::client::{self, Clients, Role, Token};
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::ffi::set_token;
use crate::record::TopicPartition;

/// Such commits under way at once; others wait.
pub(super) const AT_ONCE: usize = 8;

/// An offset, and the text to keep with it.
pub type OffsetAndMetadata = (TopicPartition, i64, Option<String>);

/// Commits `offsets` for `group`; of several for one partition the last. `room` is what those who do so
/// share.
///
/// # Errors
///
/// Whatever kept the group's coordinator from answering within `bound`, and what it refused: of one of the
/// partitions if it was of some only.
pub(super) async fn commit(
    clients: &Clients,
    room: &Arc<Semaphore>,
    group: &str,
    offsets: &[OffsetAndMetadata],
    bound: Duration,
) -> Result<Vec<(TopicPartition, i64)>, Fault> {
    let late = || {
        Fault::new(
            FaultKind::TimedOut,
            format!("Kafka did not answer within {} ms.", bound.as_millis()),
        )
    };
    if group.contains('\0') {
        return Err(Fault::new(
            FaultKind::Invalid,
            "librdkafka, which keeps metadata, takes no zero byte in the name of a group. Leave the metadata \
             out, or use another group.",
        ));
    }
    let until = Instant::now() + bound;
    let permit = timeout_at(until, Arc::clone(room).acquire_owned()).await;
    let permit = permit.ok().and_then(Result::ok).ok_or_else(late)?;
    let config = config(clients, group, bound);
    let token = token(clients)?;
    let last: BTreeMap<&TopicPartition, (i64, Option<&String>)> = offsets
        .iter()
        .map(|(partition, offset, text)| (partition, (*offset, text.as_ref())))
        .collect();
    let mut list = TopicPartitionList::with_capacity(last.len());
    for (partition, (offset, text)) in &last {
        let mut one = list.add_partition(&partition.topic, partition.partition);
        one.set_offset(Offset::Offset(*offset))?;
        one.set_metadata(text.map_or("", String::as_str));
    }
    let (asker, answer) = oneshot::channel();
    tokio::task::spawn_blocking(move || {
        ask(&config, token.as_deref(), &list, asker);
        // Not before the client is gone.
        drop(permit);
    });
    let answer = timeout_at(until + SLACK, answer).await;
    answer.ok().and_then(Result::ok).ok_or_else(late)??;
    let committed = last.into_iter();
    Ok(committed
        .map(|(partition, (offset, _))| (partition.clone(), offset))
        .collect())
}

/// The properties of a consumer that only commits.
fn config(clients: &Clients, group: &str, bound: Duration) -> ClientConfig {
    let millis = bound.as_millis().clamp(10, 300_000).to_string();
    let mut config = client::librdkafka(clients.settings(), &LimitSettings::default(), Role::Admin);
    // It is no member, whatever is set for members.
    config.remove("group.instance.id");
    config
        .set("group.id", group)
        .set("group.protocol", "classic")
        .set("enable.auto.commit", "false")
        // How long a commit waits for a coordinator, which nobody can end, and then for its answer.
        .set("session.timeout.ms", &millis)
        .set("max.poll.interval.ms", &millis)
        .set("socket.timeout.ms", &millis);
    config
}

fn token(clients: &Clients) -> Result<Option<Arc<Token>>, Fault> {
    let Some(tokens) = clients.tokens(Role::Admin) else {
        return Ok(None);
    };
    tokens.current().map(Some).ok_or_else(|| {
        let why = tokens.failure();
        let why = why
            .as_deref()
            .unwrap_or("There is no OAUTHBEARER token yet.");
        Fault::new(FaultKind::Unavailable, why)
    })
}

/// Makes the client, commits, tells the asker, and lets go of the client. Blocks, also after the answer.
fn ask(
    config: &ClientConfig,
    token: Option<&Token>,
    list: &TopicPartitionList,
    asker: oneshot::Sender<Result<(), Fault>>,
) {
    let consumer: Result<BaseConsumer, _> = config.create_with_context(DefaultConsumerContext);
    let done = match &consumer {
        Ok(consumer) => {
            let logged_in = token.map_or(Ok(()), |token| set_token(consumer.client(), token));
            match logged_in {
                Ok(()) => consumer.commit(list, CommitMode::Sync).map_err(Fault::from),
                Err(why) => Err(Fault::new(
                    FaultKind::Unavailable,
                    format!("librdkafka does not take the OAUTHBEARER token: {why}"),
                )),
            }
        }
        Err(error) => Err(error.clone().into()),
    };
    // Who does not wait any more does not want it.
    let _ = asker.send(done);
}
