//! What a session wants done outside of it: `session/driver.rs` does it, and tells the session what came of it.

use std::sync::Arc;

use super::protocol::Id;
use super::subscription::options::Topics;
use super::subscription::tail;
use crate::auth::Principal;
use crate::delivery::DeadLetterId;
use crate::kafka::member;
use crate::record::ProducerRecord;

/// What is to be done outside of the session.
#[derive(Debug)]
pub enum Effect {
    /// Find out whose token this is; answered by [`Session::authenticated`](super::machine::Session::authenticated).
    Authenticate(String),
    /// Find the topics of a subscription; answered by [`Session::resolved`](super::machine::Session::resolved)
    /// with the same number.
    Resolve(u64, Topics),
    /// Find out whether these topics are still there, all partitions of which were taken away;
    /// answered by [`Session::missing`](super::machine::Session::missing).
    LookFor(Vec<Arc<str>>),
    /// Become a member; its events go to [`Session::member`](super::machine::Session::member).
    Join(Box<member::Options>),
    /// Tell the member.
    Command(member::Command),
    /// Write records; answered by [`Session::produced`](super::machine::Session::produced).
    Produce {
        /// Comes back with the answer.
        ticket: u64,
        /// The topic.
        topic: String,
        /// The records, without those that are none.
        records: Vec<ProducerRecord>,
    },
    /// Write a dead letter; answered by [`Session::dead_lettered`](super::machine::Session::dead_lettered).
    DeadLetter {
        /// Comes back with the answer.
        id: DeadLetterId,
        /// The topic.
        topic: String,
        /// It is the gateway's own choice, for which the client needs no right.
        own: bool,
        /// The record.
        record: ProducerRecord,
    },
    /// Do something for the tail with this id.
    Tail(u64, TailEffect),
}

/// What is to be done for a tail.
#[derive(Debug)]
pub enum TailEffect {
    /// Find where it begins, and follow; answered by [`Session::tail_opened`](super::machine::Session::tail_opened).
    Open(Box<tail::open_tail::Ask>),
    /// Want nothing of these partitions of the topic at `index`, after some have been put back.
    Hold {
        /// The topic.
        index: usize,
        /// All partitions of it that are not wanted.
        held: Vec<i32>,
        /// Where partitions go on of which something was given back.
        rewound: crate::position::Offsets,
    },
    /// See how far it has come over what does not wake it; told by
    /// [`Session::tail_came`](super::machine::Session::tail_came).
    Look,
    /// Go on elsewhere; answered by [`Session::tail_sought`](super::machine::Session::tail_sought).
    Seek(Option<Id>, Vec<tail::open_tail::Seek>),
    /// Find where these partitions end; answered by [`Session::tail_ends`](super::machine::Session::tail_ends).
    Ends(Option<Id>, Vec<(Arc<str>, Vec<i32>)>),
}

/// Whose token it is, or why it is none.
pub type Authenticated = Result<Principal, String>;
