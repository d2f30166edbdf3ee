//! WebSocket tails that want one key, on a real Kafka: woken by its records alone, and with all that concerns
//! the others right all the same.

use std::time::Duration;

use serde_json::{Value, json};

use super::{follow, tail, topic_of};
use crate::streams::is_read_by_one;
use crate::support::gateway::Gateway;
use crate::support::kafka_client::{KafkaClient, OutgoingRecord};
use crate::support::ws::{Client, offsets};
use crate::support::{eventually, kafka, metric, shared_gateway};

/// Longest wait for what must come.
const BOUND: Duration = Duration::from_secs(60);

async fn write(plain: &KafkaClient, topic: &str, partition: i32, key: &str, value: usize) -> i64 {
    let value = value.to_string();
    let record = OutgoingRecord {
        topic,
        partition: Some(partition),
        key: Some(key.as_bytes()),
        value: Some(value.as_bytes()),
        ..OutgoingRecord::default()
    };
    plain.produce(record).await.1
}

fn of_key(key: &str) -> Value {
    json!({"filter": {"key": key}})
}

/// Where the client stands in partition 0, and how far that is from its end.
async fn stands(client: &mut Client) -> (Value, i64, i64) {
    let ask = json!({"type": "position", "id": "where", "sub": "t"});
    let positions = client.ask(ask).await;
    let at = &positions["positions"][0];
    let number = |field: &str| at[field].as_i64().unwrap();
    (
        positions["position"].clone(),
        number("delivered"),
        number("lag"),
    )
}

