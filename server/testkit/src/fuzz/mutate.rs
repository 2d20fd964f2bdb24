//! Changes bytes by chance, the same way for the same seed.

use skerry_core::fixtures::SeededDice;

/// The longest input made, in bytes.
const LONGEST: usize = 200_000;

/// Pieces that parsers have been seen to stumble over.
const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    ",",
    ":",
    "\\",
    "\\u0000",
    "\\ud800",
    "\\udc00",
    "null",
    "true",
    "-0",
    "0",
    "1.5",
    "1e400",
    "9007199254740992",
    "-9007199254740993",
    "99999999999999999999999",
    "\u{0}",
    "\u{7f}",
    "\u{202e}",
    "é",
    "💥",
    "{}",
    "[]",
    "\"\"",
    "\"@:\"",
    "\"!x\"",
    "\"$\"",
    "\"prev_events\":[]",
    "\"auth_events\":[[]]",
    "\"signatures\":{}",
    "\"hashes\":{\"sha256\":1}",
    "\"depth\":-1",
    "\"type\":\"m.room.create\"",
    "\"state_key\":null",
    "\"unsigned\":[]",
    "\"membership\":\"join\"",
    "\"content\":{\"users\":{\"@a:b\":\"x\"}}",
    "ed25519:",
    "sig=\"\"",
    "origin=",
    "destination=\"",
    "X-Matrix ",
    "\t",
    "\r\n",
    "[::1]:",
    ":99999",
    "%00",
    "..",
];

/// Changes samples.
pub struct Mutator {
    dice: SeededDice,
    samples: Vec<Vec<u8>>,
}

impl Mutator {
    /// From a seed.
    ///
    /// # Panics
    /// Without samples.
    #[must_use]
    pub fn new(seed: u64, samples: Vec<Vec<u8>>) -> Mutator {
        assert!(!samples.is_empty());
        Mutator {
            dice: SeededDice::new(seed),
            samples,
        }
    }

    /// The next input: a sample with one to eight changes.
    pub fn next_input(&mut self) -> Vec<u8> {
        let at = self.below(self.samples.len());
        let mut input = self.samples[at].clone();
        for _ in 0..=self.below(8) {
            self.change(&mut input);
        }
        input.truncate(LONGEST);
        input
    }

    fn below(&mut self, n: usize) -> usize {
        self.dice.below(n.max(1) as u64) as usize
    }

    /// Some part of the input.
    fn span(&mut self, len: usize) -> std::ops::Range<usize> {
        let from = self.below(len + 1);
        let most = [1, 4, 16, 256, len][self.below(5)];
        let to = (from + self.below(most + 1)).min(len);
        from..to
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let span = self.span(input.len());
        match self.below(9) {
            0 => {
                if let Some(byte) = input.get_mut(span.start) {
                    *byte ^= 1 << self.dice.below(8);
                }
            }
            1 => drop(input.drain(span)),
            2 => {
                let part = input[span.clone()].to_vec();
                input.splice(span.end..span.end, part);
            }
            3 | 4 => {
                let piece = PIECES[self.below(PIECES.len())];
                input.splice(span, piece.bytes());
            }
            5 => {
                let piece = PIECES[self.below(PIECES.len())];
                input.splice(span.start..span.start, piece.bytes());
            }
            6 => {
                // A part of another sample.
                let other = self.below(self.samples.len());
                let part = self.span(self.samples[other].len());
                let part = self.samples[other][part].to_vec();
                input.splice(span, part);
            }
            7 => {
                let depth = [10, 99, 101, 1_000, 40_000][self.below(5)];
                let (open, close) = [("[", "]"), ("{\"a\":", "}")][self.below(2)];
                let nest = format!("{}1{}", open.repeat(depth), close.repeat(depth));
                input.splice(span, nest.bytes());
            }
            _ => {
                // What stands between two quotes, replaced.
                let from = input.iter().skip(span.start).position(|b| *b == b'"');
                let from = from.map_or(span.start, |at| span.start + at + 1);
                let to = input.iter().skip(from).position(|b| *b == b'"');
                let to = to.map_or(from, |at| from + at);
                let long = "x".repeat(self.below(300));
                input.splice(from.min(input.len())..to.min(input.len()), long.bytes());
            }
        }
    }
}
