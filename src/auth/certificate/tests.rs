//! Subjects as text.

use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair, date_time_ymd};

use super::*;

fn certificate(name: DistinguishedName) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params
}

fn read(params: &CertificateParams) -> Result<String, Unusable> {
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    ClientCertificate::read(certificate.der()).map(|read| read.subject)
}

fn subject(parts: &[(DnType, &str)]) -> Result<String, Unusable> {
    let mut name = DistinguishedName::new();
    for (kind, value) in parts {
        name.push(kind.clone(), *value);
    }
    read(&certificate(name))
}

#[test]
fn the_most_specific_part_comes_first() {
    let parts = [
        (DnType::CountryName, "DE"),
        (DnType::OrganizationName, "Example"),
        (DnType::OrganizationalUnitName, "Payments"),
        (DnType::CommonName, "orders"),
    ];
    let expected = "CN=orders,OU=Payments,O=Example,C=DE";
    assert_eq!(subject(&parts), Ok(expected.into()));
}

#[test]
fn no_value_reads_as_a_part_of_its_own() {
    let read = |value: &str| subject(&[(DnType::CommonName, value)]);
    assert_eq!(read("a,O=b"), Ok(r"CN=a\,O=b".into()));
    assert_eq!(read("a+O=b"), Ok(r"CN=a\+O=b".into()));
    assert_eq!(read(r#"\"<>;"#), Ok(r#"CN=\\\"\<\>\;"#.into()));
    assert_eq!(read(" # "), Ok(r"CN=\ #\ ".into()));
    assert_eq!(read("#1"), Ok(r"CN=\#1".into()));
    assert_eq!(read(" "), Ok(r"CN=\ ".into()));
    assert_eq!(read("Zoë"), Ok("CN=Zoë".into()));
    assert_eq!(read("a\r\nb\0\u{85}"), Ok(r"CN=a\0D\0Ab\00\C2\85".into()));
}

#[test]
fn what_has_no_name_or_is_no_text_is_written_as_bytes() {
    let other = DnType::from_oid(&[1, 3, 6, 1, 4, 1, 99999, 1]);
    let expected = "1.3.6.1.4.1.99999.1=#0c0161";
    assert_eq!(subject(&[(other.clone(), "a")]), Ok(expected.into()));
    let long = format!("1.3.6.1.4.1.99999.1=#0c81c8{}", "61".repeat(200));
    assert_eq!(subject(&[(other, &"a".repeat(200))]), Ok(long));

    let mut name = DistinguishedName::new();
    let wide = rcgen::string::BmpString::try_from("a").unwrap();
    name.push(DnType::CommonName, DnValue::BmpString(wide));
    assert_eq!(read(&certificate(name)), Ok("CN=#1e020061".into()));
}

#[test]
fn a_certificate_that_names_nobody_is_not_used() {
    assert_eq!(subject(&[]), Err(Unusable::Nameless));
    let long = "a".repeat(2000);
    assert_eq!(
        subject(&[(DnType::OrganizationName, &long)]),
        Err(Unusable::Long)
    );
    assert_eq!(
        ClientCertificate::read(b"no DER"),
        Err(Unusable::Unreadable)
    );
}

#[test]
fn a_certificate_that_has_expired_is_not_used() {
    let mut params = CertificateParams::default();
    params.not_after = date_time_ymd(2001, 1, 1);
    assert_eq!(read(&params), Err(Unusable::Expired));
    params.not_after = date_time_ymd(2999, 1, 1);
    params.not_before = date_time_ymd(2998, 1, 1);
    assert_eq!(read(&params), Err(Unusable::Expired));
}

#[test]
fn a_certificate_is_good_until_its_not_after() {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "orders");
    params.not_after = date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(4_000_000_000);
    let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    let read = ClientCertificate::read(certificate.der()).unwrap();
    assert_eq!(read.expires, 4_000_000_000);
}

#[tokio::test]
async fn the_principal_of_a_certificate_expires_with_it() {
    let settings = crate::config::AuthSettings::default();
    let auth = crate::auth::Authenticator::new(&settings, true, None, 0).unwrap();
    let audit_context = crate::auth::audit_context::AuditContext::nobody();
    let now = crate::auth::jwt::now();
    let shown = async |expires| {
        let certificate = ClientCertificate {
            subject: "CN=orders".to_owned(),
            issuer: "CN=authority".to_owned(),
            expires,
        };
        let credential = crate::auth::Credential::Certificate(&certificate);
        let principal = auth.authenticate(credential, &audit_context).await;
        principal.map(|principal| principal.expires())
    };
    assert_eq!(shown(now + 1000).await, Ok(Some(now + 1000)));
    let expired = crate::auth::jwt::Refused::Invalid(Unusable::Expired.to_string());
    // It was good when the connection was made, and is not any more.
    assert_eq!(shown(now).await, Err(expired));
}
