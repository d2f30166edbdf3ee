use tokio::sync::oneshot;

use super::*;

fn entry(place: usize) -> Entry<usize> {
    Entry {
        place,
        outcome: Err(ApiError::bad_request("no")),
    }
}

async fn places(under_way: &mut UnderWay<usize>) -> Vec<usize> {
    let mut places = Vec::new();
    while let Some(entries) = under_way.next().await {
        places.extend(entries.into_iter().map(|entry| entry.place));
    }
    places
}

#[tokio::test]
async fn small_batches_are_bounded_by_what_they_hold_together() {
    let mut under_way = UnderWay::default();
    for place in 0..BATCH_RECORDS {
        assert!(under_way.has_room(), "{place}");
        under_way.push(1, 10, async move { vec![entry(place)] });
    }
    assert!(!under_way.has_room());
    assert!(
        places(&mut under_way)
            .await
            .into_iter()
            .eq(0..BATCH_RECORDS)
    );
    assert!(under_way.has_room());
    assert_eq!((under_way.records, under_way.bytes), (0, 0));

    for place in 0..BATCHES_UNDER_WAY {
        assert!(under_way.has_room(), "{place}");
        under_way.push(1, BATCH_BYTES, async move { vec![entry(place)] });
    }
    assert!(!under_way.has_room());
}

#[tokio::test]
async fn large_batches_are_bounded_by_their_number() {
    let mut under_way = UnderWay::default();
    for place in 0..BATCHES_UNDER_WAY {
        assert!(under_way.has_room(), "{place}");
        let entries = async { (0..BATCH_RECORDS).map(entry).collect() };
        under_way.push(BATCH_RECORDS, 10, entries);
    }
    assert!(!under_way.has_room());
    assert!(under_way.next().await.is_some());
    assert!(under_way.has_room());
}

#[tokio::test]
async fn results_keep_their_order_and_come_as_soon_as_they_are_known() {
    let mut under_way = UnderWay::default();
    let (answer, waits) = oneshot::channel();
    under_way.push(1, 10, async { vec![entry(0)] });
    under_way.push(1, 10, async { waits.await.unwrap_or_default() });
    under_way.push(1, 10, async { vec![entry(2)] });
    let first = under_way.next().await.unwrap();
    let first: Vec<usize> = first.into_iter().map(|entry| entry.place).collect();
    assert_eq!(
        first,
        [0],
        "the second holds back the third, and nobody waits for it"
    );
    assert!(under_way.next().now_or_never().is_none());
    answer.send(vec![entry(1)]).ok().unwrap();
    assert_eq!(places(&mut under_way).await, [1, 2]);
}

#[test]
fn what_is_unfit_keeps_its_place_among_the_outcomes() {
    let places = vec![
        (1, None),
        (2, Some(ApiError::bad_request("unfit"))),
        (3, None),
    ];
    let found = entries(places, Err(ApiError::too_large("all")));
    let found: Vec<_> = found
        .into_iter()
        .map(|entry| (entry.place, entry.outcome.unwrap_err().message().to_owned()))
        .collect();
    let all = || "all".to_owned();
    assert_eq!(found, [(1, all()), (2, "unfit".to_owned()), (3, all())]);
}
