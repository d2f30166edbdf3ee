//! Going on elsewhere: `positions`.

use std::sync::Arc;

use super::{Instance, InstanceError, SeekTargets, Source, not_assigned};
use crate::kafka::fault::FaultKind;
use crate::kafka::member::{Command, SeekTo};
use crate::record::TopicPartition;

impl Instance {
    /// Goes on elsewhere. What was read ahead from before does not come any more.
    pub(super) async fn seek(&mut self, aims: SeekTargets) -> Result<(), InstanceError> {
        self.settle(super::SETTLING).await?;
        let has_all = |instance: &Self| match &aims {
            SeekTargets::Each(aims) => aims.iter().all(|(p, _)| instance.buffer.has(p)),
            SeekTargets::All(_) => !instance.buffer.partitions().is_empty(),
        };
        if !has_all(self) {
            // The group may be about to let it in.
            self.joined().await;
        }
        let aims: Vec<(TopicPartition, SeekTo)> = match aims {
            SeekTargets::Each(aims) => aims,
            SeekTargets::All(aim) => {
                let partitions = self.buffer.partitions().into_iter();
                partitions.map(|partition| (partition, aim)).collect()
            }
        };
        if let Some((missing, _)) = aims.iter().find(|(p, _)| !self.buffer.has(p)) {
            return Err(not_assigned(missing));
        }
        if aims.is_empty() {
            return Ok(());
        }
        let results = match &self.source {
            Source::Subscribed(_) => {
                self.asked("seeking", |token| Command::Seek {
                    token,
                    positions: aims,
                })
                .await?
            }
            Source::Nowhere | Source::Assigned => {
                let cluster = Arc::clone(&self.cluster);
                let options = Arc::clone(&self.options);
                let asked =
                    cluster
                        .members
                        .places(&options.group, options.isolation, options.reset, &aims);
                let mut places = Vec::with_capacity(aims.len());
                for (partition, spot) in asked.await {
                    let at = spot.map(|spot| spot.at);
                    if let Ok(at) = at {
                        self.buffer.seek(&partition, at);
                    }
                    places.push((partition, at));
                }
                self.keep_count();
                places
            }
        };
        for (partition, result) in results {
            match result {
                Ok(_) => {}
                Err(fault) if fault.kind == FaultKind::NotFound => {
                    return Err(not_assigned(&partition));
                }
                Err(fault) => return Err(fault.into()),
            }
        }
        Ok(())
    }
}
