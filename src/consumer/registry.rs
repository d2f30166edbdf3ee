//! Which consumer instances there are, whose they are, how many they may be, and the word that the
//! gateway stops.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::task::TaskTracker;

use super::{End, Handle, Instance, Options, Stop};
use crate::auth::Principal;
use crate::auth::identity::Identity;
use crate::config::Settings;
use crate::limits::memory::Budget;
use crate::limits::quota::{Exceeded, Share, Shares};
use crate::observe::groups::GroupMetrics;
use crate::passthrough::KafkaClients;

/// Group and name.
type Key = (String, String);

/// All instances of the process. Clones share them.
#[derive(Debug, Clone)]
pub struct Instances {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    budget: Arc<Budget>,
    idle_timeout: Duration,
    most: usize,
    shares: Shares,
    tasks: TaskTracker,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    instances: HashMap<Key, Entry>,
    next: u64,
    is_draining: bool,
}

#[derive(Debug)]
struct Entry {
    handle: Handle,
    owner: Arc<Identity>,
    id: u64,
    _share: Share,
    /// They are kept as long as it is there, and get the tokens that its principal shows.
    _clients: Arc<KafkaClients>,
    /// It is counted as long as this is there.
    _metrics: GroupMetrics,
}

/// Why an instance was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// There is one of this name in the group.
    #[error("the group has an instance of this name already; delete it, or choose another name")]
    Exists,
    /// `limits.instances`.
    #[error("the gateway has as many consumer instances as it may (limits.instances)")]
    Full,
    /// `limits.instances_per_principal`.
    #[error(
        "the principal has as many consumer instances as it may (limits.instances_per_principal); \
         delete one"
    )]
    OfPrincipal,
    /// The gateway is about to stop.
    #[error("the gateway is about to stop; try again")]
    Draining,
}

/// Why there is no instance to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookupError {
    /// This process has none of this name.
    Unknown,
    /// It is another principal's.
    Foreign,
}

impl Instances {
    /// None yet, by `settings`.
    pub fn new(settings: &Settings, budget: Arc<Budget>) -> Self {
        let limits = &settings.limits;
        Self {
            inner: Arc::new(Inner {
                budget,
                idle_timeout: settings.rest.consumer_instance_timeout,
                most: limits.instances,
                shares: Shares::new(settings, limits.instances_per_principal),
                tasks: TaskTracker::new(),
                known: Mutex::default(),
            }),
        }
    }

    /// Makes one, which is `principal`'s and works with `clients`.
    ///
    /// # Errors
    ///
    /// [`CreateError`].
    pub fn make(
        &self,
        options: Options,
        clients: &Arc<KafkaClients>,
        principal: Principal,
    ) -> Result<(), CreateError> {
        let inner = &self.inner;
        let key = (options.group.clone(), options.name.clone());
        let owner = Arc::clone(principal.identity());
        let mut known = inner.known.lock();
        if known.is_draining {
            return Err(CreateError::Draining);
        }
        if known.instances.contains_key(&key) {
            return Err(CreateError::Exists);
        }
        if known.instances.len() >= inner.most {
            return Err(CreateError::Full);
        }
        let share = inner.shares.take(&owner);
        let share = share.map_err(|Exceeded| CreateError::OfPrincipal)?;
        let (instance, handle) = Instance::new(
            options,
            Arc::clone(&clients.cluster),
            Arc::clone(&inner.budget),
            inner.idle_timeout,
            principal,
        );
        let gone = handle.gone().clone();
        known.next += 1;
        let id = known.next;
        let entry = Entry {
            handle,
            _metrics: GroupMetrics::of_instance(&key.0, &owner),
            owner,
            id,
            _share: share,
            _clients: Arc::clone(clients),
        };
        known.instances.insert(key.clone(), entry);
        drop(known);
        let forgets = Forgets {
            instances: self.clone(),
            key,
            id,
        };
        inner.tasks.spawn(async move {
            // Whatever ends the task, a panic too: nobody finds it any more, or waits for it.
            let _gone = gone.drop_guard();
            let mut forgets = Some(forgets);
            instance
                .run(|end| {
                    metrics::counter!("rest_consumer_instances_ended_total", "reason" => name(end))
                        .increment(1);
                    forgets.take();
                })
                .await;
        });
        Ok(())
    }

    /// The instance `name` of `group`, if it is `principal`'s.
    ///
    /// # Errors
    ///
    /// [`LookupError`].
    pub fn find(
        &self,
        group: &str,
        name: &str,
        principal: &Principal,
    ) -> Result<Handle, LookupError> {
        let known = self.inner.known.lock();
        let entry = known
            .instances
            .get(&(group.to_owned(), name.to_owned()))
            .ok_or(LookupError::Unknown)?;
        if entry.owner != *principal.identity() {
            return Err(LookupError::Foreign);
        }
        Ok(entry.handle.clone())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.inner.known.lock().instances.len()
    }

    /// The tasks that they run in.
    pub fn tasks(&self) -> &TaskTracker {
        &self.inner.tasks
    }

    /// Tells all of them that the gateway stops: reads end with what there is, requests under way are
    /// answered, groups are left. None is made any more.
    pub fn drain(&self) {
        let mut known = self.inner.known.lock();
        known.is_draining = true;
        let handles: Vec<Handle> = known
            .instances
            .values()
            .map(|entry| entry.handle.clone())
            .collect();
        drop(known);
        for handle in handles {
            handle.stop(Stop::Draining);
        }
        self.inner.tasks.close();
    }
}

/// Takes an instance out of the list when it is dropped.
#[derive(Debug)]
struct Forgets {
    instances: Instances,
    key: Key,
    id: u64,
}

impl Drop for Forgets {
    fn drop(&mut self) {
        let mut known = self.instances.inner.known.lock();
        let is_it = |entry: &Entry| entry.id == self.id;
        if !known.instances.get(&self.key).is_some_and(is_it) {
            return;
        }
        known.instances.remove(&self.key);
    }
}

fn name(end: End) -> &'static str {
    match end {
        End::Deleted => "deleted",
        End::Expired => "expired",
        End::Draining => "stopping",
    }
}
