//! A whole session between a client, a member of a group, a socket and time, which do anything in any order. For the
//! property test and for the fuzz target: what they give is bytes, and everything else is the same.
//!
//! - `mod.rs`: from bytes to a whole session
//! - `steps.rs`: what may happen, read out of bytes
//! - `play.rs`: the other side of the session: the client, the member, the socket
//! - `checks.rs`: what must hold
//! - `frame_schema.rs`: whether a frame is as the AsyncAPI document says

mod checks;
pub(crate) mod frame_schema;
mod play;
mod steps;

use self::play::Play;
use self::steps::{Choices, Setup, Step};

/// Plays the session that these bytes make, to its end.
///
/// # Panics
///
/// Something does not hold: nothing is committed beyond a record that the client is not done with, nothing
/// acknowledged comes again, no more is in flight than may be, tags rise, acknowledgements are answered in their
/// order and each `produce` once, what is told to be committed is, frames are as the document says, nothing comes
/// after `goodbye`, no timer turns in circles, and everything ends in time.
pub fn play(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    let mut play = Play::new(Setup::read(&mut choices));
    // Most of the time into the middle of it.
    play.step(Step::TakeAll);
    play.step(Step::Subscribe);
    play.step(Step::Resolved(true));
    play.step(Step::Assign(0));
    while let Some(step) = choices.step() {
        play.step(step);
    }
    play.end();
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use proptest::prelude::*;

    use super::*;

    /// Shown as what it makes.
    #[derive(Clone)]
    struct Script(Vec<u8>);

    impl fmt::Debug for Script {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let mut choices = Choices::new(&self.0);
            writeln!(f, "{:?}", Setup::read(&mut choices))?;
            while let Some(step) = choices.step() {
                writeln!(f, "{step:?}")?;
            }
            write!(f, "{:?}", self.0)
        }
    }

    fn script() -> impl Strategy<Value = Script> {
        let chunks = prop::collection::vec(any::<[u8; steps::CHUNK]>(), 2..200);
        chunks.prop_map(|chunks| Script(chunks.concat()))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]

        #[test]
        fn steps_in_any_order_break_no_promise_of_a_session(script in script()) {
            play(&script.0);
        }
    }

    #[test]
    fn bytes_make_every_kind_of_step() {
        let mut seen = std::collections::HashSet::new();
        for kind in 0..=u16::MAX {
            let [high, low] = kind.to_be_bytes();
            let bytes = [high, low, 1, 1, 1, 1];
            let step = Choices::new(&bytes).step().unwrap();
            seen.insert(std::mem::discriminant(&step));
        }
        assert_eq!(seen.len(), steps::kinds());
        assert!(Choices::new(&[0; steps::CHUNK - 1]).step().is_none());
    }
}
