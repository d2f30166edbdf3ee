//! What the settings of an issuer make of its tokens: how much they may do, and of whom they are.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;

use crate::support::gateway::{Builder, Gateway};
use crate::support::http::{Reply, client, send};
use crate::support::tokens::{SECRET, claims, sign, token};
use crate::support::ws::at;

const OTHER: &str = "the other issuer's secret, as long as the first";

/// Two issuers, the first of which has `more` in its table.
fn gateway(more: &str) -> Builder {
    let issuers = format!(
        "[{{ issuer = \"https://issuer.test\", secret_file = \"secret\", {more} }}, \
         {{ issuer = \"https://other.test\", secret_file = \"other\" }}]"
    );
    Gateway::embedded()
        .file("secret", SECRET)
        .file("other", OTHER)
        .set("auth.mode", "jwt")
        .set("auth.issuers", &issuers)
}

/// A token of the issuer for which nothing is set.
fn others_token(scope: &str) -> String {
    let mut claims = claims("ann", scope);
    claims["iss"] = json!("https://other.test");
    sign(&claims, OTHER.as_bytes())
}

async fn write(gateway: &Gateway, token: &str, topic: &str) -> Reply {
    let request = client()
        .post(gateway.url(&format!("/topics/{topic}/records")))
        .json(&json!({"value": 1}));
    send(request.bearer_auth(token)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_may_do_no_more_than_its_issuer_is_allowed() {
    let most = r#"permissions_allowed = ["produce:orders", "consume:orders", "group:*"]"#;
    let gateway = gateway(most).start().await;
    for scope in ["admin:*", "produce:* consume:*"] {
        let own = token("ann", scope);
        let reply = write(&gateway, &own, "orders").await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let reply = write(&gateway, &own, "payments").await;
        assert_eq!(reply.status, 403, "{}", reply.text());
        for part in ["produce:payments", "permissions_allowed"] {
            assert!(reply.text().contains(part), "{}", reply.text());
        }
        let reply = write(&gateway, &others_token(scope), "payments").await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        // Lists show no more than may be seen.
        let listed = send(client().get(gateway.url("/topics")).bearer_auth(&own)).await;
        assert!(
            listed.text().contains("orders") && !listed.text().contains("payments"),
            "{}",
            listed.text()
        );
        // A ticket is no way around it.
        let asked = client().post(gateway.url("/tickets")).bearer_auth(&own);
        let ticket = send(asked.json(&json!({"kind": "ws"}))).await;
        let ticket = ticket.json()["ticket"].as_str().unwrap().to_owned();
        let mut session = at(&gateway, &format!("/ws?ticket={ticket}"))
            .connect()
            .await;
        session.until("welcome").await;
        for (id, topic, answer) in [(1, "orders", "produced"), (2, "payments", "error")] {
            session
                .send(
                    json!({"type": "produce", "id": id, "topic": topic, "records": [{"value": 1}]}),
                )
                .await;
            assert_eq!(session.answer(id).await["type"], answer, "{topic}");
        }
    }
    // It takes away and gives nothing.
    let reply = write(&gateway, &token("ann", "consume:*"), "orders").await;
    assert_eq!(reply.status, 403, "{}", reply.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scope_counts_only_where_it_is_on() {
    let gateway = gateway("scope = false")
        .set("auth.permissions_claim", "permissions")
        .start()
        .await;
    let reply = write(&gateway, &token("ann", "produce:*"), "orders").await;
    assert_eq!(reply.status, 403, "{}", reply.text());
    let reply = write(&gateway, &others_token("produce:*"), "orders").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let mut claims = claims("ann", "openid");
    claims["permissions"] = json!(["produce:orders"]);
    let reply = write(&gateway, &sign(&claims, SECRET.as_bytes()), "orders").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_claim_may_name_the_principal() {
    let gateway = gateway(r#"principal_claim = "client.id""#).start().await;
    let mut claims = claims("7f3a", "produce:{sub}.*");
    claims["client"] = json!({"id": "billing"});
    let own = sign(&claims, SECRET.as_bytes());
    for (topic, status) in [("billing.a", 200), ("7f3a.a", 403)] {
        let reply = write(&gateway, &own, topic).await;
        assert_eq!(reply.status, status, "{}", reply.text());
    }
    for (client, said) in [
        (json!(null), "client.id"),
        (json!({"id": ""}), "client.id is empty"),
        (json!({"id": 7}), "client.id is not a text"),
    ] {
        claims["client"] = client;
        let reply = write(&gateway, &sign(&claims, SECRET.as_bytes()), "billing.a").await;
        assert_eq!(reply.status, 401, "{}", reply.text());
        assert!(reply.text().contains(said), "{}", reply.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_another_type_is_refused_where_one_is_asked_for() {
    let gateway = gateway(r#"typ = "at+jwt""#).start().await;
    let of_type = |typ: Option<&str>| {
        let header = Header {
            typ: typ.map(str::to_owned),
            ..Header::new(Algorithm::HS256)
        };
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        encode(&header, &claims("ann", "produce:*"), &key).unwrap()
    };
    for (typ, status) in [
        (Some("at+jwt"), 200),
        (Some("application/AT+JWT"), 200),
        (Some("JWT"), 401),
        (None, 401),
    ] {
        let reply = write(&gateway, &of_type(typ), "orders").await;
        assert_eq!(reply.status, status, "{typ:?}: {}", reply.text());
    }
    let reply = write(&gateway, &others_token("produce:*"), "orders").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
}
