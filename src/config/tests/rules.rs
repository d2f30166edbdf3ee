//! What must hold between settings before anything listens.

use super::*;
use crate::config::load;

fn listening(address: &str, set: &[&str]) -> Inputs {
    Inputs {
        listen: vec![address.into()],
        ..with_set(set)
    }
}

const CLUSTER: &str = "kafka.bootstrap_servers=a:1";

#[test]
fn no_authentication_holds_unasked_on_loopback_only() {
    for address in [
        "127.0.0.1:1",
        "127.9.9.9:1",
        "[::1]:1",
        "LocalHost:1",
        "[::ffff:127.0.0.1]:1",
    ] {
        load_lines(&listening(address, &[CLUSTER]))
            .unwrap_or_else(|lines| panic!("{address}: {lines:?}"));
    }
    for address in [
        "0.0.0.0:1",
        "[::]:1",
        "10.0.0.1:1",
        "gateway.local:1",
        "localhost.example:1",
    ] {
        let line = complaint(&listening(address, &[CLUSTER]));
        let start = format!("auth.mode (default): listen (flag --listen) has {address}");
        assert!(line.starts_with(&start), "{line}");
        assert!(line.contains("set auth.mode = \"none\" by name"), "{line}");
        load_lines(&listening(address, &[CLUSTER, "auth.mode=none"]))
            .unwrap_or_else(|lines| panic!("{address}: {lines:?}"));
    }
}

#[test]
fn one_outside_address_among_several_is_enough() {
    let mut inputs = listening("127.0.0.1:1", &[CLUSTER]);
    inputs.listen.push("0.0.0.0:2".into());
    assert!(complaint(&inputs).contains("has 0.0.0.0:2"));
}

#[test]
fn the_management_listener_may_be_anywhere() {
    let mut inputs = nothing();
    inputs.management_listen = Some("0.0.0.0:9082".into());
    load_lines(&inputs).expect("it is exempt");
}

#[test]
fn asking_by_name_works_from_file_and_variable() {
    let text = "listen = \"0.0.0.0:1\"\nauth.mode = \"none\"\nkafka.bootstrap_servers = \"a:1\"";
    load_text(text).expect("asked for in the file");
    let inputs = with_env(&[
        ("TIDEGATE_LISTEN", "0.0.0.0:1"),
        ("TIDEGATE_AUTH__MODE", "none"),
        ("TIDEGATE_KAFKA__BOOTSTRAP_SERVERS", "a:1"),
    ]);
    load_lines(&inputs).expect("asked for by a variable");
}

#[test]
fn the_embedded_broker_starts_unasked_on_loopback_only() {
    let loaded = load_lines(&nothing()).expect("loopback");
    assert!(loaded.settings.kafka.uses_embedded());
    assert!(loaded.settings.kafka.creates_topics());
    let line = complaint(&listening("0.0.0.0:1", &["auth.mode=none"]));
    assert!(
        line.starts_with("kafka.bootstrap_servers (default): no bootstrap servers"),
        "{line}"
    );
    assert!(line.contains("--embedded"), "{line}");
    let mut inputs = listening("0.0.0.0:1", &["auth.mode=none"]);
    inputs.embedded = true;
    load_lines(&inputs).expect("asked for by name");
}

#[test]
fn the_embedded_broker_starts_with_tokens_only_when_it_is_asked_for() {
    const TOKENS: [&str; 2] = [
        "auth.mode=jwt",
        "auth.issuers=[{jwks_url = \"https://id.example/keys\"}]",
    ];
    let line = complaint(&with_set(&TOKENS));
    assert!(
        line.starts_with("kafka.bootstrap_servers (default): no bootstrap servers"),
        "{line}"
    );
    assert!(line.contains("auth.mode (flag --set) is \"jwt\""), "{line}");
    assert!(line.contains("--embedded"), "{line}");
    // On an address that others reach it is said once, too.
    complaint(&listening("0.0.0.0:1", &TOKENS));
    let mut inputs = with_set(&TOKENS);
    inputs.embedded = true;
    load_lines(&inputs).expect("asked for by name");
    let [mode, issuers] = TOKENS;
    load_lines(&with_set(&[mode, issuers, CLUSTER])).expect("a cluster");
}

