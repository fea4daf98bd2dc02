//! Equal members and equal histories, found by their fingerprints.

use std::fmt::{self, Debug, Write};

use xxhash_rust::xxh3::xxh3_128;

use super::member::QUANTUM;

/// The hash of what `thing` is, as far as that decides what it will do.
///
/// It is taken of the text that `Debug` writes: derived for every type on the way, so that a field
/// that is added is seen, and the text of maps and lists follows from what they hold. Four things
/// are left out, none of which can make a difference in a search:
///
/// * `Rng`: all it is still drawn for is how much longer than the least an election timeout is.
/// * What an instant has beyond whole [`QUANTUM`]s, but for that it has something: clocks here only
///   ever stand at whole ones, so a deadline in between is due at the next.
/// * `WriteSeq`: one write is on its way at most, and that one is what becomes durable.
/// * `cut`, the batch that a log cut last: kept to be shared, and cut anew where it does not fit.
pub(super) fn fingerprint(thing: &impl Debug) -> u128 {
    let mut text = Text::default();
    write!(text, "{thing:?}").expect("it is only remembered");
    xxh3_128(text.kept.as_bytes())
}

/// The text of `Debug`, without what makes no difference.
#[derive(Default)]
struct Text {
    kept: String,
    passing: Passing,
}

/// Where in the text.
#[derive(Clone, Copy, Default)]
enum Passing {
    /// In what is kept.
    #[default]
    Kept,
    /// After the name of a number; the instant is kept in part.
    Name { instant: bool },
    /// In the brackets of such a number.
    Number { instant: bool },
    /// After `cut`, so deep in brackets.
    Cut { depth: u32 },
}

impl Write for Text {
    /// Derived text comes in pieces: each name, bracket and number is one.
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        match self.passing {
            Passing::Cut { depth } => self.cut(depth, piece),
            Passing::Number { instant } => self.number(instant, piece),
            Passing::Name { instant } if piece == "(" => {
                self.passing = Passing::Number { instant };
            }
            Passing::Name { .. } | Passing::Kept => self.keep(piece),
        }
        Ok(())
    }
}

impl Text {
    fn keep(&mut self, piece: &str) {
        self.kept.push_str(piece);
        self.passing = match piece {
            "Instant" => Passing::Name { instant: true },
            "Rng" | "WriteSeq" => Passing::Name { instant: false },
            "cut" => Passing::Cut { depth: 0 },
            _ => Passing::Kept,
        };
    }

    fn number(&mut self, instant: bool, piece: &str) {
        if piece == ")" {
            self.passing = Passing::Kept;
        } else if instant {
            let nanos: u64 = piece.parse().expect("an instant is a number");
            let quantum = u64::try_from(QUANTUM.as_nanos()).expect("it is short");
            let exact = if nanos.is_multiple_of(quantum) {
                ""
            } else {
                "+"
            };
            write!(self.kept, "({}{exact})", nanos / quantum).expect("it is only remembered");
        }
    }

    fn cut(&mut self, depth: u32, piece: &str) {
        let depth = match piece {
            "[" => depth + 1,
            "]" => depth - 1,
            _ => depth,
        };
        self.passing = match (piece, depth) {
            ("]", 0) => Passing::Kept,
            _ => Passing::Cut { depth },
        };
    }
}

#[cfg(test)]
mod tests {
    use quorate_core::rng::Rng;
    use quorate_core::{Index, Instant, WriteSeq};

    use super::*;

    fn nanos(quanta: u64, more: u64) -> Instant {
        Instant((Instant(0) + QUANTUM).0 * quanta + more)
    }

    #[derive(Debug)]
    #[expect(dead_code, reason = "only its text is read")]
    struct Thing {
        cut: Vec<Vec<u8>>,
        at: Instant,
        seq: WriteSeq,
        rng: Rng,
        index: Index,
    }

    fn thing() -> Thing {
        Thing {
            cut: vec![vec![1], vec![]],
            at: nanos(2, 5),
            seq: WriteSeq(3),
            rng: Rng::new(7),
            index: Index(9),
        }
    }

    #[test]
    fn what_makes_no_difference_is_not_seen() {
        let same = Thing {
            cut: vec![],
            at: nanos(2, 6),
            seq: WriteSeq(4),
            rng: Rng::new(8),
            ..thing()
        };
        assert_eq!(fingerprint(&thing()), fingerprint(&same));
    }

    #[test]
    fn all_else_is_seen() {
        let mut found = vec![fingerprint(&thing())];
        for (at, index) in [(nanos(2, 0), 9), (nanos(3, 5), 9), (nanos(2, 5), 8)] {
            let index = Index(index);
            found.push(fingerprint(&Thing {
                at,
                index,
                ..thing()
            }));
        }
        for (place, one) in found.iter().enumerate() {
            assert!(!found[..place].contains(one));
        }
    }
}
