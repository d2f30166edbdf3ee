//! The requests about ACLs as bytes, and their answers: versions 1 (with pattern types), 2 and 3 (the compact
//! encoding; 3 also has users as resources).

use bytes::{Buf, Bytes, BytesMut};
use krafka::__private::protocol::{Decode, Encode, KafkaString, TaggedFields, TryEncode};
use krafka::__private::util::varint::{decode_unsigned_varint, encode_unsigned_varint};

use super::{Acl, AclFilter, AclOperation, AclPermission, DeletedAcls, PatternType, ResourceType};
use crate::kafka::fault::addresses::told_without_addresses;
use crate::kafka::fault::{Fault, FaultKind};

/// The first version with the compact encoding.
const COMPACT: i16 = 2;

/// Writes a request.
struct Writer {
    bytes: BytesMut,
    is_compact: bool,
}

impl Writer {
    fn new(version: i16) -> Self {
        Self {
            bytes: BytesMut::new(),
            is_compact: version >= COMPACT,
        }
    }

    fn i8(&mut self, number: i8) {
        number.encode(&mut self.bytes);
    }

    fn text(&mut self, text: Option<&str>) -> Result<(), Fault> {
        let text = KafkaString(text.map(str::to_owned));
        match self.is_compact {
            true => text.try_encode_compact(&mut self.bytes)?,
            false => text.try_encode(&mut self.bytes)?,
        }
        Ok(())
    }

    /// How many elements an array has.
    fn count(&mut self, count: usize) -> Result<(), Fault> {
        let too_many = || Fault::new(FaultKind::TooLarge, "More ACLs than a request takes.");
        let count = i32::try_from(count).map_err(|_| too_many())?;
        match self.is_compact {
            // One more than there are: none at all is 0. It is not negative.
            true => encode_unsigned_varint(count.unsigned_abs() + 1, &mut self.bytes),
            false => count.encode(&mut self.bytes),
        }
        Ok(())
    }

    /// The end of a structure.
    fn end(&mut self) -> Result<(), Fault> {
        if self.is_compact {
            TaggedFields::default().try_encode(&mut self.bytes)?;
        }
        Ok(())
    }

    fn filter(&mut self, filter: &AclFilter) -> Result<(), Fault> {
        self.i8(filter.resource_type.code());
        self.text(filter.resource_name.as_deref())?;
        self.i8(filter.pattern_type.code());
        self.text(filter.principal.as_deref())?;
        self.text(filter.host.as_deref())?;
        self.i8(filter.operation.code());
        self.i8(filter.permission.code());
        self.end()
    }
}

/// Reads an answer.
pub(super) struct Reader {
    bytes: Bytes,
    is_compact: bool,
}

/// An answer that is cut off or garbled.
pub(super) fn unreadable() -> Fault {
    Fault::new(FaultKind::Other, "The broker's answer could not be read.")
}

impl Reader {
    pub(super) fn new(bytes: Bytes, version: i16) -> Self {
        Self {
            bytes,
            is_compact: version >= COMPACT,
        }
    }

    fn i8(&mut self) -> Result<i8, Fault> {
        Ok(i8::decode(&mut self.bytes)?)
    }

    pub(super) fn i32(&mut self) -> Result<i32, Fault> {
        Ok(i32::decode(&mut self.bytes)?)
    }

    fn text(&mut self) -> Result<Option<String>, Fault> {
        let text = match self.is_compact {
            true => KafkaString::decode_compact(&mut self.bytes)?,
            false => KafkaString::decode(&mut self.bytes)?,
        };
        Ok(text.0)
    }

    fn present_text(&mut self) -> Result<String, Fault> {
        self.text()?.ok_or_else(unreadable)
    }

    /// An array of what `one` reads.
    fn array<T>(&mut self, one: impl Fn(&mut Self) -> Result<T, Fault>) -> Result<Vec<T>, Fault> {
        let count = match self.is_compact {
            true => decode_unsigned_varint(&mut self.bytes)?.checked_sub(1),
            false => u32::try_from(self.i32()?).ok(),
        };
        let count = count.and_then(|count| usize::try_from(count).ok());
        // Each takes a byte at least, so that no number makes the gateway reserve more than was sent.
        let count = count.filter(|count| *count <= self.bytes.remaining());
        let count = count.ok_or_else(unreadable)?;
        let mut all = Vec::with_capacity(count);
        for _ in 0..count {
            all.push(one(self)?);
            self.end()?;
        }
        Ok(all)
    }

    /// The end of a structure.
    fn end(&mut self) -> Result<(), Fault> {
        if self.is_compact {
            TaggedFields::decode(&mut self.bytes)?;
        }
        Ok(())
    }

