//! Where a stream begins, and an end that comes with a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::super::start_offsets::{self, Start};
use super::super::until_time::Ahead;
use super::RecordStream;
use crate::kafka::fault::Fault;
use crate::kafka::tail::{Follow, Follower};
use crate::position::{Offsets, StartPosition};
use crate::read::start_offsets::Shown;
use crate::stream::params::{Asked, Origin};

impl RecordStream {
    pub(super) async fn begin(&mut self, asked: &Asked) -> Result<(), Fault> {
        let clients = Arc::clone(&self.clients);
        let cluster = &clients.cluster;
        let start = start_offsets::resolve(
            cluster,
            &self.cluster_id,
            &self.parts,
            &asked.origin,
            &asked.fallback,
            asked.until.as_ref(),
            Shown {
                visibility: self.encoder.visibility(),
                filter: &asked.filter,
                isolation: asked.isolation,
            },
        )
        .await?;
        // Who is to see how far the topic has come cannot leave out the records of others.
        let encoder = start.ahead.is_none().then(|| Arc::clone(&self.encoder));
        self.followers = self
            .parts
            .iter()
            .enumerate()
            .map(|(index, part)| {
                let of = |offsets: &Vec<Offsets>| offsets.get(index).cloned().unwrap_or_default();
                let follow = Follow {
                    topic: Arc::clone(&part.topic),
                    start: of(&start.offsets),
                    all: part.all,
                    until: start.until.as_ref().map(of),
                    on_lag: asked.on_lag,
                    isolation: asked.isolation,
                };
                match &encoder {
                    Some(encoder) => encoder.follow(&cluster.tails, follow),
                    None => cluster.tails.follow(follow),
                }
            })
            .collect();
        self.sent.clone_from(&start.offsets);
        if let Some(times) = &mut self.times {
            times.clone_from(&start.times);
        }
        self.say_where(asked, &start);
        if let Some((time, ends)) = start.ahead {
            self.ahead = Some(Ahead::new(time, ends));
        }
        Ok(())
    }

    /// The clock has passed the end: where the logs end now, the stream does.
    pub(super) async fn close_ahead(&mut self) -> Result<(), Fault> {
        let clients = Arc::clone(&self.clients);
        let Some(isolation) = self.followers.first().map(Follower::isolation) else {
            return Ok(());
        };
        let read = self.parts.iter().zip(&self.sent).map(async |(part, sent)| {
            let partitions: Vec<i32> = sent.iter().map(|(id, _)| *id).collect();
            clients
                .cluster
                .watermarks_under(isolation, &part.topic.name, &partitions)
                .await
        });
        let bounds = futures::future::try_join_all(read).await?;
        if let Some(ahead) = &mut self.ahead {
            for (index, bounds) in bounds.iter().enumerate() {
                ahead.close(index, bounds);
            }
        }
        Ok(())
    }

    pub(super) fn check_ahead(&mut self) {
        let reached = |ahead: &Ahead| ahead.is_reached(&self.sent);
        if !self.over && self.ahead.as_ref().is_some_and(reached) {
            self.end("until", None);
        }
    }

    /// `ready`, and what of the wish could not be fulfilled.
    pub(super) fn say_where(&mut self, asked: &Asked, start: &Start) {
        let wish = match &asked.origin {
            Origin::Id(id) => id.chars().take(200).collect(),
            Origin::From(from) => match from {
                StartPosition::Latest => "latest".to_owned(),
                StartPosition::Earliest => "earliest".to_owned(),
                StartPosition::Last(count) => format!("-{count}"),
                StartPosition::Time(time) => time.to_string(),
                StartPosition::ResumeToken(resume_token) => {
                    resume_token.chars().take(200).collect()
                }
            },
        };
        let from = json!(self.places());
        let mut gaps = start.gaps.iter().peekable();
        let told = gaps.peek().is_none();
        if let Some(reason) = &start.reset {
            let data = json!({"asked": wish, "reason": reason, "from": from});
            self.event_at("reset", told, &data);
        }
        let exact = start.reset.is_none() && told && !start.by_time;
        let data = json!({"from": from, "asked": wish, "exact": exact, "backlog": start.backlog});
        self.event_at("ready", told, &data);
        while let Some((index, gap)) = gaps.next() {
            self.gap(*index, gap, gaps.peek().is_none());
        }
    }

    pub(super) fn places(&self) -> BTreeMap<&str, BTreeMap<i32, i64>> {
        let topics = self.parts.iter().zip(&self.sent);
        topics
            .map(|(part, offsets)| (&*part.topic.name, offsets.iter().copied().collect()))
            .collect()
    }
}
