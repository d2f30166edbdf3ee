//! What may happen to a session, read out of bytes: wherever those come from, the same bytes are the same steps.

/// Bytes of a step: which one it is, and what it is about.
pub(super) const CHUNK: usize = 6;

/// What happens next. Partitions, tags, offsets and ids are small, so that they hit.
#[derive(Debug, Clone)]
pub(super) enum Step {
    // The client.
    /// A text, which may be a frame.
    Text(String),
    /// Acknowledges one of the records that it has, by their count.
    Ack(u8),
    /// Acknowledges whatever has these tags.
    AckTags {
        tags: Vec<u8>,
        id: bool,
    },
    AckUpTo {
        partition: u8,
        offset: u8,
    },
    /// Refuses one of the records that it has, by their count.
    Nack {
        nth: u8,
        delay: u16,
    },
    NackTags {
        tags: Vec<u8>,
        delay: u16,
        dead: bool,
    },
    Extend {
        tag: u8,
        ms: u16,
    },
    Commit(Option<(u8, u8)>),
    Credit {
        records: u8,
        bytes: Option<u8>,
    },
    Pause {
        partition: Option<u8>,
        on: bool,
    },
    Seek {
        partition: u8,
        to: To,
    },
    Produce {
        id: u8,
        records: u8,
    },
    Position,
    Hello,
    Subscribe,
    Unsubscribe {
        commit: bool,
    },
    Bye {
        commit: bool,
    },
    Gone,
    // The member of the group.
    Resolved(bool),
    Assign(u8),
    Revoke(u8),
    Lost(u8),
    Offer {
        partition: u8,
        records: u8,
        hidden: u8,
    },
    Gap {
        partition: u8,
        forward: bool,
    },
    Answer(bool),
    /// What became of a dead letter.
    DeadLetter(Letter),
    Written(bool),
    State(u8),
    Ended(bool),
    // The socket, and time.
    /// Takes all that there is.
    TakeAll,
    /// Takes what goes into so much room, and is not done with it.
    Take(u32),
    Flushed,
    Pass(u16),
    Drain(u16),
    Pressure(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Letter {
    Written,
    Unavailable,
    NoTopic,
}

/// Where a client seeks.
#[derive(Debug, Clone)]
pub(super) enum To {
    Offset(u8),
    Beginning,
    End,
    Committed,
}

/// Frames that are odd in one way or another.
const ODD: [&str; 9] = [
    r#"{"type":"ping","t":{"a":[1]}}"#,
    r#"{"type":"ack","sub":"o","tags":[0,18446744073709551615]}"#,
    r#"{"type":"pause","sub":"o"}"#,
    r#"{"type":"resume","sub":"o"}"#,
    r#"{"type":"position","sub":"o","id":1}"#,
    r#"{"type":"commit","sub":"o","id":2}"#,
    r#"{"type":"extend","sub":"o","tags":[1,2,3],"ms":9223372036854775807}"#,
    r#"{"type":"nack","sub":"o","tags":[1],"delay_ms":-9223372036854775808,"dead_letter":true}"#,
    r#"{"type":"seek","sub":"o","positions":[{"topic":"orders","partition":0,"timestamp":9223372036854775807}]}"#,
];

type Make = fn([u8; 4]) -> Step;

/// How often each comes, in comparison with the others, and what it is made of. What ends a session is rare.
const STEPS: &[(u16, Make)] = &[
    (10, |[n, ..]| Step::Text(odd(n))),
    (64, |[n, ..]| Step::Ack(n)),
    (10, |[a, b, c, id]| Step::AckTags {
        tags: vec![a, b, c],
        id: is(id),
    }),
    (6, |[partition, offset, ..]| Step::AckUpTo {
        partition,
        offset,
    }),
    (24, |[nth, a, b, _]| Step::Nack {
        nth,
        delay: number(a, b) % 2_000,
    }),
    (10, |[tag, a, b, dead]| Step::NackTags {
        tags: vec![tag],
        delay: number(a, b),
        dead: is(dead),
    }),
    (6, |[tag, a, b, _]| Step::Extend {
        tag,
        ms: number(a, b),
    }),
    (12, |[has, partition, offset, _]| {
        Step::Commit(is(has).then_some((partition, offset)))
    }),
    (12, |[records, has, bytes, _]| Step::Credit {
        records,
        bytes: is(has).then_some(bytes),
    }),
    (10, |[has, partition, on, _]| Step::Pause {
        partition: is(has).then_some(partition),
        on: is(on),
    }),
    (12, |[partition, to, offset, _]| Step::Seek {
        partition,
        to: match to % 8 {
            0 => To::Beginning,
            1 => To::End,
            2 => To::Committed,
            _ => To::Offset(offset % 20),
        },
    }),
    (12, |[id, records, ..]| Step::Produce {
        id: id % 16,
        records,
    }),
    (4, |_| Step::Position),
    (1, |_| Step::Hello),
    (3, |_| Step::Subscribe),
    (1, |[commit, ..]| Step::Unsubscribe { commit: is(commit) }),
    (1, |[commit, ..]| Step::Bye { commit: is(commit) }),
    (1, |_| Step::Gone),
    (4, |[found, ..]| Step::Resolved(!found.is_multiple_of(4))),
    (32, |[partition, ..]| Step::Assign(partition)),
    (16, |[partition, ..]| Step::Revoke(partition)),
    (8, |[partition, ..]| Step::Lost(partition)),
    (56, |[partition, records, hides, hidden]| Step::Offer {
        partition,
        records: if hides.is_multiple_of(8) {
            records % 20
        } else {
            1 + records % 4
        },
        hidden: if hides % 8 < 2 { hidden % 20 } else { 0 },
    }),
    (4, |[partition, forward, ..]| Step::Gap {
        partition,
        forward: is(forward),
    }),
    (44, |[well, ..]| Step::Answer(!well.is_multiple_of(3))),
    (20, |[letter, ..]| {
        Step::DeadLetter(match letter % 4 {
            0 => Letter::Unavailable,
            1 => Letter::NoTopic,
            _ => Letter::Written,
        })
    }),
    (8, |[well, ..]| Step::Written(is(well))),
    (4, |[state, ..]| Step::State(state)),
    (1, |[asked, ..]| Step::Ended(is(asked))),
    (64, |_| Step::TakeAll),
    (12, |[a, b, c, _]| {
        Step::Take(u32::from_be_bytes([0, a, b, c]))
    }),
    (8, |_| Step::Flushed),
    (40, |[a, b, ..]| Step::Pass(number(a, b) % 3_000)),
    (2, |[a, b, ..]| Step::Pass(number(a, b))),
    (1, |[a, b, ..]| Step::Drain(number(a, b))),
    (1, |[pressure, ..]| Step::Pressure(pressure)),
];

/// How many kinds of steps there are.
#[cfg(test)]
pub(super) fn kinds() -> usize {
    // Time passes in two ways.
    STEPS.len() - 1
}

/// Where the choices come from, a few bytes each.
pub(super) struct Choices<'a> {
    bytes: &'a [u8],
}

impl<'a> Choices<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    fn chunk(&mut self) -> Option<[u8; CHUNK]> {
        let (chunk, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(*chunk)
    }

