//! `sasl.jaas.config`: a login module, a flag, and options as `name="value"`, up to a semicolon.

use super::Entry;
use super::client::{Role, set_value};
use super::output::{Draft, Value};

/// What a line says. Its values are secrets.
struct Jaas {
    module: String,
    options: Vec<(String, String)>,
}

impl Jaas {
    fn option(&self, name: &str) -> Option<&str> {
        let found = self.options.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The module's class without its package.
    fn class(&self) -> &str {
        self.module.rsplit('.').next().unwrap_or_default()
    }
}

/// A login that cannot be carried over. The gateway then listens on loopback alone: with another identity
/// than the product had, or none, it could do other things for whoever connects.
pub(super) fn drop_login(draft: &mut Draft, entry: &Entry, reason: &str) {
    draft.leave(entry, reason);
    draft.close(&format!(
        "the login to Kafka was not carried over: {reason}"
    ));
}

/// Carries a login over to librdkafka's names. What cannot be read is never repeated.
pub(super) fn carry(draft: &mut Draft, role: Role, entry: &Entry) {
    let Some(jaas) = read(&entry.value) else {
        return drop_login(
            draft,
            entry,
            "it could not be read: expected MODULE required name=\"value\" …;",
        );
    };
    match jaas.class() {
        "PlainLoginModule" | "ScramLoginModule" => {
            if jaas
                .option("tokenauth")
                .is_some_and(|value| value == "true")
            {
                let reason = "logging in with a delegation token is not offered";
                return drop_login(draft, entry, reason);
            }
            carry_option(draft, role, entry, &jaas, &["username"], "sasl.username");
            carry_option(draft, role, entry, &jaas, &["password"], "sasl.password");
            if jaas.option("username").is_none() && jaas.option("password").is_none() {
                drop_login(draft, entry, "it has no username and no password");
            }
        }
        "OAuthBearerLoginModule" => by_token(draft, role, entry, &jaas),
        "Krb5LoginModule" => drop_login(
            draft,
            entry,
            "Kerberos is not offered: use PLAIN, SCRAM or OAUTHBEARER, or client certificates",
        ),
        _ => drop_login(
            draft,
            entry,
            "its login module is none that is known here: PLAIN, SCRAM and OAUTHBEARER are offered",
        ),
    }
}

fn by_token(draft: &mut Draft, role: Role, entry: &Entry, jaas: &Jaas) {
    // The second name is that of the OAuth library of Strimzi.
    let names: [(&[&str], &str); 4] = [
        (
            &["clientId", "oauth.client.id"],
            "sasl.oauthbearer.client.id",
        ),
        (
            &["clientSecret", "oauth.client.secret"],
            "sasl.oauthbearer.client.secret",
        ),
        (&["scope", "oauth.scope"], "sasl.oauthbearer.scope"),
        (
            &["oauth.token.endpoint.uri"],
            "sasl.oauthbearer.token.endpoint.url",
        ),
    ];
    let method = Value::Text("oidc".to_owned());
    set_value(draft, role, "sasl.oauthbearer.method", method, entry);
    for (names, property) in names {
        carry_option(draft, role, entry, jaas, names, property);
    }
    let extensions: Vec<_> = jaas
        .options
        .iter()
        .filter_map(|(name, value)| Some(format!("{}={value}", name.strip_prefix("extension_")?)))
        .collect();
    if !extensions.is_empty() {
        let value = Value::Text(extensions.join(","));
        set_value(draft, role, "sasl.oauthbearer.extensions", value, entry);
    }
    if jaas
        .options
        .iter()
        .any(|(name, _)| name.starts_with("oauth.ssl."))
    {
        draft.leave(
            entry,
            "whom to trust at the token endpoint is not carried over: see https.ca.location",
        );
    }
}

fn carry_option(
    draft: &mut Draft,
    role: Role,
    entry: &Entry,
    jaas: &Jaas,
    names: &[&str],
    property: &str,
) {
    if let Some(value) = names.iter().find_map(|name| jaas.option(name)) {
        let value = Value::Text(value.to_owned());
        set_value(draft, role, property, value, entry);
    }
}

/// Reads as Kafka does: words, `=`, and strings in either quotes with backslash escapes. `None` for anything else,
/// a second module too.
fn read(text: &str) -> Option<Jaas> {
    let mut rest = text.trim();
    let module = word(&mut rest)?;
    word(&mut rest)?;
    let mut options = Vec::new();
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix(';') {
            return after.trim().is_empty().then_some(Jaas { module, options });
        }
        let name = word(&mut rest)?;
        rest = rest.trim_start().strip_prefix('=')?;
        options.push((name, word(&mut rest)?));
    }
}

/// Takes a word or a quoted string from the front.
fn word(rest: &mut &str) -> Option<String> {
    let text = rest.trim_start();
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''));
    let Some(quote) = quote else {
        let end = text.find(|c: char| c.is_whitespace() || matches!(c, '=' | ';' | '"' | '\''));
        let (word, after) = text.split_at(end.unwrap_or(text.len()));
        *rest = after;
        return (!word.is_empty()).then(|| word.to_owned());
    };
    let mut word = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => match chars.next()?.1 {
                'n' => word.push('\n'),
                't' => word.push('\t'),
                'r' => word.push('\r'),
                other => word.push(other),
            },
            _ if c == quote => {
                *rest = &text[at + 1..];
                return Some(word);
            }
            _ => word.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_may_be_quoted_and_hold_what_ends_others() {
        let jaas = read(
            "org.apache.kafka.common.security.plain.PlainLoginModule required\n username='a b' password=\"p;=\\\"q\\\\\" x=1;",
        )
        .expect("sound");
        assert_eq!(jaas.class(), "PlainLoginModule");
        assert_eq!(jaas.option("username"), Some("a b"));
        assert_eq!(jaas.option("password"), Some("p;=\"q\\"));
        assert_eq!(jaas.option("x"), Some("1"));
    }

    #[test]
    fn what_does_not_end_or_goes_on_is_not_read() {
        for text in [
            "",
            "A",
            "A required",
            "A required b",
            "A required b=",
            "A required b=\"c;",
            "A required b=\"c\\",
            "A required b=c",
            "A required b=c; B required;",
            "A required =c;",
        ] {
            assert!(read(text).is_none(), "{text:?}");
        }
        assert!(read("A required;").is_some());
    }
}
