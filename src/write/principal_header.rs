//! The header by which a record says who wrote it through the gateway (`kafka.principal_header`).
//!
//! The gateway puts it on every record that it writes, and refuses records of clients that have it
//! already: whoever reads the topic can rely on it, as far as nobody else writes there past the gateway.
//! A dead letter says whose session gave the record up. Who wrote the record itself is kept beside it,
//! under the name that dead letters give to what is the original's.

use bytes::Bytes;
use serde::Serialize;

use crate::auth::identity::Identity;
use crate::kafka::fault::{Fault, FaultKind};
use crate::observe::audit::short;
use crate::record::{Header, ProducerRecord};
use crate::reserved::ORIGINAL;

/// The header's name, and what follows from it.
#[derive(Debug)]
pub(super) struct PrincipalHeader {
    name: String,
    /// The same for the writer of a record that became a dead letter.
    original: String,
}

/// Who wrote a record, with the names that the audit log has for it.
#[derive(Serialize)]
struct WrittenBy<'a> {
    known_by: &'a str,
    issuer: &'a str,
    principal: &'a str,
}

impl PrincipalHeader {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            original: format!("{ORIGINAL}{name}"),
        }
    }

    /// What is wrong with a client's record that has the header already, in whatever case: readers that
    /// pass over case must not be deceived either.
    pub(super) fn fault_in(&self, record: &ProducerRecord) -> Option<Fault> {
        let is_own = |name: &str| {
            name.eq_ignore_ascii_case(&self.name) || name.eq_ignore_ascii_case(&self.original)
        };
        let forged = record.headers.iter().find(|header| is_own(&header.name))?;
        let message = format!(
            "headers: {} is written by the gateway alone (kafka.principal_header): expected \
             records without it",
            forged.name
        );
        Some(Fault {
            field: Some("/headers".into()),
            ..Fault::new(FaultKind::ReservedHeader, message)
        })
    }

    /// Says on each of the records that `principal` writes it.
    pub(super) fn put_on(&self, principal: &Identity, records: &mut [ProducerRecord]) {
        let value = Bytes::from(value(principal));
        for record in records {
            record.headers.push(Header {
                name: self.name.clone(),
                value: Some(value.clone()),
            });
        }
    }

    /// Renames what the original of a dead letter had under the name, so that the name is free.
    pub(super) fn set_aside(&self, letter: &mut ProducerRecord) {
        for header in &mut letter.headers {
            if header.name.eq_ignore_ascii_case(&self.name) {
                header.name.clone_from(&self.original);
            }
        }
    }
}

/// A JSON object, its fields always in the same order. Names that are very long are cut as in the audit
/// log, where the same principal is found by the same text.
fn value(principal: &Identity) -> Vec<u8> {
    let written_by = WrittenBy {
        known_by: principal.kind().name(),
        issuer: &short(principal.issuer()),
        principal: &short(principal.subject()),
    };
    // Texts cannot fail it.
    serde_json::to_vec(&written_by).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(headers: &[(&str, &str)]) -> ProducerRecord {
        let header = |(name, value): &(&str, &str)| Header {
            name: (*name).to_owned(),
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
        };
        ProducerRecord {
            headers: headers.iter().map(header).collect(),
            ..ProducerRecord::default()
        }
    }

    fn headers(record: &ProducerRecord) -> Vec<(&str, &str)> {
        record
            .headers
            .iter()
            .map(|header| {
                let value = header.value.as_deref().unwrap_or_default();
                (header.name.as_str(), std::str::from_utf8(value).unwrap())
            })
            .collect()
    }

    #[test]
    fn the_principal_header_has_kind_issuer_and_subject() {
        let said = |identity: &Identity| String::from_utf8(value(identity)).unwrap();
        assert_eq!(
            said(&Identity::of_token("https://issuer.test", "ann".to_owned())),
            r#"{"known_by":"token","issuer":"https://issuer.test","principal":"ann"}"#
        );
        assert_eq!(
            said(&Identity::of_certificate("CN=ca", "CN=\"a\"\n")),
            r#"{"known_by":"certificate","issuer":"CN=ca","principal":"CN=\"a\"\n"}"#
        );
        assert_eq!(
            said(&Identity::anonymous()),
            r#"{"known_by":"anonymous","issuer":"","principal":"anonymous"}"#
        );
        // A realm takes the place of the issuer, and what is very long has an end.
        let long = Identity::of_token("i", "x".repeat(10_000)).in_realm(Some("staff"));
        let text = said(&long);
        assert!(text.starts_with(r#"{"known_by":"realm","issuer":"staff","principal":"xxx"#));
        assert!(text.contains("…sha256:") && text.len() < 400, "{text}");
    }

    #[test]
    fn the_principal_header_comes_after_the_clients_own_headers() {
        let header = PrincipalHeader::new("written-by");
        let mut records = [record(&[("a", "1")]), record(&[])];
        header.put_on(&Identity::anonymous(), &mut records);
        let value = r#"{"known_by":"anonymous","issuer":"","principal":"anonymous"}"#;
        assert_eq!(headers(&records[0]), [("a", "1"), ("written-by", value)]);
        assert_eq!(headers(&records[1]), [("written-by", value)]);
    }

    #[test]
    fn a_record_of_a_client_with_the_principal_header_is_refused_in_any_case() {
        let header = PrincipalHeader::new("written-by");
        for name in [
            "written-by",
            "Written-By",
            "WRITTEN-BY",
            "original-written-by",
            "Original-Written-By",
        ] {
            let fault = header.fault_in(&record(&[("a", "1"), (name, "ann")]));
            let fault = fault.unwrap_or_else(|| panic!("{name}"));
            assert_eq!(fault.kind, FaultKind::ReservedHeader);
            let says = format!("headers: {name} is written by the gateway alone");
            assert!(fault.message.starts_with(&says), "{fault}");
            assert!(!fault.retriable);
        }
        for name in ["written", "written-by-whom", "x-written-by", ""] {
            assert_eq!(header.fault_in(&record(&[(name, "ann")])), None, "{name}");
        }
    }

    #[test]
    fn a_dead_letter_keeps_who_wrote_the_original() {
        let header = PrincipalHeader::new("written-by");
        let mut letter = record(&[
            ("original-written-by", "first"),
            ("a", "1"),
            ("Written-By", "second"),
        ]);
        header.set_aside(&mut letter);
        assert_eq!(
            headers(&letter),
            [
                ("original-written-by", "first"),
                ("a", "1"),
                ("original-written-by", "second")
            ]
        );
    }
}
