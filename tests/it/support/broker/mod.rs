//! A real Apache Kafka for a test: one node, or several behind a controller of their own.
//!
//! Each node is a JVM with a folder of its own and ports below the range that outgoing connections
//! are given. With one node it is broker and controller at once. With more, the controller is a
//! further JVM that tests never touch: any broker can be killed or paused, all of them if need be,
//! and leaders still move.

mod java;
mod properties;
mod storage;

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::blocking;
use super::kafka_client::KafkaClient;
use super::process::{Signal, Supervised};
use super::secured::Secured;

use java::{class_archive, class_path};
use properties::server_properties;

/// A cold start while the machine compiles was seen to take 26 s.
const START_BOUND: Duration = Duration::from_secs(180);
const STOP_BOUND: Duration = Duration::from_secs(90);

/// Without a heartbeat for this long a broker loses its leaderships, so a test that kills one
/// waits this long. Shorter, and a busy machine would fence brokers that are well.
const SESSION_TIMEOUT_MS: u32 = 4000;

/// The folder of a node's data, in its own.
const DATA: &str = "data";

/// The node id of the controller that several brokers share.
const CONTROLLER_ID: u32 = 100;

/// Kafka's log to standard error, where the readiness line is looked for.
const LOG4J: &str = "\
status = error
rootLogger.level = info
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %d{HH:mm:ss.SSS} %p %c{1} %m%n
";

/// More of it: a line for each request that was answered.
const LOG4J_REQUESTS: &str = "\
logger.requests.name = kafka.request.logger
logger.requests.level = debug
";

/// A running Kafka. Dropping it kills its nodes and removes their data.
pub struct Broker {
    nodes: Vec<Arc<Node>>,
    /// Only with several nodes. Declared after them, so dropped after them.
    _controller: Option<Arc<Node>>,
    secured: Option<Arc<Secured>>,
}

impl Broker {
    /// One node with the default settings.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    pub fn builder() -> Builder {
        Builder {
            nodes: 1,
            properties: BTreeMap::new(),
            for_load: false,
            logs_requests: false,
            secured: None,
        }
    }

    /// The addresses of all nodes, as `bootstrap.servers` wants them.
    pub fn bootstrap(&self) -> String {
        let addresses: Vec<String> = self.nodes.iter().map(|node| node.address()).collect();
        addresses.join(",")
    }

    /// The addresses where a client logs in by SASL over TLS.
    pub fn sasl(&self) -> String {
        self.guarded(|ports| ports.sasl)
    }

    /// The addresses where a client logs in with a token that the tests' issuer has signed, over TLS.
    pub fn tokens(&self) -> String {
        self.guarded(|ports| ports.tokens)
    }

    /// The addresses where a client shows a certificate of its own.
    pub fn mutual(&self) -> String {
        self.guarded(|ports| ports.mutual)
    }

    fn guarded(&self, port: impl Fn(&GuardedPorts) -> u16) -> String {
        let addresses = self.nodes.iter().map(|node| {
            let ports = node.ports.as_ref().expect("a broker made by `secured`");
            format!("127.0.0.1:{}", port(ports))
        });
        addresses.collect::<Vec<_>>().join(",")
    }

    /// What `secured` was given.
    pub fn secured(&self) -> &Secured {
        self.secured.as_deref().expect("a broker made by `secured`")
    }

    /// A plain client of this broker.
    pub fn plain(&self) -> KafkaClient {
        KafkaClient::new(&self.bootstrap())
    }

    /// The node with this id; they count from 1.
    pub fn node(&self, id: u32) -> &Arc<Node> {
        self.nodes
            .iter()
            .find(|node| node.id == id)
            .unwrap_or_else(|| panic!("no node {id}"))
    }

    /// Stops every node in good order: SIGTERM, and wait.
    pub async fn stop(&self) {
        self.on_each(Node::stop_blocking).await;
    }

    /// Kills every node by SIGKILL.
    pub fn kill(&self) {
        self.nodes.iter().for_each(|node| node.kill());
    }

    /// Freezes every node: connections stay open and nothing answers.
    pub fn pause(&self) {
        self.nodes.iter().for_each(|node| node.pause());
    }

    pub fn resume(&self) {
        self.nodes.iter().for_each(|node| node.resume());
    }

    /// Starts every node again on its port and data, after stopping those that run.
    pub async fn restart(&self) {
        self.on_each(Node::restart_blocking).await;
    }

    /// Runs an operation on all nodes at the same time.
    async fn on_each(&self, operation: fn(&Node)) {
        let nodes = self.nodes.clone();
        blocking(move || {
            std::thread::scope(|scope| {
                for node in &nodes {
                    scope.spawn(|| operation(node));
                }
            });
        })
        .await;
    }
}

