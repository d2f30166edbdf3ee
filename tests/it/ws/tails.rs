//! WebSocket tails on a real Kafka: where they begin, what they show, and what a client may ask of
//! them. How much goes out is in `tail_flow`, what happens to them in `tail_failures`.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::{digits, follow, tail, topic_of, values, write};
use crate::support::gateway::Gateway;
use crate::support::ws::{Client, at, offsets};
use crate::support::{eventually, groups, kafka, metric, shared_gateway};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_says_where_it_begins_and_sends_what_comes_without_tags() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "tail", 2).await;
    write(&plain, &name, 0, "0").await;
    let mut client = Client::welcomed(shared_gateway().await).await;
    let subscribed = follow(&mut client, &name, json!({})).await;
    assert_eq!(subscribed["mode"], "tail");
    assert_eq!(subscribed["from"], "latest");
    assert_eq!(subscribed["on_lag"], "catchup");
    assert_eq!(subscribed["isolation"], "read_committed");
    assert_eq!(subscribed["backlog"], 0);
    assert_eq!(
        subscribed["positions"],
        json!([
            {"topic": name, "partition": 0, "offset": 1},
            {"topic": name, "partition": 1, "offset": 0},
        ])
    );
    for of_groups in ["ack", "dlq", "order", "group"] {
        assert_eq!(subscribed[of_groups], Value::Null, "{of_groups}");
    }
    write(&plain, &name, 0, r#"{"n": 1.50}"#).await;
    let record = client.records(1).await.remove(0);
    assert_eq!(record["offset"], 1);
    assert_eq!(record["value"]["n"], 1.5);
    for of_groups in ["tag", "deliveries"] {
        assert_eq!(record[of_groups], Value::Null, "{of_groups}");
    }
    let answer = client
        .ask(json!({"type": "unsubscribe", "id": 1, "sub": "t"}))
        .await;
    assert_eq!(answer["type"], "unsubscribed");
    write(&plain, &name, 0, "2").await;
    client.silent(Duration::from_secs(1)).await;
    let again = follow(&mut client, &name, json!({"from": subscribed["position"]})).await;
    assert_eq!(again["positions"], subscribed["positions"]);
    assert_eq!(again["backlog"], 2);
    assert_eq!(offsets(&client.records(2).await), [1, 2]);
    client.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_short_way_without_a_group_is_a_tail() {
    let plain = kafka().await.plain();
    let name = digits(&plain).await;
    let gateway = shared_gateway().await;
    let path = format!("/ws?topics={name}&from=-3&value_format=string&on_lag=skip");
    let mut client = at(gateway, &path).connect().await;
    let subscribed = client.until("subscribed").await;
    assert_eq!(subscribed["sub"], "main");
    assert_eq!(subscribed["mode"], "tail");
    assert_eq!(subscribed["on_lag"], "skip");
    let records = client.records(3).await;
    assert_eq!(values(&records), ["7", "8", "9"]);
    client.bye().await;
    for (query, code) in [
        (format!("topics={name}&from=now"), 4511),
        (format!("topics={name}&from=committed"), 4511),
        (format!("topics={name}&from=1700000000"), 4511),
        (format!("topics={name}&group=g&from=1700000000"), 4511),
        (format!("topics={name}&ack=auto"), 4511),
        (format!("topics={name}&fields=id"), 4511),
        (format!("topics={name}&where=/price%3E"), 4511),
        (format!("topics={name}&on_lag=wait"), 4511),
        ("pattern=tail.*".to_owned(), 4511),
        ("topics=no-such-topic-here".to_owned(), 4504),
    ] {
        let mut client = at(gateway, &format!("/ws?{query}")).connect().await;
        let closed = client.closed().await;
        assert_eq!(closed.code, Some(code), "{query}: {closed:?}");
        assert!(closed.goodbye.is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_begins_where_it_is_told_to() {
    let plain = kafka().await.plain();
    let name = digits(&plain).await;
    let mut client = Client::welcomed(shared_gateway().await).await;
    let timestamp = {
        follow(&mut client, &name, json!({"from": "earliest"})).await;
        let records = client.records(10).await;
        assert_eq!(offsets(&records), (0..10).collect::<Vec<_>>());
        records[6]["timestamp"].as_i64().unwrap()
    };
    let first_at_time = {
        let all = plain.consume_all(&name).await;
        let offset = all
            .iter()
            .position(|r| r.timestamp.unwrap_or(0) >= timestamp);
        i64::try_from(offset.unwrap()).unwrap()
    };
    client
        .ask(json!({"type": "unsubscribe", "id": 1, "sub": "t"}))
        .await;
    for (from, begins) in [
        (json!(-4), 6),
        (json!("-4"), 6),
        (json!(-100), 0),
        (json!("latest"), 10),
        (json!({"timestamp": timestamp}), first_at_time),
        (json!(timestamp.to_string()), first_at_time),
        (json!([{"topic": name, "partition": 0, "offset": 5}]), 5),
        (json!(format!("{name}:0@5")), 5),
        (json!({"timestamp": 4_000_000_000_000_i64}), 10),
    ] {
        let subscribed = follow(&mut client, &name, json!({"from": from})).await;
        assert_eq!(subscribed["positions"][0]["offset"], begins, "{from}");
        assert_eq!(subscribed["from"], from);
        let count = usize::try_from(10 - begins).unwrap();
        let wanted: Vec<i64> = (begins..10).collect();
        assert_eq!(offsets(&client.records(count).await), wanted, "{from}");
        client
            .ask(json!({"type": "unsubscribe", "id": 1, "sub": "t"}))
            .await;
    }
    // What is not in the log is said.
    plain.delete_records(&name, 0, 4).await;
    follow(&mut client, &name, json!({"from": format!("{name}:0@1")})).await;
    let gap = client.until("gap").await;
    assert_eq!((&gap["from"], &gap["to"]), (&json!(1), &json!(4)));
    assert_eq!(gap["reason"], "retention");
    assert_eq!(client.records(1).await[0]["offset"], 4);
    client
        .ask(json!({"type": "unsubscribe", "id": 1, "sub": "t"}))
        .await;
    follow(&mut client, &name, json!({"from": format!("{name}:0@99")})).await;
    let gap = client.until("gap").await;
    assert_eq!((&gap["from"], &gap["to"]), (&json!(99), &json!(10)));
    assert_eq!(gap["reason"], "reset");
    client.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_tail_cannot_be_is_named() {
    let plain = kafka().await.plain();
    let name = digits(&plain).await;
    let mut client = Client::welcomed(shared_gateway().await).await;
    for (options, code, field) in [
        (json!({"pattern": "a.*"}), "invalid_subscription", "pattern"),
        (
            json!({"mode": "tail", "group": "g"}),
            "invalid_subscription",
            "group",
        ),
        (json!({"ack": "auto"}), "invalid_subscription", "ack"),
        (json!({"dlq": false}), "invalid_subscription", "dlq"),
        (
            json!({"on_decode_error": "dlq"}),
            "invalid_subscription",
            "on_decode_error",
        ),
        (json!({"from": "committed"}), "invalid_subscription", "from"),
        (json!({"from": "yesterday"}), "invalid_subscription", "from"),
        (json!({"from": 4}), "invalid_subscription", "from"),
        (json!({"from": []}), "invalid_subscription", "from"),
        (
            json!({"from": {"timestamp": -1}}),
            "invalid_subscription",
            "from.timestamp",
        ),
        // Seconds since 1970, where milliseconds are meant.
        (
            json!({"from": {"timestamp": 1_700_000_000}}),
            "invalid_subscription",
            "from.timestamp",
        ),
        (
            json!({"from": "1700000000"}),
            "invalid_subscription",
            "from",
        ),
        (json!({"from": "AAAAAAAA"}), "invalid_subscription", "from"),
        (json!({"from": "x:0@1"}), "invalid_subscription", "from"),
        (
            json!({"from": format!("{name}:7@1")}),
            "invalid_subscription",
            "from",
        ),
        (
            json!({"from": [{"topic": "x", "partition": 0, "offset": 1}]}),
            "invalid_subscription",
            "from[0].topic",
        ),
        (json!({"fields": "id"}), "invalid_subscription", "fields"),
        (
            json!({"filter": {"where": "/a="}}),
            "invalid_subscription",
            "filter.where",
        ),
        (
            json!({"key_format": "schema"}),
            "invalid_subscription",
            "key_format",
        ),
        (json!({"topics": []}), "invalid_subscription", "topics"),
        (json!({"topics": ["a", "a", "a"]}), "topic_not_found", ""),
        (
            json!({"topics": (0..17).map(|n| format!("t{n}")).collect::<Vec<_>>()}),
            "invalid_subscription",
            "topics",
        ),
        (
            json!({"topics": ["no-such-topic-here"]}),
            "topic_not_found",
            "",
        ),
    ] {
        let mut options = options;
        if options.get("pattern").is_some() {
            options["topics"] = Value::Null;
        }
        let answer = tail(&mut client, "t", &name, options.clone()).await;
        assert_eq!(answer["type"], "error", "{options}: {answer}");
        assert_eq!(answer["code"], code, "{options}: {answer}");
        assert_eq!(answer["sub"], "t");
        let said = answer["field"].as_str().unwrap_or_default();
        assert_eq!(said, field, "{options}: {answer}");
    }
    for (field, value) in [
        ("on_lag", json!("wait")),
        ("conflate", json!("value")),
        ("max_rate", json!("fast")),
    ] {
        let mut frame = json!({"type": "subscribe", "id": "w", "sub": "t", "topics": [name]});
        frame[field] = value;
        client.send_text(&frame.to_string()).await;
        let answer = client.answer("w").await;
        assert_eq!(
            (&answer["code"], &answer["field"]),
            (&json!("invalid_frame"), &json!(field))
        );
    }
    // Of a group's, these are for tails.
    let answer = tail(
        &mut client,
        "g",
        &name,
        json!({"group": "g", "on_lag": "skip"}),
    )
    .await;
    assert_eq!(answer["field"], "on_lag");
    let answer = tail(&mut client, "g", &name, json!({"group": "g", "from": "-1"})).await;
    assert_eq!(answer["field"], "from");
    client.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_shows_what_is_wanted_as_it_is_wanted() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "tail-shows", 1).await;
    for value in [
        r#"{"id":1,"price":5,"customer":{"name":"a"}}"#,
        "no JSON",
        r#"{"id":2,"price":50,"customer":{"name":"b"}}"#,
    ] {
        write(&plain, &name, 0, value).await;
    }
    let mut client = Client::welcomed(shared_gateway().await).await;
    let options = json!({
        "from": "earliest", "filter": {"where": "/price>=10", "key": "k"},
        "fields": "/id,/customer/name", "key_format": "binary",
    });
    let subscribed = follow(&mut client, &name, options.clone()).await;
    for (field, value) in options.as_object().unwrap() {
        assert_eq!(&subscribed[field], value, "{field}");
    }
    let record = client.records(1).await.remove(0);
    assert_eq!(record["value"], json!({"id": 2, "customer": {"name": "b"}}));
    assert_eq!(record["key"], "aw==");
    // Over what is not wanted it has come, too.
    let positions = client
        .ask(json!({"type": "position", "id": "p", "sub": "t"}))
        .await;
    assert_eq!(positions["positions"][0]["delivered"], 3);

    tail(&mut client, "deliver", &name, json!({"from": "earliest"})).await;
    let records = client.records(3).await;
    assert_eq!(
        (&records[1]["value"], &records[1]["vf"]),
        (&json!("no JSON"), &json!("string"))
    );
    tail(
        &mut client,
        "skip",
        &name,
        json!({"from": "earliest", "on_decode_error": "skip"}),
    )
    .await;
    assert_eq!(offsets(&client.records(2).await), [0, 2]);
    let large = json!({"from": "earliest", "max_record_bytes": 1024});
    write(&plain, &name, 0, &"x".repeat(2_000)).await;
    tail(&mut client, "large", &name, large).await;
    let frame = client
        .until_such("a link", |frame| frame.to_string().contains("truncated"))
        .await;
    let record = frame["records"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(
        record["truncated"]["href"],
        format!("/topics/{name}/partitions/0/records/3")
    );
    // What goes before it is delivered.
    tail(
        &mut client,
        "close",
        &name,
        json!({"from": "earliest", "on_decode_error": "close"}),
    )
    .await;
    let frame = client
        .until_such("records", |f| f["sub"] == "close" && f["type"] == "records")
        .await;
    assert_eq!(frame["records"].as_array().unwrap().len(), 1);
    let closed = client.closed().await;
    assert_eq!(closed.code, Some(4512));
    let message = closed.goodbye.unwrap()["message"].to_string();
    assert!(message.contains("offset 1"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_refuses_the_frames_and_options_of_groups() {
    let plain = kafka().await.plain();
    let name = digits(&plain).await;
    let mut client = Client::welcomed(shared_gateway().await).await;
    follow(&mut client, &name, json!({"from": "earliest"})).await;
    client.records(10).await;
    for frame in [
        json!({"type": "ack", "id": 1, "sub": "t", "tags": [1]}),
        json!({"type": "nack", "id": 1, "sub": "t", "tags": [1]}),
        json!({"type": "extend", "id": 1, "sub": "t", "tags": [1], "ms": 1}),
        json!({"type": "commit", "id": 1, "sub": "t"}),
    ] {
        let error = client.ask(frame).await;
        assert_eq!(error["code"], "invalid_for_tail", "{error}");
        assert_eq!(error["field"], "sub");
    }
    let twice = tail(&mut client, "t", &name, json!({})).await;
    assert_eq!(twice["code"], "already_subscribed");
    client
        .ask(json!({"type": "unsubscribe", "id": 2, "sub": "t"}))
        .await;
    let gone = client
        .ask(json!({"type": "position", "id": 3, "sub": "t"}))
        .await;
    assert_eq!(gone["code"], "unknown_sub");
    client.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_with_the_eof_feature_is_told_of_the_end() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "tail-eof", 2).await;
    for n in 0..3 {
        write(&plain, &name, 0, &n.to_string()).await;
    }
    let gateway = shared_gateway().await;
    let mut client = Client::welcomed(gateway).await;
    let hello = json!({"type": "hello", "id": "h", "features": ["eof"]});
    let welcome = client.ask(hello).await;
    assert!(
        welcome["features"]
            .as_array()
            .unwrap()
            .contains(&json!("eof"))
    );
    follow(&mut client, &name, json!({"from": "earliest"})).await;
    let mut told = BTreeSet::new();
    let mut records = 0;
    while told.len() < 2 {
        let frame = client.next_but_states().await;
        match frame["type"].as_str() {
            Some("records") => records += frame["records"].as_array().unwrap().len(),
            Some("eof") => {
                let at = |field: &str| frame[field].as_i64().unwrap();
                if at("partition") == 0 {
                    assert_eq!(records, 3, "it comes behind them");
                }
                assert!(
                    told.insert((at("partition"), at("offset"))),
                    "twice: {frame}"
                );
            }
            _ => panic!("{frame}"),
        }
    }
    assert_eq!(told, [(0, 3), (1, 0)].into());
    write(&plain, &name, 1, "1").await;
    client.records(1).await;
    let eof = client.until("eof").await;
    assert_eq!((&eof["partition"], &eof["offset"]), (&json!(1), &json!(1)));
    client.silent(Duration::from_secs(1)).await;
    client.bye().await;
    // Nobody else is told.
    let mut other = Client::welcomed(gateway).await;
    follow(&mut other, &name, json!({"from": "earliest"})).await;
    other.records(4).await;
    other.silent(Duration::from_secs(1)).await;
    other.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_tails_and_a_group_on_one_socket() {
    let broker = groups::broker().await;
    let plain = broker.plain();
    let gateway = Gateway::start(&broker.bootstrap()).await;
    let mut names = Vec::new();
    for _ in 0..4 {
        names.push(topic_of(&plain, "tail-many", 1).await);
    }
    let mut client = at(&gateway, "/ws").connect().await;
    let welcome = client.until("welcome").await;
    assert_eq!(welcome["limits"]["subs"], json!({"group": 1, "tail": 16}));
    for n in 0..16 {
        let subscribed = tail(&mut client, &format!("t{n}"), &names[n % 4], json!({})).await;
        assert_eq!(subscribed["type"], "subscribed", "{subscribed}");
    }
    client
        .subscribe(&names[0], &names[0], json!({"offset_reset": "earliest"}))
        .await;
    let refused = tail(&mut client, "t16", &names[0], json!({})).await;
    assert_eq!(refused["code"], "limit_exceeded", "{refused}");
    eventually(Duration::from_secs(60), async || {
        metric(&gateway, "tail_upstreams").await == 4.0
    })
    .await;
    assert_eq!(metric(&gateway, "websocket_subscriptions").await, 17.0);
    for name in &names {
        write(&plain, name, 0, "1").await;
    }
    let mut seen = BTreeSet::new();
    while seen.len() < 17 {
        let frame = client.until("records").await;
        let sub = frame["sub"].as_str().unwrap().to_owned();
        let record = &frame["records"][0];
        if sub == "o" {
            // It comes again where a busy machine cost the member its place in the group.
            client.ack(&[record["tag"].as_u64().unwrap()]).await;
            seen.insert(sub);
        } else {
            let nth: usize = sub[1..].parse().unwrap();
            assert_eq!(record["topic"], names[nth % 4]);
            assert!(seen.insert(sub), "{frame}");
        }
    }
    // A place is free again when one has ended.
    client
        .ask(json!({"type": "unsubscribe", "id": 1, "sub": "t3"}))
        .await;
    let taken = tail(&mut client, "t16", &names[0], json!({})).await;
    assert_eq!(taken["type"], "subscribed");
    client.bye().await;
    eventually(Duration::from_secs(60), async || {
        metric(&gateway, "stream_readers").await == 0.0
            && metric(&gateway, "websocket_subscriptions").await == 0.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_tail_follows_several_topics_with_one_position() {
    let plain = kafka().await.plain();
    let (one, two) = (
        topic_of(&plain, "tail-one", 1).await,
        topic_of(&plain, "tail-two", 3).await,
    );
    let gateway = shared_gateway().await;
    let mut client = Client::welcomed(gateway).await;
    let topics = json!([one, two]);
    let subscribed = follow(&mut client, &one, json!({"topics": topics})).await;
    assert_eq!(subscribed["positions"].as_array().unwrap().len(), 4);
    for n in 0..6 {
        write(&plain, &one, 0, &n.to_string()).await;
        write(&plain, &two, n % 3, &n.to_string()).await;
    }
    let first = client.records(12).await;
    let place = |r: &Value| {
        (
            r["topic"].clone().to_string(),
            r["partition"].as_i64(),
            r["offset"].as_i64(),
        )
    };
    let places: BTreeSet<_> = first.iter().map(place).collect();
    assert_eq!(places.len(), 12);
    let positions = client
        .ask(json!({"type": "position", "id": 1, "sub": "t"}))
        .await;
    assert_eq!(positions["positions"].as_array().unwrap().len(), 4);
    client.drop_dead();
    for n in 0..6 {
        write(&plain, &two, n % 3, &n.to_string()).await;
    }
    let mut client = Client::welcomed(gateway).await;
    let again = follow(
        &mut client,
        &one,
        json!({"topics": topics, "from": positions["position"]}),
    )
    .await;
    assert_eq!(again["backlog"], 6);
    let second = client.records(6).await;
    assert!(second.iter().all(|record| !places.contains(&place(record))));
    client.silent(Duration::from_millis(500)).await;
    // A position is of its topics.
    let other = tail(
        &mut client,
        "x",
        &two,
        json!({"from": positions["position"]}),
    )
    .await;
    assert_eq!(other["code"], "invalid_subscription");
    client.bye().await;
}
