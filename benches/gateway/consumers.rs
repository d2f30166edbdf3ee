//! The rows about the compatible REST API: writing, and consumer instances. The client looks at no
//! record but the last of each answer, so that it takes little of the cores that are shared.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::direct::Direct;
use super::load::{self, Ran, on_this_thread};
use super::process::Server;
use super::records::{self, Record};
use super::report::{Row, Side, Target};
use super::rows::{self, Bench, per_request, posts};
use super::sessions::group_name;
use super::support::broker::Broker;

const V2: &str = "application/vnd.kafka.v2+json";
const JSON: &str = "application/vnd.kafka.json.v2+json";
/// Longest time for one answer.
const STALLED: Duration = Duration::from_secs(60);
/// Records of the topic that is read.
const READ_RECORDS: u64 = 1_000_000;
/// Instances of the row about many, and those that are made at once.
const INSTANCES: usize = 1_000;
const AT_ONCE: usize = 50;

/// POSTs of `count` records each, as Confluent REST Proxy takes them.
fn produce_requests(topic: &str, records: &[Record], count: usize) -> Rc<Vec<Vec<u8>>> {
    let item = |record: &Record| format!(r#"{{"key":"{}","value":{}}}"#, record.key, record.value);
    let post = |chunk: &[Record]| {
        let items: Vec<String> = chunk.iter().map(item).collect();
        let body = format!("{{\"records\":[{}]}}", items.join(","));
        load::post(&format!("/topics/{topic}"), JSON, body.as_bytes())
    };
    Rc::new(records.chunks_exact(count).map(post).collect())
}

/// One record a request, next to the records API's requests to the echo.
pub fn produce_one(bench: &Bench, name: &str) -> Vec<Row> {
    let fixtures = &bench.fixtures;
    let requests = produce_requests(&fixtures.write, &fixtures.small, 1);
    let plain = records::posts_of_one(&fixtures.write, &fixtures.small);
    vec![bench.rounds(
        name,
        "req/s",
        Target::AtLeast(0.6),
        &|server, time| posts(server, &requests, 1, time),
        &|time| posts(&bench.echo, &plain, 1, time),
    )]
}

/// A hundred records a request, next to a direct producer.
pub fn produce_100(bench: &Bench, name: &str) -> Vec<Row> {
    let (topic, records) = (&bench.fixtures.write, &bench.fixtures.small);
    let requests = produce_requests(topic, records, 100);
    vec![bench.rounds(
        name,
        "rec/s",
        Target::AtLeast(0.6),
        &|server, time| posts(server, &requests, 100, time),
        &|time| rows::direct(|| bench.direct.produce(topic, records, time)),
    )]
}

/// A connection to an instance. Large answers come in chunks, which `load`'s connections do not read.
struct Instance {
    stream: TcpStream,
    buffer: Vec<u8>,
    path: String,
}

impl Instance {
    /// Makes an instance of a group of its own, subscribed to `topic`.
    async fn subscribed(address: SocketAddr, topic: &str, format: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let group = group_name();
        let mut this = Self {
            stream,
            buffer: Vec::with_capacity(16 << 10),
            path: format!("/consumers/{group}/instances/one"),
        };
        let body = format!(
            r#"{{"name":"one","format":"{format}","auto.offset.reset":"earliest","auto.commit.enable":"false"}}"#
        );
        this.call(&load::post(
            &format!("/consumers/{group}"),
            V2,
            body.as_bytes(),
        ))
        .await?;
        let body = format!(r#"{{"topics":["{topic}"]}}"#);
        let path = format!("{}/subscription", this.path);
        this.call(&load::post(&path, V2, body.as_bytes())).await?;
        Ok(this)
    }

    /// The body of a successful answer, chunk marks included.
    async fn call(&mut self, request: &[u8]) -> io::Result<&[u8]> {
        let called = timeout(STALLED, self.exchange(request)).await;
        let start = called.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        if !self.buffer.starts_with(b"HTTP/1.1 20") {
            let text = String::from_utf8_lossy(&self.buffer).into_owned();
            return Err(io::Error::other(text));
        }
        Ok(&self.buffer[start..])
    }

    async fn exchange(&mut self, request: &[u8]) -> io::Result<usize> {
        self.buffer.clear();
        self.stream.write_all(request).await?;
        let start = loop {
            self.more().await?;
            if let Some(end) = memchr::memmem::find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
        };
        let head = String::from_utf8_lossy(&self.buffer[..start]).to_ascii_lowercase();
        let length = head
            .split_once("content-length: ")
            .and_then(|(_, rest)| rest.split("\r\n").next()?.parse::<usize>().ok());
        loop {
            let is_whole = match length {
                Some(length) => self.buffer.len() >= start + length,
                None if head.starts_with("http/1.1 204") => true,
                // No record of the bench has such a line.
                None => self.buffer.ends_with(b"\r\n0\r\n\r\n"),
            };
            if is_whole {
                return Ok(start);
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> io::Result<()> {
        self.buffer.reserve(256 << 10);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Reads once; the offset after the last record, if one came.
    async fn read(&mut self) -> io::Result<Option<u64>> {
        let request = load::get(&format!("{}/records", self.path));
        let body = self.call(&request).await?;
        let Some(at) = memchr::memmem::rfind(body, b"\"offset\":") else {
            return Ok(None);
        };
        // A chunk's mark may stand within the digits only if a piece ended there, and none does.
        let digits: Vec<u8> = body[at + 9..]
            .iter()
            .copied()
            .take_while(u8::is_ascii_digit)
            .collect();
        let offset = std::str::from_utf8(&digits).map_err(io::Error::other)?;
        let offset: u64 = offset.parse().map_err(io::Error::other)?;
        Ok(Some(offset + 1))
    }

    async fn delete(mut self) -> io::Result<()> {
        let path = self.path.clone();
        let request = format!("DELETE {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n");
        self.call(request.as_bytes()).await.map(|_| ())
    }
}

/// One instance that reads binary in a loop, from its first record on.
pub fn consume_binary(bench: &Bench, name: &str) -> Vec<Row> {
    consume(bench, name, "binary", Target::AtLeast(0.4))
}

/// The same as JSON.
pub fn consume_json(bench: &Bench, name: &str) -> Vec<Row> {
    consume(bench, name, "json", Target::None)
}

fn consume(bench: &Bench, name: &str, format: &str, target: Target) -> Vec<Row> {
    // Keys of the fixtures are no JSON.
    let topic = match format {
        "binary" => bench.fixtures.read.clone(),
        _ => with_json_keys(bench),
    };
    vec![bench.rounds(
        name,
        "rec/s",
        target,
        &|server, time| {
            let before = server.cpu();
            let ran = on_this_thread(follow(server.address, &topic, format, time));
            let ran = ran.expect("every read is answered");
            let cpu = server.cpu().saturating_sub(before);
            Side {
                figure: ran.per_second(),
                cpu: Some(per_request(cpu, ran.requests)),
                ..Side::default()
            }
        },
        &|time| rows::direct(|| bench.direct.consume(&topic, time)),
    )]
}

fn with_json_keys(bench: &Bench) -> String {
    let topic = "read-json".to_owned();
    let records: Vec<Record> = records::records(100)
        .into_iter()
        .map(|record| Record {
            key: format!("\"{}\"", record.key),
            ..record
        })
        .collect();
    on_this_thread(bench.direct.create_topics(std::slice::from_ref(&topic), 1));
    bench.direct.fill(&topic, &records, READ_RECORDS);
    topic
}

/// `requests` of what is returned are records.
async fn follow(address: SocketAddr, topic: &str, format: &str, time: Duration) -> io::Result<Ran> {
    let mut instance = Instance::subscribed(address, topic, format).await?;
    let first = loop {
        if let Some(first) = instance.read().await? {
            break first;
        }
    };
    let started = Instant::now();
    let mut at = first;
    while started.elapsed() < time && at < READ_RECORDS {
        if let Some(next) = instance.read().await? {
            at = next;
        }
    }
    let ran = Ran {
        requests: at - first,
        elapsed: started.elapsed(),
        latencies: Vec::new(),
    };
    instance.delete().await?;
    Ok(ran)
}

/// Idle instances, each the member of a group of its own.
pub fn many(bench: &Bench, name: &str) -> Vec<Row> {
    // As for sessions: connections know of every topic, so these have a Kafka with few.
    let broker = on_this_thread(Broker::builder().for_load().start());
    let direct = Direct::new(&broker.bootstrap());
    let each = bench.alone(name, "KiB each", Target::AtMost(128.0), &|binary| {
        let settings = [
            "limits.connections=5000",
            "limits.connections_per_address=5000",
            "limits.instances=2000",
        ];
        let server = Server::gateway_with(binary, &broker.bootstrap(), &settings);
        let topic = group_name();
        let measured = on_this_thread(async {
            direct.create_topics(std::slice::from_ref(&topic), 1).await;
            // What the first instance costs is the process's, not an instance's.
            let mut first = Instance::subscribed(server.address, &topic, "binary").await?;
            first.read().await?;
            let before = server.rss_mib();
            let mut making = JoinSet::new();
            let mut left = INSTANCES;
            while left > 0 || !making.is_empty() {
                if left > 0 && making.len() < AT_ONCE {
                    left -= 1;
                    let topic = topic.clone();
                    let address = server.address;
                    making.spawn_local(async move {
                        // Its connection goes with it.
                        let mut one = Instance::subscribed(address, &topic, "binary").await?;
                        one.read().await
                    });
                } else if let Some(made) = making.join_next().await {
                    made.expect("no panic")?;
                }
            }
            tokio::time::sleep(Duration::from_secs(5)).await;
            io::Result::Ok((server.rss_mib() - before) * 1024.0 / INSTANCES as f64)
        });
        measured.expect("every instance is served")
    });
    vec![each]
}
