//! What whole files come to: that every one of them loads, what is set, what is said of the rest.

mod every_file_loads;
mod mapping;

use std::path::Path;

use super::*;
use crate::cli::apply_rules;
use crate::config::{AuthMode, Loaded, read_text};

/// The settings and their text.
struct Imported {
    loaded: Loaded,
    toml: String,
}

impl Imported {
    /// The comment on this line of the input, after its name.
    fn reason(&self, line: usize) -> &str {
        let begin = format!("# line {line}: ");
        let (_, left) = self
            .toml
            .split_once("# Not carried over:")
            .expect("some were left");
        let found = left.lines().find_map(|text| text.strip_prefix(&begin));
        let found = found.unwrap_or_else(|| panic!("nothing on line {line}:\n{}", self.toml));
        found.split_once(": ").expect("a name").1
    }

    fn property(&self, table: &str, name: &str) -> Option<&str> {
        let tables = self.loaded.settings.kafka.property_tables();
        let (_, found) = tables
            .into_iter()
            .find(|(known, _)| *known == table)
            .expect("a table");
        found.get(name).map(String::as_str)
    }
}

/// Loads the result as start-up would.
fn load(toml: &str) -> Result<Loaded, Vec<String>> {
    let mut reading = read_text(Path::new("tidegate.toml"), toml);
    apply_rules(&mut reading);
    let lines = |errors: Vec<crate::config::ConfigError>| {
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    reading.finish().map_err(lines)
}

fn import_as(file: &str, text: &str) -> Imported {
    let (_, draft) = convert(Path::new(file), text, None).expect("a readable file");
    let toml = draft.toml("head", false);
    let loaded = load(&toml).unwrap_or_else(|errors| panic!("{errors:#?}\n{toml}"));
    Imported { loaded, toml }
}

fn confluent(text: &str) -> Imported {
    import_as(
        "kafka-rest.properties",
        &format!("{text}\nbootstrap.servers=a:1\nlisteners="),
    )
}

fn strimzi(text: &str) -> Imported {
    import_as(
        "application.properties",
        &format!("{text}\nkafka.bootstrap.servers=a:1\nhttp.enabled=true"),
    )
}

fn karapace(text: &str) -> Imported {
    import_as("karapace.config.json", text)
}

#[test]
fn a_file_of_confluent_is_carried_over() {
    let found = import_as(
        "kafka-rest.properties",
        "\
listeners=http://0.0.0.0:8082,http://[::1]:9000
bootstrap.servers=SASL_SSL://b1:9093, SASL_SSL://b2
shutdown.graceful.ms=7000
client.sasl.mechanism=SCRAM-SHA-512
client.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \\
   username=\"rest\" \\
   password=\"s3cr;et\";
client.acks=all
producer.compression.type=gzip
producer.compression.gzip.level=7
producer.buffer.memory=2097152
producer.max.request.size=20000000
consumer.fetch.max.wait.ms=100
consumer.receive.buffer.bytes=-1
admin.request.timeout.ms=5000
access.control.allow.origin=https://a.example,https://b.example
dos.filter.enabled=true
dos.filter.max.requests.per.sec=25
api.endpoints.blocklist=api.v2.brokers.*
",
    );
    let settings = &found.loaded.settings;
    assert_eq!(settings.server.listen, ["0.0.0.0:8082", "[::1]:9000"]);
    assert_eq!(settings.server.shutdown_grace.as_millis(), 7000);
    assert_eq!(settings.kafka.bootstrap_servers, "b1:9093,b2:9092");
    assert_eq!(settings.auth.mode, AuthMode::None);
    assert_eq!(settings.limits.record_bytes, 20_000_000);
    assert_eq!(settings.http.max_body_bytes, 30_000_000);
    assert_eq!(settings.limits.requests_per_second, 25);
    assert_eq!(
        settings.http.cors_origins,
        ["https://a.example", "https://b.example"]
    );
    assert_eq!(settings.http.block, ["GET /brokers"]);
    for (table, name, value) in [
        ("kafka.properties", "security.protocol", "SASL_SSL"),
        ("kafka.properties", "sasl.mechanism", "SCRAM-SHA-512"),
        ("kafka.properties", "sasl.username", "rest"),
        ("kafka.properties", "sasl.password", "s3cr;et"),
        ("kafka.producer", "acks", "all"),
        ("kafka.producer", "compression.level", "7"),
        ("kafka.producer", "queue.buffering.max.kbytes", "2048"),
        ("kafka.consumer", "fetch.wait.max.ms", "100"),
        ("kafka.consumer", "socket.receive.buffer.bytes", "0"),
        ("kafka.admin", "socket.timeout.ms", "5000"),
    ] {
        assert_eq!(found.property(table, name), Some(value), "{}", found.toml);
    }
}

#[test]
fn a_file_of_strimzi_is_carried_over() {
    let found = import_as(
        "application.properties",
        "\
kafka.security.protocol=SASL_PLAINTEXT
kafka.sasl.mechanism=PLAIN
kafka.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username=\"u\" password=\"007\";
kafka.producer.acks=1
kafka.consumer.fetch.min.bytes=10
kafka.admin.client.id=boss
http.port=8081
http.management.port=8090
http.cors.enabled=true
http.cors.allowedOrigins=https://strimzi.io
http.consumer.enabled=false
",
    );
    let settings = &found.loaded.settings;
    assert_eq!(settings.server.listen, ["0.0.0.0:8081"]);
    assert_eq!(
        settings.server.management_listen.as_deref(),
        Some("0.0.0.0:8090")
    );
    assert_eq!(settings.kafka.bootstrap_servers, "localhost:9092");
    assert_eq!(settings.http.cors_origins, ["https://strimzi.io"]);
    let blocked = &settings.http.block;
    assert!(
        blocked.iter().any(|route| route == "GET /records"),
        "{blocked:?}"
    );
    assert!(blocked.iter().any(|route| route == "* /ws"), "{blocked:?}");
    assert_eq!(
        found.property("kafka.properties", "sasl.password"),
        Some("007")
    );
    assert_eq!(found.property("kafka.producer", "acks"), Some("1"));
    assert_eq!(
        found.property("kafka.consumer", "fetch.min.bytes"),
        Some("10")
    );
    assert_eq!(found.property("kafka.admin", "client.id"), Some("boss"));
}

#[test]
fn a_file_of_karapace_is_carried_over() {
    let found = karapace(
        "{\n\"bootstrap_uri\": \"b1:9092\",\n\"host\": \"0.0.0.0\", \"port\": 8082,\n\"security_protocol\": \"SASL_PLAINTEXT\", \"sasl_mechanism\": \"PLAIN\",\n\"sasl_plain_username\": \"u\", \"sasl_plain_password\": \"p\",\n\"client_id\": \"k\", \"producer_acks\": -1, \"producer_linger_ms\": 3,\n\"http_request_max_size\": 5000000, \"log_level\": \"WARNING\", \"ssl_cafile\": null }",
    );
    let settings = &found.loaded.settings;
    assert_eq!(settings.server.listen, ["0.0.0.0:8082"]);
    assert_eq!(settings.http.max_body_bytes, 5_000_000);
    assert_eq!(settings.telemetry.log_level, "warn");
    assert_eq!(
        found.property("kafka.properties", "sasl.password"),
        Some("p")
    );
    assert_eq!(found.property("kafka.properties", "client.id"), Some("k"));
    assert_eq!(found.property("kafka.producer", "acks"), Some("-1"));
    assert_eq!(found.property("kafka.producer", "linger.ms"), Some("3"));
    assert!(!found.toml.contains("Not carried over"), "{}", found.toml);
}

#[test]
fn each_product_listens_where_it_did_by_default() {
    let listens = |found: &Imported| found.loaded.settings.server.listen.clone();
    assert_eq!(listens(&confluent("id=a")), ["0.0.0.0:8082"]);
    assert_eq!(listens(&strimzi("bridge.id=a")), ["0.0.0.0:8080"]);
    assert_eq!(
        listens(&karapace("{\"client_id\": \"a\"}")),
        ["127.0.0.1:8081"]
    );
}

#[test]
fn a_listener_that_asked_for_credentials_is_imported_to_loopback_only() {
    for text in [
        "authentication.method=BASIC",
        "authentication.method=BEARER",
        "kafka.rest.resource.extension.class=io.example.Security",
        "rest.servlet.initializor.classes=io.example.Security",
        "ssl.client.authentication=REQUIRED",
        "ssl.client.auth=true",
    ] {
        let found = confluent(text);
        let settings = &found.loaded.settings;
        assert_eq!(settings.server.listen, ["127.0.0.1:8082"], "{text}");
        assert!(
            found.toml.contains("ONLY THIS MACHINE CAN CONNECT"),
            "{text}"
        );
        assert!(!found.toml.contains("mode = \"none\""), "{text}");
    }
    let text = "{\"host\": \"0.0.0.0\", \"rest_authorization\": true}";
    assert_eq!(
        karapace(text).loaded.settings.server.listen,
        ["127.0.0.1:8081"]
    );
    let text = "{\"host\": \"0.0.0.0\", \"server_tls_client_auth\": \"required\"}";
    assert_eq!(
        karapace(text).loaded.settings.server.listen,
        ["127.0.0.1:8081"]
    );
}

#[test]
fn who_blocked_reading_blocked_every_way_to_read() {
    let found = confluent("api.endpoints.blocklist=api.v2.consumers.create,api.v4.acls.*");
    let blocked = &found.loaded.settings.http.block;
    for route in ["GET /records", "GET /topics/{topic}/records", "* /ws"] {
        assert!(blocked.iter().any(|other| other == route), "{blocked:?}");
    }
    assert!(found.reason(1).contains("api.v4.acls.*"));
    let found = confluent("api.endpoints.allowlist=api.v2.topics.*");
    assert_eq!(
        found.loaded.settings.http.allow,
        ["GET /topics", "GET /topics/{topic}"]
    );
    // Nothing of what was allowed is here, which must not come to everything.
    let found = confluent("api.endpoints.allowlist=api.v4.acls.*");
    assert_eq!(found.loaded.settings.server.listen, ["127.0.0.1:8082"]);
}

#[test]
fn who_blocked_writing_blocked_every_way_to_write() {
    let found = confluent("api.endpoints.blocklist=api.v2.produce-to-topic.*");
    let blocked = &found.loaded.settings.http.block;
    for route in [
        "POST /topics/*",
        "POST /v3/clusters/{cluster}/topics/{topic}/records*",
        "* /ws",
    ] {
        assert!(blocked.iter().any(|other| other == route), "{blocked:?}");
    }
}

#[test]
fn who_blocked_administration_blocked_every_way_to_administrate() {
    for (text, expected) in [
        (
            "api.v3.enable=false",
            ["* /v3/*", "DELETE /topics/*", "* /groups/*"],
        ),
        (
            "api.endpoints.blocklist=api.v3.topics.delete",
            [
                "* /v3/clusters/{cluster}/topics/{topic}",
                "DELETE /topics/*",
                "PUT /topics/*",
            ],
        ),
        (
            "api.endpoints.blocklist=api.v3.consumer-groups.*",
            [
                "* /v3/clusters/{cluster}/consumer-groups/{group}",
                "* /groups",
                "* /groups/*",
            ],
        ),
    ] {
        let found = confluent(text);
        let blocked = &found.loaded.settings.http.block;
        for route in expected {
            assert!(
                blocked.iter().any(|other| other == route),
                "{text}: {blocked:?}"
            );
        }
    }
}

#[test]
fn tls_that_cannot_be_carried_over_is_not_replaced_by_none() {
    let jks = "listeners=https://0.0.0.0:8443\nbootstrap.servers=a:1\nssl.keystore.location=/k.jks";
    let found = import_as("a.properties", jks);
    assert_eq!(found.loaded.settings.server.listen, ["127.0.0.1:8443"]);
    assert!(found.reason(3).contains("read as PEM"));

    let lost = "http.ssl.enable=true\nhttp.ssl.certificate.location=/no/c.pem\nhttp.ssl.key.location=/no/k.pem";
    let found = strimzi(lost);
    assert_eq!(found.loaded.settings.server.listen, ["127.0.0.1:8080"]);
    assert!(
        found.reason(2).contains("`tls.cert = \"/no/c.pem\"`"),
        "{}",
        found.toml
    );
}

#[test]
fn certificates_in_pem_are_carried_over() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let made = rcgen::generate_simple_self_signed(vec!["gateway".to_owned()]).expect("made");
    let file = folder.path().join("both.pem");
    let both = format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem());
    fs::write(&file, both).expect("written");
    let file = file.to_str().expect("text");
    let found = import_as(
        "a.properties",
        &format!(
            "listeners=https://0.0.0.0:8443,http://0.0.0.0:8080\nbootstrap.servers=a:1\nssl.keystore.type=PEM\nssl.keystore.location={file}\nclient.security.protocol=ssl\nclient.ssl.truststore.type=PEM\nclient.ssl.truststore.location={file}\nclient.ssl.keystore.type=PEM\nclient.ssl.keystore.location={file}"
        ),
    );
    let settings = &found.loaded.settings;
    assert_eq!(settings.server.listen, ["0.0.0.0:8443"]);
    assert_eq!(settings.tls.cert.as_deref(), Some(Path::new(file)));
    assert_eq!(settings.tls.key.as_deref(), Some(Path::new(file)));
    for name in [
        "ssl.ca.location",
        "ssl.certificate.location",
        "ssl.key.location",
    ] {
        assert_eq!(
            found.property("kafka.properties", name),
            Some(file),
            "{}",
            found.toml
        );
    }
    assert_eq!(
        found.property("kafka.properties", "security.protocol"),
        Some("SSL")
    );
}

