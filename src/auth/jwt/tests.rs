use std::collections::BTreeMap;

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;

use super::super::permission::{Action, Resource, authorize};
use super::super::roles::Table;
use super::*;

const SECRET: &str = "a secret that is long enough for HS256 to take it";

/// Keeps a secret file alive.
fn secret_file() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{SECRET}\n")).unwrap();
    file
}

fn settings(file: &tempfile::NamedTempFile) -> AuthSettings {
    AuthSettings {
        issuers: vec![IssuerSettings {
            realm: None,
            issuer: Some("https://issuer".to_owned()),
            audience: vec!["tidegate".to_owned()],
            permissions_allowed: None,
            scope: true,
            principal_claim: IssuerSettings::SUBJECT.to_owned(),
            typ: None,
            algorithms: vec![Algorithm::HS256],
            keys: KeySource::SecretFile(file.path().to_owned()),
        }],
        permissions_claim: Some("https://tidegate/permissions".to_owned()),
        roles_claim: Some("realm_access.roles".to_owned()),
        roles: BTreeMap::from([(
            "operator".to_owned(),
            vec!["describe:*".to_owned(), "consume:logs.*".to_owned()],
        )]),
        ..AuthSettings::default()
    }
}

fn table(roles: &BTreeMap<String, Vec<String>>) -> Table {
    Table {
        roles: roles.clone(),
        ..Table::default()
    }
}

fn book(roles: &BTreeMap<String, Vec<String>>) -> Book {
    Book::new(table(roles))
}

fn verifier_of(settings: &AuthSettings) -> Result<Verifier, Vec<String>> {
    let roles = Arc::new(book(&settings.roles));
    Verifier::new(settings, Vec::new(), roles)
}

fn claims(more: Value) -> Value {
    let mut claims = json!({
        "iss": "https://issuer", "aud": ["other", "tidegate"], "sub": "ann", "exp": now() + 60,
        "scope": "openid consume:orders.* produce:user.{sub}",
    });
    let object = claims.as_object_mut().unwrap();
    for (name, value) in more.as_object().unwrap() {
        if value.is_null() {
            object.remove(name);
        } else {
            object.insert(name.clone(), value.clone());
        }
    }
    claims
}

fn sign(claims: &Value, secret: &str, algorithm: Algorithm) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    encode(&Header::new(algorithm), claims, &key).unwrap()
}

async fn verify(more: Value) -> Result<Principal, String> {
    let file = secret_file();
    let verifier = verifier_of(&settings(&file)).unwrap();
    let token = sign(&claims(more), SECRET, Algorithm::HS256);
    verifier.verify(&token).await.map_err(|e| e.to_string())
}

fn is_allowed(principal: &Principal, action: Action, topic: &str) -> bool {
    authorize(principal, action, Resource::Topic(topic)).is_ok()
}

#[tokio::test]
async fn scopes_claims_and_roles_are_permissions() {
    let principal = verify(json!({
        "https://tidegate/permissions": ["create:new.*"],
        "realm_access": {"roles": ["operator", "unknown"]},
    }))
    .await
    .unwrap();
    assert_eq!(principal.name(), "ann");
    for (action, topic) in [
        (Action::Consume, "orders.eu"),
        (Action::Produce, "user.ann"),
        (Action::Create, "new.a"),
        (Action::Describe, "anything"),
        (Action::Consume, "logs.a"),
    ] {
        assert!(is_allowed(&principal, action, topic), "{action} {topic}");
    }
    for (action, topic) in [
        (Action::Produce, "user.bob"),
        (Action::Consume, "payments"),
        (Action::Delete, "new.a"),
    ] {
        assert!(!is_allowed(&principal, action, topic), "{action} {topic}");
    }
}

/// What is found out about a token with `more` claims, where the issuer's table has other settings.
async fn verify_with(
    change: impl FnOnce(&mut IssuerSettings),
    more: Value,
) -> Result<Principal, String> {
    let file = secret_file();
    let mut settings = settings(&file);
    change(&mut settings.issuers[0]);
    let verifier = verifier_of(&settings).unwrap();
    let token = sign(&claims(more), SECRET, Algorithm::HS256);
    verifier.verify(&token).await.map_err(|e| e.to_string())
}

