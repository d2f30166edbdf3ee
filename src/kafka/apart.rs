//! Asks each broker for the partitions that it leads, and waits for none of them much longer than the
//! others took: one that is silent keeps only its own partitions from their answers.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, timeout_at};

use super::fault::{Fault, FaultKind};
use super::metadata::Topic;

/// How long a broker is waited for, from the question on, when another one has answered.
const PATIENCE: Duration = Duration::from_millis(600);

/// These partitions by who leads them; nobody is a broker here, too.
pub(super) fn by_leader(
    topic: &Topic,
    partitions: impl IntoIterator<Item = i32>,
) -> BTreeMap<Option<i32>, Vec<i32>> {
    let mut of: BTreeMap<Option<i32>, Vec<i32>> = BTreeMap::new();
    for id in partitions {
        of.entry(leader(topic, id)).or_default().push(id);
    }
    of
}

/// What the brokers say of these partitions, an answer for each in the same order. `ask` is given those of
/// one broker, keeps a bound of its own, and gives an answer for each in the same order.
pub(super) async fn of_each<T, F>(
    topic: &Topic,
    partitions: &[i32],
    ask: impl Fn(Vec<i32>) -> F,
) -> Vec<Result<T, Fault>>
where
    F: Future<Output = Vec<Result<T, Fault>>>,
{
    let patience = Instant::now() + PATIENCE;
    let brokers = by_leader(topic, partitions.iter().copied());
    let mut asked: FuturesUnordered<_> = brokers
        .into_values()
        .map(|ids| {
            let answers = ask(ids.clone());
            async move { (ids, answers.await) }
        })
        .collect();
    let mut known: BTreeMap<i32, Result<T, Fault>> = BTreeMap::new();
    loop {
        let next = if known.values().any(Result::is_ok) {
            timeout_at(patience, asked.next()).await.unwrap_or_default()
        } else {
            asked.next().await
        };
        let Some((ids, answers)) = next else {
            break;
        };
        for (id, answer) in ids.into_iter().zip(answers) {
            known.insert(id, answer);
        }
    }
    partitions
        .iter()
        .map(|id| known.remove(id).unwrap_or_else(|| Err(silent(topic, *id))))
        .collect()
}

/// The broker that leads the partition has not answered.
pub fn silent(topic: &Topic, partition: i32) -> Fault {
    let who = match leader(topic, partition) {
        Some(id) => format!("broker {id}, which leads it, does not answer"),
        None => "no broker leads it at the moment".to_owned(),
    };
    let message = format!("Partition {partition} of topic {}: {who}.", topic.name);
    Fault::new(FaultKind::TimedOut, message)
}

fn leader(topic: &Topic, partition: i32) -> Option<i32> {
    topic.partition(partition).ok()?.leader
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::metadata::Partition;

    /// A topic whose partition N is led by broker N.
    fn topic(partitions: i32) -> Topic {
        let mut topic = Topic::led("t", 1, partitions);
        for partition in &mut topic.partitions {
            let Partition { id, leader, .. } = partition;
            *leader = Some(*id);
        }
        topic
    }

    #[tokio::test]
    async fn a_silent_broker_keeps_only_its_own_partitions_from_their_answers() {
        let begun = Instant::now();
        let answers = of_each(&topic(3), &[2, 0, 1], async |ids: Vec<i32>| {
            if ids == [1] {
                std::future::pending::<()>().await;
            }
            ids.into_iter().map(Ok).collect()
        })
        .await;
        assert!(begun.elapsed() >= PATIENCE);
        assert_eq!((&answers[0], &answers[1]), (&Ok(2), &Ok(0)));
        let fault = answers[2].as_ref().unwrap_err();
        assert_eq!(fault.kind, FaultKind::TimedOut);
        assert!(fault.message.contains("broker 1"), "{fault}");
    }

    #[tokio::test]
    async fn while_no_broker_has_answered_all_are_waited_for() {
        let answers = of_each(&topic(2), &[0, 1], async |ids: Vec<i32>| {
            if ids == [1] {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(PATIENCE * 2).await;
            ids.into_iter().map(Ok).collect()
        })
        .await;
        // When the first one has answered, it is long past the time of the others.
        assert_eq!(answers[0], Ok(0));
        answers[1].as_ref().unwrap_err();
    }

    #[tokio::test]
    async fn a_failed_broker_does_not_end_the_wait_for_the_others() {
        let answers = of_each(&topic(2), &[0, 1], async |ids: Vec<i32>| {
            if ids == [0] {
                return vec![Err(Fault::new(FaultKind::Unavailable, "no"))];
            }
            tokio::time::sleep(PATIENCE * 2).await;
            vec![Ok(1)]
        })
        .await;
        assert_eq!(answers[0].as_ref().unwrap_err().message, "no");
        assert_eq!(answers[1], Ok(1));
    }
}