#[test]
fn a_login_that_is_not_whole_leaves_the_connection_encrypted() {
    let found = confluent(
        "client.security.protocol=SASL_SSL\nclient.sasl.mechanism=GSSAPI\nclient.sasl.jaas.config=com.sun.security.auth.module.Krb5LoginModule required;",
    );
    assert_eq!(
        found.property("kafka.properties", "security.protocol"),
        Some("SSL")
    );
    assert!(found.reason(2).contains("Kerberos"), "{}", found.toml);
    assert!(found.reason(3).contains("Kerberos"), "{}", found.toml);
    assert!(
        found
            .toml
            .contains("THE LOGIN TO KAFKA WAS NOT CARRIED OVER")
    );
}

#[test]
fn who_loses_the_login_to_kafka_listens_on_loopback_alone() {
    const LOGIN: &str = "client.security.protocol=SASL_SSL\nclient.sasl.mechanism=PLAIN\n";
    const PLAIN: &str = "client.sasl.jaas.config=a.PlainLoginModule required";
    for lost in [
        format!("{LOGIN}{PLAIN} username=\"u\" password=\"hunter2\""),
        format!("{LOGIN}{PLAIN} username \"u\";"),
        format!("{LOGIN}{PLAIN};"),
        format!("{LOGIN}client.sasl.jaas.config=com.example.OwnLoginModule required a=\"b\";"),
        format!(
            "{LOGIN}client.sasl.jaas.config=com.sun.security.auth.module.Krb5LoginModule required;"
        ),
        // It was of no use where it stands, perhaps, or the protocol comes from elsewhere.
        format!("{PLAIN} username"),
        LOGIN.to_owned(),
        "client.security.protocol=SSL\nclient.ssl.keystore.location=/k.jks\n\
         client.ssl.keystore.password=hunter2"
            .to_owned(),
    ] {
        let found = confluent(&lost);
        let settings = &found.loaded.settings;
        assert_eq!(settings.server.listen, ["127.0.0.1:8082"], "{}", found.toml);
        assert!(
            found.toml.contains("ONLY THIS MACHINE CAN CONNECT"),
            "{}",
            found.toml
        );
        assert!(!found.toml.contains("hunter2"), "{}", found.toml);
    }
    let kept = format!("{LOGIN}{PLAIN} username=\"u\" password=\"p\";");
    let found = confluent(&kept);
    assert_eq!(found.loaded.settings.server.listen, ["0.0.0.0:8082"]);
}