    /// The next step, unless all is used up.
    pub(super) fn step(&mut self) -> Option<Step> {
        let [a, b, about @ ..] = self.chunk()?;
        let all: u16 = STEPS.iter().map(|(weight, _)| weight).sum();
        let mut left = number(a, b) % all;
        for (weight, make) in STEPS {
            if left < *weight {
                let step = make(about);
                return Some(match step {
                    // Of what follows, in whole chunks.
                    Step::Text(text) if text.is_empty() => Step::Text(self.text(about[1])),
                    step => step,
                });
            }
            left -= weight;
        }
        None
    }

    fn text(&mut self, length: u8) -> String {
        let length = usize::from(length) % 32 * CHUNK;
        let (text, rest) = self.bytes.split_at(length.min(self.bytes.len()));
        self.bytes = rest;
        String::from_utf8_lossy(text).into_owned()
    }
}

/// How the client subscribes, and what it is held to.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    pub(super) auto: bool,
    pub(super) cumulative: bool,
    pub(super) relaxed: bool,
    pub(super) credit: bool,
    /// Dead letters: to the topic of the settings, to one of the client's, or none.
    pub(super) dlq: u8,
    pub(super) window: u64,
    pub(super) ack_timeout_ms: u64,
    pub(super) max_deliveries: u64,
    pub(super) linger_ms: u64,
    pub(super) static_member: bool,
    /// Small limits of all sessions.
    pub(super) narrow: bool,
    /// The socket takes everything at once.
    pub(super) prompt: bool,
}

impl Setup {
    pub(super) fn read(choices: &mut Choices<'_>) -> Self {
        let [ack, flow, times, letters, more, _] = choices.chunk().unwrap_or_default();
        Self {
            auto: ack % 8 == 1,
            cumulative: ack % 8 == 2,
            relaxed: is(ack >> 3),
            credit: flow % 4 == 1,
            window: [6, 3, 50][usize::from(flow >> 2) % 3],
            ack_timeout_ms: [2_000, 1_000, 0][usize::from(times) % 3],
            linger_ms: if (times >> 2) & 3 == 1 { 50 } else { 0 },
            dlq: letters % 3,
            max_deliveries: 2 + u64::from((letters >> 2) & 1),
            static_member: more % 4 == 1,
            narrow: is(more >> 2),
            prompt: !is(more >> 3),
        }
    }
}

fn odd(n: u8) -> String {
    // Beside those, an empty one stands for what comes next.
    let odd = ODD.get(usize::from(n) % (ODD.len() + 4));
    odd.copied().unwrap_or_default().to_owned()
}

fn is(byte: u8) -> bool {
    byte & 1 == 1
}

fn number(high: u8, low: u8) -> u16 {
    u16::from_be_bytes([high, low])
}
