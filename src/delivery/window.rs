//! How much may be in flight: records and bytes that are delivered and not settled, or credit that
//! only the client gives.

/// How a client bounds what is in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowMode {
    /// At most so many records and bytes; what is settled makes room.
    Outstanding {
        /// Records.
        records: u64,
        /// Bytes of keys, values and headers.
        bytes: u64,
    },
    /// As many as the client has asked for.
    Credit,
}

/// The window of one subscription.
#[derive(Debug)]
pub(super) struct Window {
    mode: WindowMode,
    max_records: u64,
    max_bytes: u64,
    /// In flight.
    records: u64,
    bytes: u64,
    /// Left of what the client asked for.
    credit_records: u64,
    /// `None` until the client bounds bytes too; below 0 when a record was larger than what was left.
    credit_bytes: Option<i64>,
    /// Limits are divided by two to this power while memory is short.
    pressure: u32,
}

impl Window {
    pub(super) fn new(mode: WindowMode, max_records: u64, max_bytes: u64) -> Self {
        Self {
            mode,
            max_records,
            max_bytes,
            records: 0,
            bytes: 0,
            credit_records: 0,
            credit_bytes: None,
            pressure: 0,
        }
    }

    /// Records and bytes in flight.
    pub(super) fn in_flight(&self) -> (u64, u64) {
        (self.records, self.bytes)
    }

    /// Divides what may be in flight by two to this power.
    pub(super) fn set_pressure(&mut self, pressure: u32) {
        self.pressure = pressure.min(16);
    }

    /// Whether a record of this size may go out. One that is larger than the window goes alone,
    /// because it would wait for ever.
    pub(super) fn admits(&self, bytes: u64) -> bool {
        let (records, most_bytes) = match self.mode {
            WindowMode::Outstanding { records, bytes } => {
                (records.min(self.max_records), bytes.min(self.max_bytes))
            }
            WindowMode::Credit => {
                if self.credit_records == 0 || self.credit_bytes.is_some_and(|left| left <= 0) {
                    return false;
                }
                (self.max_records, self.max_bytes)
            }
        };
        let records = (records >> self.pressure).max(1);
        let most_bytes = most_bytes >> self.pressure;
        self.records == 0
            || (self.records < records && self.bytes.saturating_add(bytes) <= most_bytes)
    }

    pub(super) fn take(&mut self, bytes: u64) {
        self.records += 1;
        self.bytes += bytes;
        if self.mode == WindowMode::Credit {
            self.credit_records = self.credit_records.saturating_sub(1);
            if let Some(left) = &mut self.credit_bytes {
                *left = left.saturating_sub_unsigned(bytes);
            }
        }
    }

    /// What was in flight is not any more. In credit mode this gives no credit back.
    pub(super) fn settle(&mut self, bytes: u64) {
        debug_assert!(self.records > 0 && self.bytes >= bytes, "settled twice");
        self.records = self.records.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// What was in flight comes back because its time is over. The client does not know of it, so the
    /// credit that it took is given back: nobody would ask for what has to come again.
    pub(super) fn expire(&mut self, bytes: u64) {
        self.settle(bytes);
        if self.mode == WindowMode::Credit {
            self.credit(1, self.credit_bytes.map(|_| bytes));
        }
    }

    pub(super) fn credit(&mut self, records: u64, bytes: Option<u64>) {
        self.credit_records = self.credit_records.saturating_add(records);
        if let Some(more) = bytes {
            let left = self.credit_bytes.unwrap_or(0);
            self.credit_bytes = Some(left.saturating_add_unsigned(more));
        }
    }
}
