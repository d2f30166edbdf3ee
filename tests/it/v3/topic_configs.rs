//! Settings of topics: told, changed one by one and several at once, and those of a topic that is new.

use reqwest::Method;
use serde_json::{Value, json};

use super::{call, cluster_id, code, make, one_of, resource_name, seen, url};
use crate::support::{kafka, shared_gateway, topic};

async fn value(topic: &str, name: &str) -> Value {
    seen(&format!("/topics/{topic}/configs/{name}")).await["value"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_setting_is_told_with_its_source_and_synonyms() {
    let name = topic("v3-config");
    make(&name, 1, &[("cleanup.policy", "compact")]).await;
    let path = format!("/topics/{name}/configs");

    let list = seen(&path).await;
    assert_eq!(list["kind"], "KafkaTopicConfigList");
    assert_eq!(list["metadata"]["self"], url(&path).await);
    let data = list["data"].as_array().unwrap();
    assert!(data.len() > 20, "{}", data.len());
    let names: Vec<&str> = data
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert!(names.is_sorted(), "{names:?}");
    let policy = one_of(&list, "name", "cleanup.policy");
    let own = format!("{path}/cleanup.policy");
    let crn = format!("/topic={name}/config=cleanup.policy");
    assert_eq!(
        *policy,
        json!({
            "kind": "KafkaTopicConfig",
            "metadata": {"self": url(&own).await, "resource_name": resource_name(&crn).await},
            "cluster_id": cluster_id(shared_gateway().await).await,
            "topic_name": name,
            "name": "cleanup.policy",
            "value": "compact",
            "is_default": false,
            "is_read_only": false,
            "is_sensitive": false,
            "source": "DYNAMIC_TOPIC_CONFIG",
            "synonyms": [
                {"name": "cleanup.policy", "value": "compact", "source": "DYNAMIC_TOPIC_CONFIG"},
                {"name": "log.cleanup.policy", "value": "delete", "source": "DEFAULT_CONFIG"},
            ],
        })
    );
    assert_eq!(seen(&own).await, *policy);
    let all = seen(&format!("/topics/-/configs?prefix={name}")).await;
    assert_eq!(all["data"], list["data"]);
    let some = seen(&format!("{path}?prefix=cleanup&page_size=1")).await;
    assert_eq!(some["data"], json!([policy]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_setting_is_changed_and_taken_back() {
    let name = topic("v3-config-put");
    kafka().await.plain().create_topic(&name, 1, &[]).await;
    let path = format!("/topics/{name}/configs/max.message.bytes");
    let before = value(&name, "max.message.bytes").await;

    let set = json!({"value": "123456"});
    let reply = call(Method::PUT, &path, Some(&set)).await;
    assert_eq!((reply.status.as_u16(), reply.body.len()), (204, 0));
    assert_eq!(value(&name, "max.message.bytes").await, "123456");
    let reply = call(Method::DELETE, &path, None).await;
    assert_eq!(reply.status, 204);
    assert_eq!(value(&name, "max.message.bytes").await, before);

    let missing = format!("/topics/{name}/configs/no.such");
    let no_topic = format!("/topics/{name}-no/configs/retention.ms");
    for (method, path, body, expected) in [
        (Method::GET, &missing, None, (404, 404)),
        (
            Method::PUT,
            &missing,
            Some(json!({"value": "1"})),
            (404, 404),
        ),
        (Method::DELETE, &missing, None, (404, 404)),
        (Method::GET, &no_topic, None, (404, 40403)),
        (
            Method::PUT,
            &no_topic,
            Some(json!({"value": "1"})),
            (404, 40403),
        ),
        (
            Method::PUT,
            &path,
            Some(json!({"value": "many"})),
            (400, 40002),
        ),
        (
            Method::PUT,
            &path,
            Some(json!({"value": null})),
            (400, 40002),
        ),
        (Method::PUT, &path, None, (422, 42206)),
        (Method::PUT, &path, Some(json!({"values": "1"})), (422, 422)),
    ] {
        let reply = call(method.clone(), path, body.as_ref()).await;
        assert_eq!(code(&reply), expected, "{method} {path} {body:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_changes_of_a_topic_are_made_together_or_not_at_all() {
    let name = topic("v3-config-alter");
    let plain = kafka().await.plain();
    plain
        .create_topic(&name, 1, &[("retention.bytes", "77")])
        .await;
    let path = format!("/topics/{name}/configs:alter");
    let alter = json!({"data": [
        {"name": "retention.ms", "value": "1000"},
        {"name": "retention.bytes", "operation": "DELETE"},
    ]});

    let mut dry = alter.clone();
    dry["validate_only"] = json!(true);
    let reply = call(Method::POST, &path, Some(&dry)).await;
    assert_eq!(reply.status, 204);
    assert_eq!(value(&name, "retention.bytes").await, "77");
    let reply = call(Method::POST, &path, Some(&alter)).await;
    assert_eq!(reply.status, 204);
    assert_eq!(value(&name, "retention.ms").await, "1000");
    assert_eq!(value(&name, "retention.bytes").await, "-1");

    for (second, expected) in [
        (json!({"name": "no.such", "value": "1"}), (404, 404)),
        (
            json!({"name": "retention.bytes", "value": "x"}),
            (400, 40002),
        ),
    ] {
        let alter = json!({"data": [{"name": "retention.ms", "value": "2000"}, second]});
        let reply = call(Method::POST, &path, Some(&alter)).await;
        assert_eq!(code(&reply), expected, "{alter}");
        assert_eq!(value(&name, "retention.ms").await, "1000");
    }
    let nothing = call(Method::POST, &path, Some(&json!({"data": []}))).await;
    assert_eq!(nothing.status, 204);
    let empty = call(Method::POST, &path, None).await;
    assert_eq!(code(&empty), (422, 42206));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_several_topics_say_which_were_refused() {
    let (first, second) = (topic("v3-config-several-a"), topic("v3-config-several-b"));
    let plain = kafka().await.plain();
    for name in [&first, &second] {
        plain.create_topic(name, 1, &[]).await;
    }
    let path = "/topics/-/configs:alter";
    let changes = |topic: &str, name: &str, value: &str| json!({"topic_name": topic, "configs": [{"name": name, "value": value}]});
    let alter = |changes: Vec<Value>| json!({"data": changes});

    let both = alter(vec![
        changes(&first, "retention.ms", "1111"),
        changes(&second, "retention.ms", "2222"),
    ]);
    let reply = call(Method::POST, path, Some(&both)).await;
    assert_eq!(reply.status, 204);
    assert_eq!(value(&second, "retention.ms").await, "2222");

    let one_bad = alter(vec![
        changes(&first, "retention.ms", "3333"),
        changes(&second, "retention.ms", "x"),
    ]);
    let reply = call(Method::POST, path, Some(&one_bad)).await;
    assert_eq!(reply.status, 207, "{}", reply.text());
    let failures = reply.json()["failures"].as_array().unwrap().clone();
    assert_eq!(failures.len(), 1);
    assert_eq!(failures[0]["topic_name"], second);
    assert_eq!(failures[0]["error_code"], 40002);
    assert_eq!(value(&first, "retention.ms").await, "3333");

    // What is not there is found before anything is changed.
    for (bad, expected) in [
        (
            changes(&format!("{second}-no"), "retention.ms", "1"),
            (404, 40403),
        ),
        (changes(&second, "no.such", "1"), (404, 404)),
        (changes(&first, "retention.ms", "1"), (422, 422)),
    ] {
        let alter = alter(vec![changes(&first, "retention.ms", "4444"), bad]);
        let reply = call(Method::POST, path, Some(&alter)).await;
        assert_eq!(code(&reply), expected, "{alter}");
        assert_eq!(value(&first, "retention.ms").await, "3333");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_topics_settings_are_the_brokers_own() {
    let name = topic("v3-config-default");
    let plain = kafka().await.plain();
    plain
        .create_topic(&name, 1, &[("cleanup.policy", "compact")])
        .await;
    let list = seen(&format!("/topics/{name}-new/default-configs")).await;
    let policy = one_of(&list, "name", "cleanup.policy");
    assert_eq!(policy["value"], "delete");
    assert_eq!(policy["is_default"], true);
    assert_eq!(policy["topic_name"], format!("{name}-new"));
    let own = "DYNAMIC_TOPIC_CONFIG";
    let data = list["data"].as_array().unwrap();
    assert!(data.iter().all(|one| one["source"] != own), "{list}");
    assert!(data.len() > 20, "{}", data.len());
}
