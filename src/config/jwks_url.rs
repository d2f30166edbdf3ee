//! Where an issuer's keys may be fetched from, and where it says so.

use reqwest::Url;

use super::address::is_loopback;

/// The address of a key set. Whoever can change the answer on its way can sign tokens, so it is an https
/// one, or plain http that does not leave the machine.
///
/// # Errors
///
/// What was expected instead.
pub fn jwks_url(text: &str) -> Result<Url, String> {
    const EXPECTED: &str = "expected a URL such as https://id.example/jwks.json";
    // By the parser of the client that will fetch it.
    let url = Url::parse(text).map_err(|error| format!("{EXPECTED}: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(EXPECTED.to_owned());
    }
    // The URL is shown and logged.
    if !url.username().is_empty() || url.password().is_some() {
        return Err("expected a URL without a user and password: keys are public".to_owned());
    }
    if url.scheme() == "http" && !url.host_str().is_some_and(is_loopback) {
        return Err(
            "expected an https URL, or http to a loopback address: on the way over plain http, others \
             can put their keys in the place of the issuer's"
                .to_owned(),
        );
    }
    Ok(url)
}

/// The address of an issuer's discovery document (OpenID Connect Discovery 1.0, section 4), for which the
/// same holds as for its key set.
///
/// # Errors
///
/// What was expected of the issuer.
pub fn discovery_url(issuer: &str) -> Result<Url, String> {
    let url = jwks_url(issuer)?;
    if url.query().is_some() || url.fragment().is_some() || issuer.trim() != issuer {
        return Err("expected a URL without a query, a fragment and spaces around it".to_owned());
    }
    let base = issuer.strip_suffix('/').unwrap_or(issuer);
    jwks_url(&format!("{base}/.well-known/openid-configuration"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_tells_of_its_keys_at_a_place_below_it() {
        for (issuer, document) in [
            (
                "https://id.example",
                "https://id.example/.well-known/openid-configuration",
            ),
            (
                "https://id.example/",
                "https://id.example/.well-known/openid-configuration",
            ),
            (
                "https://id.example/realms/shop",
                "https://id.example/realms/shop/.well-known/openid-configuration",
            ),
            (
                "http://127.0.0.1:8080/a/",
                "http://127.0.0.1:8080/a/.well-known/openid-configuration",
            ),
        ] {
            assert_eq!(discovery_url(issuer).unwrap().as_str(), document);
        }
        for issuer in [
            "id.example",
            "http://id.example",
            "https://id.example?a=b",
            "https://id.example/#a",
            "https://me:secret@id.example",
            " https://id.example",
            "https://id.example/a ",
        ] {
            let error = discovery_url(issuer).unwrap_err();
            assert!(error.starts_with("expected a"), "{issuer}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn keys_come_by_https_or_from_this_machine() {
        for text in [
            "https://id.example/keys",
            "https://10.0.0.1:8443/keys",
            "http://localhost:8080/keys",
            "http://LOCALHOST/keys",
            "http://127.0.0.1:8080/keys",
            "http://127.8.9.10/keys",
            "http://[::1]:8080/keys",
            "http://[::ffff:127.0.0.1]/keys",
        ] {
            assert!(jwks_url(text).is_ok(), "{text}");
        }
        for text in [
            "http://id.example/keys",
            "http://10.0.0.1/keys",
            "http://0.0.0.0/keys",
            "http://[::]/keys",
            "http://localhost.id.example/keys",
            "http://127.0.0.1.id.example/keys",
        ] {
            let error = jwks_url(text).unwrap_err();
            assert!(
                error.starts_with("expected an https URL"),
                "{text}: {error}"
            );
        }
    }
}
