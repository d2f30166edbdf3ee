//! Content encodings of request bodies (RFC 9110, section 8.4): gzip, unpacked as it is read, so that
//! the limits that hold for a body hold for what comes out of it.
//!
//! A stream of records (NDJSON) has no limit of size. What comes out of one is bounded by what the client
//! sends: [`MOST_RATIO`] times as much.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_compression::tokio::bufread::GzipDecoder;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream, StreamExt};
use tokio::io::AsyncReadExt;
use tokio_util::io::StreamReader;

use super::error::ApiError;
use super::negotiate;

/// Bytes that are unpacked at a time.
const PIECE: usize = 64 << 10;
/// Most bytes that a stream has for each byte that the client sends.
const MOST_RATIO: u64 = 100;
/// The first bytes of a stream, for which that does not hold: a short one may pack very well.
const FREE: u64 = 1 << 20;

/// Why the rest of a packed body is not read.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A stream has far more bytes than the client sends.
    #[error(
        "the stream is more than {MOST_RATIO} times as large as its packed form, after its first \
         {FREE} bytes: pack less, or send it unpacked"
    )]
    TooDense,
    /// It is not what gzip makes, or only the beginning of that.
    #[error("the body cannot be unpacked as gzip: {0}")]
    Corrupt(io::Error),
    /// The connection broke off.
    #[error(transparent)]
    Broken(io::Error),
}

impl Fault {
    /// The one that made reading a body fail, if it was one of these.
    pub fn of(error: &axum::Error) -> Option<&Self> {
        let mut error: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(cause) = error {
            if let Some(fault) = cause.downcast_ref::<Self>() {
                return Some(fault);
            }
            error = cause.source();
        }
        None
    }
}

enum Encoding {
    Identity,
    Gzip,
    Other,
}

impl Encoding {
    fn of(headers: &HeaderMap) -> Self {
        let mut named = headers.get_all(header::CONTENT_ENCODING).iter();
        let (Some(name), None) = (named.next(), named.next()) else {
            return match headers.contains_key(header::CONTENT_ENCODING) {
                true => Self::Other,
                false => Self::Identity,
            };
        };
        match name.to_str().unwrap_or_default().trim() {
            name if name.eq_ignore_ascii_case("identity") => Self::Identity,
            name if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") => {
                Self::Gzip
            }
            _ => Self::Other,
        }
    }
}

/// Whether the body is unpacked here, so that its length does not tell what comes out of it.
pub fn is_packed(headers: &HeaderMap) -> bool {
    matches!(Encoding::of(headers), Encoding::Gzip)
}

/// The body as it was before it was packed.
///
/// # Errors
///
/// 415 for an encoding that is not gzip; `Accept-Encoding` says so too.
pub fn decoded(headers: &HeaderMap, body: Body) -> Result<Body, ApiError> {
    decoded_as(headers, body, negotiate::is_ndjson(headers))
}

/// The same for a body that is read as a stream, whatever its type says: nothing bounds how long it is, and so
/// what comes out of it is bounded by what the client sends.
///
/// # Errors
///
/// As [`decoded`].
pub fn decoded_stream(headers: &HeaderMap, body: Body) -> Result<Body, ApiError> {
    decoded_as(headers, body, true)
}

