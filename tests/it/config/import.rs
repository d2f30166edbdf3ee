//! Moving over: a gateway runs on what `tidegate config import` made of another gateway's settings.

use std::process::Command;

use krafka::admin::AclOperation;

use crate::kafka::broker_security::secured;
use crate::support::gateway::{self, Gateway};
use crate::support::http;
use crate::support::secured::{PASSWORD, USER};
use crate::support::{kafka, topic};

/// A gateway on the result for a file of this name and text, with other files beside both.
fn imported(name: &str, text: &str, beside: &[(&str, &str)]) -> gateway::Builder {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(name), text).unwrap();
    let mut gateway = Gateway::unconfigured();
    for (name, text) in beside {
        std::fs::write(folder.path().join(name), text).unwrap();
        gateway = gateway.file(name, text);
    }
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .current_dir(folder.path())
        .args(["config", "import", name])
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{report}");
    gateway.file(
        "tidegate.toml",
        std::str::from_utf8(&output.stdout).unwrap(),
    )
}

async fn writes_a_record(gateway: &Gateway, topic: &str) {
    let url = gateway.url(&format!("/topics/{topic}/records"));
    let reply = http::post_text(&url, r#"{"value":"moved"}"#).await;
    assert_eq!(reply.status, 200, "{}", gateway.stderr());
    let records = kafka().await.plain().consume_all(topic).await;
    assert_eq!(records[0].text(), Some("\"moved\""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_on_the_settings_of_confluent_writes() {
    let kafka = kafka().await;
    let topic = topic("imported-confluent");
    kafka.plain().create_topic(&topic, 1, &[]).await;
    let text = format!(
        "bootstrap.servers=PLAINTEXT://{}\nlisteners=http://0.0.0.0:8082\nid=kafka-rest-1\nproducer.acks=all\nproducer.linger.ms=0\nclient.request.timeout.ms=30000\nconsumer.request.timeout.ms=1000\n",
        kafka.bootstrap()
    );
    let gateway = imported("kafka-rest.properties", &text, &[]).start().await;
    writes_a_record(&gateway, &topic).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_on_the_settings_of_strimzi_writes_and_does_not_read() {
    let kafka = kafka().await;
    let topic = topic("imported-strimzi");
    kafka.plain().create_topic(&topic, 1, &[]).await;
    let text = format!(
        "bridge.id=my-bridge\nkafka.bootstrap.servers={}\nkafka.producer.acks=1\nkafka.consumer.auto.offset.reset=earliest\nhttp.host=0.0.0.0\nhttp.port=8080\nhttp.consumer.enabled=false\n",
        kafka.bootstrap()
    );
    let gateway = imported("application.properties", &text, &[]).start().await;
    writes_a_record(&gateway, &topic).await;
    let page = http::get(&gateway.url(&format!("/topics/{topic}/records"))).await;
    assert_eq!(page.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_on_the_settings_of_karapace_writes() {
    let kafka = kafka().await;
    let topic = topic("imported-karapace");
    kafka.plain().create_topic(&topic, 1, &[]).await;
    let text = serde_json::json!({
        "bootstrap_uri": kafka.bootstrap(),
        "host": "0.0.0.0",
        "port": 8082,
        "karapace_rest": true,
        "producer_acks": "all",
        "producer_linger_ms": 0,
        "ssl_cafile": null,
    });
    let gateway = imported("rest.config.json", &text.to_string(), &[])
        .start()
        .await;
    writes_a_record(&gateway, &topic).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_and_an_authority_are_carried_over() {
    let kafka = secured().await;
    let topic = topic("imported-login");
    kafka.plain().create_topic(&topic, 1, &[]).await;
    kafka.allow(USER, &topic, &[AclOperation::Write]).await;
    let text = format!(
        "bootstrap.servers=SASL_SSL://{}\nclient.security.protocol=SASL_SSL\nclient.sasl.mechanism=SCRAM-SHA-512\nclient.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \\\n  username=\"gateway\" \\\n  password=\"{PASSWORD}\";\nclient.ssl.truststore.type=PEM\nclient.ssl.truststore.location=ca.pem\n",
        kafka.sasl()
    );
    let ca = [("ca.pem", kafka.secured().ca())];
    let gateway = imported("kafka-rest.properties", &text, &ca).start().await;
    let url = gateway.url(&format!("/topics/{topic}/records"));
    let reply = http::post_text(&url, r#"{"value":"moved"}"#).await;
    assert_eq!(reply.status, 200, "{}", gateway.stderr());
    let records = kafka.plain().consume_all(&topic).await;
    assert_eq!(records[0].text(), Some("\"moved\""));
}
