//! JSON Web Tokens (RFC 7519, 8725): which issuer's, with which key, and whose permissions.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use moka::sync::Cache;
use secrecy::ExposeSecret;
use serde_json::{Map, Value};
use xxhash_rust::xxh3::Xxh3Builder;

use super::failure_limiter::TooMany;
use super::identity::Identity;
use super::jwks::{Fitting, Jwks, NoKeys};
use super::keys::Key;
use super::permission::{Denied, Permission};
use super::roles::{Book, MAX_PERMISSIONS, Of, Roles};
use super::standing::{By, Fingerprint, IssuerNow, Standing, ceiling};
use super::{Grants, Inner, Principal, ShownBy};
use crate::config::{AuthSettings, IssuerSettings, KeySource, read_file, read_secret};

/// Largest token that is looked at. A request's head has a limit too, a frame's may be higher.
const MAX_TOKEN: usize = 16 << 10;
/// Far above any real key: a larger file was named by mistake.
const MOST_KEY_BYTES: u64 = 1 << 20;
/// Most bytes of verified tokens that are remembered.
const CACHE_BYTES: u64 = 32 << 20;
/// How long a token is taken as verified, if its issuer's keys stay the same.
const CACHE_TIME: Duration = Duration::from_secs(300);

/// Why a token was not accepted. The text goes to the client, and never holds the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The request carries none.
    #[error("this needs {}", .0.text)]
    Missing(Offered),
    /// What it carries is of no kind that is offered.
    #[error("what Authorization has is of no kind that is taken here; this needs {}", .0.text)]
    Other(Offered),
    /// A name and a password that do not belong together, whichever of them is wrong.
    #[error("the name or the password is wrong")]
    Password,
    /// It was not looked at: too many passwords are being checked.
    #[error("too many passwords are being checked now; try again")]
    Busy,
    /// It is not valid.
    #[error("{0}")]
    Invalid(String),
    /// It cannot be checked now: the issuer's keys have never been had, or not for too long.
    #[error("the issuer's keys cannot be had now; try again")]
    KeysUnavailable,
    /// It was not looked at: the audit log has to tell of whatever comes of it, and cannot.
    #[error(transparent)]
    Untold(#[from] Denied),
    /// It was not looked at: too many were refused before.
    #[error("more than {} requests refused in a second (limits.refused_per_second)", .0.limit)]
    TooMany(TooMany),
}

/// What may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// In words, for messages.
    pub text: Arc<str>,
    /// Whether a name and a password are among it (RFC 7617).
    pub passwords: bool,
}

impl From<TooMany> for Refused {
    fn from(too_many: TooMany) -> Self {
        Self::TooMany(too_many)
    }
}

fn invalid(text: impl Into<String>) -> Refused {
    Refused::Invalid(text.into())
}

/// Checks tokens.
#[derive(Debug)]
pub struct Verifier {
    issuers: Vec<Issuer>,
    rules: Arc<Rules>,
    leeway: u64,
    /// Another one after each time that the settings were read again.
    generation: u64,
    /// Hashed fast, as a token is a kilobyte and comes with each request; by a seed, so that nobody can
    /// aim at a place of it.
    verified: Cache<String, Verified, Xxh3Builder>,
}

/// What was found out about a token.
#[derive(Debug, Clone)]
struct Verified {
    principal: Principal,
    /// Whose it is, by the place in the settings.
    issuer: usize,
    /// Of which edition of the issuer's keys; those from a file stay as they are in one generation.
    edition: Option<u64>,
    /// Of which [`Verifier`].
    generation: u64,
}

#[derive(Debug)]
struct Issuer {
    name: Option<String>,
    /// The issuer of its principals: its name, or else its place in the settings, so that nobody can say
    /// in a token that it is another's.
    identity: String,
    realm: Option<String>,
    /// `None`: its tokens may do whatever they say.
    permissions_allowed: Option<Vec<String>>,
    /// Whether the words of their `scope` count as permissions.
    scope: bool,
    /// What names the principal.
    principal_claim: Vec<String>,
    /// The `typ` that its tokens must have, as [`media_type`] makes it; `None`: any will do, and none.
    typ: Option<String>,
    algorithms: Vec<Algorithm>,
    validation: Validation,
    keys: Keys,
}

