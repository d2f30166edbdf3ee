//! The built binary, started on free ports and watched.
//!
//! Its folder is its working directory, so that no `tidegate.toml` of the checkout is read, and
//! its environment has no `TIDEGATE_` variable but those that the test gives.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::blocking;
use super::process::{Signal, Supervised};

/// From start to the line that says it is ready.
const READY_BOUND: Duration = Duration::from_secs(60);
/// From SIGTERM to the end: the default grace period and much more.
const TERMINATE_BOUND: Duration = Duration::from_secs(60);

/// A gateway that is ready. Dropping it kills it.
pub struct Gateway {
    listen: String,
    management: String,
    pid: u32,
    process: Mutex<Supervised>,
}

/// A gateway that ended before it was ready, as one with bad settings must.
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Gateway {
    /// A gateway before this Kafka, with the default settings.
    pub async fn start(bootstrap: &str) -> Self {
        Self::builder(bootstrap).start().await
    }

    pub fn builder(bootstrap: &str) -> Builder {
        Builder::new(&["--bootstrap-servers", bootstrap])
    }

    /// A gateway with a broker of its own, in its own process.
    pub fn embedded() -> Builder {
        Builder::new(&["--embedded"])
    }

    /// A gateway that was told of no Kafka.
    pub fn unconfigured() -> Builder {
        Builder::new(&[])
    }

    /// The address of a path on the main listener.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.listen)
    }

    /// The address of a path on the management listener.
    pub fn management_url(&self, path: &str) -> String {
        format!("{}{path}", self.management)
    }

    /// Host and port of the main listener, for a socket.
    pub fn address(&self) -> &str {
        let listen = self.listen.as_str();
        listen
            .split_once("://")
            .map_or(listen, |(_, address)| address)
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its working directory.
    pub fn folder(&self) -> PathBuf {
        self.process().folder().to_owned()
    }

    /// Puts a file into its working directory in one step, in the place of what was there.
    pub fn replace_file(&self, name: &str, text: &str) {
        let folder = self.process().folder().to_owned();
        let new = folder.join(format!("{name}.new"));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, folder.join(name)).unwrap();
    }

    /// Runs another command of the same binary in its working directory.
    pub async fn run(&self, args: &[&str]) -> Ended {
        let folder = self.process().folder().to_owned();
        let mut command = command(&folder);
        command.args(args);
        let output = blocking(move || command.output().unwrap()).await;
        Ended {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// All that it has written to standard error.
    pub fn stderr(&self) -> String {
        self.process().stderr()
    }

    pub fn stdout(&self) -> String {
        self.process().stdout()
    }

    /// Sends SIGTERM and goes on at once.
    pub fn ask_to_end(&self) {
        self.process().signal(Signal::TERM);
    }

    /// Sends SIGHUP: it reads its settings again.
    pub fn reload(&self) {
        self.process().signal(Signal::HUP);
    }

    /// Sends SIGTERM and waits for the end.
    pub async fn terminate(self) -> Ended {
        self.ask_to_end();
        self.ended().await
    }

    /// Waits for the end that something else has brought about.
    pub async fn ended(self) -> Ended {
        blocking(move || {
            let mut process = self.process();
            match process.wait(TERMINATE_BOUND) {
                Some(status) => Ended::new(&process, status),
                None => panic!(
                    "the gateway had not ended after {TERMINATE_BOUND:?}:\n{}",
                    process.stderr()
                ),
            }
        })
        .await
    }

    /// Ends it by SIGKILL.
    pub fn kill(&self) {
        self.process().kill();
    }

    /// Freezes it: connections stay open and nothing answers.
    pub fn pause(&self) {
        self.process().signal(Signal::STOP);
    }

    pub fn resume(&self) {
        self.process().signal(Signal::CONT);
    }

    fn process(&self) -> MutexGuard<'_, Supervised> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ended {
    fn new(process: &Supervised, status: ExitStatus) -> Self {
        Self {
            status,
            stdout: process.stdout(),
            stderr: process.stderr(),
        }
    }
}

/// How a gateway is to be started.
pub struct Builder {
    args: Vec<OsString>,
    env: Vec<(String, String)>,
    files: Vec<(String, String)>,
}

impl Builder {
    fn new(args: &[&str]) -> Self {
        let start = [
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--management-listen",
            "127.0.0.1:0",
        ];
        Self {
            args: start.iter().chain(args).map(OsString::from).collect(),
            env: Vec::new(),
            files: Vec::new(),
        }
    }

    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.into());
        self
    }

    /// `--set KEY=VALUE`
    pub fn set(self, key: &str, value: &str) -> Self {
        self.arg("--set").arg(&format!("{key}={value}"))
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Asks clients for tokens of the tests' own issuer ([`super::tokens`]).
    pub fn with_tokens(self) -> Self {
        self.file("secret", super::tokens::SECRET)
            .set("auth.mode", "jwt")
            .set(
                "auth.issuers",
                r#"[{ issuer = "https://issuer.test", audience = "tidegate", secret_file = "secret" }]"#,
            )
    }

    /// Puts a file into its working directory, or into a folder there; `tidegate.toml` is read from there.
    pub fn file(mut self, name: &str, text: &str) -> Self {
        self.files.push((name.into(), text.into()));
        self
    }

    /// Starts it and waits until it is ready.
    pub async fn start(self) -> Gateway {
        match self.try_start().await {
            Ok(gateway) => gateway,
            Err(ended) => panic!(
                "the gateway ended ({}) before it was ready:\n{}",
                ended.status, ended.stderr
            ),
        }
    }

    /// Starts it and waits until it is ready or has ended.
    pub async fn try_start(self) -> Result<Gateway, Ended> {
        blocking(move || self.try_start_blocking()).await
    }

    fn try_start_blocking(self) -> Result<Gateway, Ended> {
        let mut process = Supervised::new("tidegate-gateway-");
        for (name, text) in &self.files {
            let path = process.folder().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let mut command = command(process.folder());
        command.args(self.args).envs(self.env);
        process.spawn(&mut command);
        let pid = process.pid().unwrap();
        let end = Instant::now() + READY_BOUND;
        loop {
            let exited = process.exited();
            if let Some(ready) = Ready::find(&process.stderr()) {
                return Ok(Gateway {
                    listen: ready.listen,
                    management: ready.management,
                    pid,
                    process: Mutex::new(process),
                });
            }
            if let Some(status) = exited {
                return Err(Ended::new(&process, status));
            }
            assert!(
                Instant::now() < end,
                "the gateway was not ready after {READY_BOUND:?}:\n{}",
                process.stderr()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The built binary in a folder, without the settings of whoever runs the tests.
fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TIDEGATE_") {
            command.env_remove(name);
        }
    }
    command.current_dir(folder);
    command
}

/// The line `tidegate ready listen=http://… management=http://… broker=…`.
struct Ready {
    listen: String,
    management: String,
}

impl Ready {
    fn find(stderr: &str) -> Option<Self> {
        // Only whole lines: the last may still be being written.
        let (lines, _) = stderr.rsplit_once('\n')?;
        let fields = lines
            .lines()
            .find_map(|line| line.strip_prefix("tidegate ready "))?;
        let field = |name: &str| {
            let value = fields.split(' ').find_map(|field| field.strip_prefix(name));
            value
                .unwrap_or_else(|| panic!("no {name} in {fields:?}"))
                .to_owned()
        };
        Some(Self {
            listen: field("listen="),
            management: field("management="),
        })
    }
}