#[test]
fn a_client_that_asks_for_tokens_is_carried_over() {
    let found = strimzi(
        "kafka.security.protocol=SASL_SSL\nkafka.sasl.mechanism=OAUTHBEARER\nkafka.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required oauth.client.id=\"c\" oauth.client.secret=\"s\" oauth.token.endpoint.uri=\"https://id.example/token\";",
    );
    for (name, value) in [
        ("sasl.oauthbearer.client.id", "c"),
        ("sasl.oauthbearer.client.secret", "s"),
        (
            "sasl.oauthbearer.token.endpoint.url",
            "https://id.example/token",
        ),
    ] {
        assert_eq!(
            found.property("kafka.properties", name),
            Some(value),
            "{}",
            found.toml
        );
    }
}

#[test]
fn placeholders_name_the_variable_to_set() {
    let found = import_as(
        "application.properties",
        "kafka.bootstrap.servers=${env:BROKERS}\nhttp.port=${PORT}\nkafka.client.id=${X}",
    );
    assert!(
        found
            .reason(1)
            .contains("TIDEGATE_KAFKA__BOOTSTRAP_SERVERS")
    );
    assert!(found.reason(2).contains("TIDEGATE_LISTEN"));
    assert!(
        found
            .reason(3)
            .contains("TIDEGATE_KAFKA__PROPERTIES__CLIENT_ID")
    );
    // Not a trial on a broker in memory, which nobody asked for.
    assert_eq!(
        found.loaded.settings.kafka.bootstrap_servers,
        "set-me.invalid:9092"
    );
}

