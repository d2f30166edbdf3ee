//! Client quotas: how much a user, a client id or an address may take of the brokers.

use std::collections::BTreeMap;
use std::time::Duration;

use krafka::admin::{
    AlterClientQuotasOptions, ClientQuotaAlteration, ClientQuotaEntity, ClientQuotaFilter,
    DescribeClientQuotasOptions, QuotaMatch,
};

use super::{Admin, bounded};
use crate::kafka::fault::{Fault, FaultKind};

/// By what clients are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum QuotaEntityType {
    /// The user that they have logged in as.
    User,
    /// The id that they give themselves.
    ClientId,
    /// Where they connect from.
    Ip,
}

impl QuotaEntityType {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::User, Self::ClientId, Self::Ip];

    /// The protocol's word.
    fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::ClientId => "client-id",
            Self::Ip => "ip",
        }
    }

    fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.word() == word)
    }
}

/// Whom a quota applies to: a name for each type that counts. `None` is everyone of the type who has no quota of
/// their own.
pub(crate) type QuotaEntity = BTreeMap<QuotaEntityType, Option<String>>;

/// Quotas by name, such as `producer_byte_rate`.
pub(crate) type Quotas = BTreeMap<String, f64>;

/// Changes of quotas by name; `None` takes one away.
pub(crate) type QuotaChanges = BTreeMap<String, Option<f64>>;

fn to_krafka(entity: &QuotaEntity) -> ClientQuotaEntity {
    let parts = entity.iter();
    parts
        .map(|(kind, name)| (kind.word(), name.as_deref()))
        .collect()
}

/// `None` where it has a part of a type that the gateway does not know.
fn from_krafka(entity: ClientQuotaEntity) -> Option<QuotaEntity> {
    let parts = entity.0.into_iter();
    parts
        .map(|(kind, name)| Some((QuotaEntityType::of_word(&kind)?, name)))
        .collect()
}

impl Admin {
    /// The quotas of those who have these parts, in order. `is_strict`: of those who have no other parts.
    ///
    /// # Errors
    ///
    /// `NotAuthorized`, `Unsupported` (the embedded broker), and whatever kept the brokers from answering.
    pub(crate) async fn quotas(
        &self,
        parts: &QuotaEntity,
        is_strict: bool,
        bound: Duration,
    ) -> Result<BTreeMap<QuotaEntity, Quotas>, Fault> {
        let mut filter = ClientQuotaFilter::all().strict(is_strict);
        for (kind, name) in parts {
            let matching = match name {
                Some(name) => QuotaMatch::Exact(name.clone()),
                None => QuotaMatch::Default,
            };
            filter = filter.component(kind.word(), matching);
        }
        let link = self.link(bound).await?;
        let ask = |left| {
            let options = DescribeClientQuotasOptions::default().timeout(left);
            link.client.describe_client_quotas(filter.clone(), options)
        };
        let found = link.any_broker(bound, ask).await?.into_iter();
        Ok(found
            .filter_map(|(entity, quotas)| {
                Some((from_krafka(entity)?, quotas.into_iter().collect()))
            })
            .collect())
    }

    /// Changes quotas, all of an entity's or none, and says of each in its place whether it is done. Each entity
    /// may stand there once. With `validate_only` Kafka looks at the changes and makes none.
    ///
    /// # Errors
    ///
    /// Whatever kept the brokers from answering.
    pub(crate) async fn alter_quotas(
        &self,
        changes: &[(QuotaEntity, QuotaChanges)],
        validate_only: bool,
        bound: Duration,
    ) -> Result<Vec<Result<(), Fault>>, Fault> {
        let asked = changes.iter().map(|(entity, changes)| {
            let changes = changes.iter().map(|(name, value)| (name.clone(), *value));
            ClientQuotaAlteration::new(to_krafka(entity), changes.collect())
        });
        let asked: Vec<ClientQuotaAlteration> = asked.collect();
        let options = AlterClientQuotasOptions::default()
            .timeout(bound)
            .validate_only(validate_only);
        let client = &self.link(bound).await?.client;
        let mut done = bounded(bound, client.alter_client_quotas(asked, options)).await?;
        let answer =
            |(entity, _): &(QuotaEntity, QuotaChanges)| match done.remove(&to_krafka(entity)) {
                Some(answer) => answer.map_err(Fault::from),
                None => Err(Fault::new(
                    FaultKind::Unavailable,
                    "The broker's answer does not mention it.",
                )),
            };
        Ok(changes.iter().map(answer).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entity_is_the_same_on_both_sides() {
        let entity: QuotaEntity = [
            (QuotaEntityType::User, Some("alice".to_owned())),
            (QuotaEntityType::ClientId, None),
        ]
        .into();
        let theirs = to_krafka(&entity);
        assert_eq!(theirs.0.get("client-id"), Some(&None));
        assert_eq!(from_krafka(theirs), Some(entity));
        let unknown = [("planet", Some("mars"))].into_iter().collect();
        assert_eq!(from_krafka(unknown), None);
    }
}
