//! The row about the lag of a group with commits in many partitions.

use std::rc::Rc;

use super::load::{self, on_this_thread};
use super::report::{Row, Target};
use super::rows::{Bench, direct, driven};

/// Partitions for which the group has committed.
const PARTITIONS: i32 = 1_000;

/// The lag of a group, asked for again and again, next to a client that asks Kafka for what the group has committed
/// and then for the ends of all those partitions in one request.
pub fn lag(bench: &Bench, name: &str) -> Vec<Row> {
    let (topic, group) = ("lag-1000", "lag-1000");
    on_this_thread(bench.direct.create_topics(&[topic.to_owned()], PARTITIONS));
    bench.direct.commit(group, topic, PARTITIONS);
    let cluster = bench.direct.cluster_id();
    let path = format!("/v3/clusters/{cluster}/consumer-groups/{group}/lags");
    let requests = Rc::new(vec![load::get(&path)]);
    vec![bench.rounds(
        name,
        "lags/s",
        Target::None,
        &|server, time| {
            driven(server, 1, async |address| {
                load::closed(address, &requests, 1, time).await
            })
        },
        &|time| direct(|| bench.direct.lags(group, topic, PARTITIONS, time)),
    )]
}
