//! Transactions and producers: seen while they are open, found where no coordinator knows them, and aborted.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::BufMut;
use krafka::__private::kafka_metadata;
use krafka::__private::protocol::{ApiKey, ProduceResponse, RecordBatchBuilder};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::{BOUND, call_at, cluster_id, code};
use crate::support::broker::Broker;
use crate::support::gateway::Gateway;
use crate::support::http::Reply;
use crate::support::kafka_client::{Isolation, OutgoingRecord};
use crate::support::{eventually, topic};

/// A broker that takes records of transactions which no coordinator knows, and a gateway before it.
async fn hosts() -> (&'static Broker, &'static Gateway) {
    static SHARED: OnceCell<(Broker, Gateway)> = OnceCell::const_new();
    let start = || async {
        let broker = Broker::builder()
            .never_killed()
            .property("transaction.partition.verification.enable", "false")
            .start()
            .await;
        let gateway = Gateway::builder(&broker.bootstrap())
            .set("kafka.metadata_timeout_ms", "30000")
            .start()
            .await;
        (broker, gateway)
    };
    let (broker, gateway) = SHARED.get_or_init(start).await;
    (broker, gateway)
}

async fn ask(method: Method, path: &str, body: Option<&Value>) -> Reply {
    call_at(hosts().await.1, method, path, body).await
}

async fn seen(path: &str) -> Value {
    let reply = ask(Method::GET, path, None).await;
    assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    reply.json()
}

fn record<'a>(topic: &'a str, value: &'a str) -> OutgoingRecord<'a> {
    OutgoingRecord {
        topic,
        partition: Some(0),
        value: Some(value.as_bytes()),
        ..Default::default()
    }
}

/// The values that a reader of what is committed sees.
async fn committed(topic: &str) -> Vec<String> {
    let records = hosts().await.0.plain().consume_all(topic).await;
    let texts = records.iter().filter_map(|record| record.text());
    texts.map(ToOwned::to_owned).collect()
}

