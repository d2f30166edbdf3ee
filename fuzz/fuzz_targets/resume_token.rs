//! `from`: times, counts, and resume tokens.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate::kafka::metadata::{Partition, Topic};
use tidegate::position::{self, StartPosition};

fn topic(name: &str, partitions: i32) -> Topic {
    Topic {
        name: name.into(),
        id: [7; 16],
        rights: None,
        internal: false,
        partitions: (0..partitions)
            .map(|id| Partition {
                id,
                leader: Some(1),
                replicas: vec![1],
                isr: vec![1],
                offline: vec![],
            })
            .collect(),
    }
}

fuzz_target!(|text: &str| {
    let (orders, payments) = (topic("orders", 40), topic("payments", 3));
    let topics = [&orders, &payments];
    match StartPosition::parse(text) {
        Ok(StartPosition::Last(count)) => assert!(count >= 0),
        Ok(StartPosition::Time(ms)) => assert!(ms >= 0),
        _ => {}
    }
    if let Ok(offsets) = position::decode(text, "cluster", &topics) {
        let again = position::encode("cluster", &topics, &offsets);
        assert_eq!(
            position::decode(&again, "cluster", &topics).as_ref(),
            Ok(&offsets)
        );
    }
    // The same behind a head that passes, so that what follows it is looked at.
    let head = position::encode("cluster", &topics, &[vec![], vec![]]);
    let _ = position::decode(
        &format!("{}{text}", &head[..head.len().min(6)]),
        "cluster",
        &topics,
    );
    // One with times, of this cluster and of another.
    for cluster in ["cluster", "mirror"] {
        let resume_tokens = position::ResumeTokens::new(cluster, &topics);
        let head = resume_tokens.encode_with_times([[].as_slice(), &[]].into_iter(), |_, _| None);
        let text = format!("{}{text}", &head[..head.len().min(12)]);
        let Ok(read) = position::read(&text, "cluster", &topics) else {
            continue;
        };
        let (Some(offsets), Some(times)) = (&read.offsets, &read.times) else {
            continue;
        };
        let time = |index: usize, partition: i32| {
            let found = times[index].iter().find(|(id, _)| *id == partition);
            found.and_then(|(_, time)| *time)
        };
        let again = resume_tokens.encode_with_times(offsets.iter().map(Vec::as_slice), time);
        assert_eq!(position::read(&again, "cluster", &topics), Ok(read));
    }
});
