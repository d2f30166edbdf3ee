//! The recipes of docs/security.md for tokens, as they stand there.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::doc_snippets::{block, put};
use crate::support::gateway::Gateway;
use crate::support::http::{Reply, client, send};
use crate::support::tokens::{Issuer, seconds_from_now, signed_by_issuer};
use crate::support::{blocking, eventually};

/// What Keycloak writes into a token for a person with these roles.
fn keycloak(roles: &[&str]) -> String {
    let claims = json!({
        "exp": seconds_from_now(300), "iat": seconds_from_now(0), "typ": "Bearer", "azp": "web",
        "jti": "onrtac:5c2a", "iss": "https://id.example/realms/shop",
        "aud": ["tidegate", "account"], "sub": "0a5f6b0e-4a39-4e3b-9d0e-2f4a7f5c1a11",
        "realm_access": {"roles": roles}, "scope": "openid email profile",
        "resource_access": {"account": {"roles": ["view-profile"]}},
        "email_verified": true, "preferred_username": "ann", "allowed-origins": ["*"],
    });
    signed_by_issuer(&claims, "one")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_of_a_keycloak_realm_become_permissions() {
    let issuer = Issuer::start(&["one"]).await;
    let toml = block(
        "security.md",
        "### An issuer with a JWKS: Keycloak and its like",
        "toml",
    );
    let url = "https://id.example/realms/shop/protocol/openid-connect/certs";
    let gateway = Gateway::embedded()
        .file("tidegate.toml", &put(&toml, url, &issuer.url()))
        .start()
        .await;
    let records = gateway.url("/topics/orders/records");
    let write = async |token: &str| -> Reply {
        let post = client().post(&records).json(&json!({"value": 1}));
        send(post.header("authorization", format!("Bearer {token}"))).await
    };
    let read = async |token: &str| -> Reply {
        let get = client().get(format!("{records}?from=earliest"));
        send(get.header("authorization", format!("Bearer {token}"))).await
    };
    let shop = keycloak(&["offline_access", "shop"]);
    eventually(Duration::from_secs(60), async || {
        write(&shop).await.status == 200
    })
    .await;
    assert_eq!(read(&shop).await.status, 403);
    let support = keycloak(&["uma_authorization", "support"]);
    let page = read(&support).await;
    assert_eq!(page.status, 200, "{}", page.text());
    assert_eq!(page.json()["records"][0]["value"], 1);
    assert_eq!(write(&support).await.status, 403);
    assert_eq!(read(&keycloak(&["offline_access"])).await.status, 403);
}

async fn sh(script: String) -> String {
    let binary = Path::new(env!("CARGO_BIN_EXE_tidegate"));
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", binary.parent().unwrap().display());
    let run = move || {
        let mut command = Command::new("sh");
        command.args(["-ec", &script]).env("PATH", path);
        let output = command.output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}: {error}");
        String::from_utf8(output.stdout).unwrap()
    };
    blocking(run).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_recipe_for_a_shared_secret_makes_a_token_that_the_gateway_takes() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    let heading = "### A shared secret";
    let here = |text: String| put(&text, "/run/secrets/tidegate", secret.to_str().unwrap());
    let toml = here(block("security.md", heading, "toml"));
    let script = here(block("security.md", heading, "sh"));
    let (make, use_it) = script.split_once('\n').unwrap();
    if Command::new("openssl").arg("version").output().is_ok() {
        sh(make.to_owned()).await;
    } else {
        std::fs::write(&secret, "0123456789abcdef".repeat(4)).unwrap();
    }
    let gateway = Gateway::embedded()
        .file("tidegate.toml", &toml)
        .start()
        .await;
    let said = sh(put(use_it, "http://127.0.0.1:8082", &gateway.url(""))).await;
    let answer: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(answer["offset"], 0, "{said}");
}
