//! The recipes of docs/streams.md, as they stand there but for names and addresses.

mod jq;
mod nginx;
mod page;
mod shell;

const DOCUMENT: &str = "streams.md";
