//! Which source wins, and what each value remembers of it.

use super::*;
use crate::config::{Settings, Source};

const VARIABLE: &str = "TIDEGATE_KAFKA__BOOTSTRAP_SERVERS";
const KEY: &str = "kafka.bootstrap_servers";

#[test]
fn nothing_set_is_the_defaults() {
    let loaded = load_lines(&nothing()).expect("the defaults are sound");
    assert_eq!(loaded.settings, Settings::default());
    assert_eq!(*loaded.source(KEY), Source::Default);
}

#[test]
fn each_layer_overrides_the_former() {
    let folder = folder_with("[kafka]\nbootstrap_servers = \"file:1\"\n");
    let mut inputs = in_folder(folder.path());
    let file = load_lines(&inputs).expect("the file is sound");
    assert_eq!(file.settings.kafka.bootstrap_servers, "file:1");
    let source = Source::File {
        path: "tidegate.toml".into(),
        line: 2,
    };
    assert_eq!(*file.source(KEY), source);

    inputs.env = vec![(VARIABLE.into(), "env:1".into())];
    let env = load_lines(&inputs).expect("the variable is sound");
    assert_eq!(env.settings.kafka.bootstrap_servers, "env:1");
    assert_eq!(*env.source(KEY), Source::Environment(VARIABLE.into()));

    inputs.bootstrap_servers = Some("flag:1".into());
    let flag = load_lines(&inputs).expect("the flag is sound");
    assert_eq!(flag.settings.kafka.bootstrap_servers, "flag:1");
    assert_eq!(*flag.source(KEY), Source::Flag("--bootstrap-servers"));

    inputs.bootstrap_servers = None;
    inputs.set = vec![format!("{KEY}=set:1")];
    let set = load_lines(&inputs).expect("the flag is sound");
    assert_eq!(set.settings.kafka.bootstrap_servers, "set:1");
    assert_eq!(*set.source(KEY), Source::Flag("--set"));
}

#[test]
fn the_file_is_the_one_named_by_flag_then_variable_then_the_folder() {
    let folder = folder_with("shutdown_grace_ms = 1");
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("the file is written");
    };
    write("variable.toml", "shutdown_grace_ms = 2");
    write("flag.toml", "shutdown_grace_ms = 3");
    let grace = |inputs: &Inputs| {
        let loaded = load_lines(inputs).expect("the file is sound");
        loaded.settings.server.shutdown_grace.as_millis()
    };
    let mut inputs = in_folder(folder.path());
    assert_eq!(grace(&inputs), 1);
    inputs.env = vec![("TIDEGATE_CONFIG".into(), "variable.toml".into())];
    assert_eq!(grace(&inputs), 2);
    inputs.config_file = Some("flag.toml".into());
    assert_eq!(grace(&inputs), 3);
    inputs.config_file = None;
    inputs.env = vec![("TIDEGATE_CONFIG".into(), "".into())];
    assert_eq!(grace(&inputs), 1);
}

#[test]
fn a_named_file_must_exist() {
    let mut inputs = nothing();
    inputs.config_file = Some("missing.toml".into());
    let line = complaint(&inputs);
    assert!(
        line.starts_with("file missing.toml: cannot be read"),
        "{line}"
    );
    let line = complaint(&with_env(&[("TIDEGATE_CONFIG", "missing.toml")]));
    assert!(
        line.starts_with("file missing.toml: cannot be read"),
        "{line}"
    );
}

#[test]
fn named_flags_set_their_keys() {
    let inputs = Inputs {
        listen: vec!["127.0.0.1:0".into(), "[::1]:1".into()],
        management_listen: Some("off".into()),
        embedded: true,
        ..nothing()
    };
    let loaded = load_lines(&inputs).expect("the flags are sound");
    assert_eq!(loaded.settings.server.listen, ["127.0.0.1:0", "[::1]:1"]);
    assert_eq!(loaded.settings.server.management_listen, None);
    assert!(loaded.settings.kafka.embedded);
    assert_eq!(*loaded.source("listen"), Source::Flag("--listen"));
    let source = Source::Flag("--management-listen");
    assert_eq!(*loaded.source("management.listen"), source);
    assert_eq!(*loaded.source("kafka.embedded"), Source::Flag("--embedded"));
}

#[test]
fn a_named_flag_and_set_cannot_both_set_a_key() {
    let mut inputs = with_set(&["listen=127.0.0.1:1"]);
    inputs.listen = vec!["127.0.0.1:2".into()];
    let line = complaint(&inputs);
    assert_eq!(
        line,
        "listen (flag --set): also set by --listen: leave one of them out"
    );
}

#[test]
fn the_last_set_of_a_key_wins() {
    let inputs = with_set(&["limits.connections=1", "limits.connections=2"]);
    let loaded = load_lines(&inputs).expect("the flags are sound");
    assert_eq!(loaded.settings.limits.connections, 2);
}

