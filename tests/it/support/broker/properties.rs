//! The `server.properties` of a node.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Builder, CONTROLLER_ID, DATA, GuardedPorts, Role, SESSION_TIMEOUT_MS};

pub(super) fn server_properties(
    id: u32,
    port: u16,
    ports: Option<GuardedPorts>,
    role: Role,
    builder: &Builder,
    folder: &Path,
) -> String {
    let replicas = builder.nodes.min(3).to_string();
    let (roles, mut listeners, controller_port) = match role {
        Role::Both { controller_port } => (
            "broker,controller",
            format!("PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}"),
            controller_port,
        ),
        Role::Broker { controller_port } => (
            "broker",
            format!("PLAINTEXT://127.0.0.1:{port}"),
            controller_port,
        ),
        Role::Controller { controller_port } => (
            "controller",
            format!("CONTROLLER://127.0.0.1:{controller_port}"),
            controller_port,
        ),
    };
    let controller_id = match role {
        Role::Both { .. } => id,
        Role::Broker { .. } | Role::Controller { .. } => CONTROLLER_ID,
    };
    let guard = match (&builder.secured, ports) {
        (Some(secured), Some(ports)) => {
            if !matches!(role, Role::Controller { .. }) {
                listeners.push_str(&format!(
                    ",SASL://127.0.0.1:{},MUTUAL://127.0.0.1:{},TOKENS://127.0.0.1:{}",
                    ports.sasl, ports.mutual, ports.tokens
                ));
            }
            secured.properties(folder)
        }
        _ => Vec::new(),
    };
    let session = SESSION_TIMEOUT_MS.to_string();
    let data = folder.join(DATA).display().to_string();
    let voters = format!("{controller_id}@127.0.0.1:{controller_port}");
    let defaults = [
        (
            "listener.security.protocol.map",
            "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_SSL,MUTUAL:SSL,TOKENS:SASL_SSL",
        ),
        ("inter.broker.listener.name", "PLAINTEXT"),
        ("broker.heartbeat.interval.ms", "500"),
        // Records of tests have times of other years. Half a minute after its start, and every five minutes
        // from then on, a broker would take those from the log that are older than a week.
        ("log.retention.ms", "-1"),
        // A broker that has nothing to do leaves the cores to what is tested: this one writes a record into
        // the cluster's metadata so often, 500 ms by default, and each node reads it.
        ("metadata.max.idle.interval.ms", "10000"),
        ("broker.session.timeout.ms", &session),
        ("auto.create.topics.enable", "false"),
        ("default.replication.factor", &replicas),
        ("offsets.topic.num.partitions", "1"),
        ("offsets.topic.replication.factor", &replicas),
        ("transaction.state.log.num.partitions", "1"),
        ("transaction.state.log.replication.factor", &replicas),
        ("transaction.state.log.min.isr", "1"),
        ("share.coordinator.state.topic.num.partitions", "1"),
        (
            "share.coordinator.state.topic.replication.factor",
            &replicas,
        ),
        ("share.coordinator.state.topic.min.isr", "1"),
        // No wait for further members when a group's first one has come.
        ("group.initial.rebalance.delay.ms", "0"),
    ];
    let id = id.to_string();
    let fixed = [
        ("process.roles", roles),
        ("node.id", &id),
        ("listeners", &listeners),
        ("controller.listener.names", "CONTROLLER"),
        ("controller.quorum.voters", &voters),
        ("log.dirs", &data),
    ];
    let mut all: BTreeMap<&str, &str> = defaults.into_iter().collect();
    all.extend(
        guard
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str())),
    );
    all.extend(
        builder
            .properties
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str())),
    );
    all.extend(fixed);
    all.iter()
        .map(|(name, value)| format!("{name}={value}\n"))
        .collect()
}
