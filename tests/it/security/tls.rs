//! The records API over TLS, on a real Kafka.

use reqwest::Version;
use serde_json::json;

use crate::support::certs::Authority;
use crate::support::gateway::Gateway;
use crate::support::{kafka, topic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_written_and_read_over_tls() {
    let kafka = kafka().await;
    let authority = Authority::new();
    let issued = authority.server("gateway");
    let gateway = Gateway::builder(&kafka.bootstrap())
        .file("cert.pem", &issued.cert)
        .file("key.pem", &issued.key)
        .set("tls.cert", "cert.pem")
        .set("tls.key", "key.pem")
        .start()
        .await;
    let topic = topic("tls");
    kafka.plain().create_topic(&topic, 1, &[]).await;
    let url = gateway.url(&format!("/topics/{topic}/records"));

    // Longer than a TLS record, so that it comes in several.
    let long = "x".repeat(100_000);
    let one = authority.http().http1_only().build().unwrap();
    let two = authority.http().build().unwrap();
    for (client, version) in [(&one, Version::HTTP_11), (&two, Version::HTTP_2)] {
        let posted = client.post(&url).json(&json!({ "value": long }));
        let posted = posted.send().await.unwrap();
        assert_eq!((posted.status().as_u16(), posted.version()), (200, version));
        let page = client
            .get(format!("{url}?from=earliest"))
            .send()
            .await
            .unwrap();
        assert_eq!((page.status().as_u16(), page.version()), (200, version));
        assert!(page.text().await.unwrap().contains(&long));
    }

    let records = kafka.plain().consume_all(&topic).await;
    assert_eq!(records.len(), 2);
    let expected = json!(long).to_string();
    assert!(
        records
            .iter()
            .all(|record| record.text() == Some(&expected))
    );
}