/// Writes a record of an open transaction that no coordinator knows, as of an hour ago.
async fn leave_hanging(bootstrap: &str, topic: &str, producer_id: i64) {
    const VERSION: i16 = 3;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let an_hour_ago = i64::try_from(now.as_millis()).unwrap() - 3_600_000;
    let batch = RecordBatchBuilder::new()
        .producer(producer_id, 0, 0)
        .transactional(true)
        .base_timestamp(an_hour_ago)
        .add_record(None::<Vec<u8>>, Some(b"lost".to_vec()))
        .build()
        .encode()
        .unwrap();
    let kafka = krafka::Kafka::builder(bootstrap).connect().await.unwrap();
    let leader = kafka_metadata(&kafka).get_leader_connection(topic, 0).await;
    let leader = leader.unwrap();
    let text = |buffer: &mut bytes::BytesMut, text: &str| {
        buffer.put_i16(i16::try_from(text.len()).unwrap());
        buffer.put_slice(text.as_bytes());
    };
    let answer = leader.send_request(ApiKey::Produce, VERSION, |buffer| {
        text(buffer, "nobodys");
        buffer.put_i16(-1);
        buffer.put_i32(30_000);
        buffer.put_i32(1);
        text(buffer, topic);
        buffer.put_i32(1);
        buffer.put_i32(0);
        buffer.put_i32(i32::try_from(batch.len()).unwrap());
        buffer.put_slice(&batch);
        Ok(())
    });
    let answer = ProduceResponse::decode_v3(&mut answer.await.unwrap()).unwrap();
    let partition = &answer.responses[0].partition_responses[0];
    assert!(partition.error_code.is_ok(), "{:?}", partition.error_code);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_transaction_is_seen_and_aborted_by_force_alone() {
    let (broker, gateway) = hosts().await;
    let name = topic("v3-transaction");
    let plain = broker.plain();
    plain.create_topic(&name, 1, &[]).await;
    let transaction = plain.transaction(&name).await;
    transaction.produce(record(&name, "open")).await;
    plain.produce(record(&name, "behind")).await;
    assert!(committed(&name).await.is_empty());

    let path = format!("/transactions/{name}");
    let found = seen(&path).await;
    let cluster = cluster_id(gateway).await;
    let url = |path: &str| gateway.url(&format!("/v3/clusters/{cluster}{path}"));
    let partition = format!("/topics/{name}/partitions/0");
    let id = found["producer_id"].as_i64().unwrap();
    let expected = json!({
        "kind": "KafkaTransaction",
        "metadata": {
            "self": url(&path),
            "resource_name": format!("crn:///kafka={cluster}/transaction={name}"),
        },
        "cluster_id": cluster,
        "transactional_id": name,
        "state": "ONGOING",
        "producer_id": id,
        "producer_epoch": 0,
        "timeout_ms": 600_000,
        "start_timestamp": found["start_timestamp"],
        "coordinator": {"related": url("/brokers/1")},
        "partitions": [{
            "topic_name": name,
            "partition_id": 0,
            "partition": {"related": url(&partition)},
            "producers": {"related": url(&format!("{partition}/producers"))},
        }],
    });
    assert_eq!(found, expected);
    assert!(found["start_timestamp"].as_i64().unwrap() > 1_700_000_000_000);

    // Each filter lets it through, and another one of its kind does not.
    for (query, is_there) in [
        (String::new(), true),
        ("&state=ongoing,EMPTY".to_owned(), true),
        ("&state=PREPARE_ABORT".to_owned(), false),
        (format!("&producer_id={id},999999"), true),
        ("&producer_id=999999".to_owned(), false),
        ("&running_longer_than_ms=0".to_owned(), true),
        ("&running_longer_than_ms=3600000".to_owned(), false),
    ] {
        let list = seen(&format!("/transactions?prefix={name}{query}")).await;
        assert_eq!(list["kind"], "KafkaTransactionList");
        let ids: Vec<&Value> = list["data"].as_array().unwrap().iter().collect();
        assert_eq!(ids.len(), usize::from(is_there), "{query}: {list}");
        if is_there {
            assert_eq!(ids[0]["transactional_id"], name);
            assert_eq!(ids[0]["producer_id"], id);
            assert_eq!(ids[0]["state"], "ONGOING");
            assert_eq!(ids[0]["coordinator"]["related"], url("/brokers/1"));
        }
    }
    let producers = seen(&format!("{partition}/producers")).await;
    assert_eq!(producers["kind"], "KafkaProducerList");
    let of_it = producers["data"].as_array().unwrap().iter();
    let of_it: Vec<&Value> = of_it.filter(|one| one["producer_id"] == id).collect();
    assert_eq!(of_it.len(), 1, "{producers}");
    assert_eq!(of_it[0]["current_transaction_start_offset"], 0);
    assert_eq!(of_it[0]["producer_epoch"], 0);
    assert_eq!(of_it[0]["last_sequence"], 0);

    // It is no hanging one, however short a transaction may be.
    let hanging = format!("/hanging-transactions?topic={name}&older_than_ms=0");
    assert_eq!(seen(&hanging).await["data"], json!([]));
    let abort = format!("{partition}/transactions:abort");
    let by_id = json!({"producer_id": id});
    let refused = ask(Method::POST, &abort, Some(&by_id)).await;
    assert_eq!(code(&refused), (409, 409), "{}", refused.text());
    assert!(refused.text().contains(&name), "{}", refused.text());
    assert!(committed(&name).await.is_empty());

    let by_force = json!({"producer_id": id, "force": true});
    let aborted = ask(Method::POST, &abort, Some(&by_force)).await;
    assert_eq!(aborted.status, 200, "{}", aborted.text());
    assert_eq!(aborted.json()["producer_id"], id);
    eventually(BOUND, || async { committed(&name).await == ["behind"] }).await;
    let again = ask(Method::POST, &abort, Some(&by_force)).await;
    assert_eq!(code(&again), (404, 404), "{}", again.text());
    transaction.abort().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_no_coordinator_knows_is_found_and_aborted() {
    const PRODUCER: i64 = 777_000;
    let (broker, gateway) = hosts().await;
    let name = topic("v3-hanging");
    let plain = broker.plain();
    plain.create_topic(&name, 2, &[]).await;
    plain.produce(record(&name, "before")).await;
    leave_hanging(&broker.bootstrap(), &name, PRODUCER).await;
    plain.produce(record(&name, "behind")).await;
    assert_eq!(committed(&name).await, ["before"]);

    for query in [
        format!("topic={name}"),
        format!("topic={name}&partition=0"),
        format!("prefix={name}"),
        format!("prefix={name}&broker=1&page_size=10"),
    ] {
        // The list of topics may be a second old.
        let path = format!("/hanging-transactions?{query}");
        eventually(BOUND, || async {
            seen(&path).await["data"].as_array().unwrap().len() == 1
        })
        .await;
    }
    let found = seen(&format!("/hanging-transactions?topic={name}")).await;
    assert_eq!(found["kind"], "KafkaHangingTransactionList");
    assert_eq!(found["unchecked"], json!([]));
    let one = &found["data"][0];
    assert_eq!(one["kind"], "KafkaHangingTransaction");
    assert_eq!(one["topic_name"], name);
    assert_eq!(one["partition_id"], 0);
    assert_eq!(one["producer_id"], PRODUCER);
    assert_eq!(one["transactional_id"], Value::Null);
    assert_eq!(one["start_offset"], 1);
    assert_eq!(one["coordinator_epoch"], Value::Null);
    let cluster = cluster_id(gateway).await;
    let abort = format!("/topics/{name}/partitions/0/transactions:abort");
    let url = gateway.url(&format!("/v3/clusters/{cluster}{abort}"));
    assert_eq!(one["abort"]["related"], url);
    for query in [
        format!("topic={name}&partition=1"),
        format!("topic={name}&older_than_ms=4000000000"),
    ] {
        let none = seen(&format!("/hanging-transactions?{query}")).await;
        assert_eq!(none["data"], json!([]), "{query}");
    }
    for (query, expected) in [
        (format!("topic={name}-no"), (404, 40403)),
        (format!("topic={name}&partition=9"), (404, 40402)),
        ("broker=77".to_owned(), (404, 404)),
        ("partition=1".to_owned(), (400, 400)),
        ("topics=x".to_owned(), (400, 400)),
    ] {
        let path = format!("/hanging-transactions?{query}");
        let reply = ask(Method::GET, &path, None).await;
        assert_eq!(code(&reply), expected, "{query}");
    }

    let no_such = json!({"start_offset": 0});
    let refused = ask(Method::POST, &abort, Some(&no_such)).await;
    assert_eq!(code(&refused), (404, 404), "{}", refused.text());
    let by_offset = json!({"start_offset": 1});
    let aborted = ask(Method::POST, &abort, Some(&by_offset)).await;
    assert_eq!(aborted.status, 200, "{}", aborted.text());
    assert_eq!(aborted.json()["producer_id"], PRODUCER);
    eventually(BOUND, || async {
        committed(&name).await == ["before", "behind"]
    })
    .await;
    let all = plain
        .consume_all_as(&name, Isolation::ReadUncommitted)
        .await;
    assert_eq!(all.len(), 3);
    let gone = seen(&format!("/hanging-transactions?topic={name}")).await;
    assert_eq!(gone["data"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_and_producers_that_are_not_there_are_told() {
    let (broker, _) = hosts().await;
    let name = topic("v3-no-transaction");
    broker.plain().create_topic(&name, 1, &[]).await;
    let partition = format!("/topics/{name}/partitions");
    assert_eq!(
        seen(&format!("{partition}/0/producers")).await["data"],
        json!([])
    );
    let body = json!({"producer_id": 1});
    for (method, path, body, expected) in [
        (
            Method::GET,
            format!("/transactions/{name}"),
            None,
            (404, 404),
        ),
        (
            Method::GET,
            format!("{partition}/7/producers"),
            None,
            (404, 40402),
        ),
        (
            Method::GET,
            format!("{partition}/x/producers"),
            None,
            (404, 404),
        ),
        (
            Method::GET,
            format!("/topics/{name}-no/partitions/0/producers"),
            None,
            (404, 40403),
        ),
        (
            Method::POST,
            format!("{partition}/0/transactions:abort"),
            Some(&body),
            (404, 404),
        ),
        (
            Method::POST,
            format!("{partition}/7/transactions:abort"),
            Some(&body),
            (404, 40402),
        ),
        (
            Method::POST,
            format!("{partition}/0/transactions:abort"),
            None,
            (422, 42206),
        ),
        (
            Method::GET,
            "/transactions?state=open".to_owned(),
            None,
            (400, 400),
        ),
        (
            Method::GET,
            "/transactions?page_size=0".to_owned(),
            None,
            (400, 400),
        ),
        (
            Method::GET,
            "/transactions?states=ONGOING".to_owned(),
            None,
            (400, 400),
        ),
    ] {
        let reply = ask(method.clone(), &path, body).await;
        assert_eq!(code(&reply), expected, "{method} {path}: {}", reply.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_are_listed_a_page_at_a_time() {
    let (broker, gateway) = hosts().await;
    let name = topic("v3-transactions");
    let plain = broker.plain();
    for number in 0..3 {
        let transaction = plain.transaction(&format!("{name}-{number}")).await;
        transaction.abort().await;
    }
    let mut ids = Vec::new();
    let mut path = format!("/transactions?prefix={name}&page_size=2&state=EMPTY,COMPLETE_ABORT");
    let base = gateway.url(&format!("/v3/clusters/{}", cluster_id(gateway).await));
    loop {
        let page = seen(&path).await;
        let data = page["data"].as_array().unwrap().iter();
        ids.extend(data.map(|one| one["transactional_id"].as_str().unwrap().to_owned()));
        let Some(next) = page["metadata"]["next"].as_str() else {
            break;
        };
        path = next.strip_prefix(&base).unwrap().to_owned();
    }
    let expected: Vec<String> = (0..3).map(|number| format!("{name}-{number}")).collect();
    assert_eq!(ids, expected);
}
