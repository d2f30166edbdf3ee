//! What a tail asks Kafka: where it begins, where it stands, where it goes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::auth::identity::Identity;
use crate::kafka::fault::Fault;
use crate::kafka::metadata::{Right, Topic};
use crate::kafka::tail::{Follow, Follower, Gap, GapReason, OnLag};
use crate::kafka::{Cluster, SeekTo, Watermarks};
use crate::position::{MAX_PARTITIONS, Offsets, ResumeTokens, StartPosition};
use crate::read::partitions::Part;
use crate::read::start_offsets::Shown;
use crate::reader_options::Isolation;
use crate::session::protocol::server::Error;
use crate::session::protocol::topic_error::topic_error;
use crate::session::subscription::options::invalid;
use crate::stream::encoder::{RecordView, SharedEncoder};
use crate::stream::limits::{Full, Permit, Streams};
use crate::stream::params::{Origin, Until};
use crate::stream::start_offsets::{Start, resolve, resume_token};

/// What a tail is to begin as.
#[derive(Debug)]
pub struct Ask {
    /// The topics.
    pub topics: Vec<Arc<str>>,
    /// Where it begins.
    pub from: StartPosition,
    /// What becomes of it when it falls behind.
    pub on_lag: OnLag,
    /// Which records of transactions it sees; `None` as the gateway's readers are set.
    pub isolation: Option<Isolation>,
    /// How records are shown, and which.
    pub(crate) view: RecordView,
    /// Whose it is.
    pub principal: Arc<Identity>,
}

/// A topic of a tail that begins.
#[derive(Debug)]
pub struct BegunPart {
    /// Its name.
    pub topic: Arc<str>,
    /// The first offset of each partition.
    pub starts: Offsets,
    /// Where each of them ended when it began.
    pub ends: Offsets,
}

/// Where a tail begins.
#[derive(Debug)]
pub struct Begun {
    /// Whose it is.
    pub owner: Arc<Identity>,
    /// Its topics.
    pub parts: Vec<BegunPart>,
    /// Writes where it stands.
    pub resume_tokens: ResumeTokens,
    /// How it shows records.
    pub(crate) encoder: Arc<SharedEncoder>,
    /// What was asked for and cannot be had, with the index of the topic.
    pub gaps: Vec<(usize, Gap)>,
    /// Offsets from there to the end.
    pub backlog: i64,
    /// Which records of transactions it sees.
    pub isolation: Isolation,
}

/// A tail that is about to begin.
#[derive(Debug)]
pub struct Opened {
    /// Where.
    pub begun: Begun,
    /// One for each topic, in their order.
    pub followers: Vec<Follower>,
    pub(crate) permit: Permit,
}

/// Finds out where a tail begins, and takes its place among all.
///
/// # Errors
///
/// What the client is to be told.
pub async fn open(cluster: &Cluster, streams: &Streams, ask: Ask) -> Result<Opened, Error> {
    let failed = |fault: Fault| topic_error(&fault);
    let isolation = ask.isolation.unwrap_or(cluster.reader.isolation());
    let parts = parts(cluster, &ask.topics).await?;
    let cluster_id = cluster.id().await.map_err(failed)?;
    let asked = match &ask.from {
        StartPosition::ResumeToken(text) => {
            Some(resume_token(text, &cluster_id, &parts).map_err(|error| invalid("from", error))?)
        }
        _ => None,
    };
    let permit = streams
        .permit(ask.view.transport.name(), &ask.principal, None)
        .map_err(|full| full_error(&full))?;
    let start = resolve(
        cluster,
        &cluster_id,
        &parts,
        &Origin::From(ask.from.clone()),
        &ask.from,
        Some(&Until::End),
        Shown {
            visibility: &ask.view.visibility,
            filter: &ask.view.filter,
            isolation,
        },
    )
    .await
    .map_err(failed)?;
    let gaps = gaps(&start, asked.as_deref());
    let topics: Vec<&Topic> = parts.iter().map(|part| &*part.topic).collect();
    let resume_tokens = ResumeTokens::new(&cluster_id, &topics);
    let ends = start.until.unwrap_or_default();
    let encoder = streams.encoders().encoder(ask.view);
    let mut followers = Vec::with_capacity(parts.len());
    let mut begun = Vec::with_capacity(parts.len());
    for (index, part) in parts.iter().enumerate() {
        let of = |all: &[Offsets]| all.get(index).cloned().unwrap_or_default();
        let starts = of(&start.offsets);
        let follow = Follow {
            topic: Arc::clone(&part.topic),
            start: starts.clone(),
            all: part.all,
            until: None,
            on_lag: ask.on_lag,
            isolation,
        };
        followers.push(encoder.follow(&cluster.tails, follow));
        begun.push(BegunPart {
            topic: Arc::clone(&part.topic.name),
            starts,
            ends: of(&ends),
        });
    }
    Ok(Opened {
        begun: Begun {
            owner: ask.principal,
            parts: begun,
            resume_tokens,
            encoder,
            gaps,
            backlog: start.backlog,
            isolation,
        },
        followers,
        permit,
    })
}

