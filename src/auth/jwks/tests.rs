//! When an issuer's word replaces what it said before, and how long that is good without it.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn jwks(max_age: Duration) -> Jwks {
    Jwks::new("https://id.example/keys", max_age).unwrap()
}

fn set(ids: &[&str]) -> String {
    let keys = ids.iter().map(|id| {
        json!({
            "kty": "OKP", "crv": "Ed25519", "kid": id,
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        })
    });
    json!({"keys": keys.collect::<Vec<_>>()}).to_string()
}

fn answers(jwks: &Jwks, body: &str) -> bool {
    jwks.inner
        .take(Ok(body.as_bytes().to_vec()), Instant::now())
}

fn has(jwks: &Jwks, id: &str) -> bool {
    let known = jwks.inner.known();
    known.is_some_and(|known| known.keys.iter().any(|key| key.is(id)))
}

#[test]
fn an_issuer_that_withdraws_its_keys_has_none() {
    for none in [
        r#"{"keys":[]}"#,
        r#"{"keys":[{"kty":"oct","kid":"one","k":"c2VjcmV0"}]}"#,
        r#"{"keys":[{"kty":"RSA","kid":"one","n":"!","e":"AQAB"},7]}"#,
    ] {
        let jwks = jwks(HOUR);
        assert!(answers(&jwks, &set(&["one", "two"])));
        assert!(has(&jwks, "one") && has(&jwks, "two"));
        let before = jwks.edition().unwrap();
        assert!(answers(&jwks, none), "{none}");
        assert_eq!(jwks.inner.known().map(|known| known.keys.len()), Some(0));
        assert!(jwks.edition().is_some_and(|now| now != before), "{none}");
    }
    let jwks = jwks(HOUR);
    answers(&jwks, &set(&["one", "two"]));
    answers(&jwks, &set(&["two"]));
    assert!(!has(&jwks, "one") && has(&jwks, "two"));
}

#[test]
fn the_last_keys_go_on_after_failures_only() {
    let jwks = jwks(HOUR);
    assert_eq!(jwks.edition(), None);
    assert!(answers(&jwks, &set(&["one"])));
    let edition = jwks.edition();
    for no_set in ["", "nonsense", "{}", r#"{"keys":"none"}"#, "[]"] {
        assert!(!answers(&jwks, no_set), "{no_set}");
    }
    let failed = jwks
        .inner
        .take(Err("the answer is 500".to_owned()), Instant::now());
    assert!(!failed && has(&jwks, "one"));
    assert_eq!(jwks.edition(), edition);
}

#[test]
fn keys_that_are_too_old_are_not_used() {
    let ago = |seconds| {
        Instant::now()
            .checked_sub(Duration::from_secs(seconds))
            .unwrap()
    };
    let jwks = jwks(Duration::from_secs(60));
    let body = set(&["one"]);
    assert!(jwks.inner.take(Ok(body.clone().into_bytes()), ago(61)));
    assert!(!has(&jwks, "one"));
    assert_eq!(jwks.edition(), None);
    assert!(!jwks.inner.take(Err("nothing".to_owned()), ago(0)));
    assert!(!has(&jwks, "one"));
    // They are good again when the issuer says so again.
    assert!(jwks.inner.take(Ok(body.into_bytes()), ago(1)));
    assert!(has(&jwks, "one"));
}

#[test]
fn the_same_key_set_fetched_again_is_the_same_edition() {
    let jwks = jwks(HOUR);
    answers(&jwks, &set(&["one"]));
    let first = jwks.edition();
    answers(&jwks, &set(&["one"]));
    assert_eq!(jwks.edition(), first);
    answers(&jwks, &set(&["one", "two"]));
    assert_ne!(jwks.edition(), first);
}

#[test]
fn of_too_many_keys_the_first_are_taken() {
    let jwks = jwks(HOUR);
    answers(&jwks, &set(&["old"]));
    let ids: Vec<String> = (0..=KEYS).map(|n| format!("key-{n}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    assert!(answers(&jwks, &set(&ids)));
    assert_eq!(jwks.inner.known().map(|known| known.keys.len()), Some(KEYS));
    assert!(has(&jwks, "key-99") && !has(&jwks, "key-100") && !has(&jwks, "old"));
}

#[test]
fn keys_are_had_anew_before_they_are_too_old() {
    assert_eq!(jwks(HOUR).inner.pause(REFRESH), REFRESH);
    let short = Duration::from_secs(2);
    for usual in [REFRESH, RETRY, AT_MOST_EVERY] {
        assert!(jwks(short).inner.pause(usual) < short);
    }
    // A withdrawn key: the docs say five minutes.
    assert!(AT_MOST_EVERY + REFRESH + TIME * 2 < Duration::from_secs(300));
}

/// A server that answers every request with this, and how often it was asked.
async fn server(answer: impl Fn(&str) -> String + Send + 'static) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match socket.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => break,
                }
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let path = head.split(' ').nth(1).unwrap_or_default();
            let _ = socket.write_all(answer(path).as_bytes()).await;
            let _ = socket.shutdown().await;
        }
    });
    (address, asked)
}

fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn moved(to: &str) -> String {
    format!(
        "HTTP/1.1 302 Found\r\nconnection: close\r\ncontent-length: 0\r\nlocation: {to}\r\n\r\n"
    )
}

#[tokio::test]
async fn an_issuer_may_redirect_to_itself_and_nowhere_else() {
    let (other, asked) = server(|_| ok(&set(&["theirs"]))).await;
    let to_other = format!("{other}/keys");
    let (own, _) = server(move |path| match path {
        "/near" => moved("/keys"),
        "/away" => moved(&to_other),
        "/round" => moved("/round"),
        _ => ok(&set(&["own"])),
    })
    .await;
    let get = async |path: &str| {
        let jwks = Jwks::new(&format!("{own}{path}"), HOUR).unwrap();
        (jwks.inner.fetch().await, jwks)
    };
    let (near, jwks) = get("/near").await;
    assert!(jwks.inner.take(near, Instant::now()) && has(&jwks, "own"));
    let (away, _) = get("/away").await;
    let error = away.unwrap_err();
    assert!(error.contains("redirects to another server"), "{error}");
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    let (round, _) = get("/round").await;
    let error = round.unwrap_err();
    assert!(error.contains("redirects too often"), "{error}");
}

#[test]
fn keys_are_not_fetched_over_plain_http_from_elsewhere() {
    for url in ["http://id.example/keys", "ftp://localhost/keys", "keys"] {
        assert!(Jwks::new(url, HOUR).is_err(), "{url}");
    }
}

/// A server that also says, as an issuer, where its keys are: `{own}` is its address.
async fn issuer(document: &'static str) -> (String, Arc<AtomicUsize>) {
    let address = Arc::new(std::sync::OnceLock::<String>::new());
    let own = Arc::clone(&address);
    let (url, asked) = server(move |path| match path {
        "/.well-known/openid-configuration" => {
            let own = own.get().cloned().unwrap_or_default();
            ok(&document.replace("{own}", &own))
        }
        "/certs" => ok(&set(&["own"])),
        _ => "HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".to_owned(),
    })
    .await;
    address.set(url.clone()).unwrap();
    (url, asked)
}

#[tokio::test]
async fn an_issuer_says_where_its_keys_are() {
    let (own, asked) = issuer(r#"{"issuer":"{own}","jwks_uri":"{own}/certs","x":[1]}"#).await;
    let jwks = Jwks::discovered(&own, HOUR).unwrap();
    let fetched = jwks.inner.fetch().await;
    assert!(jwks.inner.take(fetched, Instant::now()) && has(&jwks, "own"));
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    // With a slash at its end it is another issuer, with its document at the same place.
    let jwks = Jwks::discovered(&format!("{own}/"), HOUR).unwrap();
    let error = jwks.inner.fetch().await.unwrap_err();
    assert!(error.contains("another issuer's"), "{error}");
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_discovery_document_that_is_not_as_it_should_be_gives_no_keys() {
    for (document, said) in [
        (
            r#"{"issuer":"https://other","jwks_uri":"{own}/certs"}"#,
            "another issuer's: https://other",
        ),
        (
            r#"{"issuer":"{own}","jwks_uri":"http://id.example/certs"}"#,
            "jwks_uri: expected an https URL",
        ),
        (
            r#"{"issuer":"{own}","jwks_uri":"file:///certs"}"#,
            "jwks_uri: expected a URL",
        ),
        (r#"{"issuer":"{own}"}"#, "missing field `jwks_uri`"),
        (r#"{"jwks_uri":"{own}/certs"}"#, "missing field `issuer`"),
        (
            r#"{"issuer":"{own}","issuer":"{own}","jwks_uri":"{own}/certs"}"#,
            "duplicate field",
        ),
        ("nonsense", "not a discovery document"),
        (
            r#"{"issuer":"{own}","jwks_uri":"{own}/elsewhere"}"#,
            "404 Not Found",
        ),
    ] {
        let (own, _) = issuer(document).await;
        let jwks = Jwks::discovered(&own, HOUR).unwrap();
        let error = jwks.inner.fetch().await.unwrap_err();
        assert!(error.contains(said), "{document}: {error}");
        // What was had before goes on, as with any other failure.
        assert!(answers(&jwks, &set(&["one"])));
        assert!(!jwks.inner.take(Err(error), Instant::now()) && has(&jwks, "one"));
    }
}

#[tokio::test]
async fn a_discovery_document_may_not_redirect_elsewhere() {
    let (other, asked) = issuer(r#"{"issuer":"{own}","jwks_uri":"{own}/certs"}"#).await;
    let to = format!("{other}/.well-known/openid-configuration");
    let (own, _) = server(move |_| moved(&to)).await;
    let jwks = Jwks::discovered(&own, HOUR).unwrap();
    let error = jwks.inner.fetch().await.unwrap_err();
    assert!(error.contains("redirects to another server"), "{error}");
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    assert!(Jwks::discovered("http://id.example", HOUR).is_err());
}