#[derive(Debug)]
enum Keys {
    Fixed(Key, Fingerprint),
    Jwks(Jwks),
}

/// How far an issuer got with a token that it does not take. Of several issuers the one that got further
/// knows more about what is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Its algorithm is none of the issuer's.
    Algorithm,
    /// Its `typ` is not the issuer's.
    Type,
    /// The issuer has no key for it.
    Key,
    /// It is not signed with the issuer's key.
    Signature,
    /// The issuer's keys cannot be had, so that it may be a good one.
    Unjudged,
    /// It is signed with the issuer's key, and so is this issuer's and no other's.
    Claims,
}

/// The refusal of the issuer that knows most about a token.
struct Refusal {
    refused: Refused,
    /// The stage where it alone decides, then whether the token names the issuer, then the stage.
    weight: Option<(Stage, bool, Stage)>,
}

impl Refusal {
    fn of_nobody() -> Self {
        Self {
            refused: invalid("the token is of no issuer that is accepted here"),
            weight: None,
        }
    }

    /// Takes the place of the one before if it tells more.
    fn or(&mut self, is_named: bool, stage: Stage, refused: Refused) {
        let weight = Some((stage.max(Stage::Signature), is_named, stage));
        if weight > self.weight {
            *self = Self { refused, weight };
        }
    }
}

/// How claims become permissions.
#[derive(Debug)]
struct Rules {
    permissions_claim: Option<Vec<String>>,
    roles_claim: Option<Vec<String>>,
    roles: Arc<Book>,
    /// Claims that are kept, by name or path.
    kept: Vec<String>,
}

impl Verifier {
    /// A verifier for the issuers of `settings`; reads their key files, and starts to ask for the
    /// keys of those that have a URL. Principals keep the claims that `kept` names, and have what `roles`
    /// says of theirs. Call it on the runtime.
    ///
    /// # Errors
    ///
    /// A line for each issuer whose keys cannot be read.
    pub(super) fn new(
        settings: &AuthSettings,
        kept: Vec<String>,
        roles: Arc<Book>,
    ) -> Result<Self, Vec<String>> {
        let issuers = read_issuers(settings, &[])?;
        roles.knows_issuers(issuers.iter().map(Issuer::now).collect());
        for issuer in &issuers {
            if let Keys::Jwks(jwks) = &issuer.keys {
                jwks.keep_fresh();
            }
        }
        Ok(Self {
            issuers,
            rules: Arc::new(Rules {
                permissions_claim: settings.permissions_claim.as_deref().map(path),
                roles_claim: settings.roles_claim.as_deref().map(path),
                roles,
                kept,
            }),
            leeway: settings.leeway.as_secs(),
            generation: 0,
            verified: Cache::builder()
                .time_to_live(CACHE_TIME)
                .max_capacity(CACHE_BYTES)
                .weigher(|token: &String, _| u32::try_from(token.len() + 512).unwrap_or(u32::MAX))
                .build_with_hasher(Xxh3Builder::new().with_seed(fastrand::u64(..))),
        })
    }

    /// The same with keys from files, and ceilings, as they are now. Keys that have a URL, and what is
    /// known of tokens, are shared; each token is verified again when it comes.
    ///
    /// # Errors
    ///
    /// A line for each issuer whose keys cannot be read.
    pub(super) fn reloaded(&self, settings: &AuthSettings) -> Result<Self, Vec<String>> {
        Ok(Self {
            issuers: read_issuers(settings, &self.issuers)?,
            rules: Arc::clone(&self.rules),
            leeway: self.leeway,
            generation: self.generation.wrapping_add(1),
            verified: self.verified.clone(),
        })
    }

    /// What holds for the tokens of each issuer.
    pub(super) fn issuers_now(&self) -> Vec<IssuerNow> {
        self.issuers.iter().map(Issuer::now).collect()
    }