#[test]
fn set_takes_toml_and_bare_words() {
    let loaded = load_lines(&with_set(&[
        "listen=[\"127.0.0.1:1\", \"localhost:2\"]",
        "http={max_body_bytes = \"2 MiB\", max_header_bytes = 8_192}",
        "limits.record_bytes=64 KiB",
        "telemetry.log_level=debug",
        "telemetry.access_log=true",
        "telemetry.log_format='json'",
    ]))
    .expect("the flags are sound");
    let settings = loaded.settings;
    assert_eq!(settings.server.listen, ["127.0.0.1:1", "localhost:2"]);
    assert_eq!(settings.http.max_body_bytes, 2 << 20);
    assert_eq!(settings.http.max_header_bytes, 8192);
    assert_eq!(settings.limits.record_bytes, 64 << 10);
    assert_eq!(settings.telemetry.log_level, "debug");
    assert!(settings.telemetry.access_log);
}

#[test]
fn set_without_a_value_is_refused_without_repeating_it() {
    let line = complaint(&with_set(&["hunter2"]));
    assert_eq!(line, "flag --set (number 1): expected KEY=VALUE");
    let line = complaint(&with_set(&["limits.connections=1", "=2"]));
    assert_eq!(line, "flag --set (number 2): expected KEY=VALUE");
}

#[test]
fn properties_are_flattened_and_keep_their_text() {
    let loaded = load_text(
        "kafka.bootstrap_servers = \"a:1\"\n[kafka.properties]\n\"ssl.ca.location\" = \"ca.pem\"\nssl.key.location = \"key.pem\"\n\
         socket.keepalive.enable = true\n[kafka.producer]\nlinger.ms = 5\n[kafka.producer.batch]\nsize = 0x10\n",
    )
    .expect("the properties are sound");
    let kafka = &loaded.settings.kafka;
    let pairs = |properties: &crate::config::Properties| -> Vec<String> {
        let pair = |(name, value): (&String, &String)| format!("{name}={value}");
        properties.iter().map(pair).collect()
    };
    assert_eq!(
        pairs(&kafka.properties),
        [
            "socket.keepalive.enable=true",
            "ssl.ca.location=ca.pem",
            "ssl.key.location=key.pem"
        ]
    );
    assert_eq!(pairs(&kafka.producer), ["batch.size=16", "linger.ms=5"]);
    let source = Source::File {
        path: "tidegate.toml".into(),
        line: 4,
    };
    let path = "kafka.properties.ssl.key.location";
    assert_eq!(*loaded.source(path), source);
}

#[test]
fn properties_merge_over_the_layers() {
    let folder = folder_with("[kafka.properties]\n\"sasl.username\" = \"file\"\ndebug = \"msg\"\n");
    let mut inputs = in_folder(folder.path());
    inputs.env = vec![(
        "TIDEGATE_KAFKA__PROPERTIES__SASL_USERNAME".into(),
        "env".into(),
    )];
    inputs.set = vec![
        "kafka.properties.sasl.password=1_000".into(),
        "kafka.properties.\"client.id\"=\"007\"".into(),
        "kafka.admin={client.id = \"admin\"}".into(),
    ];
    let loaded = load_lines(&inputs).expect("the properties are sound");
    let properties = &loaded.settings.kafka.properties;
    assert_eq!(properties["debug"], "msg");
    assert_eq!(properties["sasl.username"], "env");
    assert_eq!(properties["sasl.password"], "1_000");
    assert_eq!(properties["client.id"], "007");
    assert_eq!(loaded.settings.kafka.admin["client.id"], "admin");
    let source = loaded.source("kafka.properties.sasl.username");
    let variable = "TIDEGATE_KAFKA__PROPERTIES__SASL_USERNAME";
    assert_eq!(*source, Source::Environment(variable.into()));
}

#[test]
fn a_property_written_in_both_spellings_is_refused() {
    let line =
        complaint_about_text("[kafka.properties]\n\"client.id\" = \"a\"\nclient.id = \"b\"\n");
    assert_eq!(
        line,
        "kafka.properties.client.id (file tidegate.toml line 3): also set in line 2: leave one of them out"
    );
}

#[test]
fn broken_toml_names_line_and_column_and_repeats_nothing() {
    let line = complaint_about_text("[kafka.properties]\n\"sasl.password\" = \"hunter2\n[http]\n");
    let place = "file tidegate.toml line 2 column ";
    assert!(line.starts_with(place), "{line}");
    assert!(line.contains("not valid TOML"), "{line}");
    assert!(!line.contains("hunter2"), "{line}");
    let line = complaint_about_text("\n  = 1\n");
    assert!(
        line.starts_with("file tidegate.toml line 2 column 3: "),
        "{line}"
    );
}

