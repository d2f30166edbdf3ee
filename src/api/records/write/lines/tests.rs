use proptest::prelude::*;

use super::*;

/// The lines of a stream that comes in these pieces, but blank ones; `None` for one that is too long.
fn cut(limit: usize, pieces: &[&[u8]]) -> Vec<(u64, Option<Vec<u8>>)> {
    let mut lines = Lines::new(limit);
    let mut found = Vec::new();
    let mut take = |line: Line| {
        let text = match line.content {
            Content::Bytes(bytes) => Some(bytes.to_vec()),
            Content::Blank => return,
            Content::TooLong => None,
        };
        found.push((line.number, text));
    };
    for piece in pieces {
        lines.push(piece);
        while let Some(line) = lines.next_line() {
            take(line);
        }
    }
    while let Some(line) = lines.last_line() {
        take(line);
    }
    found
}

fn some(number: u64, text: &str) -> (u64, Option<Vec<u8>>) {
    (number, Some(text.as_bytes().to_vec()))
}

#[test]
fn blank_lines_are_counted_and_come_as_blank() {
    let mut lines = Lines::new(10);
    lines.push(b"\n \r\na\n");
    let mut seen = Vec::new();
    while let Some(Line { number, content }) = lines.next_line() {
        seen.push((number, content == Content::Blank));
    }
    assert_eq!(seen, [(1, true), (2, true), (3, false)]);
}

#[test]
fn lines_are_numbered_and_blank_ones_left_out() {
    assert_eq!(
        cut(10, &[b"a\n\n \t\r\nb\r\nc"]),
        [some(1, "a"), some(4, "b"), some(5, "c")]
    );
    assert_eq!(cut(10, &[b"", b"\n", b""]), []);
    assert_eq!(
        cut(10, &[b"a", b"b", b"\nc", b"\n"]),
        [some(1, "ab"), some(2, "c")]
    );
}

#[test]
fn a_line_end_is_not_part_of_the_line() {
    assert_eq!(cut(2, &[b"ab\r", b"\nc"]), [some(1, "ab"), some(2, "c")]);
    assert_eq!(cut(2, &[b"abc", b"\n"]), cut(2, &[b"abc\n"]));
    assert_eq!(cut(2, &[b"   ", b"\n"]), cut(2, &[b"   \n"]));
}

#[test]
fn a_line_over_the_limit_is_told_once_and_the_others_go_on() {
    let long = [b'x'; 25];
    assert_eq!(
        cut(10, &[b"a\n", &long, &long, b"x\nb\n"]),
        [some(1, "a"), (2, None), some(3, "b")]
    );
    assert_eq!(cut(10, &[b"12345678901\nb"]), [(1, None), some(2, "b")]);
    assert_eq!(
        cut(10, &[b"1234567890\nb"]),
        [some(1, "1234567890"), some(2, "b")]
    );
    assert_eq!(cut(10, &[&long]), [(1, None)]);
    assert_eq!(cut(10, &[&long, b"\n", &long]), [(1, None), (2, None)]);
}

proptest! {
    #[test]
    fn a_body_gives_the_same_lines_however_it_is_cut_into_pieces(
        text in "[ab\\r\\n]{0,80}",
        cuts in proptest::collection::vec(0..80_usize, 0..8),
        limit in 1..12_usize,
    ) {
        let bytes = text.as_bytes();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|at| at.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
        prop_assert_eq!(cut(limit, &pieces), cut(limit, &[bytes]));
    }
}
