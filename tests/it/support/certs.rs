//! Certificates made for a test, and a TLS client that tells how a handshake went.

use std::io;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType};
use rcgen::{IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A certificate authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct Issued {
    pub cert: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        Self::named("an authority")
    }

    /// One that can be told from others by its name, as well as by its key.
    pub fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = common_name(name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a gateway on loopback, with a subject that tells it from others.
    pub fn server(&self, name: &str) -> Issued {
        self.issue(
            name,
            &["localhost".to_owned(), "127.0.0.1".to_owned()],
            rcgen::ExtendedKeyUsagePurpose::ServerAuth,
            None,
        )
    }

    /// A certificate for a server of this name.
    pub fn server_of(&self, host: &str) -> Issued {
        self.issue(
            host,
            &[host.to_owned()],
            rcgen::ExtendedKeyUsagePurpose::ServerAuth,
            None,
        )
    }

    pub fn client(&self, name: &str) -> Issued {
        self.issue(name, &[], rcgen::ExtendedKeyUsagePurpose::ClientAuth, None)
    }

    /// One that expires then, in seconds since 1970.
    pub fn client_until(&self, name: &str, ends: i64) -> Issued {
        let purpose = rcgen::ExtendedKeyUsagePurpose::ClientAuth;
        self.issue(name, &[], purpose, Some(ends))
    }

    fn issue(
        &self,
        name: &str,
        hosts: &[String],
        purpose: rcgen::ExtendedKeyUsagePurpose,
        ends: Option<i64>,
    ) -> Issued {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name = common_name(name);
        params.extended_key_usages = vec![purpose];
        if let Some(ends) = ends {
            let since = std::time::Duration::from_secs(ends.try_into().unwrap());
            params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since;
        }
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Issued {
            cert: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// A client of reqwest's that believes only this authority.
    pub fn http(&self) -> reqwest::ClientBuilder {
        let authority = reqwest::Certificate::from_pem(self.pem().as_bytes()).unwrap();
        reqwest::Client::builder()
            .tls_certs_only([authority])
            .timeout(std::time::Duration::from_secs(60))
    }

    /// A TLS client that believes only this authority.
    pub fn tls(&self) -> TlsClient {
        TlsClient {
            authority: self.0.der().clone(),
            protocols: Vec::new(),
            versions: rustls::DEFAULT_VERSIONS.to_vec(),
            identity: None,
            host: "localhost",
        }
    }
}

impl Issued {
    /// The certificate as it goes over the wire.
    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.cert.as_bytes()).unwrap()
    }

    /// As reqwest takes it.
    pub fn identity(&self) -> reqwest::Identity {
        let both = format!("{}{}", self.cert, self.key);
        reqwest::Identity::from_pem(both.as_bytes()).unwrap()
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// What a TLS client is to offer.
pub struct TlsClient {
    authority: CertificateDer<'static>,
    protocols: Vec<Vec<u8>>,
    versions: Vec<&'static SupportedProtocolVersion>,
    identity: Option<Issued>,
    host: &'static str,
}

impl TlsClient {
    /// What it offers by ALPN; nothing unless this is called.
    pub fn protocols(mut self, protocols: &[&str]) -> Self {
        self.protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        self
    }

    /// The one version of TLS that it offers.
    pub fn only(mut self, version: &'static SupportedProtocolVersion) -> Self {
        self.versions = vec![version];
        self
    }

    pub fn identity(mut self, identity: &Issued) -> Self {
        self.identity = Some(identity.clone());
        self
    }

    /// Whom it means to reach, if not `localhost`.
    pub fn host(mut self, host: &'static str) -> Self {
        self.host = host;
        self
    }

    pub async fn connect(self, address: &str) -> io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&self.versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(shown) => {
                let key = PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).unwrap();
                builder
                    .with_client_auth_cert(vec![shown.der()], key)
                    .unwrap()
            }
        };
        config.alpn_protocols = self.protocols;
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from(self.host).unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
    }
}