#[test]
fn a_file_that_is_not_text_is_refused() {
    let folder = folder_with("");
    let path = folder.path().join("tidegate.toml");
    std::fs::write(path, b"# ok\n\xff").expect("the file is written");
    let line = complaint(&in_folder(folder.path()));
    assert_eq!(line, "file tidegate.toml line 2: expected UTF-8 text");
}

#[test]
fn a_broken_file_does_not_hide_what_else_is_wrong() {
    let folder = folder_with("listen = \n");
    let mut inputs = in_folder(folder.path());
    inputs.set = vec!["limits.connections=none".into()];
    // Whether these addresses are in order is unknown while the file is.
    inputs.listen = vec!["0.0.0.0:1".into()];
    let lines = complaints(&inputs);
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[0].contains("not valid TOML"), "{lines:#?}");
    assert!(
        lines[1].starts_with("limits.connections (flag --set)"),
        "{lines:#?}"
    );
}

#[test]
fn variables_are_split_at_double_underscores() {
    let loaded = load_lines(&with_env(&[
        ("TIDEGATE_LISTEN", "127.0.0.1:1, [::1]:2"),
        ("TIDEGATE_AUTH__MODE", "none"),
        ("TIDEGATE_HTTP__MAX_BODY_BYTES", "16 MiB"),
        ("TIDEGATE_HTTP__REQUEST_TIMEOUT_MS", "1_000"),
        ("TIDEGATE_TELEMETRY__ACCESS_LOG", "true"),
        ("TIDEGATE_KAFKA__AUTO_CREATE_TOPICS", "false"),
        ("TIDEGATE_MANAGEMENT__LISTEN", "off"),
        ("UNRELATED", "x"),
    ]))
    .expect("the variables are sound");
    let settings = loaded.settings;
    assert_eq!(settings.server.listen, ["127.0.0.1:1", "[::1]:2"]);
    assert_eq!(settings.http.max_body_bytes, 16 << 20);
    assert_eq!(settings.http.request_timeout.as_millis(), 1000);
    assert!(settings.telemetry.access_log);
    assert_eq!(settings.kafka.auto_create_topics, Some(false));
    assert_eq!(settings.server.management_listen, None);
}

#[test]
fn unknown_variables_are_refused_with_the_nearest() {
    let line = complaint(&with_env(&[("TIDEGATE_KAFKA_BOOTSTRAP_SERVERS", "a:1")]));
    assert_eq!(
        line,
        "environment TIDEGATE_KAFKA_BOOTSTRAP_SERVERS: unknown variable; did you mean TIDEGATE_KAFKA__BOOTSTRAP_SERVERS?"
    );
    let line = complaint(&with_env(&[("TIDEGATE_QUITE_ELSEWHERE", "secret")]));
    assert_eq!(
        line,
        "environment TIDEGATE_QUITE_ELSEWHERE: unknown variable"
    );
    for name in [
        "TIDEGATE_KAFKA__PROPERTIES",
        "TIDEGATE_KAFKA__PROPERTIES__",
        "TIDEGATE_KAFKA__PROPERTIES__SSL__CA",
        "TIDEGATE_KAFKA__PROPERTIES__ssl_ca",
    ] {
        let line = complaint(&with_env(&[(name, "x")]));
        assert!(line.contains("unknown variable"), "{line}");
    }
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_text_is_refused() {
    use std::os::unix::ffi::OsStringExt;
    let mut inputs = nothing();
    let value = std::ffi::OsString::from_vec(vec![0xff]);
    inputs.env = vec![("TIDEGATE_LISTEN".into(), value)];
    let line = complaint(&inputs);
    assert_eq!(line, "environment TIDEGATE_LISTEN: expected UTF-8 text");
}

#[test]
fn what_an_orchestrator_says_about_a_service_named_tidegate_is_no_setting() {
    let inputs = with_env(&[
        ("TIDEGATE_SERVICE_HOST", "10.0.0.1"),
        ("TIDEGATE_SERVICE_PORT", "8082"),
        ("TIDEGATE_SERVICE_PORT_HTTP", "8082"),
        ("TIDEGATE_PORT", "tcp://10.0.0.1:8082"),
        ("TIDEGATE_PORT_8082_TCP", "tcp://10.0.0.1:8082"),
        ("TIDEGATE_PORT_8082_TCP_PROTO", "tcp"),
        ("TIDEGATE_PORT_8082_TCP_PORT", "8082"),
        ("TIDEGATE_PORT_8082_TCP_ADDR", "10.0.0.1"),
        ("TIDEGATE_PUBLIC_SERVICE_HOST", "10.0.0.1"),
    ]);
    load_lines(&inputs).expect("none of these was meant for the gateway");
    let line = complaint(&with_env(&[("TIDEGATE_PORT", "8082")]));
    assert!(line.contains("unknown variable"), "{line}");
}
