//! `[[auth.topic_filters]]`: which records of a topic a principal is shown, over every API.
//!
//! An API that gives records away asks [`visibility`] for the topics that it reads, and gives only what the
//! [`RecordVisibility`] shows, beside whatever the client wants to see of it. A claim that a filter needs
//! and the token does not have is a refusal: then nothing is shown. Nor is a record that a filter cannot
//! judge, see [`Filter::policy`].

use std::sync::Arc;

use serde_json::Value;

use super::Principal;
use super::audit_context::Decision;
use super::permission::Action;
use crate::config::{AuthSettings, TopicFilterSettings};
use crate::filter::template::{Template, TemplateError, Unfilled};
use crate::filter::{Filter, Spec};
use crate::glob::Glob;
use crate::record::ConsumerRecord;

/// The name of a principal as a claim. It is the token's, or the subject of a certificate.
const SUBJECT: &str = "sub";
/// Whose word that is, as a claim.
const ISSUER: &str = "iss";

/// All filters.
#[derive(Debug, Default)]
pub struct Policies {
    list: Vec<Policy>,
}

#[derive(Debug)]
struct Policy {
    /// Its path in the settings.
    name: String,
    topics: Glob,
    template: Template,
}

/// What a principal is shown by.
#[derive(Debug, Clone, Default)]
pub enum View {
    /// Nobody has said yet: it is shown nothing.
    #[default]
    Unsaid,
    /// The filters of the settings, of which there may be none.
    By(Arc<Policies>),
}

/// Why nothing of a topic is shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotVisible {
    /// A filter could not be filled in.
    #[error("{policy} shows records of topic {topic} by {unfilled}")]
    Unfilled {
        /// The topic.
        topic: String,
        /// The filter, by its path in the settings.
        policy: String,
        /// What is missing.
        unfilled: Unfilled,
    },
    /// It has not been said what the principal is shown.
    #[error("nobody has said which records of topic {topic} are shown")]
    Unsaid {
        /// The topic.
        topic: String,
    },
}

impl NotVisible {
    /// The topic of which nothing is shown.
    pub fn topic(&self) -> &str {
        match self {
            Self::Unfilled { topic, .. } | Self::Unsaid { topic } => topic,
        }
    }
}

/// Which records a principal is shown of some topics.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RecordVisibility {
    /// All of them.
    Everything,
    /// Of each of these topics what its filter wants, and of others nothing.
    Of(Vec<(Arc<str>, Filter)>),
}

impl Policies {
    /// The filters of `settings`.
    ///
    /// # Errors
    ///
    /// A line for each field that cannot be read, which begins with its path.
    pub fn new(settings: &AuthSettings) -> Result<Self, Vec<String>> {
        let mut list = Vec::new();
        let mut errors = Vec::new();
        for (index, filter) in settings.topic_filters.iter().enumerate() {
            let name = path(index);
            match template(filter) {
                Ok(template) => list.push(Policy {
                    name,
                    topics: Glob::new(&filter.topic),
                    template,
                }),
                Err(error) => errors.push(format!("{name}.{}: {error}", error.field)),
            }
        }
        match errors.is_empty() {
            true => Ok(Self { list }),
            false => Err(errors),
        }
    }

