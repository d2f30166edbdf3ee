//! Whatever a file has in it: no panic, and a result that loads.

use proptest::prelude::*;
use proptest::sample::select;

use super::super::mapping::Rules;
use super::super::{client, confluent, karapace, strimzi};
use super::*;

/// Values that mean something to someone, and some that mean nothing.
const VALUES: &[&str] = &[
    "",
    "true",
    "false",
    "-1",
    "0",
    "1",
    "30000",
    "99999999999999999999",
    "007",
    "all",
    "none",
    "NONE",
    "BASIC",
    "REQUIRED",
    "PEM",
    "PKCS12",
    "JKS",
    "SASL_SSL",
    "SASL_PLAINTEXT",
    "SSL",
    "PLAINTEXT",
    "plain",
    "GSSAPI",
    "PLAIN",
    "SCRAM-SHA-256",
    "OAUTHBEARER",
    "zstd",
    "snappy",
    "/no/file.pem",
    "a:1",
    "a",
    "SSL://a:1,b",
    "[::1]:2",
    ":",
    "http://a:1",
    "https://:8443,http://b:2",
    "http://0.0.0.0:9082",
    "ftp://x",
    "*",
    "https://a.example",
    "HTTPS://A.example/",
    "${X}",
    "${env:A}:1",
    "x\u{0}y",
    "a\nb",
    "\"\"\"",
    "'",
    "é\u{2028}",
    "api.v2.*",
    "api.v3.acls.*,api.v2.brokers.list",
    "debug",
    "oidc",
    "https",
    "1e9",
    "0x10",
    "a.PlainLoginModule required username=\"u\" password=\"p\";",
    "a.OAuthBearerLoginModule required clientId=c;",
];

fn names(rules: Rules, prefixes: &'static [&'static str]) -> impl Strategy<Value = String> {
    let own: Vec<String> = rules
        .iter()
        .map(|(name, _)| name.replace('*', "x"))
        .collect();
    let theirs: Vec<String> = client::RULES
        .iter()
        .map(|(name, _)| name.replace('*', "x"))
        .chain(
            [
                "acks",
                "linger.ms",
                "sasl.mechanism",
                "sasl.password",
                "ssl.key.password",
                "compression.type",
                "sasl.oauthbearer.token.endpoint.url",
                "group.id",
                "ssl.ca.location",
            ]
            .map(str::to_owned),
        )
        .flat_map(|name| prefixes.iter().map(move |prefix| format!("{prefix}{name}")))
        .collect();
    match theirs.is_empty() {
        true => select(own).boxed(),
        false => prop_oneof![select(own), select(theirs)].boxed(),
    }
}

fn pairs(names: impl Strategy<Value = String>) -> impl Strategy<Value = Vec<(String, String)>> {
    let value = prop_oneof![9 => select(VALUES).prop_map(str::to_owned), 1 => any::<String>()];
    prop::collection::vec((names, value), 0..25)
}

fn escaped(text: &str) -> String {
    let mut units = [0; 2];
    let escape = |c: char| -> String {
        match c.is_ascii_alphanumeric() {
            true => c.to_string(),
            false => c
                .encode_utf16(&mut units)
                .iter()
                .map(|unit| format!("\\u{unit:04x}"))
                .collect(),
        }
    };
    text.chars().map(escape).collect()
}

fn as_properties(pairs: &[(String, String)]) -> String {
    let line = |(name, value): &(String, String)| format!("{}={}\n", escaped(name), escaped(value));
    pairs.iter().map(line).collect()
}

fn as_json(pairs: &[(String, String)]) -> String {
    let member = |(name, value): &(String, String)| {
        format!("{}:{}", serde_json::json!(name), serde_json::json!(value))
    };
    format!(
        "{{{}}}",
        pairs.iter().map(member).collect::<Vec<_>>().join(",\n")
    )
}

fn loads(text: &str, product: Product) {
    let (_, draft) = convert(Path::new("x"), text, Some(product)).expect("readable");
    for masked in [false, true] {
        let toml = draft.toml("a\nb", masked);
        toml::from_str::<toml::Table>(&toml).unwrap_or_else(|error| panic!("{error}\n{toml}"));
        // A mask is in no file; it need not be a value that librdkafka takes.
        if !masked {
            let loaded = load(&toml).unwrap_or_else(|errors| panic!("{errors:#?}\n{toml}"));
            assert!(!loaded.settings.kafka.uses_embedded(), "{toml}");
            assert!(!toml.contains("does not load with the rest"), "{toml}");
        }
    }
}

#[test]
fn a_body_smaller_than_a_record_may_be_is_a_comment() {
    loads(
        "{\"bootstrap_uri\": \"b:9092\", \"http_request_max_size\": 1}",
        Product::Karapace,
    );
    loads(
        "{\"http_request_max_size\": 30000, \"producer_max_request_size\": 40000}",
        Product::Karapace,
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn of_confluent(pairs in pairs(names(confluent::RULES, &["client.", "producer.", "consumer.", "admin."]))) {
        loads(&as_properties(&pairs), Product::Confluent);
    }

    #[test]
    fn of_strimzi(pairs in pairs(names(strimzi::RULES, &["kafka.", "kafka.producer.", "kafka.consumer.", "kafka.admin."]))) {
        loads(&as_properties(&pairs), Product::Strimzi);
    }

    #[test]
    fn of_karapace(pairs in pairs(names(karapace::RULES, &[]))) {
        loads(&as_json(&pairs), Product::Karapace);
    }

    #[test]
    fn of_nobody(text in any::<String>()) {
        for product in [Product::Confluent, Product::Strimzi, Product::Karapace] {
            if let Ok((_, draft)) = convert(Path::new("x"), &text, Some(product)) {
                load(&draft.toml("", false)).expect("it loads");
            }
        }
    }
}

proptest! {
    #[test]
    fn properties_come_back_as_they_were_written(pairs in prop::collection::vec((any::<String>(), any::<String>()), 0..8)) {
        let read = properties::read(&as_properties(&pairs)).expect("sound escapes");
        let read: Vec<_> = read.into_iter().map(|entry| (entry.name, entry.value)).collect();
        prop_assert_eq!(read, pairs);
    }

    #[test]
    fn no_text_makes_the_syntaxes_panic(text in any::<String>(), more in "[ \\\\u0-9a-f=:#!\n\r\t\"{},]{0,60}") {
        for text in [text, more] {
            let _ = properties::read(&text);
            let _ = json::read(&text);
        }
    }
}
