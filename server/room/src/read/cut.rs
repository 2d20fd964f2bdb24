//! Places between two events of a timeline, and the tokens that stand for them.

use std::fmt;

use skerry_core::{Order, Pos};

/// A place between two events: everything up to `0`, included, lies before it.
///
/// Events that fill a hole later find their place on the right side of every cut made earlier,
/// so a token stays good for as long as the room exists.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Cut(pub Order);

impl Cut {
    /// Before the first event of a room.
    pub const START: Cut = Cut(Order::MIN);
    /// After the last event of a room.
    pub const END: Cut = Cut(Order::MAX);

    /// The place right after an event.
    #[must_use]
    pub const fn after(order: Order) -> Cut {
        Cut(order)
    }

    /// The place right before an event.
    #[must_use]
    pub const fn before(order: Order) -> Cut {
        Cut(Order {
            anchor: order.anchor,
            n: order.n.saturating_sub(1),
        })
    }

    /// The place that a reader has reached who has seen the log up to `pos`.
    #[must_use]
    pub const fn at(pos: Pos) -> Cut {
        Cut(Order::live(pos))
    }

    /// Reads a token: one written by [`fmt::Display`], or a sync token (`s`, the log position,
    /// then anything after an underscore). `None` if it is neither.
    #[must_use]
    pub fn parse(token: &str) -> Option<Cut> {
        if let Some(rest) = token.strip_prefix('t') {
            let (anchor, n) = rest.split_once('_')?;
            let anchor = Pos(digits(anchor)?);
            return Some(Cut(Order {
                anchor,
                n: n.parse().ok()?,
            }));
        }
        let rest = token.strip_prefix('s')?;
        Some(Cut::at(Pos(digits(rest.split('_').next()?)?)))
    }

    /// The log position that a reader at this place has seen at least.
    #[must_use]
    pub fn pos(self) -> Pos {
        if self.0.n < 0 {
            Pos(self.0.anchor.0.saturating_sub(1))
        } else {
            self.0.anchor
        }
    }
}

/// A number without sign or blanks, below the placeholders of positions.
fn digits(text: &str) -> Option<u64> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|number| *number < Pos::STAMP_BASE)
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{}_{}", self.0.anchor.0, self.0.n)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn tokens_read_back_and_nonsense_does_not() {
        for cut in [
            Cut::START,
            Cut::END,
            Cut::at(Pos(7)),
            Cut::before(Order::live(Pos(9))),
        ] {
            assert_eq!(Cut::parse(&cut.to_string()), Some(cut));
        }
        assert_eq!(Cut::parse("s12_7_3"), Some(Cut::at(Pos(12))));
        assert_eq!(Cut::parse("s12"), Some(Cut::at(Pos(12))));
        let wrong = [
            "",
            "t",
            "t1",
            "t_",
            "t-1_0",
            "t+1_0",
            "s",
            "s-1",
            "x3",
            "12",
            "t1_z",
            "s ",
            "s18446744073709551615",
            "t18446744073709551615_0",
            "t99999999999999999999_0",
        ];
        for token in wrong {
            assert_eq!(Cut::parse(token), None, "{token}");
        }
    }

    #[test]
    fn holes_fill_on_the_right_side() {
        let (first, second) = (Order::live(Pos(4)), Order::live(Pos(8)));
        let filler = Order {
            anchor: Pos(8),
            n: -1,
        };
        let cut = Cut::after(first);
        assert!(first <= cut.0 && filler > cut.0 && second > cut.0);
        let cut = Cut::before(second);
        assert!(first <= cut.0 && filler <= cut.0 && second > cut.0);
    }
}
