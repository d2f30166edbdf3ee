//! Tokens for SASL OAUTHBEARER: fetched here, handed to both client libraries.
//!
//! ```text
//! file, or token endpoint --> keep() --watch--> krafka, which asks when it logs in
//!                                          '--> the producer, to which each new one is pushed
//! ```
//!
//! One task for each set of properties keeps the newest token at hand, so that no login waits for
//! the endpoint and the endpoint sees one client and not one for each connection. While it cannot
//! be reached the last token serves until it runs out.
//!
//! Where Kafka is to see who asks (`kafka.identity`), a principal brings its tokens itself: a [`TokenFeed`]
//! hands them to the clients that are its own.

mod fetch;
#[cfg(test)]
mod tests;
mod token;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use krafka::auth::OAuthBearerToken;
use krafka::error::KrafkaError;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::watch;
use tokio::time::timeout;

use super::connection::Reader;
pub use token::Token;

/// How often a token file is read again. A token is replaced long before it runs out.
const FILE_PAUSE: Duration = Duration::from_secs(5);

/// Pause before a failed fetch is tried again; doubled each time up to the second.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// A token that has no more than this left is not used: the broker's clock may be ahead. It is
/// what krafka insists on as well.
const LEAST_LEFT: Duration = Duration::from_secs(30);

/// What a token must have left when it comes, so that there is time to fetch the next one.
const LEAST_LIFE: Duration = Duration::from_secs(35);

/// Longest time that a login waits for the first token.
const FIRST_TOKEN: Duration = Duration::from_secs(3);

const URL: &str = "sasl.oauthbearer.token.endpoint.url";
const METHOD: &str = "sasl.oauthbearer.method";
const CLIENT_ID: &str = "sasl.oauthbearer.client.id";
const CLIENT_SECRET: &str = "sasl.oauthbearer.client.secret";
const SCOPE: &str = "sasl.oauthbearer.scope";
const EXTENSIONS: &str = "sasl.oauthbearer.extensions";
const CA_LOCATION: &str = "https.ca.location";
const CA_PEM: &str = "https.ca.pem";

/// What is only about tokens.
const NAMES: [&str; 8] = [
    URL,
    METHOD,
    CLIENT_ID,
    CLIENT_SECRET,
    SCOPE,
    EXTENSIONS,
    CA_LOCATION,
    CA_PEM,
];

/// Whether a property is honoured here, for both libraries, and not by librdkafka itself.
pub(super) fn is_ours(name: &str) -> bool {
    NAMES.contains(&super::properties::canonical(name))
}

/// Where tokens come from, and what is sent along with them.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Settings {
    source: Source,
    /// SASL extensions, by name.
    extensions: Vec<(String, String)>,
}

#[derive(Clone, PartialEq, Eq)]
enum Source {
    /// A file that something else keeps up to date.
    File(PathBuf),
    /// A token endpoint (OAuth 2, client credentials).
    Endpoint(Endpoint),
}

#[derive(Clone)]
struct Endpoint {
    url: Url,
    client_id: String,
    client_secret: SecretString,
    scope: Option<String>,
    ca: Authority,
}

impl PartialEq for Endpoint {
    fn eq(&self, other: &Self) -> bool {
        self.url == other.url
            && self.client_id == other.client_id
            && self.client_secret.expose_secret() == other.client_secret.expose_secret()
            && self.scope == other.scope
            && self.ca == other.ca
    }
}

impl Eq for Endpoint {}

/// Whom to trust to be the endpoint.
#[derive(Clone, PartialEq, Eq)]
enum Authority {
    /// Whom the system trusts.
    System,
    File(PathBuf),
    Pem(String),
}

impl Settings {
    /// Reads the properties of OAUTHBEARER; problems are left in `reader`.
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        match reader.text(METHOD).map(str::to_ascii_lowercase).as_deref() {
            None | Some("oidc") => {}
            Some("default") => reader.problem(
                METHOD,
                "there is no other way than oidc: leave it out, or set it to oidc",
            ),
            Some(other) => reader.problem(METHOD, format!("must be oidc, not {other:?}")),
        }
        let extensions = extensions(reader);
        let Some(text) = reader.text(URL) else {
            reader.problem(
                URL,
                "is needed for OAUTHBEARER: the token endpoint (https://…), or a file that holds a \
                 token and is kept up to date (file:///…)",
            );
            return None;
        };
        let source = match Url::parse(text) {
            Ok(url) if url.scheme() == "file" => file(reader, &url)?,
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.host().is_some() => {
                endpoint(reader, url)?
            }
            // Not shown: it may hold credentials.
            _ => {
                reader.problem(URL, "must be an https:// (or http://) or a file:/// URL");
                return None;
            }
        };
        Some(Self { source, extensions })
    }

    /// Where tokens come from, for messages: never with credentials.
    fn place(&self) -> String {
        match &self.source {
            Source::File(path) => format!("the token file {}", path.display()),
            Source::Endpoint(endpoint) => {
                let mut url = endpoint.url.clone();
                url.set_query(None);
                url.set_fragment(None);
                format!("the token endpoint {url}")
            }
        }
    }

    /// When to look for the next token after one that has `left` to live.
    fn pause(&self, left: Option<Duration>) -> Duration {
        match (&self.source, left) {
            (Source::File(_), _) => FILE_PAUSE,
            // Early enough for several more tries.
            (Source::Endpoint(_), Some(left)) => (left * 4 / 5)
                .min(left.saturating_sub(LEAST_LIFE))
                .max(Duration::from_secs(1)),
            // The endpoint does not say how long it lives.
            (Source::Endpoint(_), None) => Duration::from_secs(300),
        }
    }
}