/// What a broker is to be like, before it is started.
pub struct Builder {
    nodes: u32,
    properties: BTreeMap<String, String>,
    for_load: bool,
    logs_requests: bool,
    secured: Option<Arc<Secured>>,
}

/// The ports of a secured node that let in only whom they know.
#[derive(Clone, Copy)]
pub struct GuardedPorts {
    /// SASL over TLS.
    pub sasl: u16,
    /// TLS with a certificate of the client.
    pub mutual: u16,
    /// Tokens that are signed, over TLS.
    pub tokens: u16,
}

impl Builder {
    /// That many brokers, 1 to n, with one controller beside them if n is above 1.
    pub fn nodes(mut self, nodes: u32) -> Self {
        assert!(nodes > 0, "a broker has at least one node");
        self.nodes = nodes;
        self
    }

    /// Sets a property of `server.properties` on every node, over the default given here.
    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.properties.insert(name.into(), value.into());
        self
    }

    /// More listeners, with TLS and logins, and an authorizer that denies what no ACL allows.
    /// The plain listener stays: the brokers' own and the tests', whose user may do everything.
    pub fn secured(mut self, secured: Secured) -> Self {
        self.secured = Some(Arc::new(secured));
        self
    }

    /// Lets a topic come into being when it is first asked for, as Kafka does by default.
    pub fn auto_create_topics(self) -> Self {
        self.property("auto.create.topics.enable", "true")
    }

    /// Group members that went silent are noticed within six seconds, not forty-five, and clients
    /// may ask for less. Shorter, and a busy machine would lose members that are well.
    pub fn fast_groups(self) -> Self {
        self.property("group.min.session.timeout.ms", "500")
            .property("group.consumer.min.heartbeat.interval.ms", "100")
            .property("group.consumer.heartbeat.interval.ms", "200")
            .property("group.consumer.min.session.timeout.ms", "500")
            .property("group.consumer.session.timeout.ms", "6000")
            .property("group.share.min.heartbeat.interval.ms", "100")
            .property("group.share.heartbeat.interval.ms", "200")
            .property("group.share.min.session.timeout.ms", "500")
            .property("group.share.session.timeout.ms", "6000")
    }

    /// For a broker that is never killed: one that a busy machine keeps from its heartbeats leads on for
    /// a minute. A killed one could not come back before that is over.
    pub fn never_killed(self) -> Self {
        self.property("broker.session.timeout.ms", "60000")
            .property("broker.heartbeat.interval.ms", "2000")
    }

    /// Its log has a line for each request that it answered.
    pub fn log_requests(mut self) -> Self {
        self.logs_requests = true;
        self
    }

    /// As Kafka runs where it has work to do: all compiler tiers and a gigabyte of heap.
    pub fn for_load(mut self) -> Self {
        self.for_load = true;
        self
    }

    /// Starts it and waits until every node is ready.
    pub async fn start(self) -> Broker {
        blocking(move || {
            let archive = class_archive();
            self.start_blocking(&archive.map_or_else(Vec::new, |path| {
                vec![format!("-XX:SharedArchiveFile={}", path.display())]
            }))
        })
        .await
    }

    fn start_blocking(&self, jvm: &[String]) -> Broker {
        for _ in 0..5 {
            match self.try_start(jvm) {
                Ok(broker) => return broker,
                // Probing a port and binding it are two steps; somebody was faster.
                Err(Failure::PortTaken) => {}
                Err(Failure::Other(message)) => panic!("{message}"),
            }
        }
        panic!("Kafka found its ports taken five times in a row");
    }

    fn try_start(&self, jvm: &[String]) -> Result<Broker, Failure> {
        let cluster_id = kafka_uuid();
        let controller_port = free_port();
        let mut nodes: Vec<Arc<Node>> = (1..=self.nodes)
            .map(|id| {
                let role = if self.nodes == 1 {
                    Role::Both { controller_port }
                } else {
                    Role::Broker { controller_port }
                };
                Arc::new(Node::new(id, role, self, jvm))
            })
            .collect();
        let controller = (self.nodes > 1).then(|| {
            let role = Role::Controller { controller_port };
            Arc::new(Node::new(CONTROLLER_ID, role, self, jvm))
        });
        let all: Vec<&Arc<Node>> = nodes.iter().chain(&controller).collect();
        // Several JVMs that start take all cores: one cluster after the other, so that they do not keep
        // brokers that run from their heartbeats. One that panicked has left nothing behind.
        static STARTS: Mutex<()> = Mutex::new(());
        let _turn = (all.len() > 1).then(|| {
            STARTS
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner())
        });
        std::thread::scope(|scope| {
            let starts: Vec<_> = all
                .iter()
                .map(|node| {
                    scope.spawn(|| {
                        node.format(&cluster_id, self.secured.as_deref());
                        node.launch()
                    })
                })
                .collect();
            starts
                .into_iter()
                .map(|start| {
                    start
                        .join()
                        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                })
                .collect::<Result<Vec<()>, Failure>>()
        })?;
        nodes.sort_by_key(|node| node.id);
        Ok(Broker {
            nodes,
            _controller: controller,
            secured: self.secured.clone(),
        })
    }
}

