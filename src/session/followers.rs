//! The followers of a session's tails: asked for what their tails want, and for nothing while they want
//! nothing.

use std::time::Instant;

use super::machine::Session;
use super::subscription::tail::open_tail::{Begun, Opened};
use super::subscription::tail::{Came, Tail};
use crate::kafka::tail::{Follower, Next};
use crate::reader_options::Isolation;
use crate::stream::limits::Permit;

/// A tail's followers.
#[derive(Debug)]
pub struct Followed {
    id: u64,
    followers: Vec<Follower>,
    _permit: Permit,
}

/// Where something came of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    tail: usize,
    topic: usize,
}

impl Followed {
    /// The followers of the tail with this id.
    pub fn new(id: u64, opened: Opened) -> (Begun, Self) {
        let followed = Self {
            id,
            followers: opened.followers,
            _permit: opened.permit,
        };
        (opened.begun, followed)
    }

    /// The tail's.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Which records of transactions it sees.
    pub fn isolation(&self) -> Option<Isolation> {
        self.followers.first().map(Follower::isolation)
    }

    /// The follower of one of its topics.
    pub fn follower(&mut self, index: usize) -> Option<&mut Follower> {
        self.followers.get_mut(index)
    }
}

/// Waits for what comes next of those that are wanted; each of them comes first once in a while. Nothing
/// is lost when it is dropped.
pub async fn next(tails: &mut [Followed], session: &Session, turn: &mut usize) -> (Place, Next) {
    let wants = |id: u64| session.tail(id).and_then(Tail::wants);
    // Most sessions have one, and that follows one topic.
    if let [one] = tails
        && let [follower] = one.followers.as_mut_slice()
    {
        let place = Place { tail: 0, topic: 0 };
        return match wants(one.id) {
            Some(most) => (place, follower.next(most).await),
            None => std::future::pending().await,
        };
    }
    let mut waiting = Vec::new();
    for (tail, followed) in tails.iter_mut().enumerate() {
        let Some(most) = wants(followed.id) else {
            continue;
        };
        for (topic, follower) in followed.followers.iter_mut().enumerate() {
            let place = Place { tail, topic };
            waiting.push(Box::pin(async move { (place, follower.next(most).await) }));
        }
    }
    if waiting.is_empty() {
        return std::future::pending().await;
    }
    *turn = turn.wrapping_add(1);
    let first = *turn % waiting.len();
    waiting.rotate_left(first);
    futures::future::select_all(waiting).await.0
}

/// Hands what came to the session.
pub fn take_in(
    tails: &[Followed],
    session: &mut Session,
    (place, next): (Place, Next),
    now: Instant,
) {
    if let Some(followed) = tails.get(place.tail) {
        followed.take_in(session, place.topic, next, now);
    }
}

/// Sees how far those have come that follow one key: nothing wakes them for the records of others. All
/// of them, or those of one tail.
pub fn look(tails: &mut [Followed], session: &mut Session, of: Option<u64>, now: Instant) {
    for followed in tails {
        if of.is_none_or(|id| id == followed.id) {
            followed.look(session, now);
        }
    }
}

impl Followed {
    fn look(&mut self, session: &mut Session, now: Instant) {
        for topic in 0..self.followers.len() {
            if self.followers.get_mut(topic).is_some_and(Follower::advance) {
                self.take_in(session, topic, Next::Moved, now);
            }
        }
    }

    fn take_in(&self, session: &mut Session, topic: usize, next: Next, now: Instant) {
        let Some(follower) = self.followers.get(topic) else {
            return;
        };
        let wants_ends = session.tail(self.id).is_some_and(Tail::wants_ends);
        let came = Came {
            next,
            cursor: follower.cursor(),
            ends: if wants_ends {
                follower.ends()
            } else {
                Vec::new()
            },
            lag: follower.lag(),
            down: follower.down_since().map(tokio::time::Instant::into_std),
        };
        session.tail_came(self.id, topic, came, now);
    }
}
