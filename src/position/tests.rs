use proptest::prelude::*;

use super::*;

#[test]
fn the_forms_of_from_are_told_apart() {
    assert_eq!(StartPosition::parse("latest"), Ok(StartPosition::Latest));
    assert_eq!(
        StartPosition::parse(" earliest "),
        Ok(StartPosition::Earliest)
    );
    assert_eq!(StartPosition::parse("-10"), Ok(StartPosition::Last(10)));
    assert_eq!(StartPosition::parse("0"), Ok(StartPosition::Time(0)));
    assert_eq!(
        StartPosition::parse("1700000000000"),
        Ok(StartPosition::Time(1_700_000_000_000))
    );
    for iso in [
        "2023-11-14T22:13:20Z",
        "2023-11-14T23:13:20+01:00",
        "2023-11-14T23:13:20 01:00",
        "2023-11-14T22:13:20",
    ] {
        assert_eq!(
            StartPosition::parse(iso),
            Ok(StartPosition::Time(1_700_000_000_000)),
            "{iso}"
        );
    }
    assert_eq!(
        StartPosition::parse("2023-11-14"),
        Ok(StartPosition::Time(1_699_920_000_000))
    );
    assert_eq!(
        StartPosition::parse("orders:0@5"),
        Ok(StartPosition::ResumeToken("orders:0@5".into()))
    );
    for bad in ["", "--1", "-x", "yesterday?", "12:30", "AQ=="] {
        assert_eq!(
            StartPosition::parse(bad),
            Err(PositionError::Unreadable),
            "{bad}"
        );
    }
}

#[test]
fn iso_times_of_all_years_are_read() {
    for (iso, ms) in [
        ("9999-12-31T23:59:59Z", 253_402_300_799_000),
        ("9999-12-31T23:59:59.999-23:59", 253_402_387_139_999),
        ("9999-12-31", 253_402_214_400_000),
        ("1960-01-01T00:00:00Z", -315_619_200_000),
        ("1969-12-31T23:59:59.999Z", -1),
        ("0000-01-01", -62_167_219_200_000),
        ("2024-02-29T12:00:00.5+01:30", 1_709_202_600_500),
    ] {
        assert_eq!(time_ms(iso), Some(ms), "{iso}");
        assert_eq!(
            StartPosition::parse(iso),
            Ok(StartPosition::Time(ms.max(0))),
            "{iso}"
        );
    }
    for bad in [
        "2023-02-29",
        "2023-13-01",
        "2023-11-14T25:00:00Z",
        "2023-11-14T22:13:20[Europe/Paris]",
        "99999999999999999999",
    ] {
        assert_eq!(time_ms(bad), None, "{bad}");
    }
}

#[test]
fn a_number_of_seconds_is_refused_and_what_was_meant_is_said() {
    for (seconds, iso) in [
        ("1700000000", "2023-11-14T22:13:20Z"),
        ("1000000000", "2001-09-09T01:46:40Z"),
        ("9999999999", "2286-11-20T17:46:39Z"),
    ] {
        let error = StartPosition::parse(seconds).unwrap_err().to_string();
        let millis = format!("{seconds}000");
        assert!(error.contains(&millis) && error.contains(iso), "{error}");
        assert!(StartPosition::parse(&millis).is_ok());
    }
    for ms in ["0", "5000", "999999999", "10000000000"] {
        assert!(
            matches!(StartPosition::parse(ms), Ok(StartPosition::Time(_))),
            "{ms}"
        );
    }
}

#[test]
fn a_resume_token_written_out_is_read() {
    let orders = Topic::led("orders", 1, 3);
    let other = Topic::led("a.b-c", 2, 1);
    let topics = [&orders, &other];
    assert_eq!(
        decode("orders:2@7, 0@123,a.b-c:0@0", "c", &topics),
        Ok(vec![vec![(0, 123), (2, 7)], vec![(0, 0)]])
    );
    assert_eq!(decode("1@9", "c", &[&orders]), Ok(vec![vec![(1, 9)]]));
    for bad in [
        "1@9",
        "orders:3@1",
        "nope:0@1",
        "orders:0@-1",
        "orders:0@1,orders:0@2",
        "orders:x@1",
        "orders:0@",
        "@",
    ] {
        assert!(decode(bad, "c", &topics).is_err(), "{bad}");
    }
}

#[test]
fn a_foreign_resume_token_is_refused() {
    let orders = Topic::led("orders", 1, 3);
    let resume_token = encode("cluster", &[&orders], &[vec![(0, 1), (2, 5)]]);
    assert_eq!(
        decode(&resume_token, "cluster", &[&orders]),
        Ok(vec![vec![(0, 1), (2, 5)]])
    );
    assert_eq!(
        decode(&resume_token, "other", &[&orders]),
        Err(PositionError::Foreign)
    );
    assert_eq!(
        decode(&resume_token, "cluster", &[&Topic::led("payments", 1, 3)]),
        Err(PositionError::Foreign)
    );
    assert_eq!(
        decode(&resume_token, "cluster", &[&Topic::led("orders", 9, 3)]),
        Err(PositionError::Foreign),
        "created again"
    );
}