/// Those that `reader` has although the mechanism is another one.
pub(super) fn unused(reader: &mut Reader<'_>) {
    for name in NAMES {
        if reader.text(name).is_some() {
            reader.problem(name, "has no effect without sasl.mechanism = OAUTHBEARER");
        }
    }
}

fn file(reader: &mut Reader<'_>, url: &Url) -> Option<Source> {
    for name in [CLIENT_ID, CLIENT_SECRET, SCOPE, CA_LOCATION, CA_PEM] {
        if reader.text(name).is_some() {
            reader.problem(
                name,
                format!("has no effect where {URL} names a file: leave it out"),
            );
        }
    }
    match url.to_file_path() {
        Ok(path) => Some(Source::File(path)),
        Err(()) => {
            reader.problem(
                URL,
                "must name a file of this machine, such as file:///run/token",
            );
            None
        }
    }
}

fn endpoint(reader: &mut Reader<'_>, url: Url) -> Option<Source> {
    if !url.username().is_empty() || url.password().is_some() {
        reader.problem(
            URL,
            format!("must not hold credentials: set {CLIENT_ID} and {CLIENT_SECRET}"),
        );
    }
    let (client_id, client_secret) = (reader.text(CLIENT_ID), reader.text(CLIENT_SECRET));
    for (name, value) in [(CLIENT_ID, client_id), (CLIENT_SECRET, client_secret)] {
        if value.is_none() {
            reader.problem(name, "is needed to ask the token endpoint");
        }
    }
    let ca = match (reader.text(CA_LOCATION), reader.text(CA_PEM)) {
        (Some(_), Some(_)) => {
            reader.problem(
                CA_PEM,
                "set either https.ca.location or https.ca.pem, not both",
            );
            return None;
        }
        (Some("probe"), None) | (None, None) => Authority::System,
        (Some(path), None) => Authority::File(path.into()),
        (None, Some(pem)) => Authority::Pem(pem.to_owned()),
    };
    Some(Source::Endpoint(Endpoint {
        url,
        client_id: client_id?.to_owned(),
        client_secret: client_secret?.into(),
        scope: reader.text(SCOPE).map(str::to_owned),
        ca,
    }))
}

/// `key=value,key=value`, with the limits that both libraries set.
fn extensions(reader: &mut Reader<'_>) -> Vec<(String, String)> {
    let Some(text) = reader.text(EXTENSIONS) else {
        return Vec::new();
    };
    let mut pairs = Vec::new();
    for pair in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let named = !name.is_empty()
            && name != "auth"
            && name.bytes().all(|byte| byte.is_ascii_alphabetic());
        let valued = !value.is_empty() && value.bytes().all(|b| (0x20..=0x7e).contains(&b));
        if !named || !valued {
            reader.problem(
                EXTENSIONS,
                "must be name=value pairs separated by commas; a name has letters only and is not \
                 auth, a value has printable ASCII characters only",
            );
            return Vec::new();
        }
        pairs.push((name.to_owned(), value.to_owned()));
    }
    pairs
}

/// The newest token of one source. Clones share it; the source rests when the last is gone.
#[derive(Debug, Clone)]
pub struct Tokens {
    state: watch::Receiver<State>,
}

#[derive(Debug, Clone, Default)]
struct State {
    token: Option<Arc<Token>>,
    /// Why there is no newer one.
    failure: Option<Arc<str>>,
}

impl State {
    fn usable(&self) -> Option<Arc<Token>> {
        let token = self.token.as_ref()?;
        let lasts = token.left().is_none_or(|left| left > LEAST_LEFT);
        lasts.then(|| Arc::clone(token))
    }
}

impl Tokens {
    /// Starts to fetch, on the current runtime.
    pub(super) fn start(settings: Settings) -> Self {
        let (publish, state) = watch::channel(State::default());
        tokio::spawn(keep(settings, publish));
        Self { state }
    }