async fn parts(cluster: &Cluster, names: &[Arc<str>]) -> Result<Vec<Part>, Error> {
    let mut parts = Vec::with_capacity(names.len());
    for name in names {
        let topic = match cluster.metadata.topic(name).await {
            Ok(topic) => cluster.metadata.granted(topic, Right::Read).await,
            Err(fault) => Err(fault),
        };
        let topic = topic.map_err(|fault| topic_error(&fault))?;
        parts.push(Part {
            partitions: topic.partitions.iter().map(|part| part.id).collect(),
            all: true,
            topic,
        });
    }
    let count: usize = parts.iter().map(|part| part.partitions.len()).sum();
    if count > MAX_PARTITIONS {
        return Err(Error {
            field: Some("topics".to_owned()),
            ..Error::new(
                "limit_exceeded",
                format!(
                    "topics: {count} partitions; a tail may have {MAX_PARTITIONS}: name fewer topics"
                ),
            )
        });
    }
    Ok(parts)
}

/// What was asked for and is not in the log: not any more, or, where the log has lost its end, not
/// there.
fn gaps(start: &Start, asked: Option<&[Offsets]>) -> Vec<(usize, Gap)> {
    let mut gaps = start.gaps.clone();
    for (index, (asked, begins)) in asked
        .unwrap_or_default()
        .iter()
        .zip(&start.offsets)
        .enumerate()
    {
        for (partition, from) in asked {
            let begin = begins.iter().find(|(id, _)| id == partition);
            if let Some((_, to)) = begin
                && from > to
            {
                let gap = Gap {
                    partition: *partition,
                    from: *from,
                    to: *to,
                    reason: GapReason::Truncated,
                };
                gaps.push((index, gap));
            }
        }
    }
    gaps
}

fn full_error(full: &Full) -> Error {
    Error {
        retriable: true,
        retry_after_ms: Some(5_000),
        ..Error::new("limit_exceeded", full.to_string())
    }
}

/// Where a partition is to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seek {
    /// Of the topic, among those of the tail.
    pub index: usize,
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// Where to; not to the committed offset, since a tail has no group.
    pub to: SeekTo,
}

/// The offsets that these are.
pub async fn seek(
    cluster: &Cluster,
    isolation: Isolation,
    seeks: Vec<Seek>,
) -> Vec<(Seek, Result<i64, Fault>)> {
    let mut topics: BTreeMap<Arc<str>, Vec<Seek>> = BTreeMap::new();
    for seek in seeks {
        let of = topics.entry(Arc::clone(&seek.topic)).or_default();
        of.push(seek);
    }
    let mut results = Vec::new();
    for (topic, seeks) in topics {
        match offsets(cluster, isolation, &topic, &seeks).await {
            Ok(offsets) => results.extend(seeks.into_iter().zip(offsets.into_iter().map(Ok))),
            Err(fault) => results.extend(seeks.into_iter().map(|s| (s, Err(fault.clone())))),
        }
    }
    results
}

async fn offsets(
    cluster: &Cluster,
    isolation: Isolation,
    topic: &str,
    seeks: &[Seek],
) -> Result<Vec<i64>, Fault> {
    let aims: Vec<_> = seeks.iter().map(|seek| (seek.partition, seek.to)).collect();
    let places = cluster.resolve(isolation, topic, &aims).await?;
    Ok(places.into_iter().map(|place| place.at).collect())
}

/// Where the partitions of these topics end, of those topics whose brokers answer.
pub async fn ends(
    cluster: &Cluster,
    isolation: Isolation,
    topics: Vec<(Arc<str>, Vec<i32>)>,
) -> Vec<(Arc<str>, Vec<Watermarks>)> {
    let mut found = Vec::with_capacity(topics.len());
    for (topic, partitions) in topics {
        if let Ok(bounds) = cluster
            .watermarks_under(isolation, &topic, &partitions)
            .await
        {
            found.push((topic, bounds));
        }
    }
    found
}