#[tokio::test]
async fn a_token_may_do_no_more_than_its_issuer_is_allowed() {
    let most = ["consume:orders.eu", "produce:*.{sub}", "describe:logs.*"];
    let principal = verify_with(
        |issuer| issuer.permissions_allowed = Some(most.map(str::to_owned).to_vec()),
        json!({
            "https://tidegate/permissions": ["admin:*"],
            "realm_access": {"roles": ["operator"]},
        }),
    )
    .await
    .unwrap();
    for (action, topic) in [
        (Action::Consume, "orders.eu"),
        (Action::Produce, "user.ann"),
        (Action::Describe, "logs.a"),
    ] {
        assert!(is_allowed(&principal, action, topic), "{action} {topic}");
    }
    for (action, topic) in [
        (Action::Consume, "orders.us"),
        (Action::Produce, "user.bob"),
        (Action::Consume, "logs.a"),
        (Action::Create, "user.ann"),
    ] {
        assert!(!is_allowed(&principal, action, topic), "{action} {topic}");
    }
}

#[tokio::test]
async fn a_scope_counts_only_where_it_is_on() {
    let more = json!({"https://tidegate/permissions": ["create:new.*"]});
    let principal = verify_with(|issuer| issuer.scope = false, more)
        .await
        .unwrap();
    assert!(is_allowed(&principal, Action::Create, "new.a"));
    assert!(!is_allowed(&principal, Action::Consume, "orders.eu"));
    // Nobody looks at what is in it.
    let more = json!({"scope": ["consume:orders.*"]});
    let principal = verify_with(|issuer| issuer.scope = false, more)
        .await
        .unwrap();
    assert!(!is_allowed(&principal, Action::Consume, "orders.eu"));
}

#[tokio::test]
async fn another_claim_may_name_the_principal() {
    let by = async |claim: &str, more: Value| {
        let claim = claim.to_owned();
        verify_with(|issuer| issuer.principal_claim = claim, more).await
    };
    for (claim, more) in [
        ("email", json!({"email": "ann@x"})),
        ("email", json!({"email": "ann@x", "sub": null})),
        ("act.email", json!({"act": {"email": "ann@x"}})),
        (
            "https://x.example/e",
            json!({"https://x.example/e": "ann@x"}),
        ),
    ] {
        let principal = by(claim, more).await.unwrap();
        assert_eq!(principal.name(), "ann@x", "{claim}");
        // What the permissions say of the subject is about it, too.
        assert!(
            is_allowed(&principal, Action::Produce, "user.ann@x"),
            "{claim}"
        );
        assert!(
            !is_allowed(&principal, Action::Produce, "user.ann"),
            "{claim}"
        );
    }
    for (more, why) in [
        (json!({}), "has no email"),
        (json!({"email": ""}), "email is empty"),
        (json!({"email": 7}), "email is not a text"),
        (json!({"email": ["ann@x"]}), "email is not a text"),
        (json!({"email": {"a": "ann@x"}}), "email is not a text"),
    ] {
        let error = by("email", more.clone()).await.unwrap_err();
        assert!(error.contains(why), "{more}: {error}");
    }
    // Null is no name either.
    let file = secret_file();
    let mut settings = settings(&file);
    settings.issuers[0].principal_claim = "email".to_owned();
    let verifier = verifier_of(&settings).unwrap();
    let mut claims = claims(json!({}));
    claims["email"] = Value::Null;
    let token = sign(&claims, SECRET, Algorithm::HS256);
    assert!(verifier.verify(&token).await.is_err());
}

#[tokio::test]
async fn a_token_of_another_type_is_refused_where_one_is_asked_for() {
    let file = secret_file();
    let is_taken = async |asked: Option<&str>, typ: Option<&str>| {
        let mut settings = settings(&file);
        settings.issuers[0].typ = asked.map(str::to_owned);
        let verifier = verifier_of(&settings).unwrap();
        let header = Header {
            typ: typ.map(str::to_owned),
            ..Header::new(Algorithm::HS256)
        };
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let token = encode(&header, &claims(json!({})), &key).unwrap();
        match verifier.verify(&token).await {
            Ok(_) => true,
            Err(refused) => {
                assert!(refused.to_string().contains("typ at+jwt"), "{refused}");
                false
            }
        }
    };
    for asked in ["at+jwt", "AT+JWT", "application/at+jwt"] {
        for typ in [
            "at+jwt",
            "at+JWT",
            "application/at+jwt",
            "Application/AT+JWT",
        ] {
            assert!(is_taken(Some(asked), Some(typ)).await, "{asked} {typ}");
        }
        for typ in [
            None,
            Some("JWT"),
            Some(""),
            Some("application/"),
            Some("text/at+jwt"),
            Some("at+jwt "),
        ] {
            assert!(!is_taken(Some(asked), typ).await, "{asked} {typ:?}");
        }
    }
    for typ in [None, Some("JWT"), Some("at+jwt"), Some("anything")] {
        assert!(is_taken(None, typ).await, "{typ:?}");
    }
}

