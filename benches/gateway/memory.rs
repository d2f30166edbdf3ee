//! The rows about memory of what is kept for readers: how much the process grows for each byte that it may
//! keep of a topic. Records that come one at a time are the hard case for the ring: each comes in an answer
//! of its own. Where two million come at once, a reader of all of them falls behind the ring and reads pages
//! of its own, which have a bound of their own: one row has a reader that stays at the head, because none of
//! the records is for it, and one has a reader that falls behind, and both bounds.

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

/// What may be kept of the topic, and of what is read for those who have fallen behind.
const RING_MIB: f64 = 16.0;
const CATCH_UP_MIB: f64 = 16.0;
/// The key of none of the records.
const NOBODYS: &str = "?key=nobodys";
/// Single records a second: few enough that most come alone, enough that the ring goes round in the time.
const RATE: u32 = 2_000;
const SINGLES: Duration = Duration::from_secs(30);
/// Records that come as fast as they go.
const BULK: u64 = 2_000_000;
/// How much may be kept for each byte that is allowed.
const MOST: f64 = 1.5;
/// How long the process is left alone before its memory is looked at.
const REST: Duration = Duration::from_secs(2);

/// Single records of 100 B and 1,000 B, and many at once, for a reader of none and for one of all of them.
pub fn ring(bench: &Bench, name: &str) -> Vec<Row> {
    let large = records::records(1000);
    let small = &bench.fixtures.small;
    let paced = |records: &[Record], topic: &str| {
        let written = bench.direct.produce_paced(topic, records, RATE, SINGLES);
        on_this_thread(written);
    };
    let row = |name: String, query: &str, bound: f64, write: &dyn Fn(&str)| {
        bench.alone(&name, "RSS / bound", Target::AtMost(MOST), &|binary| {
            grown(bench, binary, query, write) / bound
        })
    };
    let bulk = |topic: &str| {
        bench.direct.fill(topic, small, BULK);
    };
    let both = RING_MIB + CATCH_UP_MIB;
    vec![
        row(format!("{name}-100"), "", RING_MIB, &|topic| {
            paced(small, topic)
        }),
        row(format!("{name}-1k"), "", RING_MIB, &|topic| {
            paced(&large, topic)
        }),
        row(format!("{name}-bulk"), NOBODYS, RING_MIB, &bulk),
        row(format!("{name}-behind"), "", both, &bulk),
    ]
}

/// By how many MiB the gateway grows when `write` writes to a topic that a client follows.
fn grown(bench: &Bench, binary: &Path, query: &str, write: &dyn Fn(&str)) -> f64 {
    let ring = format!("streams.ring_bytes={RING_MIB} MiB");
    let catch_up = format!("streams.catchup_bytes={CATCH_UP_MIB} MiB");
    let server = Server::gateway_with(binary, &bench.bootstrap, &[&ring, &catch_up]);
    let topic = group_name();
    on_this_thread(bench.direct.create_topics(std::slice::from_ref(&topic), 1));
    let reader = follow(server.address, &format!("{}{query}", records::path(&topic)));
    // What a stream and the first records cost is not of the ring.
    bench.direct.fill(&topic, &bench.fixtures.small, 1_000);
    std::thread::sleep(REST);
    let before = server.rss_mib();
    write(&topic);
    std::thread::sleep(REST);
    let after = server.rss_mib();
    // It has ended by itself if the gateway has.
    let _ = reader.shutdown(Shutdown::Both);
    after - before
}

/// A client that reads all that comes, until its connection is shut down.
fn follow(address: SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("the gateway listens");
    let request = get(path, "application/x-ndjson");
    stream.write_all(&request).expect("the gateway reads");
    let mut reading = stream.try_clone().expect("a second handle");
    std::thread::spawn(move || {
        let mut buffer = vec![0; 256 << 10];
        while reading.read(&mut buffer).is_ok_and(|read| read > 0) {}
    });
    stream
}
