//! Properties in, configurations and refusals out; krafka's side against a broker in the process.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;

use super::connection::Connection;
use super::{
    Clients, PropertyError, Role, bootstrap, effective, librdkafka, properties, reader_tuning,
};
use super::{krafka, validate};
use crate::config::{KafkaIdentity, KafkaSettings, LimitSettings, Properties};
use crate::kafka::fault::FaultKind;

fn table(pairs: &[(&str, &str)]) -> Properties {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn settings() -> KafkaSettings {
    KafkaSettings {
        bootstrap_servers: "broker:9092".into(),
        ..KafkaSettings::default()
    }
}

fn common(pairs: &[(&str, &str)]) -> KafkaSettings {
    KafkaSettings {
        properties: table(pairs),
        ..settings()
    }
}

fn producer(pairs: &[(&str, &str)]) -> KafkaSettings {
    KafkaSettings {
        producer: table(pairs),
        ..settings()
    }
}

fn consumer(pairs: &[(&str, &str)]) -> KafkaSettings {
    KafkaSettings {
        consumer: table(pairs),
        ..settings()
    }
}

fn check(settings: &KafkaSettings) -> Vec<PropertyError> {
    validate(settings, &LimitSettings::default())
}

/// The one error that `settings` has.
fn only(settings: &KafkaSettings) -> PropertyError {
    let mut errors = check(settings);
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors.remove(0)
}

fn value(settings: &KafkaSettings, name: &str) -> Option<String> {
    effective(settings, &LimitSettings::default(), Role::Producer)
        .get(name)
        .cloned()
}

#[test]
fn the_defaults_are_ours() {
    let config = librdkafka(&settings(), &LimitSettings::default(), Role::Producer);
    for (name, expected) in [
        ("bootstrap.servers", "broker:9092"),
        ("client.id", "tidegate"),
        ("enable.idempotence", "true"),
        ("queue.buffering.max.ms", "0"),
        ("max.in.flight.requests.per.connection", "2"),
        ("partitioner", "murmur2_random"),
        ("allow.auto.create.topics", "false"),
        ("message.timeout.ms", "20000"),
        ("message.max.bytes", "1114112"),
        ("enable.metrics.push", "false"),
    ] {
        assert_eq!(config.get(name), Some(expected), "{name}");
    }
    assert_eq!(check(&settings()), []);
    assert_eq!(check(&KafkaSettings::default()), [], "the embedded broker");
}

#[test]
fn a_property_replaces_our_default_under_each_of_its_names() {
    for (alias, kept, new) in [
        (
            "max.in.flight",
            "max.in.flight.requests.per.connection",
            "1",
        ),
        (
            "max.in.flight.requests.per.connection",
            "max.in.flight.requests.per.connection",
            "1",
        ),
        ("delivery.timeout.ms", "message.timeout.ms", "1000"),
        ("message.timeout.ms", "message.timeout.ms", "1000"),
        ("linger.ms", "queue.buffering.max.ms", "5"),
        ("queue.buffering.max.ms", "queue.buffering.max.ms", "5"),
        ("acks", "request.required.acks", "all"),
        ("compression.type", "compression.codec", "lz4"),
        ("retries", "message.send.max.retries", "3"),
    ] {
        let settings = producer(&[(alias, new)]);
        assert_eq!(value(&settings, kept).as_deref(), Some(new), "{alias}");
        let all = effective(&settings, &LimitSettings::default(), Role::Producer);
        assert!(alias == kept || !all.contains_key(alias), "{alias}");
        assert_eq!(check(&settings), [], "{alias}");
    }
}

#[test]
fn the_roles_table_is_above_the_common_one() {
    let mut settings = common(&[("client.id", "all"), ("socket.timeout.ms", "9000")]);
    settings.producer = table(&[("client.id", "writer")]);
    assert_eq!(value(&settings, "client.id").as_deref(), Some("writer"));
    assert_eq!(
        value(&settings, "socket.timeout.ms").as_deref(),
        Some("9000")
    );
    let reader = properties::merged(&settings, Role::Reader);
    assert_eq!(reader["client.id"], "all");
}

#[test]
fn what_rules_idempotence_out_switches_it_off() {
    for (pairs, expected) in [
        (&[("acks", "1")][..], "false"),
        (&[("request.required.acks", "0")], "false"),
        (&[("acks", "all")], "true"),
        (&[("acks", "-1")], "true"),
        (&[("max.in.flight", "6")], "false"),
        (&[("max.in.flight", "5")], "true"),
        (&[("retries", "0")], "false"),
        (&[("queue.buffering.backpressure.threshold", "2")], "false"),
        (&[("enable.idempotence", "false")], "false"),
    ] {
        let settings = producer(pairs);
        assert_eq!(
            value(&settings, "enable.idempotence").as_deref(),
            Some(expected),
            "{pairs:?}"
        );
        assert_eq!(check(&settings), [], "{pairs:?}");
    }
}

#[test]
fn idempotence_beside_a_property_that_rules_it_out_is_an_error_that_names_one_of_them() {
    let error = only(&producer(&[("acks", "1"), ("enable.idempotence", "true")]));
    assert_eq!(error.table, "kafka.producer");
    assert!(
        ["acks", "enable.idempotence"].contains(&error.property.as_str()),
        "{error}"
    );
    let error = only(&producer(&[
        ("max.in.flight", "9"),
        ("enable.idempotence", "true"),
    ]));
    assert!(error.message.contains("max.in.flight"), "{error}");
}

#[test]
fn librdkafka_knows_every_name_in_the_table() {
    for (name, _) in properties::TABLE {
        let mut config = ClientConfig::new();
        config.set(*name, "1");
        if let Err(KafkaError::ClientConfig(result, description, ..)) =
            config.create_native_config()
        {
            assert_ne!(
                result,
                RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN,
                "{name}: {description}"
            );
        }
    }
    assert!(properties::TABLE.is_sorted_by_key(|(name, _)| *name));
}

#[test]
fn an_unknown_property_is_refused_with_the_nearest_known_one() {
    let error = only(&common(&[("sasl.user.name", "me")]));
    assert_eq!(
        error.to_string(),
        "kafka.properties.\"sasl.user.name\": is not a known property; did you mean sasl.username?"
    );
    let error = only(&common(&[("colour", "blue")]));
    assert_eq!(error.message, "is not a known property");
}

#[test]
fn a_property_in_the_wrong_table_is_sent_to_the_right_one() {
    for (settings, expected) in [
        (common(&[("linger.ms", "5")]), "move it to [kafka.producer]"),
        (consumer(&[("acks", "1")]), "move it to [kafka.producer]"),
        (
            common(&[("fetch.max.bytes", "1")]),
            "move it to [kafka.consumer]",
        ),
        (
            producer(&[("isolation.level", "x")]),
            "move it to [kafka.consumer]",
        ),
        (consumer(&[("reconnect.backoff.ms", "5")]), "no effect here"),
    ] {
        let error = only(&settings);
        assert!(error.message.contains(expected), "{error}");
    }
}

#[test]
fn what_the_gateway_decides_itself_cannot_be_set() {
    for name in [
        "auto.offset.reset",
        "bootstrap.servers",
        "metadata.broker.list",
        "group.id",
        "group.protocol",
        "transactional.id",
        "enable.auto.commit",
        "offset.store.method",
        "enabled_events",
        "plugin.library.paths",
        "test.mock.num.brokers",
        "enable.gapless.guarantee",
        "opaque",
        "dr_msg_cb",
        "log_level",
        "ssl.providers",
    ] {
        for settings in [
            common(&[(name, "true")]),
            producer(&[(name, "true")]),
            consumer(&[(name, "true")]),
        ] {
            let error = only(&settings);
            assert!(error.message.starts_with("cannot be set: "), "{error}");
        }
    }
    assert!(
        only(&producer(&[("allow.auto.create.topics", "true")]))
            .message
            .contains("kafka.auto_create_topics")
    );
    assert_eq!(
        check(&producer(&[("allow.auto.create.topics", "false")])),
        []
    );
}

#[test]
fn what_krafka_cannot_do_is_refused_for_everyone_but_fits_the_producer() {
    for name in [
        "ssl.cipher.suites",
        "ssl.crl.location",
        "broker.version.fallback",
    ] {
        let error = only(&common(&[(name, "x")]));
        assert!(error.message.contains("krafka"), "{error}");
    }
    assert_eq!(
        check(&producer(&[("broker.version.fallback", "2.0.0")])),
        []
    );
}

#[test]
fn harmless_tuning_of_librdkafka_may_stand_in_the_common_table() {
    let settings = common(&[
        ("broker.address.ttl", "500"),
        ("reconnect.backoff.ms", "50"),
        ("socket.nagle.disable", "true"),
        ("client.rack", "a"),
        ("metadata.max.age.ms", "60000"),
        ("metadata.recovery.strategy", "none"),
        ("receive.message.max.bytes", "200000000"),
        ("connections.max.idle.ms", "0"),
        ("socket.send.buffer.bytes", "0"),
    ]);
    assert_eq!(check(&settings), []);
}

#[test]
fn values_that_cannot_be_read_are_found_in_both_libraries() {
    for (settings, table) in [
        (common(&[("socket.timeout.ms", "soon")]), "kafka.properties"),
        (
            common(&[("socket.keepalive.enable", "maybe")]),
            "kafka.properties",
        ),
        (producer(&[("acks", "many")]), "kafka.producer"),
        (producer(&[("linger.ms", "-1")]), "kafka.producer"),
        (
            producer(&[("compression.type", "brotli")]),
            "kafka.producer",
        ),
        (consumer(&[("fetch.wait.max.ms", "-1")]), "kafka.consumer"),
        (consumer(&[("isolation.level", "dirty")]), "kafka.consumer"),
        (
            consumer(&[("max.partition.fetch.bytes", "0")]),
            "kafka.consumer",
        ),
    ] {
        let error = only(&settings);
        assert_eq!(error.table, table, "{error}");
        let name = settings
            .properties
            .keys()
            .chain(settings.producer.keys())
            .chain(settings.consumer.keys())
            .next();
        assert_eq!(Some(&error.property), name, "{error}");
    }
}

#[test]
fn two_names_of_one_property_are_not_both_taken() {
    let error = only(&producer(&[
        ("acks", "1"),
        ("request.required.acks", "all"),
    ]));
    assert!(error.message.contains("the same property"), "{error}");
}

#[test]
fn sasl_is_mapped_or_refused() {
    let sasl = |mechanism: &str| {
        common(&[
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", mechanism),
            ("sasl.username", "me"),
            ("sasl.password", "hidden-word"),
        ])
    };
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        assert_eq!(check(&sasl(mechanism)), [], "{mechanism}");
    }
    for mechanism in ["GSSAPI", "AWS_MSK_IAM"] {
        let error = only(&sasl(mechanism));
        assert_eq!(error.property, "sasl.mechanism");
        assert!(error.message.contains(mechanism), "{error}");
        assert!(!error.to_string().contains("hidden-word"), "{error}");
    }
    let error = only(&common(&[
        ("security.protocol", "sasl_ssl"),
        ("sasl.username", "me"),
        ("sasl.password", "hidden-word"),
    ]));
    assert!(error.message.contains("GSSAPI"), "{error}");
    let error = only(&common(&[
        ("security.protocol", "sasl_plaintext"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", "me"),
    ]));
    assert_eq!(error.property, "sasl.password");
}

#[test]
fn tokens_are_got_by_us_and_not_by_librdkafka() {
    let by_token = |more: &[(&str, &str)]| {
        let mut pairs = vec![
            ("security.protocol", "sasl_ssl"),
            ("sasl.mechanism", "OAUTHBEARER"),
        ];
        pairs.extend(more);
        common(&pairs)
    };
    let settings = by_token(&[
        ("sasl.oauthbearer.method", "oidc"),
        (
            "sasl.oauthbearer.token.endpoint.url",
            "https://issuer/token",
        ),
        ("sasl.oauthbearer.client.credentials.client.id", "me"),
        ("sasl.oauthbearer.client.secret", "hidden-word"),
        ("https.ca.location", "ca.pem"),
    ]);
    assert_eq!(check(&settings), []);
    for name in [
        "sasl.oauthbearer.method",
        "sasl.oauthbearer.client.id",
        "sasl.oauthbearer.client.secret",
        "https.ca.location",
    ] {
        assert_eq!(value(&settings, name), None, "{name}");
    }
    assert_eq!(
        value(&settings, "sasl.mechanisms").as_deref(),
        Some("OAUTHBEARER")
    );
    let file = ("sasl.oauthbearer.token.endpoint.url", "file:///token");
    assert_eq!(check(&by_token(&[file])), []);

    let unknown = only(&by_token(&[]));
    assert_eq!(unknown.property, file.0);
    for (name, given) in [
        ("sasl.username", "me"),
        ("sasl.oauthbearer.config", "principal=me"),
        ("enable.sasl.oauthbearer.unsecure.jwt", "true"),
        (
            "sasl.oauthbearer.grant.type",
            "urn:ietf:params:oauth:grant-type:jwt-bearer",
        ),
        ("sasl.oauthbearer.assertion.file", "a.jwt"),
    ] {
        assert_eq!(only(&by_token(&[file, (name, given)])).property, name);
    }
    let plain = common(&[
        ("security.protocol", "sasl_ssl"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", "me"),
        ("sasl.password", "hidden-word"),
        file,
    ]);
    assert_eq!(only(&plain).property, file.0);
}

#[test]
fn credentials_that_nothing_would_use_are_an_error() {
    let error = only(&common(&[("sasl.username", "me")]));
    assert!(error.message.contains("security.protocol"), "{error}");
    let error = only(&common(&[("ssl.ca.location", "ca.pem")]));
    assert!(error.message.contains("security.protocol"), "{error}");
}

#[test]
fn tls_is_mapped_or_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().display().to_string();
    for (pairs, property) in [
        (
            &[("ssl.endpoint.identification.algorithm", "none")][..],
            "ssl.endpoint.identification.algorithm",
        ),
        (&[("ssl.ca.location", folder.as_str())], "ssl.ca.location"),
        (
            &[("ssl.ca.location", "a.pem"), ("ssl.ca.pem", "x")],
            "ssl.ca.pem",
        ),
        (
            &[("ssl.certificate.location", "a.pem")],
            "ssl.certificate.location",
        ),
        (&[("ssl.key.location", "a.pem")], "ssl.key.location"),
        (
            &[("ssl.certificate.pem", "x"), ("ssl.key.location", "a.pem")],
            "ssl.certificate.pem",
        ),
    ] {
        let mut settings = common(pairs);
        settings
            .properties
            .insert("security.protocol".into(), "ssl".into());
        let error = only(&settings);
        assert_eq!(error.property, property, "{error}");
    }
    assert_eq!(
        check(&common(&[
            ("security.protocol", "ssl"),
            ("enable.ssl.certificate.verification", "false"),
            ("ssl.endpoint.identification.algorithm", "none"),
        ])),
        []
    );
}

#[test]
fn a_certificate_file_that_is_not_there_is_found_before_the_start() {
    let error = only(&common(&[
        ("security.protocol", "ssl"),
        ("ssl.ca.location", "no-such-file.pem"),
    ]));
    assert!(error.to_string().contains("ssl.ca.location"), "{error}");
}

#[test]
fn bootstrap_servers_get_the_port_that_they_lack() {
    for (given, expected) in [
        ("a:1, b:2", "a:1,b:2"),
        ("a", "a:9092"),
        (" a ,,[::1] , [::1]:5", "a:9092,[::1]:9092,[::1]:5"),
    ] {
        let settings = KafkaSettings {
            bootstrap_servers: given.into(),
            ..KafkaSettings::default()
        };
        assert_eq!(bootstrap(&settings), expected);
        assert_eq!(check(&settings), [], "{given}");
    }
    for wrong in ["a:b", "PLAINTEXT://a:1", "::1", ":9", "a:0"] {
        let settings = KafkaSettings {
            bootstrap_servers: wrong.into(),
            ..KafkaSettings::default()
        };
        let error = only(&settings);
        assert_eq!(
            (error.table, error.property.as_str()),
            ("kafka", "bootstrap_servers")
        );
    }
}

#[test]
fn the_embedded_broker_is_plaintext() {
    let settings = KafkaSettings {
        properties: table(&[("security.protocol", "ssl")]),
        ..KafkaSettings::default()
    };
    assert!(only(&settings).message.contains("plaintext"));
}

#[test]
fn a_fetch_is_given_up_soon_after_the_broker_should_have_answered() {
    let timeouts = |settings: &KafkaSettings, role: Role| {
        let merged = properties::merged(settings, role);
        let connection = Connection::read(settings, role, &merged, None).expect("readable");
        (connection.request_timeout, connection.connect_timeout)
    };
    let seconds = Duration::from_secs;
    assert_eq!(
        timeouts(&settings(), Role::Reader),
        (Duration::from_millis(5_500), seconds(4))
    );
    assert_eq!(timeouts(&settings(), Role::Admin), (seconds(5), seconds(4)));
    let slow = consumer(&[
        ("fetch.wait.max.ms", "30000"),
        ("socket.timeout.ms", "2000"),
    ]);
    assert_eq!(timeouts(&slow, Role::Reader).0, seconds(31));
    let quick = common(&[("socket.timeout.ms", "1500")]);
    assert_eq!(
        timeouts(&quick, Role::Admin),
        (Duration::from_millis(1_500), Duration::from_millis(1_500))
    );
}

#[test]
fn reader_tuning_comes_from_the_consumers_table() {
    let tuning = reader_tuning(&settings()).expect("the defaults");
    assert!(tuning.read_committed);
    let tuning = reader_tuning(&consumer(&[
        ("max.partition.fetch.bytes", "4096"),
        ("isolation.level", "read_uncommitted"),
        ("client.rack", "a"),
    ]))
    .expect("readable");
    assert_eq!(tuning.max_partition_fetch_bytes, 4_096);
    assert!(!tuning.read_committed);
    assert_eq!(tuning.rack.as_deref(), Some("a"));
    let fault = reader_tuning(&consumer(&[("fetch.min.bytes", "x")])).expect_err("not a number");
    assert_eq!(fault.kind, FaultKind::Invalid);
}

#[tokio::test]
async fn a_cluster_that_does_not_answer_is_given_up_within_the_bound() {
    let settings = KafkaSettings {
        bootstrap_servers: "127.0.0.1:1".into(),
        properties: table(&[
            ("socket.timeout.ms", "300"),
            ("socket.connection.setup.timeout.ms", "1000"),
        ]),
        metadata_timeout: Duration::from_millis(500),
        ..KafkaSettings::default()
    };
    let started = std::time::Instant::now();
    let fault = krafka(&Clients::new(settings.clone()), Role::Admin)
        .await
        .expect_err("no broker");
    assert!(
        matches!(fault.kind, FaultKind::Unavailable | FaultKind::TimedOut),
        "{fault:?}"
    );
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[cfg(feature = "embedded")]
mod with_a_broker {
    //! What the settings do on the wire.

    use ::krafka::testing::FakeBroker;

    use super::*;

    async fn broker() -> (FakeBroker, KafkaSettings) {
        let broker = FakeBroker::start().await.expect("a broker");
        let settings = KafkaSettings {
            bootstrap_servers: broker.bootstrap_servers(),
            ..KafkaSettings::default()
        };
        (broker, settings)
    }

    #[tokio::test]
    async fn a_handle_connects_and_says_who_it_is() {
        let (broker, mut settings) = broker().await;
        settings.properties = table(&[("client.id", "gate-7")]);
        krafka(&Clients::new(settings.clone()), Role::Admin)
            .await
            .expect("connected");
        let requests = broker.requests();
        assert!(!requests.is_empty());
        assert!(
            requests
                .iter()
                .all(|request| request.client_id.as_deref() == Some("gate-7"))
        );
    }

    #[tokio::test]
    async fn the_password_decides() {
        let (broker, mut settings) = broker().await;
        broker.require_sasl_plain("me", "right");
        let with = |password: &str| {
            table(&[
                ("security.protocol", "sasl_plaintext"),
                ("sasl.mechanism", "PLAIN"),
                ("sasl.username", "me"),
                ("sasl.password", password),
            ])
        };
        settings.properties = with("right");
        krafka(&Clients::new(settings.clone()), Role::Reader)
            .await
            .expect("connected");
        settings.properties = with("wrong");
        let fault = krafka(&Clients::new(settings.clone()), Role::Reader)
            .await
            .expect_err("refused");
        assert_eq!(fault.kind, FaultKind::Unauthenticated, "{fault:?}");
        assert!(!fault.message.contains("wrong"), "{fault:?}");
    }
}

#[test]
fn tokens_can_be_handed_on_only_by_clients_that_log_in_by_token() {
    let oauth = [
        ("security.protocol", "SASL_SSL"),
        ("sasl.mechanism", "OAUTHBEARER"),
        ("sasl.oauthbearer.token.endpoint.url", "file:///run/token"),
    ];
    let passthrough = |settings| KafkaSettings {
        identity: KafkaIdentity::Passthrough,
        ..settings
    };
    assert_eq!(check(&passthrough(common(&oauth))), []);
    let error = only(&passthrough(settings()));
    assert_eq!((error.table, &*error.property), ("kafka", "identity"));
    for table in ["kafka.producer", "kafka.consumer", "kafka.admin"] {
        assert!(error.message.contains(table), "{error}");
    }
    // One of the tables has another login.
    let scram = [
        ("sasl.mechanism", "SCRAM-SHA-512"),
        ("sasl.username", "gateway"),
        ("sasl.password", "secret"),
    ];
    let mut mixed = passthrough(common(&oauth[..2]));
    mixed.admin = table(&scram);
    for other in [&mut mixed.producer, &mut mixed.consumer] {
        *other = table(&oauth[2..]);
    }
    let error = only(&mixed);
    let only_admin = "the clients of kafka.admin do not";
    assert!(error.message.contains(only_admin), "{error}");
}
