//! The tests that need no real Kafka. `./test` knows them by this module's name.

mod support_selftest;
