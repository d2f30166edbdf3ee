//! The echo: what HTTP and parsing cost when nothing stands behind them.
//!
//! Plain axum on a runtime like the gateway's, with none of the gateway's own serving code, layers
//! or metrics in it. The one thing of ours is the parser: the echo reads the same records out of
//! the same body, and answers with JSON of the same shape. It runs as a process of its own, this
//! program started again as `gateway echo`.

use std::process::ExitCode;

use axum::Router;
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::serve::ListenerExt;
use bytes::Bytes;
use tidegate::codec::encode;
use tidegate::codec::parse::{self, Formats, Parsed};
use tidegate::record::RecordMetadata;

/// The word that makes this program an echo.
pub const COMMAND: &str = "echo";

/// What a ready echo says on standard error, before its address.
pub const READY: &str = "echo ready listen=";

/// Serves until it is killed.
pub fn run() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(serve());
    ExitCode::SUCCESS
}

async fn serve() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    eprintln!("{READY}{}", listener.local_addr().expect("a bound socket"));
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    #[expect(
        clippy::disallowed_methods,
        reason = "the echo is no API of the gateway: it is what the APIs are measured against"
    )]
    let router = Router::new().route("/topics/{topic}/records", post(answer));
    axum::serve(listener, router).await.expect("axum serves");
}

async fn answer(Path(topic): Path<String>, body: Bytes) -> Response {
    let records = match parse::body(&body, Formats::default()) {
        Ok(Parsed::One(record)) => vec![record],
        Ok(Parsed::Many(records)) => records,
        Err(_) => return StatusCode::BAD_REQUEST.into_response(),
    };
    let mut out = Vec::with_capacity(2 + records.len() * (80 + topic.len()));
    for record in &records {
        let at = RecordMetadata {
            partition: record.partition.unwrap_or(0),
            offset: Ok(1_000_000),
            timestamp: 1_700_000_000_000,
        };
        encode::written(&mut out, &topic, &at);
    }
    ([(header::CONTENT_TYPE, "application/json")], out).into_response()
}
