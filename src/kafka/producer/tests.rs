//! Who gets into the producer's queue.

use super::Load;

const QUEUE: Load = Load {
    records: 900,
    bytes: 9000,
};

/// Fills the queue with records of 10 bytes of `topics` topics whose records never leave, in turn.
fn filled(topics: usize) -> Vec<u64> {
    let mut held = vec![0_u64; topics];
    let load = |records: u64| Load {
        records,
        bytes: records * 10,
    };
    loop {
        let before: u64 = held.iter().sum();
        for topic in 0..topics {
            let all = held.iter().sum();
            if QUEUE.admits(load(held[topic]), load(all), 10) {
                held[topic] += 1;
            }
        }
        if held.iter().sum::<u64>() == before {
            return held;
        }
    }
}

#[test]
fn one_topic_whose_records_stay_takes_half_of_the_queue() {
    assert_eq!(filled(1), [450]);
}

#[test]
fn however_many_topics_are_stuck_there_is_room_for_one_more() {
    for topics in 2..50 {
        let held = filled(topics);
        let all = held.iter().sum::<u64>();
        let fair = 900 / (topics as u64 + 1);
        assert!(held.iter().all(|n| n.abs_diff(fair) <= 2), "{held:?}");
        let all = Load {
            records: all,
            bytes: all * 10,
        };
        let fresh = Load {
            records: 0,
            bytes: 0,
        };
        assert!(QUEUE.admits(fresh, all, 10), "{topics}");
    }
}

#[test]
fn bytes_are_bounded_as_records_are() {
    let own = Load {
        records: 1,
        bytes: 4000,
    };
    assert!(QUEUE.admits(own, own, 1000));
    assert!(!QUEUE.admits(own, own, 1001));
}

#[test]
fn the_first_record_of_a_topic_may_have_any_size() {
    let none = Load {
        records: 0,
        bytes: 0,
    };
    assert!(QUEUE.admits(none, none, 1_000_000));
    let full = Load {
        records: 900,
        bytes: 0,
    };
    assert!(!QUEUE.admits(none, full, 1));
}
