//! The processes under load, and what the system says about them.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::echo;
use super::support::process::Supervised;
use super::support::tokens;

const READY_BOUND: Duration = Duration::from_secs(20);

/// A server under load. Dropping it kills it.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    pid: u32,
    _process: Supervised,
}

impl Server {
    /// The gateway in `binary` before this Kafka, with its default settings.
    pub fn gateway(binary: &Path, bootstrap: &str) -> Self {
        let mut command = gateway_command(binary, bootstrap, "127.0.0.1:0");
        Self::start(&mut command, "tidegate ready listen=http://")
    }

    /// The same with these settings too.
    pub fn gateway_with(binary: &Path, bootstrap: &str, settings: &[&str]) -> Self {
        let mut command = gateway_command(binary, bootstrap, "127.0.0.1:0");
        for setting in settings {
            command.args(["--set", setting]);
        }
        Self::start(&mut command, "tidegate ready listen=http://")
    }

    /// The same, which asks for tokens of [`tokens::SECRET`].
    pub fn jwt_gateway(binary: &Path, bootstrap: &str) -> Self {
        let process = Supervised::new("tidegate-bench-");
        std::fs::write(process.folder().join("secret"), tokens::SECRET).expect("a secret");
        let mut command = gateway_command(binary, bootstrap, "127.0.0.1:0");
        command.args(["--set", "auth.mode=jwt", "--set"]);
        command.arg(
            "auth.issuers=[{ issuer = \"https://issuer.test\", audience = \"tidegate\", secret_file = \"secret\" }]",
        );
        Self::start_in(process, &mut command, "tidegate ready listen=http://")
    }

    /// The echo.
    pub fn echo() -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.arg(echo::COMMAND);
        Self::start(&mut command, echo::READY)
    }

    fn start(command: &mut Command, ready: &str) -> Self {
        Self::start_in(Supervised::new("tidegate-bench-"), command, ready)
    }

    fn start_in(mut process: Supervised, command: &mut Command, ready: &str) -> Self {
        command.current_dir(process.folder());
        process.spawn(command);
        let pid = process.pid().expect("it was just started");
        let end = Instant::now() + READY_BOUND;
        loop {
            let said = process.stderr();
            let address = said
                .lines()
                .find_map(|line| line.strip_prefix(ready))
                .and_then(|rest| rest.split(' ').next())
                .and_then(|address| address.parse().ok());
            if let Some(address) = address {
                return Self {
                    address,
                    pid,
                    _process: process,
                };
            }
            assert!(
                process.exited().is_none() && Instant::now() < end,
                "{command:?} is not ready:\n{said}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Memory in use, in MiB.
    pub fn rss_mib(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid));
        let status = status.expect("it runs");
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
        kib.expect("a running process has memory") / 1024.0
    }

    /// Processor time of all of its threads so far. The kernel counts this in nanoseconds, where
    /// the better-known numbers come in hundredths of a second.
    pub fn cpu(&self) -> Duration {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid)).expect("it runs");
        let nanos = threads.filter_map(|thread| {
            let stat = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            stat.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanos.sum())
    }
}

/// Processor time of this process so far, its ended threads included; in hundredths of a second.
pub fn own_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("this is Linux");
    // The name in parentheses may hold spaces; user and system time are the 12th and 13th behind it.
    let (_, rest) = stat.rsplit_once(')').expect("a name in parentheses");
    let ticks = rest.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|n| n.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

fn gateway_command(binary: &Path, bootstrap: &str, listen: &str) -> Command {
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TIDEGATE_") {
            command.env_remove(name);
        }
    }
    command.args(["serve", "--management-listen", "127.0.0.1:0"]);
    command.args(["--listen", listen, "--bootstrap-servers", bootstrap]);
    command
}

/// Starts a gateway and sends it `request` until it is answered with 200: the time from the start
/// of the process to the answer.
pub fn time_to_answer(binary: &Path, bootstrap: &str, request: &[u8]) -> Duration {
    use std::io::{Read, Write};
    let address = {
        let probe = TcpListener::bind("127.0.0.1:0").expect("a free port");
        probe.local_addr().expect("a bound socket")
    };
    let mut process = Supervised::new("tidegate-bench-");
    let mut command = gateway_command(binary, bootstrap, &address.to_string());
    command.current_dir(process.folder());
    let started = Instant::now();
    process.spawn(&mut command);
    loop {
        let answered = std::net::TcpStream::connect(address).and_then(|mut stream| {
            stream.write_all(request)?;
            let mut head = [0_u8; 12];
            stream.read_exact(&mut head)?;
            Ok(head.ends_with(b" 200"))
        });
        if answered.unwrap_or(false) {
            return started.elapsed();
        }
        assert!(
            started.elapsed() < READY_BOUND,
            "no answer:\n{}",
            process.stderr()
        );
        std::thread::sleep(Duration::from_micros(500));
    }
}
