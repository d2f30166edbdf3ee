//! A read: what is there, or what comes first.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::time::Instant;

use super::command::{Read, Reply};
use super::manual_assignment::fill;
use super::{
    Happened, Instance, InstanceError, LEAST_AHEAD, MOST_AHEAD, RecordDelivery, Source, Stop,
    next_event,
};
use crate::auth::standing::Changes;
use crate::codec::embedded::Embedded;
use crate::codec::json;
use crate::record::ConsumerRecord;

/// The longest part of a read in which the group lets the instance in, and that is not taken from the
/// read's own time.
const JOINING: Duration = Duration::from_secs(5);

impl Instance {
    /// Answers a read. While nobody waits for the answer any more, nothing is taken.
    pub(super) async fn read(&mut self, read: Read, reply: Reply<RecordDelivery>) {
        self.answer(read, reply).await;
        self.wanted = 0;
        self.flow();
    }

    async fn answer(&mut self, read: Read, mut reply: Reply<RecordDelivery>) {
        let begun = Instant::now();
        let until_expiry = |at: Instant| read.ends.map_or(at, |ends| at.min(ends));
        let mut until = until_expiry(begun + read.timeout);
        // It is judged below; from then on again when something has changed.
        let mut changes = self.principal.changes();
        changes.came();
        let again = match self.begin(&read).await {
            Ok(again) => again,
            Err(refused) => {
                let _ = reply.send(Err(refused));
                return;
            }
        };
        if read.ends.is_some_and(|ends| ends <= Instant::now()) {
            let _ = reply.send(Err(InstanceError::Expired));
            return;
        }
        if let Err(refused) = self.judge(&mut changes).await {
            let _ = reply.send(Err(refused));
            return;
        }
        if again && let Some(records) = self.again() {
            self.hand_over(records, read, reply);
            return;
        }
        self.take_events(&read);
        // What is spent on joining the group is not taken from the read's own time.
        let free = until_expiry(begun + JOINING);
        let mut is_joining = self.is_joining() && Instant::now() < free;
        let taken = loop {
            let now = Instant::now();
            if is_joining && !(self.is_joining() && now < free) {
                is_joining = false;
                until = until_expiry(now + read.timeout);
            }
            let is_late = !is_joining && now >= until;
            if let Err(refused) = self.judge(&mut changes).await {
                break Err(refused);
            }
            if is_late || self.has_enough(&read) {
                match self.take(&read) {
                    Ok(records) if records.is_empty() && !is_late => {
                        // What was passed over has made room.
                        self.wanted = self.wants(&read);
                        self.flow();
                    }
                    taken => break taken,
                }
            }
            let waited = match &self.source {
                Source::Assigned => self.fetched(&read, until, &mut reply, &mut changes).await,
                Source::Nowhere | Source::Subscribed(_) => {
                    self.look_if_due().await;
                    tokio::select! {
                        biased;
                        () = reply.closed() => return,
                        () = changes.wait() => Ok(Happened::Something),
                        happened = self.happened(self.wakes_before(if is_joining { free } else { until })) => {
                            Ok(happened)
                        }
                    }
                }
            };
            match waited {
                Ok(Happened::Something) => self.take_events(&read),
                Ok(Happened::TooLate) => {}
                Ok(Happened::Stopped) => {
                    let why = *self.stop.borrow();
                    break match why {
                        Some(Stop::Deleted) => Err(InstanceError::Gone),
                        _ => match self.judge(&mut changes).await {
                            Ok(()) => self.take(&read),
                            Err(refused) => Err(refused),
                        },
                    };
                }
                Err(refused) => break Err(refused),
            }
            if reply.is_closed() {
                return;
            }
            if let Source::Subscribed(subscribed) = &mut self.source
                && let Some(fault) = subscribed.failure()
            {
                break Err(fault.into());
            }
        };
        match taken {
            Ok(records) => self.give(records, read, reply),
            Err(refused) => {
                let _ = reply.send(Err(refused));
            }
        }
    }

    /// Whether what waits may still be shown, where that may have changed since it was last asked.
    async fn judge(&mut self, changes: &mut Changes) -> Result<(), InstanceError> {
        // To ask may take a while, in which more may change.
        while changes.came() {
            self.visibility = self.admitted().await?;
        }
        Ok(())
    }

    /// What comes before a read: the last answer is settled, or is to be given again, which is told; and
    /// there is something to read from.
    async fn begin(&mut self, read: &Read) -> Result<bool, InstanceError> {
        let again = match &read.has {
            Some(has) => self.acknowledge(has)?,
            None => {
                self.settle_unnamed().await?;
                self.buffer.came_back();
                false
            }
        };
        self.visibility = self.admitted().await?;
        match &mut self.source {
            Source::Nowhere => Err(InstanceError::IllegalState(
                "this instance is neither subscribed to topics nor assigned partitions; POST to \
                 its subscription or its assignments first"
                    .to_owned(),
            )),
            Source::Assigned => Ok(again),
            Source::Subscribed(subscribed) => {
                if let Some(fault) = subscribed.failure() {
                    return Err(fault.into());
                }
                if !subscribed.has_member() {
                    // It has ended, or its topics were not there yet.
                    match self.look().await {
                        // No broker answers: that is said when the time is over.
                        Err(InstanceError::Kafka(fault, _)) if fault.retriable => {}
                        looked => looked?,
                    }
                }
                Ok(again)
            }
        }
    }

    fn wakes_before(&self, until: Instant) -> Instant {
        match &self.source {
            Source::Subscribed(subscribed) => {
                subscribed.looks_at().map_or(until, |at| at.min(until))
            }
            Source::Nowhere | Source::Assigned => until,
        }
    }

