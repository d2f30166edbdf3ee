//! Handshakes with clients of rustls' own, and files that change.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use axum::Router;
use axum::extract::Extension;
use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpListener;
use tokio_rustls::TlsConnector;

use super::super::connection::{Ends, HttpServer};
use super::*;
use crate::config::Settings;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Certificate and key in PEM.
fn issued(by: &Authority, name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let certificate = params.signed_by(&key, by).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn settings(folder: &Path, client_ca: bool) -> TlsSettings {
    TlsSettings {
        cert: Some(folder.join("cert.pem")),
        key: Some(folder.join("key.pem")),
        client_ca: client_ca.then(|| folder.join("clients.pem")),
    }
}

fn write(folder: &Path, (cert, key): &(String, String)) {
    fs::write(folder.join("cert.pem"), cert).unwrap();
    fs::write(folder.join("key.pem"), key).unwrap();
}

fn client(authority: &Authority, identity: Option<&(String, String)>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match identity {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap(),
    })
}

/// Serves connections that say whom their certificate names.
async fn serve(tls: Arc<Tls>) -> SocketAddr {
    async fn who(certificate: Option<Extension<ClientCertificate>>) -> String {
        certificate.map_or("nobody".into(), |Extension(shown)| shown.subject)
    }
    let router = Router::new().fallback(who);
    let server = Arc::new(HttpServer::new(&Settings::default(), router).with_tls(Some(tls)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, peer)) = listener.accept().await {
            let server = Arc::clone(&server);
            tokio::spawn(async move {
                let Ok(place) = server.place(peer.ip()) else {
                    return;
                };
                server
                    .serve(
                        stream,
                        place,
                        Ends {
                            peer,
                            listener: peer,
                        },
                        CancellationToken::new(),
                    )
                    .await
            });
        }
    });
    address
}

/// One request; the body of its answer, and how the handshake went.
async fn ask(
    address: SocketAddr,
    client: &Arc<ClientConfig>,
) -> io::Result<(String, Option<rustls::HandshakeKind>)> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::clone(client))
        .connect(name, stream)
        .await?;
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let body = answer.rsplit("\r\n\r\n").next().unwrap_or_default();
    Ok((body.to_owned(), stream.get_ref().1.handshake_kind()))
}

#[tokio::test]
async fn the_subject_of_a_client_certificate_comes_with_each_request() {
    let folder = tempfile::tempdir().unwrap();
    let (servers, clients, strangers) = (authority(), authority(), authority());
    write(folder.path(), &issued(&servers, "gateway"));
    fs::write(folder.path().join("clients.pem"), clients.pem()).unwrap();
    let tls = Tls::load(&settings(folder.path(), true)).unwrap().unwrap();
    let address = serve(tls).await;

    let known = client(&servers, Some(&issued(&clients, "orders")));
    assert_eq!(ask(address, &known).await.unwrap().0, "CN=orders");
    let (again, how) = ask(address, &known).await.unwrap();
    assert_eq!(again, "CN=orders");
    assert_eq!(how, Some(rustls::HandshakeKind::Resumed));

    let silent = client(&servers, None);
    assert_eq!(ask(address, &silent).await.unwrap().0, "nobody");

    let foreign = client(&servers, Some(&issued(&strangers, "orders")));
    assert!(ask(address, &foreign).await.is_err());
}

#[tokio::test]
async fn a_handshake_that_stalls_ends_at_its_deadline() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &issued(&authority(), "gateway"));
    let tls = Tls::load(&settings(folder.path(), false)).unwrap().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // Nothing at all, and the head of a ClientHello whose body never comes.
    for first in [&b""[..], &b"\x16\x03\x01\x02\x00\x01\x00"[..]] {
        let mut peer = TcpStream::connect(address).await.unwrap();
        peer.write_all(first).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let began = Instant::now();
        let deadline = began + Duration::from_millis(200);
        let failure = tls.accept(stream, (), deadline).await.unwrap_err();
        assert!(matches!(failure, Failure::Slow), "{failure:?}");
        assert!(began.elapsed() < Duration::from_secs(60));
    }
}

