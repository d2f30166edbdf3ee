//! Buckets and bodies, with rates so low or waits so short that no test depends on how fast the
//! machine is.

use std::net::SocketAddr;

use axum::extract::ConnectInfo;
use http_body_util::BodyExt;

use super::*;

fn settings(requests: u32, bytes: u64) -> Settings {
    let mut settings = Settings::default();
    settings.limits.requests_per_second = requests;
    settings.limits.bytes_per_second = bytes;
    settings.http.trusted_proxies = vec!["10.0.0.0/8".into()];
    settings
}

fn from(peer: &str, body: Body) -> Request {
    let mut request = Request::new(body);
    let peer: SocketAddr = peer.parse().unwrap();
    request.extensions_mut().insert(ConnectInfo(peer));
    request
}

fn get() -> Request {
    from("192.0.2.1:1000", Body::empty())
}

fn post(bytes: usize) -> Request {
    from("192.0.2.1:1000", Body::from(vec![b'x'; bytes]))
}

fn chunked(bytes: usize) -> Request {
    let piece = Ok::<_, std::convert::Infallible>(Bytes::from(vec![b'x'; bytes]));
    let stream = futures::stream::iter([piece]);
    from("192.0.2.1:1000", Body::from_stream(stream))
}

fn status(result: Result<Pass, ApiError>) -> u16 {
    result.map_or_else(|error| error.status().as_u16(), |_| 200)
}

#[test]
fn rates_of_zero_make_no_rate_limiter() {
    assert!(RateLimits::new(&settings(0, 0)).is_none());
}

#[test]
fn requests_are_counted_down_and_then_refused() {
    // Where the machine stands still for half a second, a place has come back meanwhile.
    let used_up = || {
        let limits = RateLimits::new(&settings(2, 0)).unwrap();
        let standings = [(); 2].map(|()| limits.check(&get(), None).unwrap().standing);
        let expected = [1, 0].map(|remaining| {
            Some(Standing {
                limit: 2,
                remaining,
                reset: 1,
            })
        });
        let refused = limits.check(&get(), None).err()?;
        (standings == expected).then(|| refused.into_response())
    };
    let response = (0..20).find_map(|_| used_up()).unwrap();
    assert_eq!(response.status(), 429);
    for (name, expected) in [
        ("retry-after", "1"),
        ("ratelimit-limit", "2"),
        ("ratelimit-remaining", "0"),
        ("ratelimit-reset", "1"),
    ] {
        let values: Vec<_> = response.headers().get_all(name).iter().collect();
        assert_eq!(values, [expected], "{name}");
    }
}

#[test]
fn each_principal_has_its_own_bucket_and_each_address_of_the_anonymous() {
    let anonymous = Principal::anonymous();
    let one = from("192.0.2.1:1000", Body::empty());
    let same = from("192.0.2.1:2000", Body::empty());
    let other = from("192.0.2.2:1000", Body::empty());
    let named = Principal::with_permissions("alice", Vec::new());
    let mut behind = from("10.0.0.1:1000", Body::empty());
    let address = HeaderValue::from_static("192.0.2.2");
    behind.headers_mut().insert("x-forwarded-for", address);
    let seen = || {
        let limits = RateLimits::new(&settings(1, 0)).unwrap();
        [
            (&one, &anonymous),
            (&same, &anonymous),
            (&other, &anonymous),
            (&one, &named),
            (&other, &named),
            (&behind, &anonymous),
        ]
        .map(|(request, principal)| status(limits.check(request, Some(principal))))
    };
    // Where the machine stands still for a second, a place has come back meanwhile.
    let expected = [200, 429, 200, 200, 429, 429];
    assert!((0..20).any(|_| seen() == expected), "{:?}", seen());
}

#[test]
fn a_body_of_known_length_pays_at_once_or_is_refused() {
    // Where the machine stands still for a second, there is room again.
    let used_up = || {
        let limits = RateLimits::new(&settings(0, 1000)).unwrap();
        let pass = limits.check(&post(900), None).unwrap();
        assert!(pass.meter.is_none());
        assert_eq!(pass.standing, None);
        Some((limits.check(&post(900), None).err()?, limits))
    };
    let (error, limits) = (0..20).find_map(|_| used_up()).unwrap();
    assert_eq!(error.status(), 429);
    assert!(error.into_body().message.contains("bytes_per_second"));
    assert_eq!(status(limits.check(&get(), None)), 200);
}

#[test]
fn a_body_that_cannot_arrive_in_time_is_told_so() {
    let mut settings = settings(0, 1000);
    settings.http.request_timeout = Duration::from_secs(5);
    let limits = RateLimits::new(&settings).unwrap();
    assert_eq!(status(limits.check(&post(6001), None)), 413);
    assert_eq!(status(limits.check(&post(6000), None)), 200);
}