/// Waits until it stands at `offset`, which is the end, and gives back the position.
async fn arrives(client: &mut Client, offset: i64) -> Value {
    let begun = std::time::Instant::now();
    loop {
        let (position, delivered, lag) = stands(client).await;
        if delivered == offset {
            assert_eq!(lag, 0);
            return position;
        }
        assert!(
            delivered < offset && begun.elapsed() < BOUND,
            "{delivered} of {offset}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_wakes_only_the_tails_that_want_its_key() {
    const KEYS: usize = 40;
    const EACH: usize = 5;
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "tail-keys", 2).await;
    // Its own, for others would be counted too.
    let gateway = Gateway::start(&kafka().await.bootstrap()).await;
    let mut clients = Vec::new();
    for n in 0..KEYS {
        let mut client = Client::welcomed(&gateway).await;
        follow(&mut client, &name, of_key(&format!("key-{n}"))).await;
        clients.push(client);
    }
    is_read_by_one(&gateway).await;
    write(&plain, &name, 0, "key-0", 0).await;
    assert_eq!(offsets(&clients[0].records(1).await), [0]);
    let before = metric(&gateway, "tail_wakes_total").await;
    let mut written = vec![Vec::new(); KEYS];
    for nth in 0..EACH {
        for (n, written) in written.iter_mut().enumerate() {
            let partition = i32::from(n % 2 == 1);
            let value = nth * KEYS + n;
            write(&plain, &name, partition, &format!("key-{n}"), value).await;
            written.push(json!(value));
        }
    }
    for (client, written) in clients.iter_mut().zip(&written) {
        let records = client.records(EACH).await;
        let values: Vec<Value> = records.iter().map(|r| r["value"].clone()).collect();
        assert_eq!(values, *written);
    }
    let woken = metric(&gateway, "tail_wakes_total").await - before;
    // Were all of them woken, it would be 40 times as much. A broker that is slow for a moment is news
    // for all.
    let most = (KEYS * EACH + 20 * KEYS) as f64;
    assert!(woken <= most, "{woken} wakes");
    for mut client in clients {
        client.silent(Duration::from_millis(10)).await;
        client.bye().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_of_a_key_resumed_at_another_gateway_does_not_read_other_keys_again() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "tail-passed", 1).await;
    let first = Gateway::start(&kafka().await.bootstrap()).await;
    let second = shared_gateway().await;
    let mut client = Client::welcomed(&first).await;
    follow(&mut client, &name, of_key("mine")).await;
    write(&plain, &name, 0, "mine", 0).await;
    client.records(1).await;
    for n in 1..30 {
        write(&plain, &name, 0, "other", n).await;
    }
    let position = arrives(&mut client, 30).await;
    client.drop_dead();

    let mut client = Client::welcomed(&first).await;
    let mut options = of_key("mine");
    options["from"] = position;
    let subscribed = follow(&mut client, &name, options.clone()).await;
    assert_eq!(subscribed["backlog"], 0);
    // It asks for nothing from now on, and `drain` knows all the same.
    write(&plain, &name, 0, "mine", 30).await;
    assert_eq!(offsets(&client.records(1).await), [30]);
    let read = metric(&first, "tail_records_total").await;
    for n in 31..60 {
        write(&plain, &name, 0, "other", n).await;
    }
    eventually(BOUND, async || {
        metric(&first, "tail_records_total").await >= read + 29.0
    })
    .await;
    first.ask_to_end();
    let drain = client.until("drain").await;
    client.closed().await;
    options["from"] = drain["tails"][0]["position"].clone();
    let mut client = Client::welcomed(second).await;
    let subscribed = follow(&mut client, &name, options).await;
    assert_eq!(subscribed["positions"][0]["offset"], 60);
    assert_eq!(subscribed["backlog"], 0);
    write(&plain, &name, 0, "mine", 60).await;
    assert_eq!(offsets(&client.records(1).await), [60]);
    client.bye().await;
    assert!(first.ended().await.status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_of_a_key_is_told_of_the_end_also_when_records_of_other_keys_move_it() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "tail-key-eof", 1).await;
    write(&plain, &name, 0, "mine", 0).await;
    let mut client = Client::welcomed(shared_gateway().await).await;
    client
        .ask(json!({"type": "hello", "id": "h", "features": ["eof"]}))
        .await;
    let mut options = of_key("mine");
    options["from"] = "earliest".into();
    follow(&mut client, &name, options).await;
    assert_eq!(client.records(1).await.len(), 1);
    assert_eq!(client.until("eof").await["offset"], 1);
    for n in 1..40 {
        write(&plain, &name, 0, "other", n).await;
    }
    let mut told = vec![1];
    while told.last() != Some(&40) {
        let eof = client.next_but_states().await;
        assert_eq!(eof["type"], "eof", "{eof}");
        told.push(eof["offset"].as_i64().unwrap());
    }
    assert!(told.windows(2).all(|two| two[0] < two[1]), "{told:?}");
    // That of its own record comes behind it.
    write(&plain, &name, 0, "mine", 40).await;
    assert_eq!(client.next_but_states().await["type"], "records");
    assert_eq!(client.next_but_states().await["offset"], 41);
    client.silent(Duration::from_millis(1_500)).await;
    client.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_of_a_key_is_told_when_its_topic_is_deleted_or_grows() {
    let plain = kafka().await.plain();
    let (goes, grows) = (
        topic_of(&plain, "tail-key-goes", 1).await,
        topic_of(&plain, "tail-key-grows", 1).await,
    );
    let mut client = Client::welcomed(shared_gateway().await).await;
    tail(&mut client, "goes", &goes, of_key("mine")).await;
    tail(&mut client, "grows", &grows, of_key("mine")).await;
    plain.add_partitions(&grows, 2).await;
    write(&plain, &grows, 1, "other", 0).await;
    write(&plain, &grows, 1, "mine", 1).await;
    let records = client.records(1).await;
    assert_eq!(
        (&records[0]["partition"], &records[0]["offset"]),
        (&json!(1), &json!(1))
    );
    plain.delete_topic(&goes).await;
    let error = client.until("error").await;
    assert_eq!(
        (&error["code"], &error["sub"]),
        (&json!("topic_not_found"), &json!("goes"))
    );
    assert_eq!(client.until("unsubscribed").await["sub"], "goes");
    write(&plain, &grows, 0, "mine", 2).await;
    assert_eq!(client.records(1).await[0]["partition"], 0);
    client.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_of_a_key_limits_and_conflates_only_the_records_of_the_key() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "tail-key-rate", 1).await;
    let mut client = Client::welcomed(shared_gateway().await).await;
    let mut options = of_key("mine");
    options["max_rate"] = 2.into();
    follow(&mut client, &name, options).await;
    for n in 0..60 {
        let key = if n % 3 == 0 { "mine" } else { "other" };
        write(&plain, &name, 0, key, n).await;
    }
    let mut came = Vec::new();
    while came.last() != Some(&57) {
        came.extend(offsets(&client.records(1).await));
    }
    assert!(came.iter().all(|offset| offset % 3 == 0), "{came:?}");
    assert!(came.windows(2).all(|two| two[0] < two[1]), "{came:?}");
    arrives(&mut client, 60).await;
    client
        .ask(json!({"type": "unsubscribe", "id": 1, "sub": "t"}))
        .await;

    // By credit the newest, and none is passed over that still waits.
    let mut options = of_key("mine");
    options["conflate"] = "key".into();
    options["flow"] = json!({"mode": "credit"});
    follow(&mut client, &name, options).await;
    for n in 60..70 {
        write(&plain, &name, 0, "mine", n).await;
        write(&plain, &name, 0, "other", n).await;
    }
    let begun = std::time::Instant::now();
    loop {
        let (_, delivered, _) = stands(&mut client).await;
        assert_eq!(delivered, 60, "what waits comes after it");
        client
            .send(json!({"type": "credit", "sub": "t", "records": 1}))
            .await;
        let newest = offsets(&client.records(1).await)[0];
        if newest == 78 {
            break;
        }
        // It was too early; what it has now is not taken back.
        assert!(newest < 78 && begun.elapsed() < BOUND, "{newest}");
        client
            .ask(json!({
                "type": "seek", "id": 2, "sub": "t",
                "positions": [{"topic": name, "partition": 0, "offset": 60}],
            }))
            .await;
    }
    arrives(&mut client, 80).await;
    client.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_of_a_key_pauses_and_seeks_as_other_tails_do() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "tail-key-seek", 2).await;
    let mut client = Client::welcomed(shared_gateway().await).await;
    follow(&mut client, &name, of_key("mine")).await;
    let partition = json!([{"topic": name, "partition": 0}]);
    client
        .ask(json!({"type": "pause", "id": 1, "sub": "t", "partitions": partition}))
        .await;
    for n in 0..6 {
        write(&plain, &name, 0, ["mine", "other"][n % 2], n).await;
    }
    write(&plain, &name, 1, "mine", 6).await;
    assert_eq!(client.records(1).await[0]["partition"], 1);
    let begun = std::time::Instant::now();
    loop {
        let (_, delivered, lag) = stands(&mut client).await;
        assert_eq!(delivered, 0, "it stays where it is");
        // The end is known when it has been read up to there, partition by partition.
        if lag == 6 {
            break;
        }
        assert!(begun.elapsed() < BOUND, "{lag}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    client
        .ask(json!({"type": "resume", "id": 2, "sub": "t"}))
        .await;
    assert_eq!(offsets(&client.records(3).await), [0, 2, 4]);
    arrives(&mut client, 6).await;
    client
        .ask(json!({
            "type": "seek", "id": 3, "sub": "t",
            "positions": [{"topic": name, "partition": 0, "offset": 1}],
        }))
        .await;
    assert_eq!(offsets(&client.records(2).await), [2, 4]);
    arrives(&mut client, 6).await;
    client.silent(Duration::from_millis(300)).await;
    client.bye().await;
}
