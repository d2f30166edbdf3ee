//! Tokens, good and forged, and an issuer that serves its keys.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// The secret that tests share with their gateways.
pub const SECRET: &str = "a shared secret that is long enough for HS256";

/// A public key of an issuer whose private half nobody has.
pub const RSA_PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAunbDnIr4lLaKJXSCKEr8
yri/ebLAKTLxA3bqQy1YdaUCYNr8GZJ0HFWOdRHKDePwIXPJ9H1lTDp2nfuM+btN
cre6U+BJ9S7DyM2Vnf5u77NFXPcROvRc/SBNTHVYI13TrhL2AwzV2IaXoVTxRa+7
t+vY2REf8QULZfJpDdoOFv0tNDcL4PZQr5kh1uu/eBdBvvljqDCUWMtFyaD80uG/
U7PnuZ+ImmGMWYYWU4Yotl8Bthap4tppaK1tvc2vjhdvVOLmHsIG6yaA+88UTxPF
W/cVdGjDavXm/JXQ1V4/nXkWP/sw6Wikyn8PZSEiv73bnmdIp9/UJ0houIJYKPxs
2wIDAQAB
-----END PUBLIC KEY-----
";

/// The key pair of the issuer in [`Issuer`]: made for these tests, good for nothing else.
const ED25519_PRIVATE_KEY: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIENRbG4+8iBvRuPUFBAPXr8QKJz0pcY1LlBAJJwdrGfy
-----END PRIVATE KEY-----
";
const ED25519_X: &str = "jqEjo4phfb9JnmnOq2qdazglAYQNfWz95RmLfazcV-c";

/// The public half of it, in PEM: the key itself behind what says that it is one (RFC 8410).
pub fn issuer_pem() -> String {
    const ED25519: [u8; 12] = [48, 42, 48, 5, 6, 3, 43, 101, 112, 3, 33, 0];
    let mut key = ED25519.to_vec();
    key.extend(URL_SAFE_NO_PAD.decode(ED25519_X).unwrap());
    let key = STANDARD.encode(key);
    format!("-----BEGIN PUBLIC KEY-----\n{key}\n-----END PUBLIC KEY-----\n")
}

/// Seconds since 1970, shifted.
pub fn seconds_from_now(shift: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap() + shift
}

/// Claims that the tests' gateways accept.
pub fn claims(subject: &str, scope: &str) -> Value {
    json!({
        "iss": "https://issuer.test", "aud": "tidegate", "sub": subject, "scope": scope,
        "exp": seconds_from_now(600),
    })
}

/// A token signed with a secret.
pub fn sign(claims: &Value, secret: &[u8]) -> String {
    encode(
        &Header::new(Algorithm::HS256),
        claims,
        &EncodingKey::from_secret(secret),
    )
    .unwrap()
}

/// Settings in which the role `clerk` has these permissions, with other lines at the top and in `[auth]`.
pub fn settings_of_clerk(top: &str, auth: &str, permissions: &str) -> String {
    format!(
        r#"{top}
[auth]
mode = "jwt"
roles_claim = "roles"
{auth}

[[auth.issuers]]
issuer = "https://issuer.test"
audience = "tidegate"
secret_file = "secret"

[auth.roles]
clerk = [{permissions}]
"#
    )
}

/// A token that has nothing but the role.
pub fn clerk() -> String {
    let mut claims = claims("ann", "");
    claims["roles"] = json!(["clerk"]);
    sign(&claims, SECRET.as_bytes())
}

/// A good token.
pub fn token(subject: &str, scope: &str) -> String {
    sign(&claims(subject, scope), SECRET.as_bytes())
}

/// A token without a signature.
pub fn unsigned(claims: &Value) -> String {
    let good = sign(claims, SECRET.as_bytes());
    let body = good.split('.').nth(1).unwrap();
    // {"alg":"none"}
    format!("eyJhbGciOiJub25lIn0.{body}.")
}

/// A token signed by [`Issuer`]'s key, under a key id.
pub fn signed_by_issuer(claims: &Value, key_id: &str) -> String {
    let header = Header {
        kid: Some(key_id.to_owned()),
        ..Header::new(Algorithm::EdDSA)
    };
    let key = EncodingKey::from_ed_pem(ED25519_PRIVATE_KEY.as_bytes()).unwrap();
    encode(&header, claims, &key).unwrap()
}

/// An issuer that serves a JWK set over HTTP: what it serves can be changed.
pub struct Issuer {
    address: SocketAddr,
    body: Arc<Mutex<String>>,
    document: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
}

impl Issuer {
    /// Serves its key under these ids, beside broken ones.
    pub async fn start(key_ids: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let issuer = Self {
            address,
            body: Arc::new(Mutex::new(set(key_ids))),
            document: Arc::default(),
            asked: Arc::default(),
        };
        issuer.discover(&issuer.name(), &issuer.url());
        let (body, asked) = (Arc::clone(&issuer.body), Arc::clone(&issuer.asked));
        let document = Arc::clone(&issuer.document);
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                asked.fetch_add(1, Ordering::SeqCst);
                let (body, document) = (body.lock().clone(), document.lock().clone());
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    let read = socket.read(&mut request).await.unwrap_or_default();
                    let discovers = request[..read].starts_with(b"GET /.well-known/");
                    let body = if discovers { document } else { body };
                    let head = format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
                         content-length: {}\r\nconnection: close\r\n\r\n",
                        body.len()
                    );
                    let _ = socket.write_all(head.as_bytes()).await;
                    let _ = socket.write_all(body.as_bytes()).await;
                });
            }
        });
        issuer
    }

    /// Where the keys are.
    pub fn url(&self) -> String {
        format!("http://{}/jwks.json", self.address)
    }

    /// Its name, below which it says where the keys are.
    pub fn name(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Says from now on that it is called `name` and that the keys are at `url`.
    pub fn discover(&self, name: &str, url: &str) {
        *self.document.lock() = json!({"issuer": name, "jwks_uri": url}).to_string();
    }

    /// Serves something else from now on.
    pub fn serve(&self, body: String) {
        *self.body.lock() = body;
    }

    /// Serves its key under other ids.
    pub fn rotate(&self, key_ids: &[&str]) {
        self.serve(set(key_ids));
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// The issuer's key under these ids, for whoever reads a file.
pub fn issuer_keys(key_ids: &[&str]) -> String {
    json!({ "keys": keys(key_ids) }).to_string()
}

fn keys(key_ids: &[&str]) -> Vec<Value> {
    let key = |id: &&str| json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": id, "x": ED25519_X});
    key_ids.iter().map(key).collect()
}

fn set(key_ids: &[&str]) -> String {
    let mut all = vec![
        json!({"kty": "RSA", "kid": "broken", "n": "!", "e": "AQAB"}),
        json!({"kty": "unheard of"}),
        json!(7),
    ];
    all.extend(keys(key_ids));
    json!({ "keys": all }).to_string()
}