    /// Whose token this is.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub async fn verify(&self, token: &str) -> Result<Principal, Refused> {
        let before = self.verified.get(token);
        if let Some(verified) = &before
            && self.still_holds(verified)
        {
            let expires = verified.principal.expires().unwrap_or(0);
            return if now() < expires.saturating_add(self.leeway) {
                Ok(verified.principal.clone())
            } else {
                Err(invalid("the token has expired"))
            };
        }
        match self.check(token).await {
            Ok(verified) => {
                let principal = verified.principal.clone();
                self.verified.insert(token.to_owned(), verified);
                Ok(principal)
            }
            Err(refused) => {
                // Where it could not be judged, it is still one that was good.
                if before.is_some() && refused != Refused::KeysUnavailable {
                    self.verified.invalidate(token);
                }
                Err(refused)
            }
        }
    }

    /// Whether the keys of its issuer are those that the token was verified with.
    fn still_holds(&self, verified: &Verified) -> bool {
        if verified.generation != self.generation {
            return false;
        }
        match self.issuers.get(verified.issuer).map(|issuer| &issuer.keys) {
            Some(Keys::Fixed(..)) => true,
            Some(Keys::Jwks(jwks)) => {
                verified.edition.is_some() && jwks.edition() == verified.edition
            }
            None => false,
        }
    }

    /// Whether the token was found good not long ago, be it with keys that the issuer has replaced since.
    pub fn remembers(&self, token: &str) -> bool {
        self.verified.contains_key(token)
    }

    async fn check(&self, token: &str) -> Result<Verified, Refused> {
        if token.len() > MAX_TOKEN {
            return Err(invalid(format!(
                "the token is larger than {MAX_TOKEN} bytes"
            )));
        }
        let header = decode_header(token).map_err(|error| told(error.kind()))?;
        if header.crit.is_some() {
            return Err(invalid("the token's header has critical extensions (crit)"));
        }
        let claimed = Claimed::of(token)?;
        // Clients ask on and on with a token that has expired: none of them is worth a look at its
        // signature, whoever has signed it.
        if claimed
            .expires
            .is_some_and(|at| at.saturating_add(self.leeway) < now())
        {
            return Err(told(&ErrorKind::ExpiredSignature));
        }
        let claimed = claimed.issuer;
        let mut refusal = Refusal::of_nobody();
        for (index, issuer) in self.issuers.iter().enumerate() {
            if issuer.name.is_some() && issuer.name != claimed {
                continue;
            }
            let is_named = issuer.name.is_some();
            if !issuer.algorithms.contains(&header.alg) {
                let refused = invalid("the token's algorithm is not accepted");
                refusal.or(is_named, Stage::Algorithm, refused);
                continue;
            }
            if let Some(typ) = &issuer.typ
                && header.typ.as_deref().map(media_type).as_ref() != Some(typ)
            {
                let refused = invalid(format!("the token's header does not have the typ {typ}"));
                refusal.or(is_named, Stage::Type, refused);
                continue;
            }
            match issuer.check(token, header.kid.as_deref(), header.alg).await {
                Ok((claims, edition)) => {
                    return Ok(Verified {
                        principal: self.principal(index, issuer, &claims)?,
                        issuer: index,
                        edition,
                        generation: self.generation,
                    });
                }
                Err((stage, refused)) => refusal.or(is_named, stage, refused),
            }
        }
        Err(refusal.refused)
    }

    fn principal(
        &self,
        index: usize,
        issuer: &Issuer,
        claims: &Map<String, Value>,
    ) -> Result<Principal, Refused> {
        let named = || issuer.principal_claim.join(".");
        let subject = match at_path(claims, &issuer.principal_claim) {
            Some(Value::String(subject)) if !subject.is_empty() => subject.clone(),
            Some(Value::String(_)) => {
                return Err(invalid(format!("the token's {} is empty", named())));
            }
            Some(_) => return Err(invalid(format!("the token's {} is not a text", named()))),
            None => return Err(invalid(format!("the token has no {}", named()))),
        };
        let identity =
            Identity::of_token(&issuer.identity, subject).in_realm(issuer.realm.as_deref());
        let mut texts: Vec<&str> = Vec::new();
        match claims.get("scope").filter(|_| issuer.scope) {
            None => {}
            Some(Value::String(scope)) => texts.extend(scope.split_ascii_whitespace()),
            Some(_) => return Err(invalid("the token's scope is not a text")),
        }
        if let Some(path) = &self.rules.permissions_claim {
            texts.extend(strings(claims, path)?);
        }
        let identity = Arc::new(identity);
        let roles = match &self.rules.roles_claim {
            Some(path) => strings(claims, path)?,
            None => Vec::new(),
        };
        let roles = (!roles.is_empty()).then(|| {
            let names = roles.into_iter().map(str::to_owned).collect();
            Roles::new(&self.rules.roles, Of::Roles(names), &identity)
        });
        // Scopes that are no permissions are for others who share the token.
        let permissions: Vec<Permission> = texts
            .into_iter()
            .filter_map(|text| Permission::parse(text, &identity).ok())
            .take(MAX_PERMISSIONS + 1)
            .collect();
        let by_roles = roles.as_ref().map_or(0, |roles| roles.permissions().len());
        if permissions.len() + by_roles > MAX_PERMISSIONS {
            return Err(invalid(format!(
                "the token has more than {MAX_PERMISSIONS} permissions"
            )));
        }
        let ceiling = ceiling(issuer.permissions_allowed.as_deref(), &identity);
        let by = By::Token {
            at: index,
            issuer: issuer.identity.clone(),
            key: issuer.keys.fingerprint().cloned(),
        };
        let expires = claims.get("exp").and_then(seconds);
        let kept = self.rules.kept.iter().filter_map(|name| {
            let value = at_path(claims, &path(name))?;
            Some((name.clone(), value.clone()))
        });
        Ok(Principal::from_inner(Inner {
            standing: Some(Standing::new(&self.rules.roles, by, &identity)),
            at_most: None,
            identity,
            grants: match roles {
                Some(roles) => Grants::WithRoles(permissions, roles),
                None => Grants::These(permissions),
            },
            ceiling,
            topics: None,
            expires,
            shown_by: ShownBy::Itself,
            ticket_expires: None,
            claims: kept.collect(),
        }))
    }
}

