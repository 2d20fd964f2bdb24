//! Where to go on in a list of results.

use std::cmp::Ordering;

use skerry_core::{Order, Pos, RoomNid, UserNid};

/// A place in the list: that of the last result given.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Place {
    /// The search looks at events up to here, on every page the same.
    pub(super) upto: Pos,
    /// The last result.
    pub(super) last: Hit,
    /// Only results of this group.
    pub(super) group: Option<Group>,
}

/// An event that the index says is wanted.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Hit {
    /// How well it fits; 0 where the newest come first.
    pub(super) rank: f32,
    pub(super) order: Order,
    pub(super) room: RoomNid,
}

/// Results that belong together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Group {
    Room(RoomNid),
    Sender(UserNid),
}

impl Hit {
    /// In the order of results: the best first, the newest of equal ones.
    pub(super) fn compare(&self, other: &Hit) -> Ordering {
        let rank = other.rank.total_cmp(&self.rank);
        rank.then_with(|| other.order.cmp(&self.order))
            .then_with(|| self.room.cmp(&other.room))
    }
}

impl Place {
    /// The place as a token.
    pub(super) fn token(&self) -> String {
        let Hit { rank, order, room } = self.last;
        let (kind, of) = match self.group {
            None => (0, 0),
            Some(Group::Room(room)) => (1, room.0),
            Some(Group::Sender(user)) => (2, user.0),
        };
        let (upto, rank, anchor) = (self.upto.0, rank.to_bits(), order.anchor.0);
        format!("{upto}_{rank}_{anchor}_{}_{}_{kind}_{of}", order.n, room.0)
    }

    /// Reads a token; `None` for what is none.
    pub(super) fn parse(token: &str) -> Option<Place> {
        let mut parts = token.split('_');
        let mut number = || parts.next()?.parse::<u64>().ok();
        let (upto, rank, anchor) = (number()?, number()?, number()?);
        let n = parts.next()?.parse().ok()?;
        let mut number = || parts.next()?.parse::<u64>().ok();
        let (room, kind, of) = (number()?, number()?, number()?);
        let group = match kind {
            0 => None,
            1 => Some(Group::Room(RoomNid(of))),
            2 => Some(Group::Sender(UserNid(of))),
            _ => return None,
        };
        let order = Order {
            anchor: Pos(anchor),
            n,
        };
        let last = Hit {
            rank: f32::from_bits(u32::try_from(rank).ok()?),
            order,
            room: RoomNid(room),
        };
        let good = parts.next().is_none() && upto < Pos::STAMP_BASE && anchor < Pos::STAMP_BASE;
        good.then_some(Place {
            upto: Pos(upto),
            last,
            group,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn tokens_read_back_and_nonsense_does_not() {
        for group in [
            None,
            Some(Group::Room(RoomNid(3))),
            Some(Group::Sender(UserNid(4))),
        ] {
            let order = Order {
                anchor: Pos(8),
                n: -2,
            };
            let last = Hit {
                rank: 1.5,
                order,
                room: RoomNid(2),
            };
            let place = Place {
                upto: Pos(9),
                last,
                group,
            };
            assert_eq!(Place::parse(&place.token()), Some(place));
        }
        for wrong in [
            "",
            "1",
            "1_2_3_4_5_6",
            "1_2_3_4_5_6_7",
            "1_2_3_x_5_0_0",
            "1_2_3_4_5_0_0_0",
        ] {
            assert_eq!(Place::parse(wrong), None, "{wrong}");
        }
    }
}
