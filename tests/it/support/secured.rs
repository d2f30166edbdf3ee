//! What a broker needs to let in only whom it knows: certificates, users, and ACLs for them.
//!
//! The user `gateway` has the same password by every mechanism that has passwords, and a token that
//! says `"sub": "gateway"` is his as well. The user `reader` logs in by PLAIN. Beside them the plain
//! listener's `ANONYMOUS` may do everything, so that a test arranges and looks with `plain()` as
//! always.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD};
use krafka::Kafka;
use krafka::admin::{
    AclBinding, AclFilter, AclOperation, AclPatternType, AclPermissionType, AclResourceType,
    CreateAclsOptions, DescribeAclsOptions,
};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::broker::Broker;
use super::certs::{Authority, Issued};
use super::eventually;
use super::tokens::issuer_keys;

/// The password of every user.
pub const PASSWORD: &str = "gateway-pass-93";

/// Who logs in by SASL as `gateway`.
pub const USER: &str = "User:gateway";

/// Who logs in as `reader`; has the rights that one test gives.
pub const READER: &str = "User:reader";

/// By which id the broker knows the key of the tests' issuer.
pub const KEY_ID: &str = "one";

/// Who shows `Secured::client`.
pub const CERTIFIED: &str = "User:CN=gateway";

/// The certificates of one broker and its clients.
pub struct Secured {
    ca: String,
    broker: Issued,
    client: Issued,
    stranger: Issued,
    other_ca: String,
}

impl Secured {
    pub fn new() -> Self {
        let ours = Authority::named("the brokers' authority");
        let other = Authority::named("somebody else's authority");
        Self {
            ca: ours.pem(),
            broker: ours.server("broker"),
            client: ours.client("gateway"),
            stranger: other.client("gateway"),
            other_ca: other.pem(),
        }
    }

    /// The authority that signed the broker's certificate.
    pub fn ca(&self) -> &str {
        &self.ca
    }

    /// An authority that signed nothing of this broker.
    pub fn other_ca(&self) -> &str {
        &self.other_ca
    }

    /// What a client shows to be `CERTIFIED`.
    pub fn client(&self) -> &Issued {
        &self.client
    }

    /// The same name, vouched for by an authority that the broker does not know.
    pub fn stranger(&self) -> &Issued {
        &self.stranger
    }

    /// Puts what the properties point to into a node's folder.
    pub(super) fn write_keys(&self, folder: &Path) {
        let keys = format!("{}{}", self.broker.key, self.broker.cert);
        std::fs::write(folder.join("keys.pem"), keys).unwrap();
        std::fs::write(folder.join("ca.pem"), &self.ca).unwrap();
        std::fs::write(folder.join("jwks.json"), issuer_keys(&[KEY_ID])).unwrap();
    }

    /// What Kafka's JVM has to be told before it reads keys from there.
    pub(super) fn allowed_urls(folder: &Path) -> String {
        let file = Self::key_set(folder);
        format!("-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={file}")
    }

    fn key_set(folder: &Path) -> String {
        format!("file://{}", folder.join("jwks.json").display())
    }

    /// The storage tool's `--add-scram`, for each mechanism.
    pub(super) fn scram_users(&self) -> [String; 2] {
        ["SCRAM-SHA-256", "SCRAM-SHA-512"]
            .map(|mechanism| format!("{mechanism}=[name=gateway,password={PASSWORD}]"))
    }

    /// The part of `server.properties` about the two guarded listeners and the authorizer.
    pub(super) fn properties(&self, folder: &Path) -> Vec<(String, String)> {
        let file = |name: &str| folder.join(name).display().to_string();
        let security = "org.apache.kafka.common.security";
        let listener = |rest: &str| format!("listener.name.sasl.{rest}");
        let owned = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        vec![
            owned("ssl.keystore.type", "PEM"),
            ("ssl.keystore.location".into(), file("keys.pem")),
            owned("ssl.truststore.type", "PEM"),
            ("ssl.truststore.location".into(), file("ca.pem")),
            owned("listener.name.mutual.ssl.client.auth", "required"),
            (
                listener("sasl.enabled.mechanisms"),
                "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER".into(),
            ),
            (
                listener("plain.sasl.jaas.config"),
                format!(
                    "{security}.plain.PlainLoginModule required \
                     user_gateway=\"{PASSWORD}\" user_reader=\"{PASSWORD}\";"
                ),
            ),
            (
                listener("scram-sha-256.sasl.jaas.config"),
                format!("{security}.scram.ScramLoginModule required;"),
            ),
            (
                listener("scram-sha-512.sasl.jaas.config"),
                format!("{security}.scram.ScramLoginModule required;"),
            ),
            (
                listener("oauthbearer.sasl.jaas.config"),
                format!(
                    "{security}.oauthbearer.OAuthBearerLoginModule required \
                     unsecuredLoginStringClaim_sub=\"broker\";"
                ),
            ),
            // So that a token that runs out is noticed by the test that waits for it.
            (
                listener("oauthbearer.connections.max.reauth.ms"),
                "600000".into(),
            ),
            (
                "listener.name.tokens.sasl.enabled.mechanisms".into(),
                "OAUTHBEARER".into(),
            ),
            (
                "listener.name.tokens.oauthbearer.sasl.jaas.config".into(),
                format!("{security}.oauthbearer.OAuthBearerLoginModule required;"),
            ),
            (
                "listener.name.tokens.oauthbearer.sasl.server.callback.handler.class".into(),
                format!("{security}.oauthbearer.OAuthBearerValidatorCallbackHandler"),
            ),
            (
                "sasl.oauthbearer.jwks.endpoint.url".into(),
                Self::key_set(folder),
            ),
            owned("sasl.oauthbearer.expected.issuer", "https://issuer.test"),
            owned("sasl.oauthbearer.expected.audience", "tidegate"),
            // A connection ends with its token, unless the client shows a newer one before.
            owned(
                "listener.name.tokens.oauthbearer.connections.max.reauth.ms",
                "600000",
            ),
            owned(
                "authorizer.class.name",
                "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            ),
            owned("super.users", "User:ANONYMOUS"),
            owned("allow.everyone.if.no.acl.found", "false"),
        ]
    }
}

impl Broker {
    /// Lets a principal do these things with a topic.
    pub async fn allow(&self, principal: &str, topic: &str, operations: &[AclOperation]) {
        let rule = |operation: &AclOperation| {
            let kind = AclResourceType::Topic;
            let allow = AclPermissionType::Allow;
            AclBinding::new(kind, topic, principal, "*", *operation, allow)
        };
        self.acls(operations.iter().map(rule).collect()).await;
    }

