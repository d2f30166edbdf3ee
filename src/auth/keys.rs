//! Keys that tokens are checked with, each usable only with its own kind of algorithm: an RSA key as
//! the secret of an HMAC is the classic forgery.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};

/// A key, and what it may verify.
#[derive(Clone)]
pub(super) struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("algorithms", &self.algorithms)
            .finish_non_exhaustive()
    }
}

impl Key {
    /// A shared secret.
    pub(super) fn secret(secret: &[u8]) -> Self {
        Self::of_family(DecodingKey::from_secret(secret))
    }

    /// A public key, or a certificate's, in PEM: RSA, EC or Ed25519.
    pub(super) fn pem(pem: &[u8]) -> Result<Self, String> {
        // The header says little of what is inside, so each kind has a try.
        [
            DecodingKey::from_rsa_pem,
            DecodingKey::from_ec_pem,
            DecodingKey::from_ed_pem,
        ]
        .into_iter()
        .find_map(|read| read(pem).ok())
        .map(Self::of_family)
        .ok_or_else(|| "expected an RSA, EC or Ed25519 public key in PEM".to_owned())
    }

    /// A key of a JWK set (RFC 7517). Shared secrets are refused there: a set is public.
    pub(super) fn jwk(jwk: &Jwk) -> Result<Self, String> {
        if matches!(&jwk.common.public_key_use, Some(usage) if *usage != PublicKeyUse::Signature) {
            return Err("not for signatures".to_owned());
        }
        let algorithms = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => AlgorithmFamily::Rsa.algorithms(),
            AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
                EllipticCurve::P256 => &[Algorithm::ES256][..],
                EllipticCurve::P384 => &[Algorithm::ES384][..],
                _ => return Err("not a curve that is used here".to_owned()),
            },
            AlgorithmParameters::OctetKeyPair(_) => AlgorithmFamily::Ed.algorithms(),
            _ => return Err("not a public key".to_owned()),
        };
        let algorithms = match jwk.common.key_algorithm {
            None => algorithms.to_vec(),
            Some(named) => algorithms
                .iter()
                .copied()
                .filter(|algorithm| is_named(*algorithm, named))
                .collect(),
        };
        if algorithms.is_empty() {
            return Err("its alg does not fit its type".to_owned());
        }
        Ok(Self {
            id: jwk.common.key_id.clone(),
            algorithms,
            key: DecodingKey::from_jwk(jwk).map_err(|error| error.to_string())?,
        })
    }

    fn of_family(key: DecodingKey) -> Self {
        Self {
            id: None,
            algorithms: key.family().algorithms().to_vec(),
            key,
        }
    }

    /// Whether the key may have signed a token of this header.
    pub(super) fn fits(&self, id: Option<&str>, algorithm: Algorithm) -> bool {
        let same_id = match (&self.id, id) {
            (Some(own), Some(asked)) => own == asked,
            _ => true,
        };
        same_id && self.algorithms.contains(&algorithm)
    }

    /// Whether the key has this id.
    pub(super) fn is(&self, id: &str) -> bool {
        self.id.as_deref() == Some(id)
    }

    /// The key itself.
    pub(super) fn key(&self) -> &DecodingKey {
        &self.key
    }
}

fn is_named(algorithm: Algorithm, named: KeyAlgorithm) -> bool {
    format!("{algorithm:?}") == format!("{named:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwk(json: &str) -> Result<Key, String> {
        Key::jwk(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn a_key_is_used_only_with_its_own_kind_of_algorithm() {
        let secret = Key::secret(b"s");
        assert!(secret.fits(None, Algorithm::HS256));
        assert!(secret.fits(Some("any"), Algorithm::HS512));
        assert!(!secret.fits(None, Algorithm::RS256));
        let ed = jwk(
            r#"{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
        )
        .unwrap();
        assert!(ed.fits(Some("a"), Algorithm::EdDSA));
        assert!(ed.fits(None, Algorithm::EdDSA));
        assert!(!ed.fits(Some("b"), Algorithm::EdDSA));
        assert!(!ed.fits(Some("a"), Algorithm::HS256));
    }

    #[test]
    fn keys_that_cannot_be_used_are_refused() {
        for (json, why) in [
            (r#"{"kty":"oct","k":"c2VjcmV0"}"#, "public"),
            (
                r#"{"kty":"OKP","crv":"Ed25519","use":"enc","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
                "signatures",
            ),
            (
                r#"{"kty":"OKP","crv":"Ed25519","alg":"RS256","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
                "alg",
            ),
        ] {
            let error = jwk(json).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        assert!(Key::pem(b"nonsense").is_err());
    }
}
