//! An issuer that changes, withdraws or no longer gives its keys, on the running gateway.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::eventually;
use crate::support::gateway::{Builder, Gateway};
use crate::support::http::{Reply, client, send};
use crate::support::tokens::{Issuer, SECRET, claims, sign, signed_by_issuer, token};

const BOUND: Duration = Duration::from_secs(60);

fn before(issuer: &Issuer) -> Builder {
    let issuers = format!("[{{ jwks_url = \"{}\" }}]", issuer.url());
    Gateway::embedded()
        .set("auth.mode", "jwt")
        .set("auth.issuers", &issuers)
}

async fn list(gateway: &Gateway, token: &str) -> Reply {
    let request = client().get(gateway.url("/topics"));
    send(request.bearer_auth(token)).await
}

async fn is_answered(gateway: &Gateway, token: &str, status: u16) {
    eventually(BOUND, async || list(gateway, token).await.status == status).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_a_key_that_was_withdrawn_is_refused_although_it_was_taken_before() {
    let issuer = Issuer::start(&["one"]).await;
    // It asks twice in that time.
    let gateway = before(&issuer)
        .set("auth.jwks_max_age_s", "20")
        .start()
        .await;
    let one = signed_by_issuer(&claims("ann", "consume:*"), "one");
    is_answered(&gateway, &one, 200).await;
    issuer.serve(r#"{"keys":[]}"#.to_owned());
    is_answered(&gateway, &one, 401).await;
    let two = signed_by_issuer(&claims("ann", "consume:*"), "two");
    issuer.rotate(&["two"]);
    is_answered(&gateway, &two, 200).await;
    assert_eq!(list(&gateway, &one).await.status, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuer_that_gives_no_keys_any_more_is_not_believed_for_ever() {
    let issuer = Issuer::start(&["one"]).await;
    let gateway = before(&issuer)
        .set("auth.jwks_max_age_s", "2")
        .start()
        .await;
    let one = signed_by_issuer(&claims("ann", "consume:*"), "one");
    is_answered(&gateway, &one, 200).await;
    issuer.serve("out of order".to_owned());
    is_answered(&gateway, &one, 503).await;
    let reply = list(&gateway, &one).await;
    assert_eq!(reply.status, 503, "{}", reply.text());
    assert_eq!(reply.json()["retriable"], true);
    issuer.rotate(&["one"]);
    is_answered(&gateway, &one, 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_with_unknown_keys_does_not_keep_out_a_new_one() {
    let issuer = Issuer::start(&["one"]).await;
    let gateway = before(&issuer).start().await;
    let by = |key_id: &str| signed_by_issuer(&claims("ann", "consume:*"), key_id);
    is_answered(&gateway, &by("one"), 200).await;
    let asked = issuer.asked();
    let made_up = AtomicUsize::new(0);
    let unknown = || {
        by(&format!(
            "unknown-{}",
            made_up.fetch_add(1, Ordering::Relaxed)
        ))
    };
    // The gateway has just asked for a stranger's key when the issuer begins to use a new one.
    eventually(BOUND, async || {
        list(&gateway, &unknown()).await;
        issuer.asked() > asked
    })
    .await;
    issuer.rotate(&["one", "two"]);
    let two = by("two");
    // The next question may come 5 s after the last one; half a minute would be too long to be kept out.
    eventually(Duration::from_secs(25), async || {
        list(&gateway, &unknown()).await;
        list(&gateway, &two).await.status == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_cannot_be_judged_counts_as_a_refusal_of_its_address() {
    // It never gives a key.
    let issuer = Issuer::start(&[]).await;
    issuer.serve("out of order".to_owned());
    let issuers = format!(
        "[{{ issuer = \"https://issuer.test\", audience = \"tidegate\", secret_file = \"secret\" }}, \
         {{ issuer = \"https://other.test\", jwks_url = \"{}\" }}]",
        issuer.url()
    );
    let gateway = Gateway::embedded()
        .file("secret", SECRET)
        .set("auth.mode", "jwt")
        .set("auth.issuers", &issuers)
        .set("limits.refused_per_second", "1")
        .start()
        .await;
    let known = token("ann", "consume:*");
    assert_eq!(list(&gateway, &known).await.status, 200);
    let mut other = claims("eve", "consume:*");
    other["iss"] = "https://other.test".into();
    let unjudged = signed_by_issuer(&other, "one");
    assert_eq!(list(&gateway, &unjudged).await.status, 503);
    let (client, url) = (client(), gateway.url("/topics"));
    // Many at once, so that a slow machine sends more than one a second too.
    eventually(BOUND, async || {
        let many = (0..50).map(|_| send(client.get(&url).bearer_auth(&unjudged)));
        let many = futures::future::join_all(many).await;
        many.iter()
            .all(|reply| [429, 503].contains(&reply.status.as_u16()))
            && many.iter().any(|reply| reply.status == 429)
    })
    .await;
    // Who was let in before still is, whatever a neighbour at the same address does.
    for _ in 0..20 {
        let unjudged = send(client.get(&url).bearer_auth(&unjudged));
        let (_, reply) = tokio::join!(unjudged, list(&gateway, &known));
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    // And a forged one is refused as ever.
    let forged = sign(
        &claims("ann", "admin:*"),
        b"another secret, of much the same length",
    );
    let reply = list(&gateway, &forged).await;
    assert!(
        [401, 429].contains(&reply.status.as_u16()),
        "{}",
        reply.status
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_over_plain_http_from_another_machine_are_a_mistake_in_the_settings() {
    let started = Gateway::embedded()
        .set("auth.mode", "jwt")
        .set(
            "auth.issuers",
            "[{ jwks_url = \"http://id.example/keys\" }]",
        )
        .try_start()
        .await;
    let Err(ended) = started else {
        panic!("it started");
    };
    for part in ["auth.issuers[0].jwks_url", "expected an https URL"] {
        assert!(ended.stderr.contains(part), "{}", ended.stderr);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuer_alone_is_enough_to_find_its_keys() {
    let issuer = Issuer::start(&["one"]).await;
    let gateway = Gateway::embedded()
        .set("auth.mode", "jwt")
        .set(
            "auth.issuers",
            &format!("[{{ issuer = \"{}\" }}]", issuer.name()),
        )
        .start()
        .await;
    let by = |name: &str, key_id: &str| {
        let mut claims = claims("ann", "consume:*");
        claims["iss"] = name.into();
        signed_by_issuer(&claims, key_id)
    };
    is_answered(&gateway, &by(&issuer.name(), "one"), 200).await;
    let other = by("https://issuer.test", "one");
    assert_eq!(list(&gateway, &other).await.status, 401);
    issuer.rotate(&["two"]);
    is_answered(&gateway, &by(&issuer.name(), "two"), 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_not_taken_by_the_word_of_another_issuers_document() {
    let issuer = Issuer::start(&["one"]).await;
    issuer.discover("https://other.test", &issuer.url());
    let gateway = Gateway::embedded()
        .set("auth.mode", "jwt")
        .set(
            "auth.issuers",
            &format!("[{{ issuer = \"{}\" }}]", issuer.name()),
        )
        .start()
        .await;
    let mut claims = claims("ann", "consume:*");
    claims["iss"] = issuer.name().into();
    let token = signed_by_issuer(&claims, "one");
    assert_eq!(list(&gateway, &token).await.status, 503);
    issuer.discover(&issuer.name(), "http://id.example/keys");
    assert_eq!(list(&gateway, &token).await.status, 503);
    issuer.discover(&issuer.name(), &issuer.url());
    is_answered(&gateway, &token, 200).await;
}
