//! `[[auth.issuers]]`: from a list of tables to [`IssuerSettings`] and back.

use std::path::PathBuf;

use jsonwebtoken::Algorithm;

use super::item_types;
use super::jwks_url::{discovery_url, jwks_url};
use super::tables::{self, Read, one_text, unknown_field};
use super::value::{Raw, list_to_toml, name_of, permissions, quote};
use super::{IssuerSettings, KeySource};

/// The fields of one issuer.
const FIELDS: [&str; 11] = [
    "issuer",
    "realm",
    "audience",
    "permissions_allowed",
    "scope",
    "principal_claim",
    "typ",
    "algorithms",
    "secret_file",
    "key_file",
    "jwks_url",
];

/// Every algorithm by its name in tokens (RFC 7518, section 3.1). `none` is no algorithm.
const ALGORITHMS: [(&str, Algorithm); 12] = [
    ("HS256", Algorithm::HS256),
    ("HS384", Algorithm::HS384),
    ("HS512", Algorithm::HS512),
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

/// Reads the list at `path`, which begins at `at`.
pub(super) fn read(path: &str, raw: &Raw, at: usize) -> Read<IssuerSettings> {
    tables::read(path, raw, at, "secret_file = \"secret\"", read_one)
}

fn read_one(read: &mut Read<IssuerSettings>, path: &str, raw: &Raw, at: usize) {
    let Some((entries, at)) = read.entries(path, raw, at) else {
        return;
    };
    let problems_before = read.problems.len();
    let mut issuer = None;
    let mut realm = None;
    let mut audience = Vec::new();
    let mut permissions_allowed = None;
    let mut scope = true;
    let mut principal_claim = IssuerSettings::SUBJECT.to_owned();
    let mut typ = None;
    let mut algorithms = None;
    let mut keys: Vec<(&'static str, KeySource)> = Vec::new();
    for entry in entries {
        let field = format!("{path}.{}", entry.name);
        let value = &entry.value;
        let problem = match entry.name.as_str() {
            "issuer" => one_text(value).map(|text| issuer = Some(text)),
            "realm" => one_text(value).and_then(|text| match text.is_empty() {
                true => Err("expected a name, or no realm".to_owned()),
                false => {
                    realm = Some(text);
                    Ok(())
                }
            }),
            "audience" => several_texts(value).map(|texts| audience = texts),
            "permissions_allowed" => permissions(value).and_then(|list| {
                match list.is_empty() {
                true => Err(
                    "expected at least one permission: leave the field out where its tokens may do \
                     whatever they say"
                        .to_owned(),
                ),
                false => {
                    permissions_allowed = Some(list);
                    Ok(())
                }
            }
            }),
            "scope" => flag(value).map(|read| scope = read),
            "principal_claim" => one_text(value).and_then(|text| match item_types::claim(&text) {
                Some(claim) => {
                    principal_claim = claim;
                    Ok(())
                }
                None => Err(format!(
                    "expected a claim, or a path of them with dots, got {}",
                    value.quoted()
                )),
            }),
            "typ" => one_text(value).map(|text| typ = Some(text.trim().to_owned())),
            "algorithms" => {
                read_algorithms(value).map(|named| algorithms = Some((named, entry.at)))
            }
            "secret_file" => one_text(value).map(|text| {
                keys.push(("secret_file", KeySource::SecretFile(PathBuf::from(text))));
            }),
            "key_file" => one_text(value).map(|text| {
                keys.push(("key_file", KeySource::KeyFile(PathBuf::from(text))));
            }),
            "jwks_url" => one_text(value)
                .and_then(|text| jwks_url(&text).map(|_| text))
                .map(|text| {
                    let url = text.trim().to_owned();
                    keys.push(("jwks_url", KeySource::JwksUrl(url)));
                }),
            unknown => Err(unknown_field(unknown, &FIELDS, "an issuer")),
        };
        match problem {
            Ok(()) => read.places.push((field, entry.at)),
            Err(text) => read.refuse(&field, entry.at, text),
        }
    }
    let (name, source) = match keys.len() {
        1 => keys.remove(0),
        // What was mistyped may have been the one that is missing.
        0 if read.problems.len() > problems_before => return,
        0 => match issuer
            .as_deref()
            .map(|issuer| (issuer, discovery_url(issuer)))
        {
            Some((issuer, Ok(_))) => ("discovered keys", KeySource::Discovered(issuer.to_owned())),
            Some((_, Err(_))) | None => {
                return read.refuse(
                    path,
                    at,
                    "expected one of secret_file, key_file and jwks_url, or an issuer that is an \
                     https URL, where its keys can be found",
                );
            }
        },
        _ => {
            let names: Vec<_> = keys.iter().map(|(name, _)| *name).collect();
            let text = format!("has {}: leave all but one out", names.join(" and "));
            return read.refuse(path, at, text);
        }
    };
    let fitting = fitting(&source);
    let algorithms = match algorithms {
        None => default_algorithms(&source),
        Some((algorithms, at)) => {
            let stray = algorithms.iter().find(|one| !fitting.contains(one));
            if let Some(stray) = stray.and_then(|stray| name_of(*stray, &ALGORITHMS)) {
                let text = format!(
                    "{stray} does not go with {name}: expected some of {}",
                    names_of(&fitting).join(", ")
                );
                return read.refuse(&format!("{path}.algorithms"), at, text);
            }
            algorithms
        }
    };
    read.items.push(IssuerSettings {
        issuer,
        realm,
        audience,
        permissions_allowed,
        scope,
        principal_claim,
        typ,
        algorithms,
        keys: source,
    });
}

/// The algorithms that such keys can be used with. A public key as the secret of an HMAC would let
/// anyone sign.
fn fitting(keys: &KeySource) -> Vec<Algorithm> {
    let of_secret =
        |one: &Algorithm| matches!(one, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512);
    let is_secret = matches!(keys, KeySource::SecretFile(_));
    ALGORITHMS
        .iter()
        .map(|(_, one)| *one)
        .filter(|one| of_secret(one) == is_secret)
        .collect()
}

fn default_algorithms(keys: &KeySource) -> Vec<Algorithm> {
    match keys {
        // A secret says nothing of its own about which; this is what everyone signs with.
        KeySource::SecretFile(_) => vec![Algorithm::HS256],
        KeySource::KeyFile(_) | KeySource::JwksUrl(_) | KeySource::Discovered(_) => fitting(keys),
    }
}

fn names_of(algorithms: &[Algorithm]) -> Vec<&'static str> {
    algorithms
        .iter()
        .filter_map(|one| name_of(*one, &ALGORITHMS))
        .collect()
}

fn flag(raw: &Raw) -> Result<bool, String> {
    raw.switch()
        .ok_or_else(|| format!("expected true or false, got {}", raw.kind()))
}

fn several_texts(raw: &Raw) -> Result<Vec<String>, String> {
    match raw {
        Raw::List(list) if list.is_empty() => {
            Err("expected at least one: leave the field out where any will do".into())
        }
        Raw::List(list) => list.iter().map(one_text).collect(),
        Raw::Text(_) | Raw::Word(_) => Ok(vec![one_text(raw)?]),
        _ => Err(format!(
            "expected a string or a list of them, got {}",
            raw.kind()
        )),
    }
}

fn read_algorithms(raw: &Raw) -> Result<Vec<Algorithm>, String> {
    let mut algorithms = Vec::new();
    for name in several_texts(raw)? {
        if name.eq_ignore_ascii_case("none") {
            return Err("none is no signature: tokens without one are never accepted".into());
        }
        let Some((_, algorithm)) = ALGORITHMS.iter().find(|(known, _)| *known == name) else {
            let known: Vec<_> = ALGORITHMS.iter().map(|(name, _)| *name).collect();
            return Err(format!(
                "expected some of {}, got {}",
                known.join(", "),
                Raw::Text(name).quoted()
            ));
        };
        if !algorithms.contains(algorithm) {
            algorithms.push(*algorithm);
        }
    }
    Ok(algorithms)
}

/// The list as TOML has it on one line.
pub(super) fn to_toml(issuers: &[IssuerSettings]) -> String {
    let one = |settings: &IssuerSettings| {
        let mut fields = Vec::new();
        if let Some(issuer) = &settings.issuer {
            fields.push(format!("issuer = {}", quote(issuer)));
        }
        if let Some(realm) = &settings.realm {
            fields.push(format!("realm = {}", quote(realm)));
        }
        if !settings.audience.is_empty() {
            fields.push(format!("audience = {}", list_to_toml(&settings.audience)));
        }
        if let Some(list) = &settings.permissions_allowed {
            fields.push(format!("permissions_allowed = {}", list_to_toml(list)));
        }
        if !settings.scope {
            fields.push("scope = false".to_owned());
        }
        if settings.principal_claim != IssuerSettings::SUBJECT {
            let claim = quote(&settings.principal_claim);
            fields.push(format!("principal_claim = {claim}"));
        }
        if let Some(typ) = &settings.typ {
            fields.push(format!("typ = {}", quote(typ)));
        }
        let algorithms = names_of(&settings.algorithms);
        fields.push(format!("algorithms = {}", list_to_toml(&algorithms)));
        fields.extend(
            match &settings.keys {
                KeySource::SecretFile(path) => Some(("secret_file", path.to_string_lossy())),
                KeySource::KeyFile(path) => Some(("key_file", path.to_string_lossy())),
                KeySource::JwksUrl(url) => Some(("jwks_url", url.into())),
                KeySource::Discovered(_) => None,
            }
            .map(|(name, value)| format!("{name} = {}", quote(&value))),
        );
        format!("{{ {} }}", fields.join(", "))
    };
    let all: Vec<_> = issuers.iter().map(one).collect();
    format!("[{}]", all.join(", "))
}
