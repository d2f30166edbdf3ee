//! Content encodings of request bodies (RFC 9110, section 8.4): gzip, unpacked as it is read, so that
//! the limits that hold for a body hold for what comes out of it.

use async_compression::tokio::bufread::GzipDecoder;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use futures::TryStreamExt;
use tokio_util::io::{ReaderStream, StreamReader};

use super::error::ApiError;

/// Bytes that are unpacked at a time.
const PIECE: usize = 64 << 10;

/// The body as it was before it was packed.
///
/// # Errors
///
/// 415 for an encoding that is not gzip; `Accept-Encoding` says so too.
pub fn decoded(headers: &HeaderMap, body: Body) -> Result<Body, ApiError> {
    let Some(encoding) = headers.get(header::CONTENT_ENCODING) else {
        return Ok(body);
    };
    match encoding.to_str().unwrap_or_default().trim() {
        "identity" => Ok(body),
        name if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") => {
            let packed = StreamReader::new(body.into_data_stream().map_err(std::io::Error::other));
            let mut decoder = GzipDecoder::new(packed);
            // Packed files may be put one behind the other (RFC 1952, section 2.2).
            decoder.multiple_members(true);
            Ok(Body::from_stream(ReaderStream::with_capacity(
                decoder, PIECE,
            )))
        }
        _ => Err(ApiError::plain(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the body's encoding is not one that is unpacked here; gzip is",
        )
        .at("Content-Encoding")
        .header(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::body;
    use async_compression::tokio::write::GzipEncoder;
    use bytes::Bytes;
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
        let bodies = body::Bodies::new(&crate::config::LimitSettings::default());
        body::read(
            &bodies,
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
    async fn a_bomb_does_not_go_off() {
        let bomb = packed(&vec![0; 64 << 20]).await;
        assert!(bomb.len() < 100 << 10);
        assert_eq!(
            read("gzip", bomb, 1 << 20).await,
            Err(StatusCode::PAYLOAD_TOO_LARGE)
        );
    }
}
