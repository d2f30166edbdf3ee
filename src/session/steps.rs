//! How far to read without passing the end of a client's frame (RFC 6455, section 5.2). A socket whose
//! client is not known yet reads in such steps: then nothing of the next frame is in a buffer when
//! this one has come, and other limits can hold from there on.

/// Bytes of the longest head: two, a length of eight and a mask of four.
const LONGEST_HEAD: usize = 14;

/// Where in its frames the client is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Steps {
    head: [u8; LONGEST_HEAD],
    /// Bytes of the head that have come; 0 between frames.
    got: usize,
    /// Bytes of the payload that are to come.
    left: u64,
    /// In a message whose last frame has not come.
    in_message: bool,
}

impl Steps {
    /// Most bytes to read next; at least one.
    pub fn room(&self) -> usize {
        if self.left > 0 {
            return usize::try_from(self.left).unwrap_or(usize::MAX);
        }
        self.head_length() - self.got
    }

    /// These came, no more than there was room for.
    pub fn took(&mut self, bytes: &[u8]) {
        if self.left > 0 {
            self.left = self.left.saturating_sub(bytes.len() as u64);
        } else {
            let end = (self.got + bytes.len()).min(LONGEST_HEAD);
            let fits = end - self.got;
            self.head[self.got..end].copy_from_slice(&bytes[..fits]);
            self.got = end;
            if self.got < self.head_length() {
                return;
            }
            self.left = self.payload();
            // Control frames, whose opcodes have the highest bit, may come within a message.
            if self.head[0] & 0x08 == 0 {
                self.in_message = self.head[0] & 0x80 == 0;
            }
        }
        if self.left == 0 {
            self.got = 0;
        }
    }

    /// Whether all that has come is whole messages.
    pub fn is_between_messages(&self) -> bool {
        self.got == 0 && !self.in_message
    }

    fn head_length(&self) -> usize {
        if self.got < 2 {
            return 2;
        }
        let extended = match self.head[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if self.head[1] & 0x80 == 0 { 0 } else { 4 };
        2 + extended + mask
    }

    fn payload(&self) -> u64 {
        let length = match self.head[1] & 0x7f {
            126 => &self.head[2..4],
            127 => &self.head[2..10],
            short => return u64::from(short),
        };
        length
            .iter()
            .fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives the bytes as there is room for them; where they were between messages.
    fn walk(steps: &mut Steps, mut bytes: &[u8], most: usize) -> usize {
        let mut ends = 0;
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(steps.room().min(most).min(bytes.len()));
            assert!(!now.is_empty());
            steps.took(now);
            ends += usize::from(steps.is_between_messages());
            bytes = rest;
        }
        ends
    }

    fn frame(first: u8, length: usize) -> Vec<u8> {
        let mut frame = vec![first];
        match length {
            0..=125 => frame.push(0x80 | u8::try_from(length).unwrap()),
            126..=65_535 => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend([1, 2, 3, 4]);
        frame.extend(vec![b'x'; length]);
        frame
    }

    #[test]
    fn a_step_never_passes_the_end_of_a_frame() {
        let lengths = [0, 1, 125, 126, 200, 65_535, 65_536, 70_000];
        for most in [1, 7, 1024, usize::MAX] {
            let mut steps = Steps::default();
            for length in lengths {
                let frame = frame(0x81, length);
                assert_eq!(walk(&mut steps, &frame, most), 1, "{length} {most}");
                assert!(steps.is_between_messages());
            }
        }
    }

    #[test]
    fn a_message_in_parts_ends_with_its_last_frame() {
        let mut steps = Steps::default();
        assert_eq!(walk(&mut steps, &frame(0x01, 10), 1024), 0);
        assert_eq!(walk(&mut steps, &frame(0x89, 3), 1024), 0, "a ping between");
        assert_eq!(walk(&mut steps, &frame(0x00, 10), 1024), 0);
        assert_eq!(walk(&mut steps, &frame(0x80, 10), 1024), 1);
    }

    #[test]
    fn a_length_beyond_all_bounds_is_only_a_number() {
        let mut steps = Steps::default();
        steps.took(&[0x81, 0xff]);
        steps.took(&[0xff; 12]);
        assert!(steps.room() > 1 << 30 && !steps.is_between_messages());
    }
}
