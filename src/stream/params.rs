//! What is asked of a stream.

use std::time::Duration;

use crate::codec::parse::Formats;
use crate::codec::projection::Fields;
use crate::filter::Filter;
use crate::kafka::tail::OnLag;
use crate::position::StartPosition;
use crate::read::partitions::Partitions;
use crate::reader_options::Isolation;

/// Where a stream begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// As `from` says.
    From(StartPosition),
    /// After the event with this id.
    Id(String),
}

/// Where a stream ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Until {
    /// At what is there when it begins.
    End,
    /// Before the first record of this time (ms since 1970), which may not have come yet.
    Time(i64),
    /// Before these offsets.
    ResumeToken(String),
}

/// The parameters.
pub(crate) struct Asked {
    pub(crate) origin: Origin,
    /// Where to begin when the id cannot be used.
    pub(crate) fallback: StartPosition,
    pub(crate) until: Option<Until>,
    pub(crate) limit: Option<u64>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) partitions: Partitions,
    pub(crate) filter: Filter,
    pub(crate) fields: Option<Fields>,
    pub(crate) formats: Formats,
    pub(crate) bare: bool,
    pub(crate) on_lag: OnLag,
    pub(crate) heartbeat: Option<Duration>,
    pub(crate) retry: Option<u64>,
    pub(crate) every_id: bool,
    /// Ids have times too.
    pub(crate) timed: bool,
    /// Most records a second.
    pub(crate) max_rate: Option<f64>,
    /// Of records that wait only the newest of each key is written.
    pub(crate) conflate: bool,
    /// Which records of transactions are seen.
    pub(crate) isolation: Isolation,
}
