//! The metrics of the process, in Prometheus' text format. Names are Prometheus style with units;
//! labels are bounded: routes, methods, status codes. Those that clients make up, the names of topics and
//! groups, have files of their own beside this one.

use std::collections::HashMap;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use metrics::{
    Counter, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    histogram,
};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use parking_lot::RwLock;

use super::{groups, lag, topics};

/// Upper bounds of the request duration histogram, in seconds.
const DURATION_BUCKETS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// Installs the recorder that every metric of the process goes to.
///
/// # Errors
///
/// One is installed already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(
            Matcher::Suffix("_duration_seconds".to_owned()),
            DURATION_BUCKETS,
        )?
        .install_recorder()?;
    describe_counter!(
        "http_requests_total",
        "Requests by method, route and status code"
    );
    describe_histogram!(
        "http_request_duration_seconds",
        Unit::Seconds,
        "From the request's head to the answer's head, by method and route"
    );
    describe_gauge!(
        "http_connections",
        "Open connections on the public listeners"
    );
    describe_counter!(
        "http_connections_refused_total",
        "Connections closed at once, by the limit that was reached"
    );
    describe_gauge!(
        "http_body_bytes",
        Unit::Bytes,
        "What request bodies that wait in memory take now, of limits.body_total_bytes"
    );
    describe_counter!(
        "http_bodies_refused_total",
        "Requests whose bodies found no room in limits.body_total_bytes"
    );
    describe_histogram!(
        "kafka_produce_duration_seconds",
        Unit::Seconds,
        "From handing a batch to the producer to its last acknowledgement"
    );
    describe_gauge!(
        "kafka_producer_queue_records",
        "Records that wait for their acknowledgement, in librdkafka's queue or under way"
    );
    describe_gauge!(
        "kafka_producer_queue_bytes",
        Unit::Bytes,
        "The bytes of their keys, values and headers"
    );
    describe_histogram!(
        "kafka_commit_duration_seconds",
        Unit::Seconds,
        "From the order to commit offsets to the broker's answer"
    );
    describe_gauge!(
        "kafka_principal_clients",
        "Principals that have Kafka clients of their own (kafka.identity)"
    );
    describe_gauge!("websocket_sessions", "Open WebSocket sessions");
    describe_gauge!(
        "websocket_subscriptions",
        "Subscriptions of WebSocket sessions, by mode"
    );
    describe_counter!(
        "websocket_closes_total",
        "WebSocket sessions that ended, by close code; 1006 is a lost connection"
    );
    describe_counter!(
        "websocket_records_delivered_total",
        "Records sent to WebSocket sessions"
    );
    describe_counter!(
        "websocket_records_redelivered_total",
        "Of these, records that had been sent before"
    );
    describe_gauge!(
        "websocket_records_in_flight",
        "Records that were sent to WebSocket sessions and are not acknowledged"
    );
    describe_counter!(
        "websocket_acks_total",
        "Tags and positions that WebSocket clients acknowledged"
    );
    describe_counter!(
        "websocket_nacks_total",
        "Records that WebSocket clients could not handle"
    );
    describe_counter!(
        "websocket_ack_timeouts_total",
        "Records that were not acknowledged in time"
    );
    describe_counter!(
        "websocket_dead_letters_total",
        "Records written to a dead-letter topic"
    );
    describe_counter!(
        "websocket_records_produced_total",
        "Records written by WebSocket sessions"
    );
    describe_streams();
    describe_counter!(
        "rest_consumer_instances_ended_total",
        "Consumer instances that ended, by reason"
    );
    describe_counter!(
        "kafka_producer_replaced_total",
        "Times that the producer failed for good and was replaced"
    );
    describe_counter!(
        "schema_checks_total",
        "Keys and values that were checked by a schema, by part and result"
    );
    describe_counter!(
        "schema_reload_failures_total",
        "Times that files of schema.folder had changed and could not be used"
    );
    describe_gauge!(
        "schema_files_invalid",
        "Files of schema.folder that cannot be used as they are now"
    );
    describe_counter!(
        "audit_entries_lost_total",
        "Entries of the audit log that were not written, by reason"
    );
    Ok(handle)
}