    /// The claims that filters name, and nothing else of a token.
    pub(super) fn claims(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .list
            .iter()
            .flat_map(|policy| policy.template.claims())
            .filter(|name| *name != SUBJECT && *name != ISSUER)
            .map(str::to_owned)
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn filter(&self, principal: &Principal, topic: &str) -> Result<Filter, NotVisible> {
        let subject = Value::String(principal.name().to_owned());
        let issuer = Value::String(principal.identity().issuer().to_owned());
        let claim = |name: &str| match name {
            SUBJECT => Some(&subject),
            ISSUER => Some(&issuer),
            name => principal.claim(name),
        };
        let mut filter = Filter::default();
        for policy in self.list.iter().filter(|p| p.topics.matches(topic)) {
            let filled = policy
                .template
                .fill(&claim)
                .map_err(|unfilled| NotVisible::Unfilled {
                    topic: topic.to_owned(),
                    policy: policy.name.clone(),
                    unfilled,
                })?;
            filter = filter.and(filled);
        }
        Ok(filter)
    }
}

/// What is wrong with the filters, each with the path of its field.
pub fn problems(settings: &AuthSettings) -> Vec<(String, String)> {
    let filters = settings.topic_filters.iter().enumerate();
    filters
        .filter_map(|(index, filter)| {
            let error = template(filter).err()?;
            Some((format!("{}.{}", path(index), error.field), error.problem))
        })
        .collect()
}

fn path(index: usize) -> String {
    format!("auth.topic_filters[{index}]")
}

fn template(filter: &TopicFilterSettings) -> Result<Template, TemplateError> {
    Template::new(&Spec {
        condition: filter.condition.clone(),
        key: filter.key.clone(),
        key_prefix: filter.key_prefix.clone(),
        headers: filter.headers.clone(),
    })
}

/// What `principal` is shown of `topics`. Whoever may do everything sees everything.
///
/// # Errors
///
/// [`NotVisible`], which the audit log is told of: of one of them nothing may be shown, so nothing may be
/// read.
pub fn visibility<'a>(
    principal: &Principal,
    topics: impl IntoIterator<Item = &'a Arc<str>>,
) -> Result<RecordVisibility, NotVisible> {
    let policies = match &principal.view {
        View::By(policies) if policies.list.is_empty() || principal.may_do_everything() => {
            return Ok(RecordVisibility::Everything);
        }
        View::By(policies) => Some(policies),
        View::Unsaid => None,
    };
    let filters = topics.into_iter().map(|topic| match policies {
        Some(policies) => Ok((Arc::clone(topic), policies.filter(principal, topic)?)),
        None => Err(NotVisible::Unsaid {
            topic: topic.to_string(),
        }),
    });
    let filters: Result<Vec<_>, NotVisible> = filters.collect();
    if let Err(not_visible) = &filters {
        principal.audit_context.tell(|| Decision {
            principal: Some(principal.identity()),
            action: Action::Consume.name(),
            kind: "topic",
            resource: not_visible.topic().to_owned(),
            verdict: Err(not_visible.to_string()),
        });
    }
    filters.map(RecordVisibility::Of)
}

/// Whether `principal` is shown any of the topic, for what only lists topics: the audit log is told of
/// nothing.
pub fn may_see(principal: &Principal, topic: &str) -> bool {
    match &principal.view {
        View::By(policies) => {
            principal.may_do_everything() || policies.filter(principal, topic).is_ok()
        }
        View::Unsaid => false,
    }
}

impl RecordVisibility {
    /// The topics that it was made for, where it does not show everything.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<str>> {
        let topics = match self {
            Self::Everything => [].as_slice(),
            Self::Of(topics) => topics.as_slice(),
        };
        topics.iter().map(|(name, _)| name)
    }

    /// Whether the record is shown.
    pub fn shows(&self, record: &ConsumerRecord) -> bool {
        self.asks(&record.topic, |filter| filter.wants(record))
    }

    /// Whether it is as far as its key and headers say, which costs little to find out.
    pub fn may_show(&self, record: &ConsumerRecord) -> bool {
        self.asks(&record.topic, |filter| filter.may_want(record))
    }

    fn asks(&self, topic: &str, wants: impl FnOnce(&Filter) -> bool) -> bool {
        match self {
            Self::Everything => true,
            Self::Of(topics) => topics
                .iter()
                .find(|(name, _)| **name == *topic)
                .is_some_and(|(_, filter)| wants(filter)),
        }
    }

    /// The one key that a record of the topic has where it is shown, if it is known.
    pub fn key(&self, topic: &str) -> Option<&[u8]> {
        match self {
            Self::Everything => None,
            Self::Of(topics) => {
                let (_, filter) = topics.iter().find(|(name, _)| **name == *topic)?;
                filter.key()
            }
        }
    }

    /// Whether some of what these topics have may not be shown.
    pub fn hides(&self) -> bool {
        match self {
            Self::Everything => false,
            Self::Of(topics) => topics.iter().any(|(_, filter)| !filter.is_all()),
        }
    }
}

#[cfg(test)]
mod tests;