#[tokio::test]
async fn claims_that_are_not_as_they_should_be_are_refused() {
    let past = now() - 120;
    for (more, why) in [
        (json!({"exp": past}), "expired"),
        (json!({"exp": null}), "no exp"),
        (json!({"exp": "soon"}), "exp is not a number"),
        (json!({"exp": [1]}), "exp is not a number"),
        (json!({"exp": -5}), "expired"),
        (json!({"nbf": "now"}), "nbf is not a number"),
        (json!({"nbf": now() + 120}), "not valid yet"),
        (json!({"iss": "https://other"}), "no issuer"),
        (json!({"iss": null}), "no issuer"),
        (json!({"iss": 7}), "iss is not a text"),
        (json!({"aud": "other"}), "audience"),
        (json!({"aud": null}), "no aud"),
        (json!({"sub": null}), "no sub"),
        (json!({"sub": ""}), "sub"),
        (json!({"sub": 7}), "sub is not a text"),
        (json!({"scope": ["consume:*"]}), "scope"),
        (
            json!({"https://tidegate/permissions": {"a": 1}}),
            "permissions",
        ),
        (json!({"https://tidegate/permissions": [1]}), "permissions"),
        (json!({"realm_access": {"roles": 7}}), "roles"),
    ] {
        let error = verify(more.clone()).await.unwrap_err();
        assert!(error.contains(why), "{more}: {error}");
    }
}

#[tokio::test]
async fn a_token_that_says_it_has_expired_is_not_looked_at_further() {
    let file = secret_file();
    let verifier = verifier_of(&settings(&file)).unwrap();
    let expired = claims(json!({"exp": now() - 120}));
    let forged = sign(
        &expired,
        "another secret, of much the same length",
        Algorithm::HS256,
    );
    let error = verifier.verify(&forged).await.unwrap_err();
    assert_eq!(error.to_string(), "the token has expired");
    assert!(!verifier.remembers(&forged));
}

#[tokio::test]
async fn clocks_may_differ_by_the_leeway() {
    verify(json!({"exp": now() - 20, "nbf": now() + 20}))
        .await
        .unwrap();
}

#[tokio::test]
async fn forged_tokens_are_refused() {
    let file = secret_file();
    let verifier = verifier_of(&settings(&file)).unwrap();
    let good = sign(&claims(json!({})), SECRET, Algorithm::HS256);
    let (head, rest) = good.split_once('.').unwrap();
    let (body, signature) = rest.split_once('.').unwrap();
    // {"alg":"none"} and {"alg":"HS256","crit":["b64"],"b64":false}
    let none = "eyJhbGciOiJub25lIn0";
    let crit = "eyJhbGciOiJIUzI1NiIsImNyaXQiOlsiYjY0Il0sImI2NCI6ZmFsc2V9";
    let other = sign(&claims(json!({"sub": "bob"})), SECRET, Algorithm::HS256);
    let other_body = other.split('.').nth(1).unwrap();
    for token in [
        sign(
            &claims(json!({})),
            "another secret, of the same length as ours",
            Algorithm::HS256,
        ),
        sign(&claims(json!({})), SECRET, Algorithm::HS512),
        format!("{none}.{body}."),
        format!("{none}.{body}.{signature}"),
        format!("{crit}.{body}.{signature}"),
        format!("{head}.{other_body}.{signature}"),
        format!("{head}.{body}."),
        format!("{head}.{body}"),
        String::new(),
        "...".to_owned(),
        "a".repeat(1 << 20),
        format!("{head}.{body}.{}", "A".repeat(1000)),
    ] {
        let refused = verifier.verify(&token).await;
        let Err(Refused::Invalid(text)) = refused else {
            panic!("{token} was taken");
        };
        assert!(!text.contains(body), "a token stands in {text}");
    }
    verifier.verify(&good).await.unwrap();
}