#[test]
fn brokers_that_cannot_be_read_are_no_trial_in_memory() {
    let found = import_as("a.properties", "bootstrap.servers=a:b:c\nid=1");
    let servers = &found.loaded.settings.kafka.bootstrap_servers;
    assert_eq!(servers, "set-me.invalid:9092");
    assert!(found.toml.contains("NO BROKERS WERE CARRIED OVER"));
    assert_eq!(found.loaded.settings.server.listen, ["0.0.0.0:8082"]);
}

#[test]
fn of_names_that_come_again_the_last_wins() {
    let found = confluent("shutdown.graceful.ms=1\nshutdown.graceful.ms=2");
    assert_eq!(found.loaded.settings.server.shutdown_grace.as_millis(), 2);
    assert_eq!(
        found.reason(1),
        "line 2 has it again, and the last one wins"
    );
    let found = karapace("{\"client_id\": \"a\",\n\"client_id\": \"b\"}");
    assert_eq!(found.property("kafka.properties", "client.id"), Some("b"));
}

#[test]
fn values_out_of_range_become_comments_with_the_reason() {
    let found = confluent(
        "shutdown.graceful.ms=99999999999\nproducer.linger.ms=-7\nproducer.acks=some\nclient.reconnect.backoff.ms=x",
    );
    assert!(
        found
            .reason(1)
            .contains("`shutdown_grace_ms = 99999999999`"),
        "{}",
        found.toml
    );
    for line in 2..5 {
        assert!(
            found.reason(line).contains("is not valid"),
            "{}",
            found.toml
        );
    }
}

