//! The bench: what the gateway does next to what limits it, in one run on one broker.
//!
//! `benches/README.md` says how to run it and how to read what it prints.

#![allow(
    clippy::unwrap_used,
    reason = "a bench that cannot go on says so by panicking, as its helpers do"
)]

mod consumers;
mod crowd;
mod direct;
mod echo;
mod groups;
mod load;
mod memory;
mod process;
mod records;
mod report;
mod rows;
mod sessions;
mod streams;
#[path = "../../tests/it/support/mod.rs"]
#[allow(
    dead_code,
    reason = "the tests' box of tools, of which a bench needs the broker and little else"
)]
mod support;
mod v3;

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::json;

use direct::Direct;
use process::Server;
use report::Row;
use rows::{Bench, Fixtures};
use support::broker::Broker;

/// Measures the gateway next to what limits it; benches/README.md explains the rows.
#[derive(Debug, Parser)]
#[command(name = "gateway")]
struct Cli {
    /// The rows to run, all by default; `post` runs every row whose name starts so
    #[arg(value_name = "ROW")]
    rows: Vec<String>,
    /// Rounds, each with every side once
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds for each side of each round
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Where the JSON goes
    #[arg(long, default_value = "bench-results/gateway.json")]
    out: PathBuf,
    /// The gateway to measure, if it is not the one built with this bench
    #[arg(long, value_name = "BINARY")]
    gateway: Option<PathBuf>,
    /// Another build of the gateway, measured in the same rounds to compare the two
    #[arg(long, value_name = "BINARY")]
    against: Option<PathBuf>,
    /// List the rows and end
    #[arg(long)]
    list: bool,
    /// What cargo adds when it runs a bench
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(echo::COMMAND) {
        return echo::run();
    }
    let cli = Cli::parse();
    if cli.list {
        for (name, _) in rows::ROWS {
            println!("{name}");
        }
        return ExitCode::SUCCESS;
    }
    let chosen: Vec<_> = rows::ROWS
        .iter()
        .filter(|(name, _)| {
            cli.rows.is_empty()
                || cli
                    .rows
                    .iter()
                    .any(|asked| name.starts_with(asked.as_str()))
        })
        .collect();
    if chosen.is_empty() {
        eprintln!("error: no such row; --list names them");
        return ExitCode::FAILURE;
    }
    let started = Instant::now();
    let binary = cli
        .gateway
        .clone()
        .unwrap_or_else(|| env!("CARGO_BIN_EXE_tidegate").into());
    eprintln!("starting Kafka");
    // A minute of writing is gigabytes, of which nobody reads anything.
    let builder = Broker::builder()
        .for_load()
        .property("log.retention.check.interval.ms", "1000")
        .property("log.initial.task.delay.ms", "1000")
        .property("log.segment.delete.delay.ms", "1000");
    let broker = load::on_this_thread(builder.start());
    let bootstrap = broker.bootstrap();
    let direct = Direct::new(&bootstrap);
    eprintln!("filling topics, which warms Kafka up");
    let fixtures = Fixtures::make(&direct);
    let bench = Bench {
        gateway: Server::gateway(&binary, &bootstrap),
        other: cli
            .against
            .as_deref()
            .map(|binary| Server::gateway(binary, &bootstrap)),
        echo: Server::echo(),
        other_binary: cli.against.clone(),
        binary,
        bootstrap,
        direct,
        fixtures,
        rounds: cli.rounds,
        time: Duration::from_secs_f64(cli.seconds),
    };
    let mut done = Vec::new();
    let mut failed = false;
    for (name, row) in chosen {
        eprintln!("{name}");
        // One row that fails must not take what the others have measured with it.
        let measured = std::panic::catch_unwind(AssertUnwindSafe(|| row(&bench, name)));
        failed |= measured.is_err();
        done.extend(
            measured.unwrap_or_else(|_| vec![Row::skipped(name, "it failed, as said above")]),
        );
    }
    report::print(&done);
    let run = json!({
        "rounds": cli.rounds,
        "seconds_per_side": cli.seconds,
        "took_s": started.elapsed().as_secs_f64(),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "version": env!("CARGO_PKG_VERSION"),
    });
    match report::write(&cli.out, &done, &run) {
        Ok(()) => {
            println!("written to {}", cli.out.display());
            ExitCode::from(u8::from(failed))
        }
        Err(error) => {
            eprintln!("error: cannot write {}: {error}", cli.out.display());
            ExitCode::FAILURE
        }
    }
}
