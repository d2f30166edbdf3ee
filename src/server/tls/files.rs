//! The three files of `[tls]`: read, judged and made into what rustls serves with. Blocking, since
//! files are.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{InconsistentKeys, RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::{TlsSettings, read_file};

/// Protocols that ALPN offers, the preferred one first.
pub(super) const H2: &[u8] = b"h2";
const H1: &[u8] = b"http/1.1";
/// Far above any real chain or list of authorities: what is larger was named by mistake.
const MOST_BYTES: u64 = 4 << 20;

/// What is wrong with a file of `[tls]`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {problem}")]
pub struct TlsError {
    /// The setting that names the file.
    pub setting: &'static str,
    /// What is wrong, with the file's path and nothing of a key.
    pub problem: String,
}

/// Names the setting that a problem is about.
fn about(setting: &'static str) -> impl Fn(String) -> TlsError {
    move |problem| TlsError { setting, problem }
}

/// What the files came to.
pub(super) struct Loaded {
    pub(super) config: ServerConfig,
    /// When the listeners' own certificate ends, in seconds since 1970; `None` when it does not say.
    pub(super) ends: Option<i64>,
}

/// Reads the files. `None` without certificate and key: the listeners speak plain HTTP.
pub(super) fn load(settings: &TlsSettings) -> Result<Option<Loaded>, TlsError> {
    let (cert, key) = match (&settings.cert, &settings.key) {
        (Some(cert), Some(key)) => (cert, key),
        (Some(_), None) => return Err(about("tls.cert")("set without tls.key".into())),
        (None, Some(_)) => return Err(about("tls.key")("set without tls.cert".into())),
        (None, None) if settings.client_ca.is_some() => {
            return Err(about("tls.client_ca")("set without tls.cert".into()));
        }
        (None, None) => return Ok(None),
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let chain = certificates(cert).map_err(about("tls.cert"))?;
    let ends = chain.first().and_then(|own| end_of(own));
    let identity = identity(chain, cert, key, &provider)?;
    let clients = settings
        .client_ca
        .as_deref()
        .map(|path| client_verifier(path, &provider))
        .transpose()
        .map_err(about("tls.client_ca"))?;

    let odd = |error: rustls::Error| about("tls.cert")(error.to_string());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(odd)?;
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(clients),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
    config.alpn_protocols = vec![H2.to_vec(), H1.to_vec()];
    // Clients keep their sessions themselves, in tickets. Their key is made anew with each
    // configuration, so that no session outlives the client authorities that it was begun under.
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(odd)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Some(Loaded { config, ends }))
}

fn identity(
    chain: Vec<CertificateDer<'static>>,
    cert: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let der = private_key(key).map_err(about("tls.key"))?;
    let signer = provider
        .key_provider
        .load_private_key(der)
        .map_err(|error| about("tls.key")(format!("{}: {error}", key.display())))?;
    let identity = CertifiedKey::new(chain, signer);
    match identity.keys_match() {
        // Unknown: this kind of key does not show its public half.
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(identity),
        Err(rustls::Error::InconsistentKeys(_)) => Err(about("tls.key")(format!(
            "{} is not the key of the certificate in {}: the first certificate there must be the listeners' own",
            key.display(),
            cert.display()
        ))),
        Err(error) => Err(about("tls.cert")(format!("{}: {error}", cert.display()))),
    }
}

/// Clients may show a certificate of these authorities; whoever shows none is served as well, and
/// asked for a token where one is needed.
fn client_verifier(
    path: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots
            .add(certificate)
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .allow_unauthenticated()
        .build()
        .map_err(|error| format!("{}: {error}", path.display()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read_file(path, MOST_BYTES)?;
    let list = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("{}: {}", path.display(), in_words(&error)))?;
    match list.is_empty() {
        true => Err(format!("{} has no certificate in PEM", path.display())),
        false => Ok(list),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let text = read_file(path, MOST_BYTES)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let path = path.display();
        match error {
            pem::Error::NoItemsFound if contains(&text, b"BEGIN ENCRYPTED PRIVATE KEY") => {
                format!("the key in {path} is encrypted: expected one without a passphrase")
            }
            pem::Error::NoItemsFound => format!("{path} has no private key in PEM"),
            error => format!("{path}: {}", in_words(&error)),
        }
    })
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}

/// The library quotes lines as lists of numbers.
fn in_words(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "the PEM ends in the middle of a section",
        pem::Error::IllegalSectionStart { .. } => "a section of the PEM begins wrongly",
        pem::Error::Base64Decode(_) => "the PEM has a section that is not base64",
        _ => "this is not PEM",
    }
}

fn end_of(certificate: &[u8]) -> Option<i64> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(certificate.validity().not_after.timestamp())
}
