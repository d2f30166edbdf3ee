//! The row about memory of what is kept for readers: how much the process grows for each byte that it may
//! keep of a topic. Records that come one at a time are the hard case: each comes in an answer of its own.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use super::crowd::get;
use super::load::on_this_thread;
use super::process::Server;
use super::records::{self, Record};
use super::report::{Row, Target};
use super::rows::Bench;
use super::sessions::group_name;

/// What may be kept of the topic.
const RING_MIB: f64 = 16.0;
/// Single records a second: few enough that most come alone, enough that the ring goes round in the time.
const RATE: u32 = 2_000;
const SINGLES: Duration = Duration::from_secs(30);
/// Records that come as fast as they go.
const BULK: u64 = 2_000_000;
/// How much may be kept for each byte that is allowed.
const MOST: f64 = 1.5;
/// How long the process is left alone before its memory is looked at.
const REST: Duration = Duration::from_secs(2);

/// Single records of 100 B and 1,000 B, and many at once.
pub fn ring(bench: &Bench, name: &str) -> Vec<Row> {
    let large = records::records(1000);
    let small = &bench.fixtures.small;
    let paced = |records: &[Record], topic: &str| {
        let written = bench.direct.produce_paced(topic, records, RATE, SINGLES);
        on_this_thread(written);
    };
    let row = |name: String, write: &dyn Fn(&str)| {
        bench.alone(&name, "RSS / bound", Target::AtMost(MOST), &|binary| {
            kept(bench, binary, write)
        })
    };
    vec![
        row(format!("{name}-100"), &|topic| paced(small, topic)),
        row(format!("{name}-1k"), &|topic| paced(&large, topic)),
        row(format!("{name}-bulk"), &|topic| {
            bench.direct.fill(topic, small, BULK);
        }),
    ]
}

/// By how much the gateway grows when `write` writes to a topic that a client follows, for each byte that
/// it may keep of it.
fn kept(bench: &Bench, binary: &Path, write: &dyn Fn(&str)) -> f64 {
    let bound = format!("streams.ring_bytes={RING_MIB} MiB");
    let server = Server::gateway_with(binary, &bench.bootstrap, &[&bound]);
    let topic = group_name();
    on_this_thread(bench.direct.create_topics(std::slice::from_ref(&topic), 1));
    let reader = follow(server.address, &topic);
    // What a stream and the first records cost is not of the ring.
    bench.direct.fill(&topic, &bench.fixtures.small, 1_000);
    std::thread::sleep(REST);
    let before = server.rss_mib();
    write(&topic);
    std::thread::sleep(REST);
    let after = server.rss_mib();
    // It has ended by itself if the gateway has.
    let _ = reader.shutdown(Shutdown::Both);
    (after - before) / RING_MIB
}

/// A client that reads all that comes, until its connection is shut down.
fn follow(address: SocketAddr, topic: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("the gateway listens");
    let request = get(&records::path(topic), "application/x-ndjson");
    stream.write_all(&request).expect("the gateway reads");
    let mut reading = stream.try_clone().expect("a second handle");
    std::thread::spawn(move || {
        let mut buffer = vec![0; 256 << 10];
        while reading.read(&mut buffer).is_ok_and(|read| read > 0) {}
    });
    stream
}
