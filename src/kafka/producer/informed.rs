//! How many partitions the client at work takes a topic to have.
//!
//! librdkafka asks for that when it first meets a topic, and then every five minutes; until then it
//! spreads records over the partitions that it knows, and refuses those that name another. What
//! `kafka::metadata` knows is seconds old. Where the two may differ, the client is made to ask before
//! it is given more records of the topic.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::producer::Producer as _;
use tokio::time::{Instant, sleep, timeout};

use super::{Live, Producer, TopicQueue};
use crate::kafka::metadata::Topic;

/// How long the client may take to learn of a change; records that come meanwhile wait for it.
const ASK: Duration = Duration::from_secs(2);

/// Pause before it asks again: another broker may not have heard of the change yet.
const PAUSE: Duration = Duration::from_millis(50);

/// Most topics that a client asks about at the same time: each holds a thread while it waits.
pub(super) const AT_ONCE: usize = 8;

/// How long nobody waits again for a client that did not learn of a change.
const GIVEN_UP: Duration = Duration::from_secs(5);

/// What the client at work knows of one topic.
#[derive(Debug, Default)]
pub(super) struct Knowledge {
    /// The mark of `view`, for the many who find that nothing has changed; 0 for none.
    mark: AtomicU64,
    asking: Arc<tokio::sync::Mutex<Asked>>,
}

#[derive(Debug, Default)]
struct Asked {
    view: Option<View>,
    not_before: Option<Instant>,
}

/// A topic, as a client has been asked to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct View {
    client: u64,
    id: [u8; 16],
    partitions: usize,
}

impl View {
    fn of(live: &Live, topic: &Topic) -> Self {
        Self {
            client: live.number,
            id: topic.id,
            partitions: topic.partitions.len(),
        }
    }

    /// A number that another view is most unlikely to have, and never 0.
    fn mark(&self) -> u64 {
        let (halves, _) = self.id.as_chunks::<8>();
        let id = halves.iter().map(|half| u64::from_le_bytes(*half));
        let partitions = u64::try_from(self.partitions).unwrap_or(u64::MAX);
        let mixed = id
            .chain([self.client, partitions])
            .fold(0, |mark: u64, part| {
                (mark ^ part)
                    .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                    .rotate_left(29)
            });
        mixed | 1
    }
}

impl Producer {
    /// Makes sure that `live` knows the partitions of `topic`, as far as that can be had in two seconds.
    pub(super) async fn inform(live: &Arc<Live>, queue: &Arc<TopicQueue>, topic: &Topic) {
        let view = View::of(live, topic);
        if queue.knowledge.mark.load(Ordering::Relaxed) != view.mark() {
            // Boxed: what is seldom done must not make every request's future large.
            Box::pin(catch_up(live, queue, topic, view)).await;
        }
    }

    /// Has the client ask for the partitions of `topic`, whatever it has been asked to know: it has
    /// just said that it has no such partition.
    pub(super) async fn inform_anew(live: &Arc<Live>, topic: &Topic) {
        let least = topic.partitions.len();
        ask(live, Arc::clone(&topic.name), move |found| found >= least).await;
    }
}

async fn catch_up(live: &Arc<Live>, queue: &Arc<TopicQueue>, topic: &Topic, view: View) {
    let asking = Arc::clone(&queue.knowledge.asking);
    let Ok(mut asked) = timeout(ASK, asking.lock_owned()).await else {
        return;
    };
    let now = Instant::now();
    if asked.view.as_ref() == Some(&view) || asked.not_before.is_some_and(|time| now < time) {
        return;
    }
    let wanted = view.partitions;
    let (is_behind, is_same) = match &asked.view {
        // Brokers before 2.8 tell no ids.
        Some(old) if old.client == view.client => (true, old.id == view.id && old.id != [0; 16]),
        _ => (false, true),
    };
    if is_behind
        && is_same
        && asked
            .view
            .as_ref()
            .is_some_and(|old| old.partitions > wanted)
    {
        // A topic only grows: the caller has looked before another one did.
        return;
    }
    // Another topic of the same name may have fewer.
    let enough = move |found: usize| found == wanted || (is_same && found > wanted);
    let mark = view.mark();
    let (live, queue, name) = (Arc::clone(live), Arc::clone(queue), Arc::clone(&topic.name));
    if !is_behind {
        // The client asks by itself before it sends the first record. Nobody waits for what makes
        // sure that it has heard all that there is to hear.
        queue.knowledge.mark.store(mark, Ordering::Relaxed);
    }
    let learning = async move {
        if ask(&live, name, enough).await {
            asked.view = Some(view);
            asked.not_before = None;
            queue.knowledge.mark.store(mark, Ordering::Relaxed);
        } else {
            asked.not_before = Some(Instant::now() + GIVEN_UP);
            if !is_behind {
                queue.knowledge.mark.store(0, Ordering::Relaxed);
            }
        }
    };
    // On a task of its own, so that a caller that goes away does not keep the others from knowing.
    let learning = tokio::spawn(learning);
    if is_behind {
        let _ = learning.await;
    }
}

/// Has the client ask brokers for the partitions of `topic` until there are `enough`; whether that
/// came true in time.
pub(super) async fn ask(live: &Arc<Live>, topic: Arc<str>, enough: impl Fn(usize) -> bool) -> bool {
    let deadline = Instant::now() + ASK;
    let Ok(Ok(_turn)) = timeout(ASK, live.asks.acquire()).await else {
        return false;
    };
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let (live, name) = (Arc::clone(live), Arc::clone(&topic));
        // The call waits for a broker's answer.
        let found = tokio::task::spawn_blocking(move || {
            let found = live.client().client().fetch_metadata(Some(&name), left);
            let found = found.ok()?;
            let topic = found.topics().first()?;
            topic.error().is_none().then(|| topic.partitions().len())
        });
        if matches!(found.await, Ok(Some(found)) if enough(found)) {
            return true;
        }
        if Instant::now() + PAUSE >= deadline {
            return false;
        }
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_that_differ_in_any_part_have_different_marks() {
        let view = View {
            client: 1,
            id: [7; 16],
            partitions: 3,
        };
        let mut last = [7; 16];
        last[15] = 8;
        let mut first = [7; 16];
        first[0] = 8;
        let others = [
            View {
                client: 2,
                ..view.clone()
            },
            View {
                partitions: 4,
                ..view.clone()
            },
            View {
                partitions: 2,
                ..view.clone()
            },
            View {
                id: first,
                ..view.clone()
            },
            View {
                id: last,
                ..view.clone()
            },
        ];
        for other in others {
            assert_ne!(other.mark(), view.mark(), "{other:?}");
        }
    }
}