    /// A code and the broker's words for it.
    fn outcome(&mut self) -> Result<Result<(), Fault>, Fault> {
        let code = i16::decode(&mut self.bytes)?;
        let message = self.text()?;
        let message = message.as_deref().map(told_without_addresses);
        Ok(match code {
            0 => Ok(()),
            code => Err(Fault::from_protocol_code(code, message.as_deref())),
        })
    }

    fn resource(&mut self) -> Result<(ResourceType, String, PatternType), Fault> {
        Ok((
            ResourceType::of_code(self.i8()?),
            self.present_text()?,
            PatternType::of_code(self.i8()?),
        ))
    }

    /// The rest of an ACL for this resource.
    fn acl(&mut self, resource: (ResourceType, String, PatternType)) -> Result<Acl, Fault> {
        let (resource_type, resource_name, pattern_type) = resource;
        Ok(Acl {
            resource_type,
            resource_name,
            pattern_type,
            principal: self.present_text()?,
            host: self.present_text()?,
            operation: AclOperation::of_code(self.i8()?),
            permission: AclPermission::of_code(self.i8()?),
        })
    }
}

/// Asks for the ACLs that fit a filter.
pub(super) fn describe(filter: &AclFilter, version: i16) -> Result<BytesMut, Fault> {
    let mut writer = Writer::new(version);
    writer.filter(filter)?;
    Ok(writer.bytes)
}

/// The answer to that, behind the throttle time, as of all of them. What the broker refused is inside.
pub(super) fn described(reader: &mut Reader) -> Result<Result<Vec<Acl>, Fault>, Fault> {
    if let Err(fault) = reader.outcome()? {
        return Ok(Err(fault));
    }
    let resources = reader.array(|reader| {
        let resource = reader.resource()?;
        reader.array(|reader| reader.acl(resource.clone()))
    })?;
    reader.end()?;
    Ok(Ok(resources.into_iter().flatten().collect()))
}

/// Asks for ACLs to be made.
pub(super) fn create(acls: &[Acl], version: i16) -> Result<BytesMut, Fault> {
    let mut writer = Writer::new(version);
    writer.count(acls.len())?;
    for acl in acls {
        writer.i8(acl.resource_type.code());
        writer.text(Some(&acl.resource_name))?;
        writer.i8(acl.pattern_type.code());
        writer.text(Some(&acl.principal))?;
        writer.text(Some(&acl.host))?;
        writer.i8(acl.operation.code());
        writer.i8(acl.permission.code());
        writer.end()?;
    }
    writer.end()?;
    Ok(writer.bytes)
}

/// What became of each, in the order of the request.
pub(super) fn created(reader: &mut Reader) -> Result<Vec<Result<(), Fault>>, Fault> {
    let outcomes = reader.array(Reader::outcome)?;
    reader.end()?;
    Ok(outcomes)
}

/// Asks for the ACLs that fit a filter to be deleted.
pub(super) fn delete(filter: &AclFilter, version: i16) -> Result<BytesMut, Fault> {
    let mut writer = Writer::new(version);
    writer.count(1)?;
    writer.filter(filter)?;
    writer.end()?;
    Ok(writer.bytes)
}

/// What became of the ACLs that each filter fits.
pub(super) fn deleted(reader: &mut Reader) -> Result<Vec<Result<DeletedAcls, Fault>>, Fault> {
    let filters = reader.array(|reader| {
        let outcome = reader.outcome()?;
        let acls = reader.array(|reader| {
            let outcome = reader.outcome()?;
            let resource = reader.resource()?;
            Ok((reader.acl(resource)?, outcome))
        })?;
        let mut deleted = DeletedAcls::default();
        for (acl, outcome) in acls {
            match outcome {
                Ok(()) => deleted.deleted.push(acl),
                Err(fault) => deleted.failed.push((acl, fault)),
            }
        }
        Ok(outcome.map(|()| deleted))
    })?;
    reader.end()?;
    Ok(filters)
}

#[cfg(test)]
mod tests {
    use super::super::KafkaWord;
    use super::*;

    fn acl() -> Acl {
        Acl {
            resource_type: ResourceType::User,
            resource_name: "al".to_owned(),
            pattern_type: PatternType::Prefixed,
            principal: "User:b".to_owned(),
            host: "*".to_owned(),
            operation: AclOperation::TwoPhaseCommit,
            permission: AclPermission::Allow,
        }
    }