#[test]
fn what_is_unknown_is_named_and_its_value_is_not() {
    let found = confluent(
        "own.api.key=hunter2\nproducer.own.thing=hunter2\nclient.ssl.truststore.password=hunter2",
    );
    assert!(found.reason(1).contains("not known as a setting"));
    assert!(found.reason(2).contains("not known as a property"));
    assert!(!found.toml.contains("hunter2"));
}

#[test]
fn secrets_are_in_the_file_and_not_on_a_terminal() {
    let text = "client.security.protocol=SASL_SSL\nclient.sasl.mechanism=PLAIN\nclient.sasl.jaas.config=a.PlainLoginModule required username=\"u\" password=\"hunter2\";\nlisteners=\nbootstrap.servers=a:1";
    let (_, draft) = convert(Path::new("a"), text, None).expect("readable");
    assert!(
        draft
            .toml("", false)
            .contains("\"sasl.password\" = \"hunter2\"")
    );
    let masked = draft.toml("", true);
    assert!(!masked.contains("hunter2") && masked.contains("--output FILE has it"));
    assert!(load(&masked).is_ok());
}

#[test]
fn a_broken_line_cannot_end_its_comment() {
    let found = confluent("a\\nlisten\\ =\\u0085x\nb\\r\\u2028=1");
    assert!(found.reason(1).contains("not known"), "{}", found.toml);
    assert!(found.toml.lines().all(|line| !line.starts_with("listen\\")));
}

#[test]
fn whose_file_it_is_is_seen_or_said() {
    let of = |file: &str, text: &str| {
        let found = convert(Path::new(file), text, None);
        found
            .map(|(product, _)| product)
            .map_err(|error| error.to_string())
    };
    assert_eq!(
        of("x", "bootstrap.servers=a:1\nid=x"),
        Ok(Product::Confluent)
    );
    assert_eq!(of("x", "kafka.bootstrap.servers=a:1"), Ok(Product::Strimzi));
    assert_eq!(
        of("x", " {\"bootstrap_uri\": \"a:1\"}"),
        Ok(Product::Karapace)
    );
    for (file, text) in [
        ("x", ""),
        ("x", "a=b"),
        ("x.json", "{}"),
        ("x", "{\"a\": 1}"),
    ] {
        assert!(
            of(file, text).expect_err("nobody's").contains("--from"),
            "{text}"
        );
    }
    let error = of("x.json", "{\n\"port\": 1,\n}").expect_err("no JSON");
    assert!(error.starts_with("line 3: "), "{error}");
    let error = of("x", "a=1\nb=\\u12").expect_err("no character");
    assert!(error.starts_with("line 2: "), "{error}");
    // Told, an empty file is a file of defaults.
    let told = convert(Path::new("x"), "", Some(Product::Strimzi)).expect("readable");
    assert_eq!(told.0, Product::Strimzi);
}

#[test]
fn bytes_that_are_not_utf_8_are_latin_1() {
    assert_eq!(decode(vec![b'a', 0xE9]), "aé");
    assert_eq!(decode("\u{feff}é".as_bytes().to_vec()), "é");
}
