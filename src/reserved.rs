//! Names that are not free. Whose a topic is, by its name: the users', the tools' around Kafka, or Kafka's
//! own; and which headers of dead letters are the gateway's.
//!
//! [`keeper`] decides for every API what is never created by a first use, what no client may
//! write to, and what only an administrator may touch.

/// Where Kafka keeps its own state. Groups, transactions, share groups, the cluster's metadata and
/// tiered storage stand or fall with these, and Kafka makes each of them with settings of its own.
const OF_KAFKA: [&str; 5] = [
    "__consumer_offsets",
    "__transaction_state",
    "__share_group_state",
    "__cluster_metadata",
    "__remote_log_metadata",
];

/// Whose a topic is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeper {
    /// Anybody's: created by a first use where `kafka.auto_create_topics` is on.
    Users,
    /// Its name begins with two underscores, as tools around Kafka call theirs. It is written to if it
    /// exists, with the permission `admin` where there are permissions, and never created by a first use.
    Tools,
    /// Kafka's own: never created, and never written to, whatever the permissions.
    Kafka,
}

/// Whose `topic` is.
pub fn keeper(topic: &str) -> Keeper {
    if OF_KAFKA.iter().any(|own| collides(own, topic)) {
        Keeper::Kafka
    } else if topic.starts_with("__") {
        Keeper::Tools
    } else {
        Keeper::Users
    }
}

/// Kafka takes names that differ only in `.` and `_` for one: it refuses to create the second, so a
/// topic `__consumer.offsets` would keep it from ever making its own.
fn collides(own: &str, topic: &str) -> bool {
    own.len() == topic.len()
        && own
            .bytes()
            .zip(topic.bytes())
            .all(|(own, other)| own == other || (own == b'_' && other == b'.'))
}

/// What stands before the names of headers that say something of the original.
pub const ORIGINAL: &str = "original-";

/// Whether a dead letter has a header of this name, in whatever case, from the gateway.
pub fn is_of_dead_letters(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with(ORIGINAL) || matches!(&*name, "error" | "failed-at" | "deliveries")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_topic_tells_whether_kafka_its_tools_or_users_own_it() {
        for own in OF_KAFKA {
            assert_eq!(keeper(own), Keeper::Kafka, "{own}");
        }
        for same in [
            "__consumer.offsets",
            "..consumer_offsets",
            "_.transaction_state",
        ] {
            assert_eq!(keeper(same), Keeper::Kafka, "{same}");
        }
        for tools in ["__", "__dead", "__consumer_offsets2", "__Consumer_offsets"] {
            assert_eq!(keeper(tools), Keeper::Tools, "{tools}");
        }
        for users in [
            "",
            "orders",
            "_schemas",
            "consumer_offsets",
            "a__consumer_offsets",
        ] {
            assert_eq!(keeper(users), Keeper::Users, "{users}");
        }
    }
}