    /// The token to log in with now.
    pub(in crate::kafka) fn current(&self) -> Option<Arc<Token>> {
        self.state.borrow().usable()
    }

    /// Why there is none to log in with.
    pub(in crate::kafka) fn failure(&self) -> Option<Arc<str>> {
        let state = self.state.borrow();
        match state.usable() {
            Some(_) => None,
            None => state.failure.clone(),
        }
    }

    /// Waits until there is something new to say, at most `bound`.
    pub(in crate::kafka) async fn news(&mut self, bound: Duration) {
        if let Ok(Err(_)) = timeout(bound, self.state.changed()).await {
            // The source ended with the runtime, so the caller is about to.
            tokio::time::sleep(bound).await;
        }
    }

    /// The token in krafka's terms. Waits a little for the very first one.
    pub(super) async fn for_krafka(&self) -> Result<OAuthBearerToken, KrafkaError> {
        let mut state = self.state.clone();
        let known = state.wait_for(|state| state.token.is_some() || state.failure.is_some());
        let _ = timeout(FIRST_TOKEN, known).await;
        if let Some(token) = self.current() {
            return Ok(token.for_krafka());
        }
        // krafka would ask again at once for a token that is about to run out, and again.
        Err(KrafkaError::auth(match self.failure() {
            Some(failure) => failure.to_string(),
            None => "there is no OAUTHBEARER token yet".to_owned(),
        }))
    }
}

/// The tokens that one principal shows, handed to the clients that log in as this principal.
pub struct TokenFeed {
    publish: watch::Sender<State>,
    extensions: Vec<(String, String)>,
}

impl fmt::Debug for TokenFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenFeed").finish_non_exhaustive()
    }
}

impl TokenFeed {
    /// None yet. `settings` are those of the gateway's own login, whose SASL extensions go along.
    pub(super) fn new(settings: Option<Settings>) -> Self {
        let failure = "the token that the principal showed last has expired, or is about to: \
                       show one that lasts longer";
        Self {
            publish: watch::Sender::new(State {
                token: None,
                failure: Some(failure.into()),
            }),
            extensions: settings.map(|own| own.extensions).unwrap_or_default(),
        }
    }

    /// Takes over a token where it lasts longer than the one before, or in any case where `anyway` says
    /// so; tells whether it was taken over.
    ///
    /// # Errors
    ///
    /// Why no broker would take it.
    pub fn offer(&self, token: &str, anyway: bool) -> Result<bool, String> {
        let token = Token::new(token, None, &self.extensions)?;
        Ok(self.publish.send_if_modified(|state| {
            let known = state.usable();
            let longer = known
                .as_ref()
                .is_none_or(|known| anyway || lasts_until(&token) > lasts_until(known));
            let new = longer && known.as_deref() != Some(&token);
            if new {
                state.token = Some(Arc::new(token));
            }
            new
        }))
    }

    /// What clients log in with.
    pub fn tokens(&self) -> Tokens {
        Tokens {
            state: self.publish.subscribe(),
        }
    }

    /// Whether there is a token that a login can begin with.
    pub fn is_usable(&self) -> bool {
        self.publish.borrow().usable().is_some()
    }
}

/// When it runs out; one of which nobody says so lasts.
fn lasts_until(token: &Token) -> i64 {
    token.expires().unwrap_or(i64::MAX)
}

/// Keeps the newest token in `publish` until nobody is interested any more.
async fn keep(settings: Settings, publish: watch::Sender<State>) {
    let mut again = FIRST_PAUSE;
    loop {
        let fetched = tokio::select! {
            fetched = fetch::fetch(&settings) => fetched,
            () = publish.closed() => return,
        };
        let pause = match fetched {
            Ok(token) => {
                again = FIRST_PAUSE;
                let pause = settings.pause(token.left());
                publish.send_if_modified(|state| {
                    if state.failure.take().is_some() {
                        tracing::info!("{} gives tokens again", settings.place());
                    }
                    let new = state.token.as_deref() != Some(&token);
                    if new {
                        tracing::debug!(
                            seconds = token.left().map(|left| left.as_secs()),
                            "a new OAUTHBEARER token"
                        );
                        state.token = Some(Arc::new(token));
                    }
                    new
                });
                pause
            }
            Err(why) => {
                let failure = format!("no OAUTHBEARER token from {}: {why}", settings.place());
                publish.send_if_modified(|state| {
                    let new = state.failure.as_deref() != Some(failure.as_str());
                    if new {
                        tracing::warn!("{failure}");
                        state.failure = Some(failure.into());
                    }
                    new
                });
                let pause = again;
                again = (again * 2).min(LAST_PAUSE);
                pause
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = publish.closed() => return,
        }
    }
}
