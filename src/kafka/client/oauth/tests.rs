//! Where tokens come from, and what is made of everything else that may come from there.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::fetch::fetch;
use super::token::Token;
use super::{FIRST_TOKEN, Reader, Settings, Source, TokenFeed, Tokens};

const SECOND: Duration = Duration::from_secs(1);
const SECRET: &str = "hidden-word";

fn properties(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| (format!("sasl.oauthbearer.{name}"), (*value).to_owned()))
        .collect()
}

/// The settings, or the properties that are wrong.
fn read(pairs: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
    let properties = properties(pairs);
    let mut reader = Reader::new(&properties);
    let settings = Settings::read(&mut reader);
    match settings {
        Some(settings) if reader.problems.is_empty() => Ok(settings),
        _ => Err(reader.problems.into_iter().map(|p| p.property).collect()),
    }
}

fn endpoint(url: &str) -> Settings {
    read(&[
        ("token.endpoint.url", url),
        ("client.id", "me"),
        ("client.secret", SECRET),
        ("scope", "kafka a&b"),
        ("extensions", "logicalCluster=lkc-1"),
    ])
    .unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn jwt(claims: &serde_json::Value) -> String {
    let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.", part(&json!({"alg": "none"})), part(claims))
}

fn in_seconds(seconds: i64) -> i64 {
    jiff::Timestamp::now().as_second() + seconds
}

#[test]
fn what_is_missing_or_contradicts_is_named() {
    let https = "https://issuer/token";
    let named = |suffixes: &[&str]| -> Vec<String> {
        suffixes
            .iter()
            .map(|suffix| format!("sasl.oauthbearer.{suffix}"))
            .collect()
    };
    for (pairs, wrong) in [
        (&[][..], &["token.endpoint.url"][..]),
        (
            &[("token.endpoint.url", https)],
            &["client.id", "client.secret"],
        ),
        (
            &[("token.endpoint.url", "issuer/token")],
            &["token.endpoint.url"],
        ),
        (
            &[("token.endpoint.url", "file://other/token")],
            &["token.endpoint.url"],
        ),
        (
            &[("token.endpoint.url", "file:///token"), ("scope", "kafka")],
            &["scope"],
        ),
        (
            &[("token.endpoint.url", "file:///token"), ("method", "magic")],
            &["method"],
        ),
        (
            &[
                ("token.endpoint.url", "file:///token"),
                ("extensions", "auth=1"),
            ],
            &["extensions"],
        ),
        (
            &[("token.endpoint.url", "file:///token"), ("extensions", "a")],
            &["extensions"],
        ),
    ] {
        let problems = read(pairs).err().unwrap_or_default();
        assert_eq!(problems, named(wrong), "{pairs:?}");
    }
    let with_password = read(&[
        ("token.endpoint.url", "https://me:pass@issuer/token"),
        ("client.id", "me"),
        ("client.secret", SECRET),
    ]);
    assert_eq!(with_password.err(), Some(named(&["token.endpoint.url"])));
}

#[test]
fn a_file_and_an_endpoint_are_told_apart() {
    let file = read(&[
        ("token.endpoint.url", "file:///run/secrets/token"),
        ("method", "OIDC"),
    ]);
    let Ok(Settings { source, .. }) = file else {
        panic!("refused");
    };
    assert!(matches!(source, Source::File(path) if path.ends_with("secrets/token")));
    let settings = endpoint("https://issuer/token?key=hidden-word");
    assert!(!settings.place().contains(SECRET), "{}", settings.place());
    assert_eq!(settings.extensions.len(), 1);
}

#[test]
fn a_token_says_how_long_it_lives() {
    let left = |claims: serde_json::Value, lives: Option<Duration>| {
        Token::new(&jwt(&claims), lives, &[])
            .expect("a token")
            .left()
    };
    let minute = 60 * SECOND;
    let about = |left: Option<Duration>, expected: Duration| {
        let left = left.expect("a life");
        assert!(left.abs_diff(expected) <= 2 * SECOND, "{left:?}");
    };
    about(left(json!({ "exp": in_seconds(60) }), None), minute);
    about(
        left(json!({ "exp": in_seconds(60) as f64 + 0.5 }), None),
        minute,
    );
    // Relative to our own clock, which may differ from theirs.
    about(
        left(json!({ "exp": in_seconds(9000) }), Some(minute)),
        minute,
    );
    assert_eq!(left(json!({}), None), None);
    assert_eq!(
        left(json!({ "exp": in_seconds(-9000) }), None),
        Some(Duration::ZERO)
    );
    assert_eq!(left(json!({ "exp": -1e300 }), None), Some(Duration::ZERO));
    assert_eq!(Token::new("opaque", None, &[]).expect("taken").left(), None);
    assert_eq!(
        Token::new(&jwt(&json!({ "sub": "me" })), None, &[])
            .expect("taken")
            .principal(),
        "me"
    );
}

#[test]
fn what_is_no_token_is_refused_and_not_shown() {
    for wrong in ["", " \n", "two words", "hidden-word\u{1}", "hidden-wörd"] {
        let error = Token::new(wrong, None, &[]).expect_err("no token");
        assert!(!error.contains("hidden"), "{error}");
    }
    Token::new(&"x".repeat(100_000), None, &[]).expect_err("too long");
    let token = Token::new(SECRET, None, &[]).expect("a token");
    assert!(!format!("{token:?}").contains(SECRET));
    assert_eq!(
        Token::new(" trimmed\n", None, &[])
            .expect("a token")
            .value(),
        "trimmed"
    );
}

/// Answers one request with `answer`, and tells what it was asked.
async fn answering(answer: String) -> (String, oneshot::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/token", listener.local_addr().expect("bound"));
    let (tell, told) = oneshot::channel();
    tokio::spawn(async move {
        let Ok((mut stream, _)) = listener.accept().await else {
            return;
        };
        let mut request = Vec::new();
        let mut chunk = [0; 4096];
        while !String::from_utf8_lossy(&request).contains("grant_type") {
            match stream.read(&mut chunk).await {
                Ok(n) if n > 0 => request.extend_from_slice(&chunk[..n]),
                _ => break,
            }
        }
        let _ = tell.send(String::from_utf8_lossy(&request).into_owned());
        let _ = stream.write_all(answer.as_bytes()).await;
    });
    (url, told)
}

fn http(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn the_endpoint_is_asked_as_the_standard_says() {
    let body = json!({ "access_token": "abc", "token_type": "Bearer", "expires_in": 300 });
    let (url, told) = answering(http("200 OK", &body.to_string())).await;
    let token = fetch(&endpoint(&url)).await.expect("a token");
    assert_eq!(token.value(), "abc");
    assert!(token.left().is_some_and(|left| left > 290 * SECOND));
    assert_eq!(token.extensions()[0].1, "lkc-1");
    let request = told.await.expect("asked");
    assert!(request.starts_with("POST /token HTTP/1.1\r\n"), "{request}");
    // me:hidden-word
    assert!(request.contains("Basic bWU6aGlkZGVuLXdvcmQ="), "{request}");
    assert!(
        request.ends_with("grant_type=client_credentials&scope=kafka%20a%26b"),
        "{request}"
    );
}

#[tokio::test]
async fn every_other_answer_is_a_reason_and_shows_no_secret() {
    let endless = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n{}",
        "x".repeat(600_000)
    );
    let token = |body: serde_json::Value| http("200 OK", &body.to_string());
    for (answer, reason) in [
        (
            http(
                "401 Unauthorized",
                r#"{"error":"invalid_client","error_description":"no\nsuch client"}"#,
            ),
            "401 with invalid_client (no such client)",
        ),
        (http("503 Busy", "<html>"), "answered 503"),
        (
            "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
                .to_owned(),
            "answered 302",
        ),
        (http("200 OK", r#"{"token":"hidden-word"}"#), "access_token"),
        (http("200 OK", r#""hidden-word"#), "access_token"),
        (endless, "longer than"),
        (
            token(json!({ "access_token": "hidden-word", "expires_in": "20" })),
            "too little to log in",
        ),
        (
            token(json!({ "access_token": jwt(&json!({ "exp": in_seconds(-5) })) })),
            "too little to log in",
        ),
        (token(json!({ "access_token": "" })), "empty"),
        ("nonsense\r\n\r\n".to_owned(), "error"),
    ] {
        let (url, _told) = answering(answer).await;
        let error = fetch(&endpoint(&url)).await.expect_err(reason);
        assert!(error.contains(reason), "{error}");
        assert!(!error.contains(SECRET) && !error.contains('\n'), "{error}");
    }
    let error = fetch(&endpoint("http://127.0.0.1:1/token")).await;
    let error = error.expect_err("nobody listens");
    assert!(error.contains("refused"), "{error}");
}

#[tokio::test]
async fn a_changed_file_is_a_new_token() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("token");
    let url = format!("file://{}", path.display());
    let settings = read(&[("token.endpoint.url", &url)]).unwrap_or_else(|p| panic!("{p:?}"));
    let mut tokens = Tokens::start(settings);
    // Not there yet: clients learn why, and do not wait for ever.
    let asked = tokio::time::Instant::now();
    let error = tokens.for_krafka().await.expect_err("no file");
    assert!(asked.elapsed() < FIRST_TOKEN, "{:?}", asked.elapsed());
    assert!(error.to_string().contains("No such file"), "{error}");
    assert!(tokens.current().is_none() && tokens.failure().is_some());

    std::fs::write(&path, "first\n").expect("written");
    while tokens.current().is_none() {
        tokens.news(10 * SECOND).await;
    }
    assert_eq!(tokens.current().expect("a token").value(), "first");
    assert_eq!(tokens.failure(), None);
    tokens.for_krafka().await.expect("a token");

    // Broken for a while: what there was serves on.
    std::fs::write(&path, "two words").expect("written");
    tokens.news(10 * SECOND).await;
    assert_eq!(tokens.current().expect("a token").value(), "first");
    std::fs::write(&path, "second").expect("written");
    while tokens
        .current()
        .is_some_and(|token| token.value() == "first")
    {
        tokens.news(10 * SECOND).await;
    }
    assert_eq!(tokens.current().expect("a token").value(), "second");
}

#[tokio::test]
async fn a_source_that_nobody_listens_to_ends() {
    let settings = endpoint("http://127.0.0.1:1/token");
    let (publish, state) = tokio::sync::watch::channel(super::State::default());
    let source = tokio::spawn(super::keep(settings, publish));
    drop(state);
    tokio::time::timeout(10 * SECOND, source)
        .await
        .expect("it ends")
        .expect("without a panic");
}

#[tokio::test]
async fn of_the_tokens_that_a_principal_shows_the_one_that_lasts_longest_is_used() {
    let feed = TokenFeed::new(Some(endpoint("https://issuer/token")));
    let mut tokens = feed.tokens();
    assert!(!feed.is_usable() && tokens.current().is_none());
    let failure = tokens.failure().expect("why");
    assert!(failure.contains("show one that lasts longer"), "{failure}");
    tokens.for_krafka().await.expect_err("nothing was shown");

    let lasting = |seconds| jwt(&json!({"sub": "ann", "exp": in_seconds(seconds)}));
    let (short, middle, long) = (lasting(20), lasting(120), lasting(3600));
    let used = |feed: &TokenFeed| {
        let token = feed.tokens().current();
        token.map(|token| token.value().to_owned())
    };
    assert_eq!(feed.offer(&short, false), Ok(true));
    assert!(!feed.is_usable(), "a login needs more than 30 s");
    assert_eq!(feed.offer(&middle, false), Ok(true));
    tokens.news(10 * SECOND).await;
    let current = tokens.current().expect("a token");
    assert_eq!(current.principal(), "ann");
    assert_eq!(current.extensions().len(), 1, "the gateway's own go along");
    assert_eq!(feed.offer(&long, false), Ok(true));
    for again in [&long, &middle, &short] {
        assert_eq!(feed.offer(again, false), Ok(false));
    }
    assert_eq!(used(&feed).as_deref(), Some(&*long));
    // Kafka did not take it: then any other is worth a try.
    assert_eq!(feed.offer(&middle, true), Ok(true));
    assert_eq!(used(&feed).as_deref(), Some(&*middle));
    for nonsense in ["", "two words", &"x".repeat(65 << 10)] {
        feed.offer(nonsense, false).expect_err("no token");
    }
    assert!(!format!("{feed:?}").contains(&*middle));
}
