//! Answers that a client names: `Tidegate-Delivery`.
//!
//! Each answer with records has a number. A request that names the last one says that its client has it,
//! whatever became of the connection; one that names the one before says that the last got lost, and is
//! given it once more. For that an answer is kept, in the buffer as what is out, when the read that it
//! answers named one: until another request has named it, however long that takes, nothing of it counts as
//! delivered.

use super::{Instance, InstanceError, SETTLING};

/// What a client says that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Has {
    /// Nothing yet, or nothing any more.
    Nothing,
    /// All up to this answer.
    Delivery(String),
}

/// The answers of an instance.
#[derive(Debug)]
pub(super) struct Deliveries {
    /// Tells those of this instance from those of others that had its name.
    of: String,
    /// The number of the last one.
    last: u64,
    /// It is given again until a request has named it.
    kept: bool,
    /// Its records wait again: they are the next to be given, under another number.
    put_back: bool,
}

impl Deliveries {
    pub(super) fn new() -> Self {
        Self {
            of: format!("{:08x}", fastrand::u32(..)),
            last: 0,
            kept: false,
            put_back: false,
        }
    }

    /// The name of the last answer.
    pub(super) fn name(&self) -> String {
        format!("{}-{}", self.of, self.last)
    }

    /// One more answer, which is `kept` until it is named.
    pub(super) fn one_more(&mut self, kept: bool) {
        self.last += 1;
        self.kept = kept;
        self.put_back = false;
    }

    pub(super) fn is_kept(&self) -> bool {
        self.kept
    }

    /// The records of the last answer wait again.
    pub(super) fn put_back(&mut self) {
        self.kept = false;
        self.put_back = true;
    }

    /// The number of an answer of this instance.
    fn number(&self, name: &str) -> Option<u64> {
        let (of, number) = name.rsplit_once('-')?;
        let number = number.parse().ok()?;
        (of == self.of && number <= self.last).then_some(number)
    }
}

impl Instance {
    /// Takes note of what the client has; true if the last answer is to be given again.
    pub(super) fn acknowledge(&mut self, has: &Has) -> Result<bool, InstanceError> {
        let Has::Delivery(name) = has else {
            self.deliveries.kept |= self.buffer.is_out();
            return Ok(self.deliveries.kept);
        };
        let last = self.deliveries.last;
        match self.deliveries.number(name) {
            Some(number) if number == last => {
                self.count_delivered();
                self.receipt = None;
                self.deliveries.kept = false;
                self.buffer.came_back();
                self.keep_count();
                Ok(false)
            }
            Some(number) if number + 1 == last && self.buffer.is_out() => {
                self.deliveries.kept = true;
                self.buffer.came_back();
                Ok(true)
            }
            Some(number) if number + 1 == last && self.deliveries.put_back => Ok(false),
            Some(_) => Err(InstanceError::IllegalState(format!(
                "the answer after {name} is not kept any more, the last one is {}; to read its records \
                 again post to positions where to go on, or go on behind it with Tidegate-Delivery: none",
                self.deliveries.name()
            ))),
            None => Err(InstanceError::IllegalState(format!(
                "this instance gave no answer that is called {}, it may have been made anew since; begin \
                 with Tidegate-Delivery: none",
                name.chars().take(40).collect::<String>()
            ))),
        }
    }

    /// The same where a request names nothing: the connection tells what became of the last answer.
    pub(super) async fn settle_unnamed(&mut self) -> Result<(), InstanceError> {
        self.deliveries.kept = false;
        self.settle(SETTLING).await
    }

    /// Whether the client must say which answer it has before what was delivered can be known.
    pub(super) fn must_name(&self) -> Result<(), InstanceError> {
        if self.deliveries.kept && self.buffer.is_out() {
            return Err(InstanceError::IllegalState(format!(
                "the last answer ({}) was read with Tidegate-Delivery, and may not have arrived; say with \
                 that header which one the client has, or name the offsets to be committed",
                self.deliveries.name()
            )));
        }
        Ok(())
    }
}
