//! Users who log in by SCRAM: they get passwords, by which a gateway logs in, and lose them.

use reqwest::Method;
use serde_json::{Value, json};

use super::acls::gateway;
use super::{BOUND, call_at, cluster_id, code, one_of};
use crate::kafka::broker_security::{by_sasl, password, secured};
use crate::support::http::{Reply, get};
use crate::support::{eventually, topic};

const PASSWORD: &str = "p\u{e4}ss w\"ord-17";

async fn ask(method: Method, path: &str, body: Option<&Value>) -> Reply {
    call_at(gateway().await, method, path, body).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_logs_in_with_the_password_that_was_set() {
    let user = topic("v3-scram");
    let path = format!("/scram-users/{user}");
    assert_eq!(code(&ask(Method::GET, &path, None).await), (404, 404));
    let one = json!({"mechanism": "SCRAM-SHA-256", "password": PASSWORD, "iterations": 4096});
    let two = json!({"mechanism": "scram-sha-512", "password": PASSWORD});
    for body in [&one, &two] {
        let set = ask(Method::PUT, &path, Some(body)).await;
        assert_eq!((set.status.as_u16(), set.body.len()), (204, 0));
    }
    let credentials = async || {
        let reply = ask(Method::GET, &path, None).await;
        match reply.status.as_u16() {
            200 => reply.json()["credentials"].clone(),
            _ => json!([]),
        }
    };
    let both = json!([
        {"mechanism": "SCRAM-SHA-256", "iterations": 4096},
        {"mechanism": "SCRAM-SHA-512", "iterations": 8192},
    ]);
    eventually(BOUND, || async { credentials().await == both }).await;
    let id = cluster_id(gateway().await).await;
    let described = json!({
        "kind": "KafkaScramUser",
        "metadata": {
            "self": gateway().await.url(&format!("/v3/clusters/{id}{path}")),
            "resource_name": format!("crn:///kafka={id}/scram-user={user}"),
        },
        "cluster_id": id,
        "user_name": user,
        "credentials": both,
    });
    assert_eq!(ask(Method::GET, &path, None).await.json(), described);
    let list = ask(Method::GET, "/scram-users", None).await.json();
    assert_eq!(list["kind"], "KafkaScramUserList");
    assert_eq!(*one_of(&list, "user_name", &user), described);
    let some = ask(Method::GET, &format!("/scram-users?prefix={user}"), None).await;
    assert_eq!(some.json()["data"], json!([described]));

    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let properties = password(mechanism, &user, PASSWORD);
        let as_user = by_sasl(secured().await, &properties).start().await;
        let clusters = as_user.url("/v3/clusters");
        eventually(BOUND, || async { get(&clusters).await.status == 200 }).await;
    }

    let first = format!("{path}?mechanism=SCRAM-SHA-256");
    assert_eq!(ask(Method::DELETE, &first, None).await.status, 204);
    let left = json!([{"mechanism": "SCRAM-SHA-512", "iterations": 8192}]);
    eventually(BOUND, || async { credentials().await == left }).await;
    assert_eq!(code(&ask(Method::DELETE, &first, None).await), (404, 404));
    assert_eq!(ask(Method::DELETE, &path, None).await.status, 204);
    eventually(BOUND, || async { credentials().await == json!([]) }).await;
    assert_eq!(code(&ask(Method::DELETE, &path, None).await), (404, 404));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_password_is_said_without_it() {
    let user = topic("v3-scram-wrong");
    let path = format!("/scram-users/{user}");
    for (body, expected) in [
        (None, (422, 42206)),
        (Some(json!({"password": PASSWORD})), (422, 422)),
        (
            Some(json!({"mechanism": PASSWORD, "password": "x"})),
            (422, 422),
        ),
        (
            Some(json!({"mechanism": "SCRAM-SHA-256", "password": [PASSWORD]})),
            (400, 400),
        ),
        (
            Some(json!({"mechanism": "SCRAM-SHA-256", "password": PASSWORD, "iterations": 1})),
            (422, 422),
        ),
        (Some(json!([PASSWORD])), (400, 400)),
    ] {
        let reply = ask(Method::PUT, &path, body.as_ref()).await;
        assert_eq!(code(&reply), expected, "{body:?}");
        assert!(!reply.text().contains("ord-17"), "{}", reply.text());
    }
    let wrong = format!("{path}?mechanism=PLAIN");
    assert_eq!(code(&ask(Method::DELETE, &wrong, None).await), (400, 400));
    let misspelt = format!("{path}?mechanisms=SCRAM-SHA-256");
    assert_eq!(
        code(&ask(Method::DELETE, &misspelt, None).await),
        (400, 400)
    );
    assert_eq!(code(&ask(Method::GET, &path, None).await), (404, 404));
    assert!(!gateway().await.stderr().contains("ord-17"));
}