/// All that is known now, in Prometheus' text format.
pub fn render(handle: &PrometheusHandle) -> String {
    let mut text = handle.render();
    lag::render(&mut text);
    groups::render(&mut text);
    topics::render(&mut text);
    text
}

/// Streams of records, and the shared reads under them.
fn describe_streams() {
    describe_gauge!(
        "stream_readers",
        "Open streams of records, tails of WebSocket sessions among them, by door"
    );
    describe_gauge!("stream_lanes", "Ways to show records that streams share");
    describe_counter!(
        "stream_records_encoded_total",
        "Records made into what a lane shows, once for all of its streams"
    );
    describe_counter!(
        "stream_records_delivered_total",
        "Records given to streams, by door"
    );
    describe_counter!(
        "stream_gaps_total",
        "Gaps that streams were told of, by reason"
    );
    describe_counter!(
        "stream_readers_cut_total",
        "Streams whose reader had stopped reading"
    );
    describe_gauge!(
        "tail_upstreams",
        "Topics that are read for followers, each once for an isolation level"
    );
    describe_gauge!("tail_followers", "Who follows them");
    describe_counter!(
        "tail_wakes_total",
        "How often one of them was told that something came"
    );
    describe_gauge!(
        "tail_ring_bytes",
        Unit::Bytes,
        "What is kept of them for followers"
    );
    describe_gauge!(
        "tail_ring_age_seconds",
        Unit::Seconds,
        "The age of the oldest of it"
    );
    describe_counter!(
        "tail_upstream_fetches_total",
        "Fetches of the readers of followed topics"
    );
    describe_counter!(
        "tail_upstream_restarts_total",
        "Times that such a reader failed and went on with another connection"
    );
    describe_counter!("tail_records_total", "Records that such readers have read");
    describe_gauge!(
        "tail_catchup_readers",
        "Reads under way for followers that are not in the ring"
    );
    describe_gauge!(
        "tail_catchup_bytes",
        "Bytes of pages that are held for them"
    );
    describe_counter!(
        "tail_catchup_pages_dropped_total",
        "Pages that were dropped before they were finished, for others"
    );
    describe_counter!(
        "stream_records_conflated_total",
        "Records that newer ones took the place of"
    );
    describe_counter!("tail_catchup_pages_total", "Pages read from Kafka for them");
    describe_counter!(
        "tail_gaps_total",
        "Offsets that followers did not get, by reason"
    );
}

/// Counts requests, with the handles of what has been counted before at hand: to look one up in the
/// recorder costs more than all else that is done for a small request.
#[derive(Default)]
pub struct Requests {
    routes: RwLock<HashMap<Box<str>, Vec<Counted>>>,
}

/// The handles of one combination of labels.
#[derive(Clone)]
struct Counted {
    method: &'static str,
    status: StatusCode,
    count: Counter,
    duration: Histogram,
}

impl Requests {
    /// Counts one request. `route` is one of the paths that there are, not what a client sent.
    pub fn count(&self, method: &Method, route: &str, status: StatusCode, duration: Duration) {
        let method = label(method);
        if let Some(counted) = self.routes.read().get(route)
            && let Some(known) = counted
                .iter()
                .find(|known| known.status == status && known.method == method)
        {
            return known.add(duration);
        }
        let new = Counted::new(method, route, status);
        new.add(duration);
        // Somebody else may have added the same one meanwhile; two handles count into one metric.
        self.routes
            .write()
            .entry(route.into())
            .or_default()
            .push(new);
    }
}

impl Counted {
    fn new(method: &'static str, route: &str, status: StatusCode) -> Self {
        let route = route.to_owned();
        Self {
            method,
            status,
            count: counter!("http_requests_total",
                "method" => method, "route" => route.clone(), "status" => status.as_u16().to_string()),
            duration: histogram!("http_request_duration_seconds",
                "method" => method, "route" => route),
        }
    }

    fn add(&self, duration: Duration) {
        self.count.increment(1);
        self.duration.record(duration);
    }
}

/// Methods are the client's to choose, so only the well-known ones become labels.
fn label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// Collects what the process uses, under the names of Prometheus' own client libraries.
pub fn process() -> metrics_process::Collector {
    let collector = metrics_process::Collector::default();
    collector.describe();
    collector
}