#[test]
fn both_start_up_rules_speak_at_once() {
    let lines = complaints(&listening("0.0.0.0:1", &[]));
    assert_eq!(lines.len(), 2, "{lines:#?}");
}

#[test]
fn a_cluster_and_the_embedded_broker_contradict() {
    let line = complaint(&with_set(&[CLUSTER, "kafka.embedded=true"]));
    assert_eq!(
        line,
        "kafka.embedded (flag --set): true, but kafka.bootstrap_servers (flag --set) names a cluster: leave one of them out"
    );
    let loaded = load_lines(&with_set(&[CLUSTER])).expect("a cluster alone");
    assert!(!loaded.settings.kafka.uses_embedded());
    assert!(!loaded.settings.kafka.creates_topics());
}

#[test]
fn a_build_without_the_embedded_broker_needs_a_cluster() {
    let lines = |set: &[&str]| {
        let mut reading = read(&with_set(set));
        reading.apply_rules_of_build(false);
        let lines: Vec<_> = reading.errors.iter().map(ToString::to_string).collect();
        lines
    };
    let unasked = lines(&[]);
    assert_eq!(unasked.len(), 1, "{unasked:#?}");
    assert!(
        unasked[0].starts_with("kafka.bootstrap_servers (default): this build"),
        "{unasked:#?}"
    );
    let asked = lines(&["kafka.embedded=true"]);
    assert_eq!(asked.len(), 1, "{asked:#?}");
    assert!(
        asked[0].starts_with("kafka.embedded (flag --set): this build"),
        "{asked:#?}"
    );
    assert!(lines(&[CLUSTER]).is_empty());
}

#[test]
fn the_rules_are_those_of_this_build() {
    assert_eq!(load(&nothing()).is_ok(), cfg!(feature = "embedded"));
    assert!(load(&with_set(&[CLUSTER])).is_ok());
}

#[test]
fn broker_security_without_a_cluster_is_a_forgotten_setting() {
    let set = "kafka.properties.security.protocol=SASL_SSL";
    let line = complaint(&with_set(&[set]));
    assert!(
        line.contains("expected a cluster in kafka.bootstrap_servers"),
        "{line}"
    );
    load_lines(&with_set(&[set, CLUSTER])).expect("with a cluster");
    let plain = "kafka.properties.security.protocol=plaintext";
    load_lines(&with_set(&[plain])).expect("what the embedded broker speaks");
}

#[test]
fn a_record_fits_in_a_body() {
    let line = complaint(&with_set(&["http.max_body_bytes=512 KiB"]));
    assert_eq!(
        line,
        "limits.record_bytes (default): 1 MiB is above http.max_body_bytes (flag --set), 512 KiB, so that no request could carry such a record: lower the one or raise the other"
    );
    let set = ["http.max_body_bytes=512 KiB", "limits.record_bytes=512 KiB"];
    load_lines(&with_set(&set)).expect("as large as a body");
}

#[test]
fn an_address_serves_one_listener() {
    let mut inputs = listening("127.0.0.1:1", &[]);
    inputs.listen.push("127.0.0.1:1".into());
    assert!(complaint(&inputs).contains("127.0.0.1:1 is listed twice"));
    let mut inputs = listening("127.0.0.1:1", &[]);
    inputs.management_listen = Some("127.0.0.1:1".into());
    assert!(complaint(&inputs).contains("also a public address in listen"));
    let mut inputs = listening("127.0.0.1:0", &[]);
    inputs.listen.push("127.0.0.1:0".into());
    inputs.management_listen = Some("127.0.0.1:0".into());
    load_lines(&inputs).expect("port 0 is another port each time");
}

#[test]
fn an_engine_that_is_not_there_yet_is_refused() {
    let line = complaint(&with_set(&["kafka.group_engine=classic"]));
    assert!(
        line.starts_with("kafka.group_engine (flag --set): "),
        "{line}"
    );
    assert!(line.contains("not available yet"), "{line}");
    for engine in ["auto", "native"] {
        let set = format!("kafka.group_engine={engine}");
        load_lines(&with_set(&[&set])).expect("there is this one");
    }
}
