//! A whole WebSocket session, played between a client and a group member that do anything in any order.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tidegate::session::model::play(bytes));