#[tokio::test]
async fn a_session_is_not_resumed_after_the_authorities_have_changed() {
    let folder = tempfile::tempdir().unwrap();
    let (servers, clients, later) = (authority(), authority(), authority());
    write(folder.path(), &issued(&servers, "gateway"));
    fs::write(folder.path().join("clients.pem"), clients.pem()).unwrap();
    let tls = Tls::load(&settings(folder.path(), true)).unwrap().unwrap();
    let address = serve(Arc::clone(&tls)).await;
    let known = client(&servers, Some(&issued(&clients, "orders")));
    assert_eq!(ask(address, &known).await.unwrap().0, "CN=orders");

    let closing = CancellationToken::new();
    let watching = tokio::spawn(Arc::clone(&tls).watch(closing.clone()));
    let before = Arc::clone(&tls.current.read());
    fs::write(folder.path().join("clients.pem"), later.pem()).unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    while Arc::ptr_eq(&before, &tls.current.read()) {
        assert!(Instant::now() < end, "the change was not noticed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(ask(address, &known).await.is_err());
    closing.cancel();
    watching.await.unwrap();
}

#[test]
fn what_cannot_be_used_is_said_with_its_setting() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), true);
    let authority = authority();
    let good = issued(&authority, "gateway");
    let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let problem = || {
        let error = check(&settings).unwrap_err();
        assert!(!error.problem.contains('\n'), "{error}");
        let folder = folder.path().display().to_string();
        error.to_string().replace(&format!("{folder}/"), "")
    };
    let missing = "tls.cert: cert.pem cannot be read: No such file or directory (os error 2)";
    assert_eq!(problem(), missing);
    write(folder.path(), &good);
    put("clients.pem", &authority.pem());
    assert_eq!(check(&settings), Ok(()));

    put("clients.pem", "nothing");
    let empty = "tls.client_ca: clients.pem has no certificate in PEM";
    assert_eq!(problem(), empty);
    let mut cut = authority.pem();
    cut.truncate(100);
    put("clients.pem", &cut);
    let half = "tls.client_ca: clients.pem: the PEM ends in the middle of a section";
    assert_eq!(problem(), half);
    let no_der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    put("clients.pem", no_der);
    assert!(problem().starts_with("tls.client_ca: clients.pem: "));
    put("clients.pem", &authority.pem());

    put("cert.pem", no_der);
    assert!(problem().starts_with("tls.cert: cert.pem: "));
    put("cert.pem", &issued(&authority, "other").0);
    assert!(problem().starts_with("tls.key: key.pem is not the key of the certificate in "));
    put("cert.pem", &good.0);

    put("key.pem", &good.0);
    assert_eq!(problem(), "tls.key: key.pem has no private key in PEM");
    put("key.pem", &good.1.replace("PRIVATE", "ENCRYPTED PRIVATE"));
    let encrypted = "tls.key: the key in key.pem is encrypted: expected one without a passphrase";
    assert_eq!(problem(), encrypted);
    let secret = good.1.lines().nth(1).unwrap();
    put("key.pem", &good.1.replace(secret, &secret[1..]));
    assert!(problem().starts_with("tls.key: key.pem: "));
    assert!(!problem().contains(&secret[10..20]));
    fs::remove_file(folder.path().join("key.pem")).unwrap();
    fs::create_dir(folder.path().join("key.pem")).unwrap();
    assert_eq!(problem(), "tls.key: key.pem is not a regular file");
}

#[test]
fn a_certificate_without_its_key_is_refused_and_neither_is_plain_http() {
    let of = |cert: bool, key: bool, client_ca: bool| TlsSettings {
        cert: cert.then(|| "cert.pem".into()),
        key: key.then(|| "key.pem".into()),
        client_ca: client_ca.then(|| "clients.pem".into()),
    };
    let setting = |settings: TlsSettings| check(&settings).unwrap_err().setting;
    assert_eq!(check(&of(false, false, false)), Ok(()));
    assert_eq!(setting(of(true, false, false)), "tls.cert");
    assert_eq!(setting(of(false, true, false)), "tls.key");
    assert_eq!(setting(of(false, false, true)), "tls.client_ca");
}