#[test]
fn a_resume_token_with_times_is_good_elsewhere_by_its_times() {
    let (here, there) = (Topic::led("orders", 1, 3), Topic::led("orders", 9, 2));
    let offsets = [vec![(0, 5), (2, 7)]];
    let times = |_: usize, partition: i32| (partition == 2).then_some(1_000);
    let resume_tokens = ResumeTokens::new("cluster", &[&here]);
    let text = resume_tokens.encode_with_times(offsets.iter().map(Vec::as_slice), times);
    let times = Some(vec![vec![(0, None), (2, Some(1_000))]]);
    let home = read(&text, "cluster", &[&here]).unwrap();
    assert_eq!(home.offsets.as_deref(), Some(offsets.as_slice()));
    assert_eq!(home.times, times);
    for (cluster, topic) in [("mirror", &here), ("cluster", &there), ("mirror", &there)] {
        let elsewhere = read(&text, cluster, &[topic]).unwrap();
        assert_eq!((elsewhere.offsets, &elsewhere.times), (None, &times));
        assert_eq!(
            decode(&text, cluster, &[topic]),
            Err(PositionError::Foreign)
        );
    }
    let other = Topic::led("payments", 1, 3);
    assert_eq!(
        read(&text, "cluster", &[&other]),
        Err(PositionError::Foreign)
    );
    let without = encode("cluster", &[&here], &offsets);
    assert_eq!(
        read(&without, "mirror", &[&here]),
        Err(PositionError::Foreign)
    );
}

proptest! {
    #[test]
    fn a_resume_token_with_times_comes_back_as_it_went(
        places in proptest::collection::btree_map(
            0..100_i32, (0..i64::MAX, proptest::option::of(0..i64::MAX)), 0..40,
        ),
        more in proptest::collection::btree_map(0..100_i32, (0..1000_i64, Just(None)), 0..4),
    ) {
        let (a, b) = (Topic::led("a", 1, 100), Topic::led("b", 2, 100));
        let given = [places, more];
        let offsets: Vec<Offsets> = given
            .iter()
            .map(|of| of.iter().map(|(id, (offset, _))| (*id, *offset)).collect())
            .collect();
        let times: Vec<Times> = given
            .iter()
            .map(|of| of.iter().map(|(id, (_, time))| (*id, *time)).collect())
            .collect();
        let resume_tokens = ResumeTokens::new("c", &[&a, &b]);
        let text = resume_tokens.encode_with_times(
            offsets.iter().map(Vec::as_slice),
            |index, partition| given[index][&partition].1,
        );
        prop_assert!(matches!(StartPosition::parse(&text), Ok(StartPosition::ResumeToken(_))));
        let position = Position { offsets: Some(offsets), times: Some(times.clone()), since: None };
        prop_assert_eq!(read(&text, "c", &[&a, &b]), Ok(position));
        let elsewhere = Position { offsets: None, times: Some(times), since: None };
        prop_assert_eq!(read(&text, "d", &[&a, &b]), Ok(elsewhere));
    }

    #[test]
    fn a_resume_token_comes_back_as_it_went(
        offsets in proptest::collection::btree_map(0..100_i32, 0..i64::MAX, 0..40),
        more in proptest::collection::btree_map(0..100_i32, 0..1000_i64, 0..4),
    ) {
        let (a, b) = (Topic::led("a", 1, 100), Topic::led("b", 2, 100));
        let given: Vec<Offsets> = vec![offsets.into_iter().collect(), more.into_iter().collect()];
        let text = encode("c", &[&a, &b], &given);
        prop_assert!(matches!(StartPosition::parse(&text), Ok(StartPosition::ResumeToken(_))));
        prop_assert_eq!(decode(&text, "c", &[&a, &b]), Ok(given));
    }

    #[test]
    fn a_resume_token_of_partitions_without_places_comes_back_as_it_went(
        offsets in proptest::collection::btree_map(0..50_i32, 0..i64::MAX, 0..40),
        since in proptest::collection::btree_map(50..100_i32, 0..i64::MAX, 1..4),
    ) {
        let (a, b) = (Topic::led("a", 1, 100), Topic::led("b", 2, 100));
        let given: Vec<Offsets> = vec![offsets.into_iter().collect(), Vec::new()];
        let since: Vec<Since> = vec![Vec::new(), since.into_iter().collect()];
        let text = encode_since("c", &[&a, &b], &given, &since);
        prop_assert!(matches!(StartPosition::parse(&text), Ok(StartPosition::ResumeToken(_))));
        prop_assert_eq!(decode(&text, "c", &[&a, &b]), Ok(given.clone()));
        let position = Position { offsets: Some(given.clone()), times: None, since: Some(since) };
        prop_assert_eq!(read(&text, "c", &[&a, &b]), Ok(position));
        prop_assert_eq!(read(&text, "d", &[&a, &b]), Err(PositionError::Foreign));
        // Where all have one, it is as it always was.
        let plain = encode_since("c", &[&a, &b], &given, &[Vec::new(), Vec::new()]);
        prop_assert_eq!(plain, encode("c", &[&a, &b], &given));
    }

    #[test]
    fn garbage_never_panics(text in "\\PC{0,60}", bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let orders = Topic::led("orders", 1, 3);
        let _ = StartPosition::parse(&text);
        let _ = decode(&text, "c", &[&orders]);
        let mut head = vec![VERSION];
        head.extend_from_slice(&hash("c", &[&orders]).to_le_bytes());
        head.extend_from_slice(&bytes);
        let _ = decode(&URL_SAFE_NO_PAD.encode(&head), "c", &[&orders]);
        head[0] = VERSION_WITHOUT_PLACES;
        let _ = read(&URL_SAFE_NO_PAD.encode(head), "c", &[&orders]);
        for cluster in ["c", "d"] {
            let mut head = vec![VERSION_WITH_TIMES];
            head.extend_from_slice(&hash_of_names(&[&orders]).to_le_bytes());
            head.extend_from_slice(&hash(cluster, &[&orders]).to_le_bytes());
            head.extend_from_slice(&bytes);
            let _ = read(&URL_SAFE_NO_PAD.encode(head), "c", &[&orders]);
        }
    }
}
