//! Single values: kinds, ranges, spellings, and keys that do not exist.

use super::*;

#[test]
fn everything_wrong_is_told_at_once() {
    let folder = folder_with("listen = 5\nnonsense_at_all = 1\n[http]\nmax_body_bytes = 0\n");
    let mut inputs = in_folder(folder.path());
    inputs.env = vec![("TIDEGATE_LIMITS__CONNECTIONS".into(), "many".into())];
    inputs.set = vec!["kafka.embedded=maybe".into()];
    let lines = complaints(&inputs);
    assert_eq!(
        lines,
        [
            "listen (file tidegate.toml line 1): expected host:port or a list of them, got 5",
            "nonsense_at_all (file tidegate.toml line 2): unknown setting; `tidegate config sample` lists them all",
            "http.max_body_bytes (file tidegate.toml line 4): expected a size such as 8388608 or \"8 MiB\", from 1 B to 1 GiB, got 0",
            "limits.connections (environment TIDEGATE_LIMITS__CONNECTIONS): expected a whole number from 1 to 1000000, got \"many\"",
            "kafka.embedded (flag --set): expected true or false, got \"maybe\"",
        ]
    );
}

#[test]
fn unknown_keys_name_the_nearest() {
    let hint = |text: &str| {
        let line = complaint_about_text(text);
        line.split_once("did you mean ")
            .map(|(_, hint)| hint.to_owned())
    };
    let some = |hint: &str| Some(format!("{hint}?"));
    assert_eq!(
        hint("[kafka]\nbootstrap_server = \"a:1\""),
        some("kafka.bootstrap_servers")
    );
    assert_eq!(hint("max_body_bytes = 1"), some("http.max_body_bytes"));
    assert_eq!(hint("[kafak]\nembedded = true"), some("kafka"));
    assert_eq!(hint("lisen = \"a:1\""), some("listen"));
    assert_eq!(hint("\"kafka.embedded\" = true"), some("kafka.embedded"));
    assert_eq!(hint("zzzzzzzzzz = 1"), None);
}

#[test]
fn a_mistyped_key_raises_no_second_error() {
    // Were the servers known, this listener would be in order.
    let folder = folder_with(
        "listen = \"0.0.0.0:1\"\nauth.mode = \"none\"\n[kafka]\nbootstrap_server = \"a:1\"",
    );
    let line = complaint(&in_folder(folder.path()));
    assert!(
        line.contains("did you mean kafka.bootstrap_servers?"),
        "{line}"
    );
}

#[test]
fn a_value_of_the_wrong_type_is_refused_with_what_was_given() {
    let cases = [
        ("listen = []", "got a list"),
        ("listen = [1]", "got a list"),
        ("listen = [\"127.0.0.1\"]", "got a list"),
        ("listen = \"8082\"", "got \"8082\""),
        ("listen = { a = 1 }", "got a table"),
        ("http = 5", "expected a table of settings, got 5"),
        ("shutdown_grace_ms = 1.5", "got a number with a fraction"),
        ("shutdown_grace_ms = -1", "got -1"),
        ("shutdown_grace_ms = \"1\"", "got \"1\""),
        ("shutdown_grace_ms = 2020-01-01", "got a date"),
        (
            "shutdown_grace_ms = 99999999999999999999",
            "got a number too large",
        ),
        (
            "management.listen = \"on\"",
            "expected host:port or \"off\"",
        ),
        ("kafka.embedded = \"true\"", "got \"true\""),
        ("kafka.properties = \"x\"", "got a string"),
        ("kafka.properties.acks = [1]", "got a list"),
        (
            "kafka.properties.acks = 1.5",
            "got a number with a fraction",
        ),
        ("auth.mode = \"None\"", "expected \"none\" or \"jwt\""),
        (
            "telemetry.log_format = \"xml\"",
            "\"auto\" or \"text\" or \"json\"",
        ),
    ];
    for (text, expected) in cases {
        let line = complaint_about_text(text);
        assert!(line.contains(expected), "{text}: {line}");
    }
}

