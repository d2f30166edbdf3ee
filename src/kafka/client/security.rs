//! TLS and SASL in krafka's terms, from librdkafka's names.
//!
//! What krafka cannot do as librdkafka would is a problem here, never silently less: the two
//! clients of one gateway must not differ in whom they trust.

use std::path::Path;

use krafka::auth::{AuthConfig, TlsConfig};
use krafka::error::KrafkaError;

use super::connection::Reader;
use super::oauth::{self, Tokens};

/// What the user chose.
struct Protocol {
    tls: bool,
    sasl: bool,
}

const MECHANISM: &str = "sasl.mechanisms";
const NO_SUCH_MECHANISM: &str = "set it to PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER; librdkafka's default, GSSAPI, is not supported";

/// krafka's security settings; `None` is plaintext. Problems are left in `reader`. `tokens` is what
/// OAUTHBEARER logs in with; without it the settings are only good to be checked.
pub(super) fn read(reader: &mut Reader<'_>, tokens: Option<&Tokens>) -> Option<AuthConfig> {
    let protocol = protocol(reader)?;
    unused(reader, &protocol);
    let tls = if protocol.tls {
        Some(tls(reader))
    } else {
        None
    };
    let auth = if protocol.sasl {
        sasl(reader, tokens)?
    } else if protocol.tls {
        // `with_tls` below makes this SSL.
        AuthConfig::plaintext()
    } else {
        return None;
    };
    Some(match tls {
        Some(tls) => auth.with_tls(tls),
        None => auth,
    })
}

/// The checks that librdkafka's clients need too, because its own messages come only when it
/// connects, or name neither the property nor the way out.
pub(super) fn check_librdkafka(reader: &mut Reader<'_>) {
    if let Some(protocol) = protocol(reader) {
        unused(reader, &protocol);
        if protocol.sasl {
            let _ = sasl(reader, None);
        }
    }
}

fn protocol(reader: &mut Reader<'_>) -> Option<Protocol> {
    let (tls, sasl) = match reader
        .text("security.protocol")
        .map(str::to_ascii_lowercase)
        .as_deref()
    {
        None | Some("plaintext") => (false, false),
        Some("ssl") => (true, false),
        Some("sasl_plaintext") => (false, true),
        Some("sasl_ssl") => (true, true),
        Some(other) => {
            reader.problem(
                "security.protocol",
                format!("must be plaintext, ssl, sasl_plaintext or sasl_ssl, not {other:?}"),
            );
            return None;
        }
    };
    Some(Protocol { tls, sasl })
}

/// Credentials and certificates that nothing would use are more likely a forgotten
/// `security.protocol` than meant.
fn unused(reader: &mut Reader<'_>, protocol: &Protocol) {
    const SASL: [&str; 3] = ["sasl.mechanisms", "sasl.username", "sasl.password"];
    const TLS: [&str; 6] = [
        "ssl.ca.location",
        "ssl.ca.pem",
        "ssl.certificate.location",
        "ssl.certificate.pem",
        "ssl.key.location",
        "ssl.key.pem",
    ];
    for (used, names, with) in [
        (protocol.sasl, SASL.as_slice(), "sasl_ssl or sasl_plaintext"),
        (protocol.tls, TLS.as_slice(), "ssl or sasl_ssl"),
    ] {
        for name in names {
            if !used && reader.text(name).is_some() {
                reader.problem(
                    name,
                    format!("has no effect without security.protocol = {with}"),
                );
            }
        }
    }
}

/// Where tokens come from, if `reader` says that the login is by OAUTHBEARER. Problems are left in
/// `reader`.
pub(super) fn token_source(reader: &mut Reader<'_>) -> Option<oauth::Settings> {
    let by_token = reader
        .text(MECHANISM)
        .is_some_and(|mechanism| mechanism.eq_ignore_ascii_case("OAUTHBEARER"));
    if protocol(reader)?.sasl && by_token {
        oauth::Settings::read(reader)
    } else {
        None
    }
}

fn sasl(reader: &mut Reader<'_>, tokens: Option<&Tokens>) -> Option<AuthConfig> {
    let Some(mechanism) = reader.text(MECHANISM).map(str::to_ascii_uppercase) else {
        reader.problem(MECHANISM, NO_SUCH_MECHANISM);
        return None;
    };
    let make = match mechanism.as_str() {
        "PLAIN" => AuthConfig::sasl_plain,
        "SCRAM-SHA-256" => AuthConfig::sasl_scram_sha256,
        "SCRAM-SHA-512" => AuthConfig::sasl_scram_sha512,
        "OAUTHBEARER" => return by_token(reader, tokens),
        "GSSAPI" => {
            reader.problem(
                MECHANISM,
                "GSSAPI (Kerberos) is not supported: krafka does not speak it; use PLAIN, \
                 SCRAM or OAUTHBEARER, or TLS client certificates",
            );
            return None;
        }
        other => {
            reader.problem(
                MECHANISM,
                format!("{other} is not known; {NO_SUCH_MECHANISM}"),
            );
            return None;
        }
    };
    oauth::unused(reader);
    let username = reader.text("sasl.username");
    let password = reader.text("sasl.password");
    for (name, value) in [("sasl.username", username), ("sasl.password", password)] {
        if value.is_none() {
            reader.problem(name, format!("is needed for {mechanism}"));
        }
    }
    Some(make(username?.to_owned(), password?.to_owned()))
}

