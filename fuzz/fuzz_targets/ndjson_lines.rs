//! The framing of NDJSON, and each line as a record.
#![no_main]

use arbitrary::Arbitrary;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tidegate::api::records::write::lines::{Content, Lines};
use tidegate::codec::parse::{self, Formats};

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    limit: u8,
    cuts: Vec<u16>,
    stream: &'a [u8],
}

fn cut<'a>(limit: usize, pieces: impl Iterator<Item = &'a [u8]>) -> Vec<(u64, Option<Bytes>)> {
    let mut lines = Lines::new(limit);
    let mut found = Vec::new();
    let mut take = |line: tidegate::api::records::write::lines::Line| {
        let content = match line.content {
            Content::Bytes(bytes) => {
                assert!(bytes.len() <= limit);
                assert!(!bytes.contains(&b'\n'));
                Some(bytes)
            }
            Content::Blank => return,
            Content::TooLong => None,
        };
        found.push((line.number, content));
    };
    for piece in pieces {
        lines.push(piece);
        while let Some(line) = lines.next_line() {
            take(line);
        }
    }
    if let Some(line) = lines.last_line() {
        take(line);
    }
    found
}

fuzz_target!(|input: Input<'_>| {
    let limit = usize::from(input.limit) + 1;
    let mut cuts: Vec<usize> = input
        .cuts
        .iter()
        .map(|at| usize::from(*at).min(input.stream.len()))
        .chain([0, input.stream.len()])
        .collect();
    cuts.sort_unstable();
    let whole = cut(limit, std::iter::once(input.stream));
    let pieces = cut(limit, cuts.windows(2).map(|w| &input.stream[w[0]..w[1]]));
    assert_eq!(whole, pieces);
    assert!(whole.windows(2).all(|w| w[0].0 < w[1].0), "numbers rise");
    for (_, content) in whole {
        if let Some(line) = content {
            let _ = parse::one(&line, Formats::default());
        }
    }
});