    #[test]
    fn numbers_are_those_of_the_protocol() {
        for (place, one) in ResourceType::ALL.iter().enumerate() {
            assert_eq!(usize::try_from(one.code()), Ok(place));
            assert_eq!(ResourceType::of_code(one.code()), *one);
            assert_eq!(ResourceType::of_word(one.word()), Some(*one));
        }
        for (place, one) in AclOperation::ALL.iter().enumerate() {
            assert_eq!(usize::try_from(one.code()), Ok(place));
        }
        let patterns = PatternType::ALL.iter().map(|one| (one.code(), one.word()));
        let expected = [
            (0, "UNKNOWN"),
            (1, "ANY"),
            (2, "MATCH"),
            (3, "LITERAL"),
            (4, "PREFIXED"),
        ];
        assert!(patterns.eq(expected));
        assert_eq!(AclOperation::of_code(99), AclOperation::Unknown);
        let word = AclOperation::of_word("two_phase_Commit");
        assert_eq!(word, Some(AclOperation::TwoPhaseCommit));
        assert_eq!(AclOperation::of_word("juggle"), None);
    }

    #[test]
    fn requests_are_written_in_both_encodings() {
        let new = create(&[acl()], 3).unwrap();
        assert_eq!(
            &new[..],
            b"\x02\x07\x03al\x04\x07User:b\x02*\x0f\x03\x00\x00"
        );
        let old = create(&[acl()], 1).unwrap();
        let expected = b"\0\0\0\x01\x07\0\x02al\x04\0\x06User:b\0\x01*\x0f\x03";
        assert_eq!(&old[..], expected);
        let filter = AclFilter {
            resource_type: ResourceType::Any,
            resource_name: None,
            pattern_type: PatternType::Match,
            principal: None,
            host: Some(String::new()),
            operation: AclOperation::Any,
            permission: AclPermission::Deny,
        };
        let asked = describe(&filter, 3).unwrap();
        assert_eq!(&asked[..], b"\x01\0\x02\0\x01\x01\x02\0");
        let asked = delete(&filter, 3).unwrap();
        assert_eq!(&asked[..], b"\x02\x01\0\x02\0\x01\x01\x02\0\0");
        let asked = describe(&filter, 1).unwrap();
        assert_eq!(&asked[..], b"\x01\xff\xff\x02\xff\xff\0\0\x01\x02");
    }

    #[test]
    fn answers_are_read_in_both_encodings() {
        let new = b"\0\0\0\x02\x07\x03al\x04\x02\x07User:b\x02*\x0f\x03\0\0\0";
        let read = described(&mut Reader::new(Bytes::from_static(new), 3));
        assert_eq!(read, Ok(Ok(vec![acl()])));
        let old = b"\0\0\xff\xff\0\0\0\x01\x07\0\x02al\x04\0\0\0\x01\0\x06User:b\0\x01*\x0f\x03";
        let read = described(&mut Reader::new(Bytes::from_static(old), 1));
        assert_eq!(read, Ok(Ok(vec![acl()])));

        // One filter fitted two ACLs, the second of which was kept.
        let deletion = b"\x02\0\0\0\x03\0\0\0\x07\x03al\x04\x07User:b\x02*\x0f\x03\0\0\x1f\0\x07\x03al\x04\x07User:b\x02*\x0f\x03\0\0\0";
        let mut read = deleted(&mut Reader::new(Bytes::from_static(deletion), 3)).unwrap();
        let read = read.pop().unwrap().unwrap();
        assert_eq!(read.deleted, [acl()]);
        let (kept, fault) = read.failed.first().unwrap();
        assert_eq!((kept, fault.kind), (&acl(), FaultKind::NotAuthorized));
    }

    #[test]
    fn what_a_broker_refuses_is_no_empty_list() {
        let refused = b"\0\x36\x0aNo author\x01\0";
        let read = described(&mut Reader::new(Bytes::from_static(refused), 3)).unwrap();
        assert_eq!(read.unwrap_err().kafka_error, Some("SECURITY_DISABLED"));
        let outcomes = b"\x03\0\0\0\0\0\x2a\x06Wrong\0\0";
        let mut read = created(&mut Reader::new(Bytes::from_static(outcomes), 3)).unwrap();
        let second = read.pop().unwrap().unwrap_err();
        assert_eq!(second.kind, FaultKind::Invalid);
        assert!(second.message.contains("Wrong"), "{}", second.message);
        assert_eq!(read, [Ok(())]);
    }

    #[test]
    fn an_answer_that_is_cut_off_is_an_error() {
        let whole = b"\0\0\0\x02\x07\x03al\x04\x02\x07User:b\x02*\x0f\x03\0\0\0";
        for length in 0..whole.len() {
            let cut = Bytes::copy_from_slice(&whole[..length]);
            assert!(described(&mut Reader::new(cut, 3)).is_err(), "{length}");
        }
        // More elements than bytes.
        let many = b"\0\0\0\xff\xff\xff\xff\x0f";
        assert!(described(&mut Reader::new(Bytes::from_static(many), 3)).is_err());
        let many = b"\x7f\xff\xff\xff";
        assert!(created(&mut Reader::new(Bytes::from_static(many), 1)).is_err());
    }
}