    /// How much the read waits for.
    fn wants(&self, read: &Read) -> usize {
        let wanted = self.options.fetch_min_bytes.max(1).min(read.max_bytes);
        usize::try_from(wanted).unwrap_or(usize::MAX)
    }

    fn has_enough(&self, read: &Read) -> bool {
        // A record without key and value has no bytes; and where no more may be kept, none comes.
        let wants = self.wants(read);
        !self.buffer.is_empty()
            && (wants <= 1 || self.buffer.payload() >= wants as u64 || self.is_full())
    }

    /// Takes what the member has told already: records come in small batches.
    fn take_events(&mut self, read: &Read) {
        self.wanted = self.wants(read);
        self.flow();
        while !self.is_full() {
            match next_event(&mut self.source).now_or_never() {
                Some(event) => self.event(event),
                None => return,
            }
        }
    }

    /// Reads a page of partitions that were assigned by hand.
    async fn fetched(
        &mut self,
        read: &Read,
        until: Instant,
        reply: &mut Reply<RecordDelivery>,
        changes: &mut Changes,
    ) -> Result<Happened, InstanceError> {
        let cluster = Arc::clone(&self.cluster);
        let options = Arc::clone(&self.options);
        let places = self.places();
        let most = usize::try_from(read.max_bytes).unwrap_or(usize::MAX);
        let most = most.min(MOST_AHEAD);
        let filled = tokio::select! {
            biased;
            () = reply.closed() => return Ok(Happened::Something),
            () = changes.wait() => return Ok(Happened::Something),
            _ = self.stop.wait_for(Option::is_some) => return Ok(Happened::Stopped),
            filled = fill(&cluster, &options, &places, most, until) => filled,
        };
        match filled {
            Ok(filled) => {
                self.commit_starts(&filled.moved).await?;
                self.filled(filled);
            }
            // What is there already is given.
            Err(_) if !self.buffer.is_empty() => return Ok(Happened::TooLate),
            Err(fault) => return Err(fault.into()),
        }
        Ok(Happened::Something)
    }

    /// Takes what the answer is to have.
    fn take(&mut self, read: &Read) -> Result<Arc<Vec<ConsumerRecord>>, InstanceError> {
        let format = self.options.format;
        let (source, visibility) = (&self.source, &self.visibility);
        let wanted = |topic: &str| match source {
            Source::Subscribed(subscribed) => subscribed.wants(topic),
            Source::Nowhere | Source::Assigned => true,
        };
        self.wanted = 0;
        let before = self.buffer.waiting_bytes();
        let taken = self
            .buffer
            .take(
                read.max_bytes,
                wanted,
                |record| visibility.shows(record),
                |record| fits(format, record),
            )
            .map_err(|unfit| InstanceError::Unfit(unfit, format))?;
        if let Source::Subscribed(subscribed) = &self.source
            && taken.is_empty()
        {
            if let Some(fault) = subscribed.unreachable() {
                return Err(fault.clone().into());
            }
            if let Some(fault) = subscribed.kept_out() {
                return Err(InstanceError::NotLetIn(fault));
            }
        }
        if self.buffer.is_empty() && before >= self.ahead / 2 {
            // The client takes all that there is: more is read ahead for it.
            self.ahead = (self.ahead * 2).clamp(LEAST_AHEAD, MOST_AHEAD);
        }
        self.keep_count();
        Ok(taken)
    }

    /// The last answer, as far as it is still the client's to have.
    fn again(&mut self) -> Option<Arc<Vec<ConsumerRecord>>> {
        let (source, visibility) = (&self.source, &self.visibility);
        let again = self.buffer.again(|record| {
            let is_wanted = match source {
                Source::Subscribed(subscribed) => subscribed.wants(&record.topic),
                Source::Nowhere | Source::Assigned => true,
            };
            is_wanted && visibility.shows(record)
        });
        if again.is_none() {
            self.receipt = None;
            self.deliveries.put_back();
        }
        self.keep_count();
        again
    }

    fn give(
        &mut self,
        records: Arc<Vec<ConsumerRecord>>,
        read: Read,
        reply: Reply<RecordDelivery>,
    ) {
        if !records.is_empty() {
            self.deliveries.one_more(read.has.is_some());
        }
        self.hand_over(records, read, reply);
    }

    fn hand_over(
        &mut self,
        records: Arc<Vec<ConsumerRecord>>,
        read: Read,
        reply: Reply<RecordDelivery>,
    ) {
        let is_empty = records.is_empty();
        let (delivery, receipt) =
            RecordDelivery::new(records, self.deliveries.name(), read.connection_ref);
        if !is_empty {
            self.receipt = Some(receipt);
        }
        // A delivery that nobody takes is dropped here, and so it is lost: its records wait again.
        let _ = reply.send(Ok(delivery));
    }
}

/// Whether the record can be shown in this format.
///
/// # Errors
///
/// What cannot: `key` or `value`.
pub fn fits(format: Embedded, record: &ConsumerRecord) -> Result<(), &'static str> {
    let fits = |bytes: &[u8]| match format {
        Embedded::Binary => true,
        Embedded::Text => std::str::from_utf8(bytes).is_ok(),
        Embedded::Json | Embedded::Schema(_) => json::value(bytes).is_some(),
    };
    for (what, bytes) in [("key", &record.key), ("value", &record.value)] {
        if bytes.as_deref().is_some_and(|bytes| !fits(bytes)) {
            return Err(what);
        }
    }
    Ok(())
}
