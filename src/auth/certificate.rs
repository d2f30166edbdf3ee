//! Client certificates: whom one was made out to, as text.
//!
//! The text is the name of a principal, so two subjects must never read the same. It is therefore
//! written by the rules of RFC 4514 and not by the X.509 library's own, which escape nothing: there
//! `CN=a, O=b` may be one name or two.

use std::fmt::Write;

use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// Longest subject. It becomes a key of maps and stands in log lines.
const MOST_SUBJECT_BYTES: usize = 1024;

/// The certificate that a client has shown and whose chain the listener has verified. It is among
/// the extensions of each request of such a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The whole subject in the form of RFC 4514, the most specific part first:
    /// `CN=orders,OU=Payments,O=Example`.
    pub subject: String,
    /// The authority that has signed it, in the same form.
    pub issuer: String,
    /// Its `notAfter`, in seconds since 1970: what it has opened ends then.
    pub expires: u64,
}

/// Why nobody is meant by a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It is not DER, or not X.509.
    #[error("the client certificate cannot be read")]
    Unreadable,
    /// It is not valid now. A resumed session brings a certificate that was verified when the
    /// session began, and may have expired since.
    #[error("the client certificate has expired")]
    Expired,
    /// The subject is empty; names in extensions are not looked at.
    #[error("the client certificate has no subject")]
    Nameless,
    /// The subject is longer than anyone's name.
    #[error("the client certificate's subject has more than {MOST_SUBJECT_BYTES} bytes")]
    Long,
}

impl ClientCertificate {
    /// Reads a certificate in DER that has been verified.
    ///
    /// # Errors
    /// [`Unusable`]: such a certificate must not make anyone a principal.
    pub fn read(der: &[u8]) -> Result<Self, Unusable> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| Unusable::Unreadable)?;
        if !certificate.validity().is_valid() {
            return Err(Unusable::Expired);
        }
        let expires = certificate.validity().not_after.timestamp();
        let subject = text_of(certificate.subject());
        match subject.len() {
            0 => Err(Unusable::Nameless),
            length if length > MOST_SUBJECT_BYTES => Err(Unusable::Long),
            _ => Ok(Self {
                subject,
                issuer: text_of(certificate.issuer()),
                // One of before 1970 is not valid now.
                expires: u64::try_from(expires).unwrap_or(0),
            }),
        }
    }
}

/// A name in the form of RFC 4514: the last of its parts first.
fn text_of(name: &X509Name<'_>) -> String {
    let parts: Vec<_> = name.iter_rdn().collect();
    let mut text = String::new();
    for (at, part) in parts.into_iter().rev().enumerate() {
        for (within, attribute) in part.iter().enumerate() {
            match (at, within) {
                (0, 0) => {}
                (_, 0) => text.push(','),
                _ => text.push('+'),
            }
            push_attribute(&mut text, attribute);
        }
    }
    text
}

/// Types that are written by name: those of RFC 4514, and a few more that certificates are made
/// with. The names are those that OpenSSL prints, so that one can be copied from there.
const TYPES: &[(&str, &str)] = &[
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "street"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.12", "title"),
    ("2.5.4.42", "GN"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

fn push_attribute(text: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let kind = attribute.attr_type().to_id_string();
    let named = TYPES.iter().find(|(id, _)| *id == kind);
    let value = attribute.as_str().ok();
    // RFC 4514, section 2.4: a type that has no name here goes with the value's bytes.
    match (named, value) {
        (Some((_, name)), Some(value)) => {
            text.push_str(name);
            text.push('=');
            push_value(text, value);
        }
        _ => {
            text.push_str(named.map_or(kind.as_str(), |(_, name)| name));
            text.push_str("=#");
            push_bytes(text, attribute);
        }
    }
}

fn push_value(text: &mut String, value: &str) {
    let last = value.chars().count().saturating_sub(1);
    for (at, c) in value.chars().enumerate() {
        match c {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => {
                text.push('\\');
                text.push(c);
            }
            ' ' | '#' if at == 0 => {
                text.push('\\');
                text.push(c);
            }
            ' ' if at == last => text.push_str("\\ "),
            // Among these are line ends, which have no place in a name that is logged.
            c if c.is_control() => {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    let _ = write!(text, "\\{byte:02X}");
                }
            }
            c => text.push(c),
        }
    }
}

/// The value as it is encoded, tag and length included, in hexadecimal.
fn push_bytes(text: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let value = attribute.attr_value();
    // Values in a name are of universal types, whose tags fit the low five bits.
    let constructed = u32::from(value.header.is_constructed()) << 5;
    let tag = (u32::from(value.class() as u8) << 6) | constructed | value.tag().0;
    let _ = write!(text, "{tag:02x}");
    let length = value.data.len();
    if length < 0x80 {
        let _ = write!(text, "{length:02x}");
    } else {
        let bytes = length.to_be_bytes();
        let used = bytes.iter().skip_while(|byte| **byte == 0);
        let _ = write!(text, "{:02x}", 0x80 | used.clone().count());
        for byte in used {
            let _ = write!(text, "{byte:02x}");
        }
    }
    for byte in value.data {
        let _ = write!(text, "{byte:02x}");
    }
}

#[cfg(test)]
mod tests;
