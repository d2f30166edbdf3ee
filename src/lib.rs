//! Tidegate gives Apache Kafka to everything that speaks HTTP.
//!
//! # The map
//!
//! | module | what it is about |
//! |---|---|
//! | [`config`] | typed settings, where each value came from |
//! | [`cli`] | the command line |
//! | [`healthcheck`] | asks a running gateway whether it is ready |
//! | [`server`] | listeners, connections, graceful drain |
//! | [`gateway`] | what every handler is given |
//! | [`passthrough`] | Kafka clients that log in as whoever asks |
//! | [`api`] | the APIs: each knows its own wire shapes and nothing else; every path in [`api::routes`] |
//! | `admin` | what a principal may see and change of the cluster, for every API that offers it |
//! | [`consumer`] | consumer instances of the v2 API |
//! | [`stream`] | streams of records: tails over HTTP |
//! | [`session`] | the WebSocket session: a state machine, and what does its bidding |
//! | [`codec`] | between bytes and what clients see |
//! | [`http`] | what all APIs share: errors, negotiation, limits, request ids |
//! | [`transport`] | the connection under a request, and the client's address |
//! | [`auth`] | who is asking, and what they may do |
//! | [`mod@write`] | the one write pipeline |
//! | `read` | what every API that reads goes by: partitions, and what is shown |
//! | [`delivery`] | acknowledgements, redelivery, dead letters, for every consuming API |
//! | [`position`] | where a read starts and goes on |
//! | `schema` | schemas of topics, and whether records are valid by them |
//! | [`kafka`] | everything that talks to brokers |
//! | `glob` | patterns of names |
//! | [`topic_pattern`] | regular expressions over topic names |
//! | `fetch` | what other servers answer the gateway |
//! | [`filter`] | which records a client wants to see |
//! | [`observe`] | metrics, logs, the audit log |
//! | [`limits`] | how much of something each has, and may have |
//! | [`reader_options`] | choices that a reader has: isolation, offset reset, what becomes of one that lags |
//! | [`record`] | the record as every API sees it |
//! | [`reserved`] | whose a topic is, by its name |
//!
//! A module takes from its own layer and those below it: `cli, server -> api -> gateway -> http -> session, stream,
//! consumer, admin -> passthrough, read, write -> codec, delivery, kafka, position, schema -> auth, filter, limits, observe,
//! transport -> record, reader_options, config`.
//! `layers_tests.rs` holds that. `kafka` names no JSON; nothing outside
//! `kafka` names a Kafka client library.

mod admin;
pub mod api;
pub mod auth;
pub mod cli;
pub mod codec;
pub mod config;
pub mod consumer;
pub mod delivery;
mod fetch;
pub mod filter;
pub mod gateway;
mod glob;
pub mod healthcheck;
pub mod http;
pub mod kafka;
#[cfg(test)]
mod layers_tests;
pub mod limits;
pub mod observe;
pub mod passthrough;
pub mod position;
mod read;
pub mod reader_options;
pub mod record;
pub mod reserved;
mod schema;
pub mod server;
pub mod session;
pub mod stream;
pub mod topic_pattern;
pub mod transport;
pub mod write;