    /// Lets a principal commit for a group.
    pub async fn allow_group(&self, principal: &str, group: &str) {
        let (kind, allow) = (AclResourceType::Group, AclPermissionType::Allow);
        let read = AclBinding::new(kind, group, principal, "*", AclOperation::Read, allow);
        self.acls(vec![read]).await;
    }

    /// Creates ACLs and waits until the broker goes by them.
    pub async fn acls(&self, rules: Vec<AclBinding>) {
        // krafka 0.28 numbers the pattern types one too low: what it calls prefixed goes out as
        // Kafka's literal, and what it calls literal as "match", which no ACL may be.
        let literal = |rule: AclBinding| rule.with_pattern_type(AclPatternType::Prefixed);
        let rules: Vec<AclBinding> = rules.into_iter().map(literal).collect();
        let kafka = Kafka::builder(self.bootstrap()).connect().await.unwrap();
        let admin = kafka.admin();
        let created = admin.create_acls(rules.clone(), CreateAclsOptions::default());
        for (_, result) in created.await.unwrap() {
            result.unwrap();
        }
        eventually(Duration::from_secs(60), || async {
            let known = admin
                .describe_acls(AclFilter::default(), DescribeAclsOptions::default())
                .await
                .unwrap();
            rules.iter().all(|rule| {
                known.iter().any(|found| {
                    found.principal == rule.principal
                        && found.resource_name == rule.resource_name
                        && found.operation == rule.operation
                        && found.permission_type == rule.permission_type
                })
            })
        })
        .await;
    }
}

/// A token that nobody signed, which the broker takes: it is set up for tests.
pub fn token(subject: &str, lifetime: Duration) -> String {
    let now = jiff::Timestamp::now().as_second();
    let part = |json: serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let end = now + i64::try_from(lifetime.as_secs()).unwrap();
    format!(
        "{}.{}.",
        part(json!({ "alg": "none" })),
        part(json!({ "sub": subject, "iat": now, "exp": end }))
    )
}

/// A token endpoint: answers each request with a new token for `gateway`.
pub struct TokenEndpoint {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl TokenEndpoint {
    /// What it wants to be asked with.
    pub const CLIENT: [&str; 2] = ["tidegate-client", "client-pass-71"];

    pub async fn start(lifetime: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let endpoint = Self {
            address,
            asked: Arc::default(),
        };
        let asked = Arc::clone(&endpoint.asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                asked.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(Self::answer(stream, lifetime));
            }
        });
        endpoint
    }

    pub fn url(&self) -> String {
        format!("http://{}/token", self.address)
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    async fn answer(mut stream: TcpStream, lifetime: Duration) {
        let mut request = String::new();
        let mut chunk = [0; 4096];
        while !request.contains("grant_type=client_credentials") {
            match stream.read(&mut chunk).await {
                Ok(n) if n > 0 => request.push_str(&String::from_utf8_lossy(&chunk[..n])),
                _ => return,
            }
        }
        let credentials = BASE64.encode(Self::CLIENT.join(":"));
        let (status, body) = if request.contains(&format!("Basic {credentials}")) {
            let token = token("gateway", lifetime);
            let body = json!({ "access_token": token, "expires_in": lifetime.as_secs() });
            ("200 OK", body)
        } else {
            ("401 Unauthorized", json!({ "error": "invalid_client" }))
        };
        let body = body.to_string();
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        let _ = stream.write_all(answer.as_bytes()).await;
    }
}