/// The issuers of `settings`; those of `before` at the same place have the same URL for keys.
fn read_issuers(settings: &AuthSettings, before: &[Issuer]) -> Result<Vec<Issuer>, Vec<String>> {
    let mut issuers = Vec::new();
    let mut errors = Vec::new();
    for (index, issuer) in settings.issuers.iter().enumerate() {
        let jwks = before.get(index).and_then(|before| match &before.keys {
            Keys::Jwks(jwks) => Some(jwks),
            Keys::Fixed(..) => None,
        });
        match Issuer::new(index, issuer, settings, jwks) {
            Ok(issuer) => issuers.push(issuer),
            Err(error) => errors.push(format!("auth.issuers[{index}]: {error}")),
        }
    }
    match errors.is_empty() {
        true => Ok(issuers),
        false => Err(errors),
    }
}

impl Issuer {
    /// With `jwks`, the keys of its URL that are there already.
    fn new(
        index: usize,
        settings: &IssuerSettings,
        auth: &AuthSettings,
        jwks: Option<&Jwks>,
    ) -> Result<Self, String> {
        let keys = match (&settings.keys, jwks) {
            (KeySource::JwksUrl(_) | KeySource::Discovered(_), Some(jwks)) => {
                Keys::Jwks(jwks.clone())
            }
            (KeySource::SecretFile(path), _) => {
                let secret = read_secret(path).map_err(|error| format!("secret_file: {error}"))?;
                let secret = secret.expose_secret();
                Keys::Fixed(Key::secret(secret), Fingerprint::of(secret))
            }
            (KeySource::KeyFile(path), _) => {
                let pem = read_file(path, MOST_KEY_BYTES);
                let key = pem.and_then(|pem| {
                    let key = Key::pem(&pem);
                    let key = key.map_err(|error| format!("{}: {error}", path.display()))?;
                    Ok((key, Fingerprint::of(&pem)))
                });
                let (key, fingerprint) = key.map_err(|error| format!("key_file: {error}"))?;
                Keys::Fixed(key, fingerprint)
            }
            (KeySource::JwksUrl(url), None) => {
                let jwks = Jwks::new(url, auth.jwks_max_age);
                Keys::Jwks(jwks.map_err(|error| format!("jwks_url: {error}"))?)
            }
            (KeySource::Discovered(issuer), None) => {
                let jwks = Jwks::discovered(issuer, auth.jwks_max_age);
                Keys::Jwks(jwks.map_err(|error| format!("issuer: {error}"))?)
            }
        };
        let mut validation = Validation {
            leeway: auth.leeway.as_secs(),
            validate_nbf: true,
            ..Validation::default()
        };
        let principal_claim = path(&settings.principal_claim);
        let mut required = vec!["exp"];
        if principal_claim == [IssuerSettings::SUBJECT] {
            required.push(IssuerSettings::SUBJECT);
        }
        if let Some(name) = &settings.issuer {
            validation.set_issuer(&[name]);
            required.push("iss");
        }
        if settings.audience.is_empty() {
            validation.validate_aud = false;
        } else {
            validation.set_audience(&settings.audience);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        Ok(Self {
            name: settings.issuer.clone(),
            identity: match &settings.issuer {
                Some(name) => name.clone(),
                None => format!("auth.issuers[{index}]"),
            },
            realm: settings.realm.clone(),
            permissions_allowed: settings.permissions_allowed.clone(),
            scope: settings.scope,
            principal_claim,
            typ: settings.typ.as_deref().map(media_type),
            algorithms: settings.algorithms.clone(),
            validation,
            keys,
        })
    }

    /// What holds for its tokens.
    fn now(&self) -> IssuerNow {
        IssuerNow {
            identity: self.identity.clone(),
            key: self.keys.fingerprint().cloned(),
            permissions_allowed: self.permissions_allowed.clone(),
        }
    }

    /// What the token claims, and of which edition the keys are that it was verified with; or how far it
    /// got, and why no further.
    async fn check(
        &self,
        token: &str,
        key_id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<(Map<String, Value>, Option<u64>), (Stage, Refused)> {
        let (keys, edition) = match &self.keys {
            Keys::Fixed(key, _) if key.fits(None, algorithm) => (vec![key.clone()], None),
            Keys::Fixed(..) => (Vec::new(), None),
            Keys::Jwks(jwks) => match jwks.fitting(key_id, algorithm).await {
                Ok(Fitting { keys, edition }) => (keys, Some(edition)),
                Err(NoKeys) => return Err((Stage::Unjudged, Refused::KeysUnavailable)),
            },
        };
        let mut validation = self.validation.clone();
        validation.algorithms = vec![algorithm];
        let unknown = invalid("the token is signed with a key that is not known here");
        let mut refused = (Stage::Key, unknown);
        for key in keys {
            match decode::<Map<String, Value>>(token, key.key(), &validation) {
                Ok(data) => return Ok((data.claims, edition)),
                // The claims are looked at when the signature has been found right.
                Err(error) if is_of_claims(error.kind()) => {
                    return Err((Stage::Claims, told(error.kind())));
                }
                Err(error) => refused = (Stage::Signature, told(error.kind())),
            }
        }
        Err(refused)
    }
}

impl Keys {
    /// Tells the key of a file from the one before it.
    fn fingerprint(&self) -> Option<&Fingerprint> {
        match self {
            Self::Fixed(_, fingerprint) => Some(fingerprint),
            Self::Jwks(_) => None,
        }
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// What a token says of itself before anyone has looked at its signature. Good for picking which keys
/// to try, and for refusing it.
struct Claimed {
    issuer: Option<String>,
    expires: Option<u64>,
}

impl Claimed {
    /// Refuses what is of the wrong kind: the library takes such claims as not there.
    fn of(token: &str) -> Result<Self, Refused> {
        let claims: Map<String, Value> = jsonwebtoken::dangerous::insecure_decode_claims(token)
            .map_err(|error| told(error.kind()))?;
        let text = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(invalid(format!("the token's {name} is not a text"))),
        };
        let number = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(value) => match seconds(value) {
                Some(seconds) => Ok(Some(seconds)),
                None => Err(invalid(format!("the token's {name} is not a number"))),
            },
        };
        text("sub")?;
        number("nbf")?;
        Ok(Self {
            issuer: text("iss")?,
            expires: number("exp")?,
        })
    }
}

/// A `typ` as it is compared: a media type knows no case, and tokens may leave `application/` out (RFC
/// 7515, section 4.1.9).
fn media_type(typ: &str) -> String {
    let typ = typ.to_ascii_lowercase();
    match typ.strip_prefix("application/") {
        Some(rest) => rest.to_owned(),
        None => typ,
    }
}

fn path(claim: &str) -> Vec<String> {
    claim.split('.').map(str::to_owned).collect()
}

/// What is at a path of claims.
fn at_path<'a>(claims: &'a Map<String, Value>, path: &[String]) -> Option<&'a Value> {
    // A claim whose own name has dots in it (a URL) is found by its whole name.
    claims.get(&path.join(".")).or_else(|| {
        let (first, rest) = path.split_first()?;
        rest.iter()
            .try_fold(claims.get(first)?, |value, name| value.get(name))
    })
}