#[tokio::test]
async fn a_verified_token_is_remembered_until_it_expires() {
    let file = secret_file();
    let settings = AuthSettings {
        leeway: Duration::ZERO,
        ..settings(&file)
    };
    let verifier = verifier_of(&settings).unwrap();
    // One may have expired before it is shown, where the machine stands still for so long.
    let mut token = String::new();
    let mut good = 0;
    for _ in 0..20 {
        token = sign(&claims(json!({"exp": now() + 1})), SECRET, Algorithm::HS256);
        if verifier.verify(&token).await.is_ok() {
            good += 1;
            break;
        }
    }
    assert_eq!(good, 1, "one is good for a moment");
    let error = loop {
        match verifier.verify(&token).await {
            Ok(_) => good += 1,
            Err(error) => break error,
        }
        assert!(good < 600, "it is good for ever");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(error.to_string().contains("expired"), "{error}");
}

#[tokio::test]
async fn a_token_with_too_many_permissions_is_refused() {
    let scope = |count: usize| {
        let scope: Vec<String> = (0..count).map(|n| format!("group:{n}")).collect();
        json!({"scope": scope.join(" ")})
    };
    verify(scope(1000)).await.unwrap();
    let error = verify(scope(1001)).await.unwrap_err();
    assert!(error.contains("1000"), "{error}");
}

#[tokio::test]
async fn keys_that_cannot_be_read_are_all_told() {
    let short = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(short.path(), "short\n").unwrap();
    let issuer = |keys| IssuerSettings {
        realm: None,
        issuer: None,
        audience: vec![],
        permissions_allowed: None,
        scope: true,
        principal_claim: IssuerSettings::SUBJECT.to_owned(),
        typ: None,
        algorithms: vec![Algorithm::HS256],
        keys,
    };
    let settings = AuthSettings {
        issuers: vec![
            issuer(KeySource::SecretFile(short.path().to_owned())),
            issuer(KeySource::SecretFile("/nonexistent".into())),
            issuer(KeySource::KeyFile(short.path().to_owned())),
            issuer(KeySource::JwksUrl("ftp://x".to_owned())),
        ],
        ..AuthSettings::default()
    };
    let errors = verifier_of(&settings).unwrap_err();
    assert_eq!(errors.len(), 4, "{errors:?}");
    assert!(errors[0].contains("32"), "{errors:?}");
    assert!(errors[3].contains("auth.issuers[3]"), "{errors:?}");
}

/// Issuers beside each other, whatever their order: what is told is what the token's own issuer finds.
#[tokio::test]
async fn of_several_issuers_the_one_that_knows_most_says_what_is_wrong() {
    const OTHER: &str = "another secret, which is long enough for HS256 as well";
    let file = secret_file();
    let other_file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(other_file.path(), OTHER).unwrap();
    let own = settings(&file).issuers[0].clone();
    let other = |change: &dyn Fn(&mut IssuerSettings)| {
        let mut other = IssuerSettings {
            issuer: None,
            keys: KeySource::SecretFile(other_file.path().to_owned()),
            ..own.clone()
        };
        change(&mut other);
        other
    };
    let any = other(&|_| {});
    let rsa = other(&|other| other.algorithms = vec![Algorithm::HS512]);
    let typed = other(&|other| other.typ = Some("at+jwt".to_owned()));
    let elsewhere = other(&|other| other.issuer = Some("https://elsewhere".to_owned()));
    // Nobody listens there.
    let away = KeySource::JwksUrl("http://127.0.0.1:1/keys".to_owned());
    let unjudged = other(&|other| other.keys = away.clone());
    let own_away = other(&|other| {
        other.issuer.clone_from(&own.issuer);
        other.keys = away.clone();
    });
    let good = || claims(json!({}));
    let audience = || claims(json!({"aud": "others"}));
    let nobodys = || claims(json!({"iss": "https://nobody"}));
    let forged = "a secret that is none of an issuer's, and long enough";
    let cases = [
        // It is signed by its own issuer: what others say of it is beside the point.
        (&own, &any, audience(), SECRET, "another audience"),
        (&own, &rsa, audience(), SECRET, "another audience"),
        (&own, &typed, audience(), SECRET, "another audience"),
        (&own, &unjudged, audience(), SECRET, "another audience"),
        (&own, &any, audience(), OTHER, "another audience"),
        // It is signed by nobody: its own issuer says so, not one that would take another algorithm or typ.
        (&own, &any, good(), forged, "signature is wrong"),
        (&own, &rsa, good(), forged, "signature is wrong"),
        (&own, &typed, good(), forged, "signature is wrong"),
        (&rsa, &typed, good(), forged, "have the typ at+jwt"),
        // Where it may be a good one, nobody can say that it is not.
        (&own_away, &any, good(), SECRET, "keys cannot be had"),
        (&own, &unjudged, good(), forged, "keys cannot be had"),
        (&own, &elsewhere, nobodys(), SECRET, "of no issuer"),
        (&own, &elsewhere, good(), forged, "signature is wrong"),
    ];
    for (one, two, claims, secret, says) in cases {
        for issuers in [[one, two], [two, one]] {
            let settings = AuthSettings {
                issuers: issuers.map(IssuerSettings::clone).to_vec(),
                ..settings(&file)
            };
            let verifier = verifier_of(&settings).unwrap();
            let token = sign(&claims, secret, Algorithm::HS256);
            let error = verifier.verify(&token).await.unwrap_err().to_string();
            assert!(error.contains(says), "{claims} {issuers:?}: {error}");
        }
    }
    // And a good one is taken, whoever else there is.
    let settings = AuthSettings {
        issuers: vec![typed, unjudged, own.clone()],
        ..settings(&file)
    };
    let verifier = verifier_of(&settings).unwrap();
    let token = sign(&good(), SECRET, Algorithm::HS256);
    verifier.verify(&token).await.unwrap();
}

#[tokio::test]
async fn keys_and_ceilings_are_those_that_were_read_last() {
    let file = secret_file();
    let mut settings = settings(&file);
    let roles = Arc::new(book(&settings.roles));
    let verifier = Verifier::new(&settings, Vec::new(), Arc::clone(&roles)).unwrap();
    let old = sign(&claims(json!({})), SECRET, Algorithm::HS256);
    let other = "another secret, of much the same length as the first";
    let new = sign(&claims(json!({})), other, Algorithm::HS256);
    assert!(verifier.verify(&old).await.is_ok());
    assert!(verifier.verify(&new).await.is_err());

    std::fs::write(file.path(), other).unwrap();
    settings.issuers[0].permissions_allowed = Some(vec!["consume:*".to_owned()]);
    let verifier = verifier.reloaded(&settings).unwrap();
    roles.replace(Table {
        issuers: verifier.issuers_now(),
        ..table(&settings.roles)
    });
    // Such tokens are still listened to while their address is refused too often.
    assert!(verifier.remembers(&old));
    assert!(verifier.verify(&old).await.is_err());
    assert!(!verifier.remembers(&old));
    let principal = verifier.verify(&new).await.unwrap();
    assert!(is_allowed(&principal, Action::Consume, "orders.eu"));
    assert!(!is_allowed(&principal, Action::Produce, "user.ann"));

    std::fs::write(file.path(), "short").unwrap();
    let errors = verifier.reloaded(&settings).unwrap_err();
    assert!(
        errors[0].contains("auth.issuers[0]: secret_file"),
        "{errors:?}"
    );
}

#[tokio::test]
async fn a_principal_loses_what_its_role_loses() {
    let file = secret_file();
    let settings = settings(&file);
    let roles = Arc::new(book(&settings.roles));
    let verifier = Verifier::new(&settings, Vec::new(), Arc::clone(&roles)).unwrap();
    let named = claims(json!({"realm_access": {"roles": ["operator", "later"]}}));
    let token = sign(&named, SECRET, Algorithm::HS256);
    let principal = verifier.verify(&token).await.unwrap();
    assert!(is_allowed(&principal, Action::Consume, "logs.a"));
    let later = BTreeMap::from([("later".to_owned(), vec!["consume:bills".to_owned()])]);
    roles.replace(Table {
        issuers: verifier.issuers_now(),
        ..table(&later)
    });
    assert!(!is_allowed(&principal, Action::Consume, "logs.a"));
    assert!(is_allowed(&principal, Action::Consume, "bills"));
    assert!(
        is_allowed(&principal, Action::Consume, "orders.eu"),
        "its own"
    );
}