/// Why a node did not start.
enum Failure {
    PortTaken,
    Other(String),
}

#[derive(Clone, Copy)]
enum Role {
    Both { controller_port: u16 },
    Broker { controller_port: u16 },
    Controller { controller_port: u16 },
}

/// One JVM of a broker.
pub struct Node {
    id: u32,
    /// The port that clients use, and for a controller its own.
    port: u16,
    /// Only of a broker that is secured.
    ports: Option<GuardedPorts>,
    jvm: Vec<String>,
    for_load: bool,
    process: Mutex<Supervised>,
}

impl Node {
    fn new(id: u32, role: Role, builder: &Builder, jvm: &[String]) -> Self {
        let process = Supervised::new("tidegate-kafka-");
        let port = match role {
            Role::Controller { controller_port } => controller_port,
            Role::Both { .. } | Role::Broker { .. } => free_port(),
        };
        let folder = process.folder();
        let ports = builder.secured.as_ref().map(|secured| {
            secured.write_keys(folder);
            GuardedPorts {
                sasl: free_port(),
                mutual: free_port(),
                tokens: free_port(),
            }
        });
        write(
            &folder.join("server.properties"),
            &server_properties(id, port, ports, role, builder, folder),
        );
        let requests = if builder.logs_requests {
            LOG4J_REQUESTS
        } else {
            ""
        };
        write(
            &folder.join("log4j2.properties"),
            &format!("{LOG4J}{requests}"),
        );
        std::fs::create_dir(folder.join("tmp")).expect("a folder in the temporary folder");
        Self {
            id,
            port,
            ports,
            jvm: jvm.to_vec(),
            for_load: builder.for_load,
            process: Mutex::new(process),
        }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What Kafka has logged.
    pub fn log(&self) -> String {
        self.process().stderr()
    }

    pub async fn stop(self: &Arc<Self>) {
        let node = Arc::clone(self);
        blocking(move || node.stop_blocking()).await;
    }

    pub fn kill(&self) {
        self.process().kill();
    }

    pub fn pause(&self) {
        self.process().signal(Signal::STOP);
    }

    pub fn resume(&self) {
        self.process().signal(Signal::CONT);
    }

    pub async fn restart(self: &Arc<Self>) {
        let node = Arc::clone(self);
        blocking(move || node.restart_blocking()).await;
    }

    /// A test that panicked while it held the lock has done nothing to the process behind it.
    fn process(&self) -> std::sync::MutexGuard<'_, Supervised> {
        self.process
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn stop_blocking(&self) {
        let mut process = self.process();
        process.signal(Signal::TERM);
        if process.wait(STOP_BOUND).is_none() {
            process.kill();
            panic!("node {} did not stop within {STOP_BOUND:?}", self.id);
        }
    }

    fn restart_blocking(&self) {
        self.stop_blocking();
        let end = Instant::now() + STOP_BOUND;
        loop {
            match self.launch() {
                Ok(()) => return,
                // Somebody else may be looking just now whether it is free.
                Err(Failure::PortTaken) if Instant::now() < end => {}
                Err(Failure::PortTaken) => panic!("port {} was taken meanwhile", self.port),
                Err(Failure::Other(message)) => panic!("{message}"),
            }
        }
    }

    /// Starts the JVM and waits until it says that it is ready and its port accepts.
    fn launch(&self) -> Result<(), Failure> {
        let mut process = self.process();
        let before = process.stderr().len();
        let mut command = self.java(process.folder());
        command.arg("kafka.Kafka");
        command.arg(process.folder().join("server.properties"));
        process.spawn(&mut command);
        let end = Instant::now() + START_BOUND;
        loop {
            // An exit is looked for before the log is read, so that the log is whole then.
            let exited = process.exited();
            let log = process.stderr();
            let log = log.get(before..).unwrap_or_default();
            if log.contains("Kafka Server started")
                && TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok()
            {
                return Ok(());
            }
            if exited.is_some() && log.contains("Address already in use") {
                return Err(Failure::PortTaken);
            }
            if exited.is_some() || Instant::now() >= end {
                let what = exited.map_or_else(
                    || format!("was not ready after {START_BOUND:?}"),
                    |status| format!("ended ({status})"),
                );
                let tail: Vec<&str> = log.lines().rev().take(40).collect();
                let tail: Vec<&str> = tail.into_iter().rev().collect();
                return Err(Failure::Other(format!(
                    "Kafka node {} {what}:\n{}\n{}",
                    self.id,
                    process.stdout(),
                    tail.join("\n"),
                )));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn java(&self, folder: &Path) -> Command {
        let mut command = Command::new("java");
        if self.for_load {
            command.arg("-Xmx1g");
        } else {
            // The first compiler tier only: a test broker is small, and the cores belong to what
            // is tested.
            command.args(["-Xmx256m", "-XX:TieredStopAtLevel=1"]);
        }
        command
            // The collector without threads of its own.
            .arg("-XX:+UseSerialGC")
            // No file in the system's temporary folder that a killed JVM would leave behind.
            .arg("-XX:-UsePerfData")
            .arg(format!("-Djava.io.tmpdir={}", folder.join("tmp").display()))
            .arg(format!(
                "-Dlog4j2.configurationFile={}",
                folder.join("log4j2.properties").display()
            ))
            .args(self.ports.map(|_| Secured::allowed_urls(folder)))
            .args(&self.jvm)
            .args(["-cp", class_path()])
            .current_dir(folder);
        command
    }
}

/// A port that is free now and that nobody else of this process is given.
///
/// Below 32768, where outgoing connections begin: one of those can hold a port that looks free.
pub fn free_port() -> u16 {
    static GIVEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);
    let mut given = GIVEN.lock().unwrap();
    for _ in 0..1000 {
        let port = 20_000 + u16::try_from(random() % 12_000).unwrap();
        if !given.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            given.insert(port);
            return port;
        }
    }
    panic!("no free port between 20000 and 32000");
}

/// An id as Kafka writes them. One that begins with 0 could be among those that it keeps for itself.
fn kafka_uuid() -> String {
    URL_SAFE_NO_PAD.encode(
        [random() | 1 << 63, random()]
            .map(u64::to_be_bytes)
            .concat(),
    )
}

/// The standard library's hash keys are its only source of randomness, and good enough here.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("a file in the temporary folder");
}
