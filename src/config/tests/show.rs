//! `config show`: every value with its source, no secret in the clear.

use super::*;
use crate::config::{is_secret_property, show};

fn shown(inputs: &Inputs) -> String {
    show(&load_lines(inputs).expect("the settings are sound"))
}

/// The line of the key, its spaces squeezed.
fn line(shown: &str, key: &str) -> String {
    let found = shown.lines().find(|line| line.contains(key));
    let words = found.expect("the key is shown").split_whitespace();
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn values_stand_beside_their_sources() {
    let folder = folder_with("[http]\nmax_body_bytes = 16777216\n");
    let mut inputs = in_folder(folder.path());
    inputs.env = vec![("TIDEGATE_TELEMETRY__LOG_LEVEL".into(), "debug".into())];
    inputs.listen = vec!["127.0.0.1:1".into(), "[::1]:1".into()];
    inputs.set = vec!["kafka.producer.linger.ms=5".into()];
    let shown = shown(&inputs);
    let expected = [
        (
            "max_body_bytes",
            "http.max_body_bytes = \"16 MiB\" # file tidegate.toml line 2",
        ),
        (
            "log_level",
            "telemetry.log_level = \"debug\" # environment TIDEGATE_TELEMETRY__LOG_LEVEL",
        ),
        (
            "listen",
            "listen = [\"127.0.0.1:1\", \"[::1]:1\"] # flag --listen",
        ),
        (
            "linger",
            "kafka.producer.\"linger.ms\" = \"5\" # flag --set",
        ),
        ("kafka.consumer", "kafka.consumer = {} # default"),
        ("auth.mode", "auth.mode = \"none\" # default"),
        (
            "auto_create",
            "# kafka.auto_create_topics is unset: only on the embedded broker # default",
        ),
    ];
    for (key, expected) in expected {
        assert_eq!(line(&shown, key), expected);
    }
}

#[test]
fn the_output_is_toml_with_every_key() {
    let shown = shown(&with_set(&["kafka.properties.ssl.ca.location=a \"b\""]));
    toml::from_str::<toml::Table>(&shown).expect("the output is TOML");
    for key in crate::config::schema::KEYS {
        assert!(shown.contains(key.path), "{}", key.path);
    }
}

#[test]
fn secrets_are_masked_everywhere() {
    let names = [
        "sasl.password",
        "ssl.key.password",
        "ssl.keystore.password",
        "ssl.key.pem",
        "ssl_key",
        "sasl.oauthbearer.config",
        "sasl.oauthbearer.client.secret",
        "sasl.oauthbearer.client.credentials.client.secret",
        "sasl.oauthbearer.assertion.private.key.passphrase",
        "sasl.oauthbearer.assertion.private.key.pem",
        "sasl.oauthbearer.token.endpoint.url",
        "sasl.oauthbearer.extensions",
        "sasl.jaas.config",
    ];
    let set: Vec<_> = names
        .iter()
        .map(|name| format!("kafka.admin.{name}=hunter2"))
        .collect();
    let set: Vec<_> = set.iter().map(String::as_str).collect();
    let loaded = load_lines(&with_set(&set)).expect("the settings are sound");
    let text = show(&loaded);
    assert!(!text.contains("hunter2"), "{text}");
    assert_eq!(text.matches("********").count(), names.len());
    let debug = format!("{loaded:?}");
    assert!(!debug.contains("hunter2"), "{debug}");
    let debug = format!("{:?} {:?}", with_set(&set), with_env(&[("A", "hunter2")]));
    assert!(!debug.contains("hunter2"), "{debug}");
    let raw = super::super::value::Raw::from_flag("[\"hunter2\"]");
    assert_eq!(format!("{raw:?}"), "a list");
    assert_eq!(loaded.settings.kafka.admin["sasl.password"], "hunter2");
    for plain in [
        "sasl.username",
        "ssl.ca.location",
        "ssl.ca.pem",
        "linger.ms",
    ] {
        assert!(!is_secret_property(plain), "{plain}");
    }
}
