//! The rows about writing through REST v3: a stream on one connection, and batches.

use std::rc::Rc;
use std::time::Duration;

use super::load::{self, on_this_thread};
use super::process::Server;
use super::records::Record;
use super::report::{Row, Side, Target};
use super::rows::{self, Bench, futures, per_request, posts};

const JSON: &str = "application/json";

/// The fields of a record, without braces.
fn fields(record: &Record) -> String {
    format!(
        r#""key":{{"type":"STRING","data":"{}"}},"value":{{"type":"JSON","data":{}}}"#,
        record.key, record.value
    )
}

fn path(bench: &Bench) -> String {
    let cluster = bench.direct.cluster_id();
    let topic = &bench.fixtures.write;
    format!("/v3/clusters/{cluster}/topics/{topic}/records")
}

/// One connection that streams objects and reads results, next to a direct `FutureProducer`.
pub fn stream(bench: &Bench, name: &str) -> Vec<Row> {
    let path = path(bench);
    let objects = bench.fixtures.small.iter();
    let objects: String = objects.map(|r| format!("{{{}}}\n", fields(r))).collect();
    vec![bench.rounds(
        name,
        "rec/s",
        Target::AtLeast(0.5),
        &|server: &Server, time| {
            let before = server.cpu();
            let body = objects.clone().into_bytes();
            let stream = load::stream_lines(server.address, &path, JSON, body, time);
            let ran = on_this_thread(stream).expect("the stream is answered");
            let ran = ran.expect("JSON is read");
            let cpu = server.cpu().saturating_sub(before);
            Side {
                figure: ran.per_second(),
                cpu: Some(per_request(cpu, ran.requests)),
                ..Side::default()
            }
        },
        &|time| futures(bench, time),
    )]
}

/// A hundred records a batch, next to a direct producer.
pub fn batch_100(bench: &Bench, name: &str) -> Vec<Row> {
    const RECORDS: usize = 100;
    let (topic, records) = (&bench.fixtures.write, &bench.fixtures.small);
    let path = format!("{}:batch", path(bench));
    let post = |chunk: &[Record]| {
        let entries = chunk.iter().enumerate();
        let entries = entries.map(|(id, r)| format!("{{\"id\":\"{id}\",{}}}", fields(r)));
        let entries: Vec<String> = entries.collect();
        let body = format!("{{\"entries\":[{}]}}", entries.join(","));
        load::post(&path, JSON, body.as_bytes())
    };
    let requests: Rc<Vec<Vec<u8>>> = Rc::new(records.chunks_exact(RECORDS).map(post).collect());
    vec![bench.rounds(
        name,
        "rec/s",
        Target::AtLeast(0.6),
        &|server: &Server, time: Duration| posts(server, &requests, RECORDS as u64, time),
        &|time| rows::direct(|| bench.direct.produce(topic, records, time)),
    )]
}
