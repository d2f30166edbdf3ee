//! Fields of bodies that several APIs read: topics, partitions, and how many of something.

use std::collections::HashSet;
use std::sync::Arc;

use crate::codec::parse::string;
use crate::http::error::ApiError;
use crate::http::json_object::{Object, unacceptable, wrong};
use crate::kafka::metadata::check_topic_name;
use crate::record::TopicPartition;

/// A time: milliseconds since 1970, or ISO 8601
#[derive(Debug, utoipa::ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub enum Moment {
    /// Milliseconds since 1970, more than 0.
    Milliseconds(i64),
    /// ISO 8601.
    Text(String),
}

impl Object<'_> {
    /// The names of topics, each once.
    ///
    /// # Errors
    ///
    /// 400 for what is no array of strings; 400 with 40002 for a name that no topic can have.
    pub(in crate::api) fn topics(&self, name: &str) -> Result<Option<Vec<Arc<str>>>, ApiError> {
        let Some(list) = self.list(name)? else {
            return Ok(None);
        };
        let mut topics: Vec<Arc<str>> = Vec::with_capacity(list.len());
        let mut seen = HashSet::new();
        for (index, raw) in list.into_iter().enumerate() {
            let at = format!("{}/{index}", self.pointer(name));
            let topic = string(raw).ok_or_else(|| wrong(&at, "a topic's name", raw))?;
            let topic = topic_name(&topic, &at)?;
            if seen.insert(Arc::clone(&topic)) {
                topics.push(topic);
            }
        }
        Ok(Some(topics))
    }

    /// The partition that `topic` and `partition` name.
    ///
    /// # Errors
    ///
    /// 400 and 422, naming the field; 400 with 40002 for a name that no topic can have.
    pub(in crate::api) fn partition(&self) -> Result<TopicPartition, ApiError> {
        self.partition_by("topic", "partition")
    }

    /// The partition that these two fields name.
    ///
    /// # Errors
    ///
    /// As [`Object::partition`].
    pub(in crate::api) fn partition_by(
        &self,
        topic: &str,
        partition: &str,
    ) -> Result<TopicPartition, ApiError> {
        let name = self.needed(topic, self.text(topic)?)?;
        let name = topic_name(&name, &self.pointer(topic))?;
        let number = self.needed(partition, self.natural(partition)?)?;
        Ok(TopicPartition {
            topic: name,
            partition: number,
        })
    }

    /// A number from 0.
    ///
    /// # Errors
    ///
    /// 400 for what is no whole number, 422 for one below 0 or too large.
    pub(in crate::api) fn natural<T: TryFrom<i64>>(
        &self,
        name: &str,
    ) -> Result<Option<T>, ApiError> {
        self.whole_from(0, name)
    }

    /// A number from 1.
    ///
    /// # Errors
    ///
    /// 400 for what is no whole number, 422 for one below 1 or too large.
    pub(in crate::api) fn count<T: TryFrom<i64>>(&self, name: &str) -> Result<Option<T>, ApiError> {
        self.whole_from(1, name)
    }

    fn whole_from<T: TryFrom<i64>>(&self, least: i64, name: &str) -> Result<Option<T>, ApiError> {
        let Some(given) = self.number(name)? else {
            return Ok(None);
        };
        match T::try_from(given) {
            Ok(number) if given >= least => Ok(Some(number)),
            _ => {
                let what = format!("expected a whole number from {least}, not {given}");
                Err(unacceptable(&self.pointer(name), what))
            }
        }
    }
}

/// A name that a topic can have; `at` is where it stands.
///
/// # Errors
///
/// 400 with 40002 for another one.
pub(in crate::api) fn topic_name(name: &str, at: &str) -> Result<Arc<str>, ApiError> {
    match check_topic_name(name) {
        Ok(()) => Ok(Arc::from(name)),
        Err(fault) => Err(ApiError::from_fault(&fault).at(at.to_owned())),
    }
}