#[test]
fn a_value_outside_its_range_is_refused() {
    let refused = [
        "http.max_body_bytes=0",
        "http.max_body_bytes=2 GiB",
        "http.request_timeout_ms=0",
        "http.max_header_bytes=8191",
        "http.max_header_bytes=2 MiB",
        "kafka.embedded_max_bytes=1023 KiB",
        "kafka.metadata_timeout_ms=0",
        "limits.record_bytes=0",
        "limits.records_per_request=0",
        "limits.connections=0",
        "shutdown_grace_ms=3600001",
        "http.max_body_bytes=18446744073709551616",
        "http.max_body_bytes=99999999999 TiB",
    ];
    for set in refused {
        let line = complaint(&with_set(&[set]));
        assert!(line.contains(": expected "), "{set}: {line}");
    }
    load_lines(&with_set(&["shutdown_grace_ms=0"])).expect("no grace is allowed");
}

#[test]
fn sizes_take_units() {
    let bytes = |text: &str| {
        let set = [format!("kafka.embedded_max_bytes={text}")];
        let inputs = with_set(&[&set[0]]);
        let loaded = load_lines(&inputs).map_err(|lines| lines.join("\n"))?;
        Ok::<_, String>(loaded.settings.kafka.embedded_max_bytes)
    };
    assert_eq!(bytes("2097152"), Ok(2 << 20));
    assert_eq!(bytes("2_097_152"), Ok(2 << 20));
    assert_eq!(bytes("\"2097152\""), Ok(2 << 20));
    assert_eq!(bytes("2 MiB"), Ok(2 << 20));
    assert_eq!(bytes("2mib"), Ok(2 << 20));
    assert_eq!(bytes("2 MB"), Ok(2_000_000));
    assert_eq!(bytes("2000 kB"), Ok(2_000_000));
    assert_eq!(bytes("2097152 B"), Ok(2 << 20));
    assert_eq!(bytes("1 GiB"), Ok(1 << 30));
    for text in ["2 M", "MiB", "1.5 GiB", "-2 MiB", "2 MiB 3", ""] {
        assert!(bytes(text).is_err(), "{text}");
    }
}

#[test]
fn bootstrap_servers_are_host_and_port() {
    let servers = |text: &str| {
        let set = format!("kafka.bootstrap_servers={text}");
        let loaded = load_lines(&with_set(&[&set])).map_err(|lines| lines.join("\n"))?;
        Ok::<_, String>(loaded.settings.kafka.bootstrap_servers)
    };
    assert_eq!(servers("a:1, b:2"), Ok("a:1,b:2".into()));
    assert_eq!(servers("[\"a:1\", \"[::1]:2\"]"), Ok("a:1,[::1]:2".into()));
    assert_eq!(servers(""), Ok(String::new()));
    for text in [
        "a", "a:0", "a:1,", "a:99999", ":9092", "::1:9092", "a b:1", "127.1:1",
    ] {
        let error = servers(text).expect_err("no host and port");
        assert!(error.contains("expected host:port"), "{text}: {error}");
    }
    let error = servers("SASL_SSL://a:1").expect_err("a protocol");
    assert!(
        error.contains("kafka.properties.security.protocol"),
        "{error}"
    );
}

#[test]
fn log_filters_are_levels_or_name_modules() {
    let filter = |text: &str| load_lines(&with_set(&[&format!("telemetry.log_level={text}")]));
    for text in [
        "info",
        "WARN",
        "off",
        "tidegate=debug,info",
        "[span{a=1}]=debug",
    ] {
        filter(text).unwrap_or_else(|lines| panic!("{text}: {lines:?}"));
    }
    for text in ["inof", "", "tidegate=loud", "info,,"] {
        assert!(filter(text).is_err(), "{text}");
    }
}

#[test]
fn a_message_stays_one_line_and_short() {
    let long = "x\n".repeat(500);
    let line = complaint(&with_set(&[&format!("listen={long}")]));
    assert!(!line.contains('\n'), "{line}");
    assert!(line.len() < 400, "{line}");
    let line = complaint_about_text("\"a\\nb\" = 1");
    assert!(!line.contains('\n'), "{line}");
}
