//! The partition that a request names for all of its records that name none of their own.

use super::{Parsed, Unfit};
use crate::codec::error::DecodeError;
use crate::record::ProducerRecord;

impl Parsed {
    /// The same with `partition` for the records that name none of their own.
    ///
    /// # Errors
    ///
    /// As [`in_partition`].
    pub fn in_partition(self, partition: Option<i32>) -> Result<Self, DecodeError> {
        match self {
            Self::One(record) => in_partition(record, partition).map(Self::One),
            Self::Many(records) => records
                .into_iter()
                .enumerate()
                .map(|(index, record)| {
                    place(record, partition).map_err(|unfit| unfit.at(&format!("/{index}")))
                })
                .collect::<Result<_, _>>()
                .map(Self::Many),
        }
    }
}

/// Gives the record the partition that the request names for those that name none of their own.
///
/// # Errors
///
/// The record names another one: which of the two is meant, nobody can tell.
pub fn in_partition(
    record: ProducerRecord,
    partition: Option<i32>,
) -> Result<ProducerRecord, DecodeError> {
    place(record, partition).map_err(|unfit| unfit.at(""))
}

fn place(record: ProducerRecord, partition: Option<i32>) -> Result<ProducerRecord, Unfit> {
    match (record.partition, partition) {
        (Some(own), Some(named)) if own != named => Err(Unfit::new(
            "partition",
            format!(
                "the record is for partition {own}, and the parameter partition names {named}; \
                 leave one of them out"
            ),
        )),
        (own, named) => Ok(ProducerRecord {
            partition: own.or(named),
            ..record
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::parse::{self, Formats};

    fn read(body: &'static str, partition: Option<i32>) -> Result<Vec<Option<i32>>, String> {
        let parsed = parse::body(&body.into(), Formats::default()).unwrap();
        match parsed.in_partition(partition) {
            Ok(Parsed::One(record)) => Ok(vec![record.partition]),
            Ok(Parsed::Many(records)) => Ok(records.iter().map(|one| one.partition).collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_record_without_a_partition_gets_the_named_one() {
        let many = r#"[{"value":1},{"value":2,"partition":3},{"value":3,"partition":null}]"#;
        assert_eq!(read(many, Some(3)), Ok(vec![Some(3); 3]));
        assert_eq!(read(many, None), Ok(vec![None, Some(3), None]));
        assert_eq!(read(r#"{"value":1}"#, Some(0)), Ok(vec![Some(0)]));
    }

    #[test]
    fn a_record_of_another_partition_is_named() {
        let error = read(r#"[{"value":1},{"value":2,"partition":3}]"#, Some(1)).unwrap_err();
        assert!(error.starts_with("/1/partition: "), "{error}");
        assert!(
            error.contains("partition 3") && error.contains("names 1"),
            "{error}"
        );
        let error = read(r#"{"value":2,"partition":0}"#, Some(1)).unwrap_err();
        assert!(error.starts_with("/partition: "), "{error}");
    }
}