#[tokio::test]
async fn a_longer_body_is_paid_for_in_pieces() {
    let limits = RateLimits::new(&settings(0, 1000)).unwrap();
    let request = post(1500);
    let meter = limits.check(&request, None).unwrap().meter.unwrap();
    assert_eq!(meter.prepaid, 1000);
    let mut body = Metered::new(request.into_body(), meter);
    let mut pieces = Vec::new();
    while let Some(frame) = body.frame().await {
        pieces.push(frame.unwrap().into_data().unwrap().len());
        let read: usize = pieces.iter().sum();
        assert_eq!(body.size_hint().exact(), Some(1500 - read as u64));
        assert_eq!(body.is_end_stream(), read == 1500);
    }
    // A sixteenth of a second's worth at a time.
    assert_eq!(pieces, [1000, 62, 62, 62, 62, 62, 62, 62, 62, 4]);
}

#[tokio::test]
async fn a_stream_is_slowed_down_and_loses_nothing() {
    let limits = RateLimits::new(&settings(0, 20_000)).unwrap();
    let request = chunked(30_000);
    let meter = limits.check(&request, None).unwrap().meter.unwrap();
    let begun = std::time::Instant::now();
    let body = Metered::new(request.into_body(), meter)
        .collect()
        .await
        .unwrap();
    assert_eq!(body.to_bytes().len(), 30_000);
    // One second's worth at once, half of one after half a second.
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(490), "{took:?}");
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[tokio::test]
async fn a_packed_body_pays_for_what_comes_out_of_it() {
    let bytes = vec![b'\n'; 500_000];
    for kind in [
        "application/json",
        "application/x-ndjson",
        "application/jsonl",
    ] {
        let mut encoder = async_compression::tokio::write::GzipEncoder::new(Vec::new());
        tokio::io::AsyncWriteExt::write_all(&mut encoder, &bytes)
            .await
            .unwrap();
        tokio::io::AsyncWriteExt::shutdown(&mut encoder)
            .await
            .unwrap();
        let packed = encoder.into_inner();
        assert!(packed.len() < 5_000, "{}", packed.len());

        let limits = RateLimits::new(&settings(0, 400_000)).unwrap();
        let mut request = from("192.0.2.1:1000", Body::from(packed));
        for (name, value) in [("content-type", kind), ("content-encoding", "gzip")] {
            let name = HeaderName::from_static(name);
            request
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        let meter = limits.check(&request, None).unwrap().meter.unwrap();
        let begun = std::time::Instant::now();
        let request = metered(request, meter).unwrap();
        assert!(!request.headers().contains_key(CONTENT_ENCODING));
        let body = request.into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes(), bytes, "{kind}");
        // One second's worth at once, and the rest after a quarter of one.
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(240), "{kind}: {took:?}");
    }
}

#[tokio::test]
async fn streams_of_one_principal_take_turns() {
    // Where the machine stands still for a moment, there is room for all of one of them at once.
    for _ in 0..20 {
        let limits = RateLimits::new(&settings(0, 40_000)).unwrap();
        assert_eq!(status(limits.check(&post(40_000), None)), 200);
        let read = |request: Request| {
            let meter = limits.check(&request, None).unwrap().meter.unwrap();
            let body = Metered::new(request.into_body(), meter).collect();
            async move {
                let length = body.await.unwrap().to_bytes().len();
                (length, std::time::Instant::now())
            }
        };
        let ((one, first), (two, second)) =
            tokio::join!(read(chunked(20_000)), read(chunked(20_000)));
        assert_eq!((one, two), (20_000, 20_000));
        let apart = first.max(second) - first.min(second);
        // One after the other, they would be this far apart at least.
        if apart < Duration::from_millis(450) {
            return;
        }
    }
    panic!("they do not take turns");
}

#[test]
fn high_rates_are_counted_in_steps() {
    let rate = ByteRate::new(100_000_000).unwrap();
    assert_eq!((rate.step, rate.steps_per_second.get()), (100, 1_000_000));
    assert_eq!(rate.steps(1).unwrap().get(), 1);
    assert_eq!(rate.steps(101).unwrap().get(), 2);
    assert_eq!(rate.steps(u64::MAX).unwrap().get(), 1_000_000);
    let lowest = ByteRate::new(1).unwrap();
    assert_eq!((lowest.step, lowest.steps_per_second.get()), (1, 1));
    let highest = ByteRate::new(u64::MAX).unwrap();
    assert!(highest.steps_per_second.get() <= 1_000_000);
    assert!(ByteRate::new(0).is_none());
}

#[test]
fn the_number_of_buckets_is_bounded() {
    let limits = RateLimits::new(&settings(1, 1)).unwrap();
    for n in 0..BUCKETS + 5_000 {
        limits.buckets_of(Who::Address(u128::from(n)));
    }
    limits.buckets.run_pending_tasks();
    assert!(limits.buckets.entry_count() <= BUCKETS);
}