/// The texts at a path of claims: a list, or one text of words.
fn strings<'a>(claims: &'a Map<String, Value>, path: &[String]) -> Result<Vec<&'a str>, Refused> {
    match at_path(claims, path) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(words)) => Ok(words.split_ascii_whitespace().collect()),
        Some(Value::Array(list)) => list
            .iter()
            .map(|item| item.as_str().ok_or(()))
            .collect::<Result<_, _>>()
            .map_err(|()| wrong_kind(path)),
        Some(_) => Err(wrong_kind(path)),
    }
}

fn wrong_kind(path: &[String]) -> Refused {
    invalid(format!(
        "the token's claim {} is not a list of texts",
        path.join(".")
    ))
}

/// A NumericDate (RFC 7519, section 2), which may have a fraction.
fn seconds(value: &Value) -> Option<u64> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float saturates"
    )]
    value
        .as_u64()
        .or_else(|| value.as_f64().map(|seconds| seconds as u64))
}

/// Whether it is the claims that are wrong with a token.
fn is_of_claims(kind: &ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ExpiredSignature
            | ErrorKind::ImmatureSignature
            | ErrorKind::InvalidIssuer
            | ErrorKind::InvalidAudience
            | ErrorKind::InvalidSubject
            | ErrorKind::MissingRequiredClaim(_)
            | ErrorKind::InvalidClaimFormat(_)
    )
}

/// What a client is told of an error. Texts of the library may quote the token.
fn told(kind: &ErrorKind) -> Refused {
    let text = match kind {
        ErrorKind::ExpiredSignature => "the token has expired",
        ErrorKind::ImmatureSignature => "the token is not valid yet (nbf)",
        ErrorKind::InvalidIssuer => "the token's issuer (iss) is not accepted",
        ErrorKind::InvalidAudience => "the token is for another audience (aud)",
        ErrorKind::InvalidSignature => "the token's signature is wrong",
        ErrorKind::MissingRequiredClaim(claim) => {
            return invalid(format!("the token has no {claim}"));
        }
        ErrorKind::InvalidClaimFormat(claim) => {
            return invalid(format!("the token's {claim} is of the wrong kind"));
        }
        ErrorKind::InvalidAlgorithmName
        | ErrorKind::InvalidAlgorithm
        | ErrorKind::UnsupportedAlgorithm
        | ErrorKind::MissingAlgorithm => "the token's algorithm is not accepted",
        _ => "the token is not a JSON Web Token that can be read",
    };
    invalid(text)
}

#[cfg(test)]
mod tests;