fn decoded_as(headers: &HeaderMap, body: Body, is_stream: bool) -> Result<Body, ApiError> {
    match Encoding::of(headers) {
        Encoding::Identity => Ok(body),
        Encoding::Gzip => Ok(unpacked(body, is_stream)),
        Encoding::Other => Err(ApiError::plain(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the body's encoding is not one that is unpacked here; gzip is",
        )
        .at("Content-Encoding")
        .header(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"))),
    }
}

type Packed = BoxStream<'static, io::Result<Bytes>>;

/// A packed body while it is read.
enum Reading {
    Unpacking(Box<Unpacker>),
    /// Unpacking has failed. Whoever reads on does so to throw the rest away.
    Failed(Packed),
}

struct Unpacker {
    decoder: GzipDecoder<StreamReader<Packed, Bytes>>,
    /// Bytes that have come; counted where the ratio is bounded.
    packed: Option<Arc<AtomicU64>>,
    unpacked: u64,
    piece: BytesMut,
}

fn unpacked(body: Body, is_stream: bool) -> Body {
    let counted = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&counted);
    let packed: Packed = body
        .into_data_stream()
        .map(move |piece| {
            let piece = piece.map_err(io::Error::other)?;
            count.fetch_add(piece.len() as u64, Ordering::Relaxed);
            Ok(piece)
        })
        .boxed();
    let mut decoder = GzipDecoder::new(StreamReader::new(packed));
    // Packed files may be put one behind the other (RFC 1952, section 2.2).
    decoder.multiple_members(true);
    let reading = Reading::Unpacking(Box::new(Unpacker {
        decoder,
        packed: is_stream.then_some(counted),
        unpacked: 0,
        piece: BytesMut::new(),
    }));
    Body::from_stream(stream::unfold(reading, |reading| async move {
        match reading {
            Reading::Unpacking(mut unpacker) => match unpacker.next().await {
                Ok(None) => None,
                Ok(Some(piece)) => Some((Ok(piece), Reading::Unpacking(unpacker))),
                Err(fault) => {
                    let rest = unpacker.decoder.into_inner().into_inner();
                    Some((Err(fault), Reading::Failed(rest)))
                }
            },
            Reading::Failed(mut rest) => {
                let piece = rest.next().await?.map_err(Fault::Broken);
                Some((piece, Reading::Failed(rest)))
            }
        }
    }))
}

impl Unpacker {
    async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        self.piece.reserve(PIECE);
        let read = self.decoder.read_buf(&mut self.piece).await;
        let length = read.map_err(|error| {
            // What the connection says goes through the decoder as it is.
            match error
                .get_ref()
                .is_some_and(|inner| inner.is::<axum::Error>())
            {
                true => Fault::Broken(error),
                false => Fault::Corrupt(error),
            }
        })?;
        if length == 0 {
            return Ok(None);
        }
        self.unpacked += length as u64;
        if let Some(packed) = &self.packed {
            let most = packed.load(Ordering::Relaxed).saturating_mul(MOST_RATIO);
            if self.unpacked > FREE.max(most) {
                return Err(Fault::TooDense);
            }
        }
        Ok(Some(self.piece.split().freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::body;
    use async_compression::tokio::write::GzipEncoder;
    use http_body_util::BodyExt;
    use std::time::Duration;
    use tokio::io::AsyncWriteExt;

    async fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzipEncoder::new(Vec::new());
        encoder.write_all(bytes).await.unwrap();
        encoder.shutdown().await.unwrap();
        encoder.into_inner()
    }

    async fn read(encoding: &str, bytes: Vec<u8>, limit: usize) -> Result<Bytes, StatusCode> {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_ENCODING,
            HeaderValue::from_str(encoding).unwrap(),
        );
        let settings = crate::config::Settings::default();
        let bodies = body::Bodies::new(&settings.limits, &settings.http);
        body::read(
            bodies.part(&crate::auth::Principal::anonymous()),
            &headers,
            bytes.into(),
            limit,
            Duration::from_secs(5),
        )
        .await
        .map_err(|error| error.status())
    }

    #[tokio::test]
    async fn a_packed_body_is_unpacked_within_the_limit() {
        let bytes = b"[{\"value\":1}]".repeat(100);
        let gzip = packed(&bytes).await;
        assert_eq!(
            read("gzip", gzip.clone(), bytes.len()).await.as_deref(),
            Ok(&bytes[..])
        );
        let twice = [gzip.clone(), gzip.clone()].concat();
        assert_eq!(
            read("x-gzip", twice, 1 << 20).await.map(|b| b.len()),
            Ok(2600)
        );
        assert_eq!(
            read("gzip", gzip.clone(), bytes.len() - 1).await,
            Err(StatusCode::PAYLOAD_TOO_LARGE)
        );
        assert_eq!(
            read("gzip", gzip[..20].to_vec(), 1 << 20).await,
            Err(StatusCode::BAD_REQUEST)
        );
        assert_eq!(
            read("gzip", b"not packed".to_vec(), 1 << 20).await,
            Err(StatusCode::BAD_REQUEST)
        );
        assert_eq!(
            read("br", gzip, 1 << 20).await,
            Err(StatusCode::UNSUPPORTED_MEDIA_TYPE)
        );
        assert!(read("identity", bytes, 1 << 20).await.is_ok());
    }

    #[tokio::test]
    async fn a_gzip_bomb_is_cut_off_at_the_limit() {
        let bomb = packed(&vec![0; 64 << 20]).await;
        assert!(bomb.len() < 100 << 10);
        assert_eq!(
            read("gzip", bomb, 1 << 20).await,
            Err(StatusCode::PAYLOAD_TOO_LARGE)
        );
    }

    /// What comes of a packed stream: its bytes, and why it ended.
    async fn stream(packed: Vec<u8>) -> (Vec<u8>, Option<Fault>) {
        let pieces: Vec<_> = packed
            .chunks(1000)
            .map(|piece| Ok(Bytes::copy_from_slice(piece)))
            .collect();
        of_pieces(pieces).await
    }

    async fn of_pieces(pieces: Vec<io::Result<Bytes>>) -> (Vec<u8>, Option<Fault>) {
        let headers = HeaderMap::from_iter([
            (header::CONTENT_ENCODING, HeaderValue::from_static("gzip")),
            (
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/x-ndjson; charset=utf-8"),
            ),
        ]);
        let length: usize = pieces.iter().flatten().map(Bytes::len).sum();
        let body = Body::from_stream(stream::iter(pieces));
        let mut body = decoded(&headers, body).unwrap();
        let mut read = Vec::new();
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => read.extend_from_slice(&frame.into_data().unwrap()),
                Err(error) => {
                    let told = |fault: &io::Error| io::Error::other(fault.to_string());
                    let fault = match Fault::of(&error).unwrap() {
                        Fault::TooDense => Fault::TooDense,
                        Fault::Corrupt(error) => Fault::Corrupt(told(error)),
                        Fault::Broken(error) => Fault::Broken(told(error)),
                    };
                    // The rest can be read to be thrown away, as it came.
                    assert!(body.collect().await.unwrap().to_bytes().len() <= length);
                    return (read, Some(fault));
                }
            }
        }
        (read, None)
    }

    #[tokio::test]
    async fn a_stream_ends_that_has_far_more_than_the_client_sends() {
        let blank = vec![b'\n'; 8 << 20];
        let (read, fault) = stream(packed(&blank).await).await;
        assert!(matches!(fault, Some(Fault::TooDense)), "{fault:?}");
        assert!(read.len() as u64 <= FREE.max(packed(&blank).await.len() as u64 * MOST_RATIO));

        // The first MiB may be as dense as it likes.
        let short = vec![b'\n'; 1 << 20];
        let (read, fault) = stream(packed(&short).await).await;
        assert!(fault.is_none(), "{fault:?}");
        assert_eq!(read, short);

        let mut lines = Vec::new();
        for n in 0..100_000 {
            lines.extend_from_slice(format!("{{\"value\":{n}}}\n").as_bytes());
        }
        let (read, fault) = stream(packed(&lines).await).await;
        assert!(fault.is_none(), "{fault:?}");
        assert_eq!(read, lines);
    }

    #[tokio::test]
    async fn a_stream_that_is_no_gzip_is_told_from_one_that_broke_off() {
        let mut gzip = packed(b"{\"value\":1}\n").await;
        gzip.truncate(gzip.len() - 4);
        let (_, fault) = stream(gzip).await;
        assert!(matches!(fault, Some(Fault::Corrupt(_))), "{fault:?}");
        let (_, fault) = stream(b"not packed".repeat(1000)).await;
        assert!(matches!(fault, Some(Fault::Corrupt(_))), "{fault:?}");
        let start = Bytes::copy_from_slice(&packed(b"{\"value\":1}\n").await[..12]);
        let gone = io::Error::from(io::ErrorKind::ConnectionReset);
        let (_, fault) = of_pieces(vec![Ok(start), Err(gone)]).await;
        assert!(matches!(fault, Some(Fault::Broken(_))), "{fault:?}");
    }

    #[tokio::test]
    async fn two_encodings_are_not_unpacked() {
        let mut headers = HeaderMap::new();
        for name in ["gzip", "br"] {
            headers.append(header::CONTENT_ENCODING, HeaderValue::from_static(name));
        }
        let refused = decoded(&headers, Body::empty()).unwrap_err();
        assert_eq!(refused.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
}
