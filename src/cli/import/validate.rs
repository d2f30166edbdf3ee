//! Validates a draft so that it loads: what start-up objects to is taken back, with the objection as the
//! reason. What goes with it is taken back so that less is open than before, and never more.

use std::path::Path;

use super::listeners::one_or_list;
use super::output::{Draft, Setting, Value};
use crate::cli::apply_rules;
use crate::config::address::Address;
use crate::config::{ConfigError, read_text};

/// What stands in for brokers that nobody named. RFC 6761: no such name will ever resolve; and without any
/// name the gateway would be a trial on a broker in its own memory.
const NO_BROKER: &str = "set-me.invalid:9092";

const TLS_FAILED: &str = "the listeners had TLS, which could not be carried over";

const LOGIN_FAILED: &str = "the login to Kafka was not carried over";

/// See the file's first lines.
pub(super) fn validate(draft: &mut Draft, product: &str) {
    loop {
        name_brokers(draft);
        open_or_close(draft, product);
        let problems = problems(draft);
        if problems.is_empty() {
            return;
        }
        let mut changed = false;
        for (path, problem) in &problems {
            let is_taken_back = draft.take_back(problem, |setting| setting.path() == *path);
            if is_taken_back && is_of_login(path) {
                draft.close(LOGIN_FAILED);
            }
            changed |= is_taken_back;
        }
        // What is missing, and not what is there, can be at fault.
        if !changed {
            changed = problems
                .iter()
                .any(|(path, problem)| without(draft, path, problem));
        }
        // Nothing is left that could be wrong then, beside the brokers: the defaults are sound.
        let is_other = |setting: &Setting| setting.path() != "kafka.bootstrap_servers";
        if !changed && !draft.take_back("it does not load with the rest", is_other) {
            return;
        }
    }
}

fn name_brokers(draft: &mut Draft) {
    if draft.get("kafka.bootstrap_servers").is_none() {
        let server = Value::Text(NO_BROKER.to_owned());
        draft.set_default("kafka.bootstrap_servers", server, "TO DO: name the brokers");
        draft.remark("NO BROKERS WERE CARRIED OVER: set kafka.bootstrap_servers.");
    }
}

/// Says by name that everyone may connect where the product let everyone, and lets only this machine where it did not.
fn open_or_close(draft: &mut Draft, product: &str) {
    let has_tls = draft.get("tls.cert").is_some() && draft.get("tls.key").is_some();
    if draft.had_tls && !has_tls {
        draft.close(TLS_FAILED);
    }
    let addresses = match draft.get("listen").map(|setting| &setting.value) {
        Some(Value::Text(address)) => vec![address.clone()],
        Some(Value::List(addresses)) => addresses.clone(),
        _ => return,
    };
    let is_outside =
        |address: &String| Address::parse(address).is_some_and(|parsed| !parsed.is_loopback());
    if !addresses.iter().any(is_outside) {
        return;
    }
    let Some(reason) = draft.closed().map(str::to_owned) else {
        let note =
            format!("{product} asked for no credentials: whoever can connect may do everything");
        draft.set_default("auth.mode", Value::Text("none".to_owned()), &note);
        return;
    };
    let mut inside: Vec<String> = Vec::new();
    for address in &addresses {
        let address = match Address::parse(address) {
            Some(parsed) if is_outside(address) => format!("127.0.0.1:{}", parsed.port),
            _ => address.clone(),
        };
        if !inside.contains(&address) {
            inside.push(address);
        }
    }
    let note = format!("instead of {}, because {reason}", addresses.join(", "));
    draft.change("listen", one_or_list(inside), &note);
    draft.remark(format!(
        "ONLY THIS MACHINE CAN CONNECT until this is seen to: {reason}."
    ));
    draft.take_back("who may connect is not settled", |setting| {
        setting.path() == "auth.mode"
    });
}

/// What start-up would say, as paths and reasons.
fn problems(draft: &Draft) -> Vec<(String, String)> {
    // Whoever opens them would say less clearly what is wrong.
    let missing = missing_files(draft);
    if !missing.is_empty() {
        return missing;
    }
    let mut reading = read_text(Path::new("tidegate.toml"), &draft.toml("", false));
    apply_rules(&mut reading);
    let pair = |error: &ConfigError| {
        let path = error.path().unwrap_or_default().to_owned();
        (path, error.problem().trim().to_owned())
    };
    let errors = reading.finish().err().unwrap_or_default();
    errors.iter().map(pair).collect()
}

/// Files of Kafka clients; those of some are opened no earlier than a client connects.
fn missing_files(draft: &Draft) -> Vec<(String, String)> {
    let is_missing = |(path, name, file): (String, &str, &str)| {
        let names_a_file = path.starts_with("kafka.") && name.ends_with(".location");
        let missing = names_a_file && file != "probe" && !Path::new(file).exists();
        missing.then(|| {
            (
                path,
                format!("{file} is not there, on this machine at least"),
            )
        })
    };
    draft.texts().filter_map(is_missing).collect()
}

/// Takes back what asks for something that is missing. False when nothing does.
fn without(draft: &mut Draft, path: &str, problem: &str) -> bool {
    let reason = format!("{path}: {problem}");
    let is_kafka = path.starts_with("kafka.");
    if path == "auth.mode" {
        draft.close(problem);
        return true;
    }
    if path == "management.listen" {
        let off = Value::Text("off".to_owned());
        draft.set_default("management.listen", off, problem);
        return true;
    }
    if path == "http.max_body_bytes" {
        return draft.take_back(&reason, |setting| setting.path() == "limits.record_bytes");
    }
    // Its default is more than the body may have that was carried over.
    if path == "limits.record_bytes" {
        return draft.take_back(&reason, |setting| setting.path() == "http.max_body_bytes");
    }
    if is_of_login(path) {
        return without_login(draft, &reason);
    }
    if is_kafka && path.contains(".ssl.") {
        return draft.take_back(&reason, |setting| {
            let path = setting.path();
            path.starts_with("kafka.") && path.contains(".ssl.")
        });
    }
    let table = match path.rsplit_once('.') {
        Some((table, _)) if !is_kafka => table,
        _ => path,
    };
    !table.is_empty()
        && draft.take_back(&reason, |setting| {
            setting
                .path()
                .strip_prefix(table)
                .is_some_and(|rest| rest.starts_with('.'))
        })
}

/// Whether a setting is part of how the gateway logs in to Kafka.
fn is_of_login(path: &str) -> bool {
    path.starts_with("kafka.") && path.contains(".sasl.")
}

/// A login that is not whole is none. What was encrypted stays so.
fn without_login(draft: &mut Draft, reason: &str) -> bool {
    let changed = draft.take_back(reason, |setting| is_of_login(&setting.path()));
    let protocols: Vec<(String, String)> = draft
        .texts()
        .filter(|(path, name, _)| path.starts_with("kafka.") && *name == "security.protocol")
        .map(|(path, _, protocol)| (path, protocol.to_ascii_uppercase()))
        .collect();
    let mut lowered = false;
    for (path, protocol) in protocols {
        if let Some(rest) = protocol.strip_prefix("SASL_") {
            let note = format!("instead of {protocol}, as the login is not whole: {reason}");
            draft.change(&path, Value::Text(rest.to_owned()), &note);
            lowered = true;
        }
    }
    if lowered {
        draft.remark("THE LOGIN TO KAFKA WAS NOT CARRIED OVER, so that brokers will refuse the gateway until it is set.");
    }
    if changed || lowered {
        draft.close(LOGIN_FAILED);
    }
    changed || lowered
}
