//! Broker addresses in the words of the client libraries. Clients of the gateway are not told where the
//! brokers are: a fault has a broker's id in the place of its address, or no more than that it is one. The
//! log has the words as they were.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

use parking_lot::Mutex;
use regex::{Captures, Regex};
use tokio::time::Instant;

/// How long the same words are not logged again: a flood of requests may fail for one reason.
const LOGGED: Duration = Duration::from_secs(30);
/// How many different words that goes for; more are not logged until the first of them may be again.
const KNOWN: usize = 64;

static ADDRESS: LazyLock<Regex> = LazyLock::new(|| {
    // In this order: librdkafka's name of a broker, which ends in its id; other addresses, where a name
    // without a dot needs a port of three digits, so that "orders:12" stays a partition; and what rustls
    // says of the names in a certificate.
    let pattern = r#"(?x)
        (?: [a-z_]+:// )? (?: \[ [0-9A-Fa-f:.%]+ \] | [\w.-]+ ) : \d+ / (?P<id> \d+ | bootstrap ) \b
        | (?: ipv[46]\# )? (?:
            \[ [0-9A-Fa-f:.%]+ \] : \d+
            | \d{1,3} (?: \. \d{1,3} ){3} (?: : \d+ )?
            | [\w-]+ (?: \. [\w-]+ )+ \.? : \d+
            | localhost : \d+
            | [\w-]+ : \d{3,5}
        ) \b
        | (?P<named> for\ name\ "[^"]*" ) | DnsName \( "[^"]*" \) | IpAddress \( [^)]* \)
    "#;
    Regex::new(pattern).expect("the pattern is a constant, and a test uses it")
});

/// The same text with brokers by their ids, or as brokers.
pub(in crate::kafka) fn without_addresses(text: &str) -> Cow<'_, str> {
    ADDRESS.replace_all(text, |found: &Captures<'_>| {
        match (found.name("id"), found.name("named")) {
            (Some(id), _) if id.as_str() != "bootstrap" => format!("broker {}", id.as_str()),
            (_, Some(_)) => "for the broker's name".to_owned(),
            _ => "a broker".to_owned(),
        }
    })
}

/// The same for a text that is not logged elsewhere.
pub(in crate::kafka) fn told_without_addresses(text: &str) -> Cow<'_, str> {
    static LOG: LazyLock<Log> = LazyLock::new(Log::default);
    let told = without_addresses(text);
    if told != text && LOG.is_new(text, Instant::now()) {
        tracing::warn!(detail = text, "Kafka's client reports a failure");
    }
    told
}

/// What was logged lately.
#[derive(Debug, Default)]
struct Log(Mutex<HashMap<String, Instant>>);

impl Log {
    /// Whether the text is to be logged now.
    fn is_new(&self, text: &str, now: Instant) -> bool {
        let mut known = self.0.lock();
        if known.contains_key(text) || known.len() >= KNOWN {
            known.retain(|_, at| now.saturating_duration_since(*at) < LOGGED);
        }
        if known.contains_key(text) || known.len() >= KNOWN {
            return false;
        }
        known.insert(text.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_told_by_its_id_or_as_a_broker() {
        for (text, told) in [
            (
                "kafka-1.internal:9092/17: Connect to ipv4#10.1.2.3:9092 failed: Connection refused",
                "broker 17: Connect to a broker failed: Connection refused",
            ),
            (
                "sasl_ssl://kafka:9093/bootstrap: SASL authentication error: no",
                "a broker: SASL authentication error: no",
            ),
            (
                "Failed to resolve 'kafka-1.internal:9092': Name or service not known",
                "Failed to resolve 'a broker': Name or service not known",
            ),
            (
                "connection to [2001:db8::7]:9092 was closed by ipv6#[::1]:9092",
                "connection to a broker was closed by a broker",
            ),
            ("localhost:9 and kafka:29092", "a broker and a broker"),
            ("10.1.2.3 does not answer", "a broker does not answer"),
            (
                "certificate not valid for name \"kafka-1.internal\"; certificate is only valid for \
                 DnsName(\"other.internal\") or IpAddress(10.0.0.1)",
                "certificate not valid for the broker's name; certificate is only valid for a broker \
                 or a broker",
            ),
        ] {
            assert_eq!(without_addresses(text), told);
        }
    }

    #[test]
    fn a_message_without_a_broker_address_stays_as_it_is() {
        for text in [
            "Topic orders has no partition 3",
            "orders:12 at 10:15:00",
            "message size 352518912 is too large",
            "Kafka 4.0.0 answers: no",
            "2/2 brokers are down",
        ] {
            assert_eq!(without_addresses(text), text);
        }
    }

    #[test]
    fn the_same_words_are_logged_once_in_a_while_and_not_without_bound() {
        let log = Log::default();
        let at = Instant::now();
        assert!(log.is_new("a", at));
        assert!(!log.is_new("a", at + LOGGED / 2));
        assert!(log.is_new("a", at + LOGGED));
        for n in 1..KNOWN {
            assert!(log.is_new(&n.to_string(), at + LOGGED));
        }
        assert!(!log.is_new("one more", at + LOGGED));
        assert!(log.is_new("one more", at + LOGGED * 2));
    }
}