fn by_token(reader: &mut Reader<'_>, tokens: Option<&Tokens>) -> Option<AuthConfig> {
    for name in ["sasl.username", "sasl.password"] {
        if reader.text(name).is_some() {
            reader.problem(
                name,
                "has no effect with OAUTHBEARER, which logs in by token",
            );
        }
    }
    oauth::Settings::read(reader)?;
    let tokens = tokens.cloned();
    Some(AuthConfig::sasl_oauthbearer_provider(move || {
        let tokens = tokens.clone();
        async move {
            match tokens {
                Some(tokens) => tokens.for_krafka().await,
                None => Err(KrafkaError::auth(
                    "this client was given no source of tokens",
                )),
            }
        }
    }))
}

fn tls(reader: &mut Reader<'_>) -> TlsConfig {
    let verify = reader
        .flag("enable.ssl.certificate.verification")
        .unwrap_or(true);
    let mut tls = if verify {
        TlsConfig::new()
    } else {
        TlsConfig::insecure()
    };
    host_names(reader, verify);
    tls = authorities(reader, tls);
    tls = identity(reader, tls);
    match reader.text("ssl.key.password") {
        Some(password) => tls.with_client_key_password(password.to_owned()),
        None => tls,
    }
}

fn host_names(reader: &mut Reader<'_>, verify: bool) {
    const NAME: &str = "ssl.endpoint.identification.algorithm";
    match reader.text(NAME).map(str::to_ascii_lowercase).as_deref() {
        None | Some("https") => {}
        // Nothing is verified at all, host names included.
        Some("none") if !verify => {}
        Some("none") => reader.problem(
            NAME,
            "krafka cannot check a certificate but not its host name. Give the brokers \
             certificates with their names, or switch all checks off with \
             enable.ssl.certificate.verification = false",
        ),
        Some(other) => reader.problem(NAME, format!("must be https or none, not {other:?}")),
    }
}

/// Whom to trust: what the user names, else the system's root certificates, as librdkafka does.
fn authorities(reader: &mut Reader<'_>, tls: TlsConfig) -> TlsConfig {
    let location = reader.text("ssl.ca.location");
    match (location, reader.text("ssl.ca.pem")) {
        (Some(_), Some(_)) => {
            reader.problem(
                "ssl.ca.pem",
                "set either ssl.ca.location or ssl.ca.pem, not both",
            );
            tls
        }
        (None, Some(pem)) => tls.with_ca_cert_pem(pem),
        (Some("probe"), None) | (None, None) => tls.with_native_roots(),
        (Some(path), None) => {
            if Path::new(path).is_dir() {
                reader.problem(
                    "ssl.ca.location",
                    "krafka reads certificates from one file, not from a directory: name a PEM \
                     file that holds all of them",
                );
            }
            tls.with_ca_cert(path)
        }
    }
}

/// The client's own certificate, where the brokers ask for one.
fn identity(reader: &mut Reader<'_>, tls: TlsConfig) -> TlsConfig {
    let certificate = (
        reader.text("ssl.certificate.location"),
        reader.text("ssl.certificate.pem"),
    );
    let key = (reader.text("ssl.key.location"), reader.text("ssl.key.pem"));
    match (certificate, key) {
        ((None, None), (None, None)) => tls,
        ((Some(certificate), None), (Some(key), None)) => tls.with_client_cert(certificate, key),
        ((None, Some(certificate)), (None, Some(key))) => {
            tls.with_client_cert_pem(certificate, key.as_bytes().to_vec())
        }
        _ => {
            let name = match certificate {
                (Some(_), _) => "ssl.certificate.location",
                (None, Some(_)) => "ssl.certificate.pem",
                (None, None) if key.0.is_some() => "ssl.key.location",
                (None, None) => "ssl.key.pem",
            };
            reader.problem(
                name,
                "a client certificate needs its key in the same form: ssl.certificate.location \
                 with ssl.key.location, or ssl.certificate.pem with ssl.key.pem",
            );
            tls
        }
    }
}
