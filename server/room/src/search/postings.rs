//! Places of a term in a room, packed: a few bytes for each event that has it.

use std::collections::BTreeSet;

use skerry_core::search::Key;
use skerry_core::{Order, Pos};
use skerry_store::codec::{Buf, Cur};
use skerry_store::{Malformed, Raw};

/// An event that has a term.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Posting {
    /// Its place in the room.
    pub(super) order: Order,
    /// Where in the event, how often, and among how many terms: two bits, two bits, four bits.
    pub(super) info: u8,
}

impl Posting {
    /// A posting of a term that stands `times` times in a text of `len` terms.
    pub(super) fn new(order: Order, key: Key, times: usize, len: usize) -> Posting {
        let key = match key {
            Key::Body => 0,
            Key::Name => 1,
            Key::Topic => 2,
        };
        let times = u8::try_from(times.clamp(1, 4) - 1).unwrap_or(0);
        let len = u8::try_from(len.max(1).ilog2().min(15)).unwrap_or(15);
        let info = key | times << 2 | len << 4;
        Posting { order, info }
    }

    /// Where in the event the term stands.
    pub(super) fn key(self) -> Option<Key> {
        match self.info & 3 {
            0 => Some(Key::Body),
            1 => Some(Key::Name),
            2 => Some(Key::Topic),
            _ => None,
        }
    }

    /// How much it says about the event that the term is there: more if it stands there often,
    /// less in a long text. Between 0 and 2.2, as in the BM25 of the books, with 16 terms taken
    /// for a text of usual length.
    pub(super) fn weight(self) -> f32 {
        let times = f32::from((self.info >> 2) & 3) + 1.0;
        let len = f32::from(1_u16.wrapping_shl(u32::from(self.info >> 4)));
        times * 2.2 / (times + 1.2 * (0.25 + 0.75 * len / 16.0))
    }
}

/// Packs postings, which are sorted, for a row under the place of the first.
pub(super) fn pack(postings: &[Posting]) -> Raw {
    let mut out = Buf::new();
    let mut before = postings
        .first()
        .map_or(Pos::ZERO, |first| first.order.anchor);
    for posting in postings {
        let Order { anchor, n } = posting.order;
        let step = anchor.0.saturating_sub(before.0);
        out.varint(step << 1 | u64::from(n != 0));
        if n != 0 {
            out.varint(n.unsigned_abs() << 1 | u64::from(n > 0));
        }
        out.byte(posting.info);
        before = anchor;
    }
    Raw(out.as_slice().to_vec())
}

/// Reads what [`pack`] wrote.
pub(super) fn unpack(
    first: Order,
    row: &Raw,
    mut each: impl FnMut(Posting),
) -> Result<(), Malformed> {
    let mut cur = Cur::new(&row.0);
    let mut anchor = first.anchor.0;
    while cur.peek().is_some() {
        let step = cur.varint()?;
        anchor = anchor.checked_add(step >> 1).ok_or(Malformed)?;
        let mut n = 0;
        if step & 1 == 1 {
            let packed = cur.varint()?;
            n = i64::try_from(packed >> 1).map_err(|_| Malformed)?;
            if packed & 1 == 0 {
                n = -n;
            }
        }
        let order = Order {
            anchor: Pos(anchor),
            n,
        };
        let info = cur.byte()?;
        each(Posting { order, info });
    }
    Ok(())
}

/// A row without some events; `None` if none of them is in it.
pub(super) fn without(
    first: Order,
    row: &Raw,
    gone: &BTreeSet<Order>,
) -> Result<Option<Vec<Posting>>, Malformed> {
    let (mut kept, mut found) = (Vec::new(), false);
    unpack(first, row, |posting| {
        if gone.contains(&posting.order) {
            found = true;
        } else {
            kept.push(posting);
        }
    })?;
    Ok(found.then_some(kept))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn unpacked(first: Order, row: &Raw) -> Vec<Posting> {
        let mut found = Vec::new();
        unpack(first, row, |posting| found.push(posting)).unwrap();
        found
    }

    #[test]
    fn what_is_packed_is_read_back() {
        let at = |anchor, n| Order {
            anchor: Pos(anchor),
            n,
        };
        let orders = [
            at(5, -3),
            at(5, -1),
            at(5, 0),
            at(6, 0),
            at(900, -70),
            at(1 << 40, 0),
        ];
        let postings: Vec<Posting> = orders
            .iter()
            .enumerate()
            .map(|(n, order)| Posting::new(*order, Key::Topic, n, 1 << n))
            .collect();
        let row = pack(&postings);
        assert_eq!(unpacked(orders[0], &row), postings);
        assert!(
            postings
                .iter()
                .all(|posting| posting.key() == Some(Key::Topic))
        );

        let gone = BTreeSet::from([orders[0], orders[4], at(7, 0)]);
        let kept = without(orders[0], &row, &gone).unwrap().unwrap();
        assert_eq!(kept, [postings[1], postings[2], postings[3], postings[5]]);
        assert_eq!(unpacked(orders[1], &pack(&kept)), kept);
        assert!(
            without(orders[0], &row, &BTreeSet::new())
                .unwrap()
                .is_none()
        );
        assert!(unpack(orders[0], &Raw(vec![0x80]), |_| ()).is_err());
    }

    #[test]
    fn a_message_after_the_other_takes_two_bytes() {
        let postings: Vec<Posting> = (0..100)
            .map(|n| Posting::new(Order::live(Pos(1_000 + n * 20)), Key::Body, 1, 8))
            .collect();
        assert_eq!(pack(&postings).0.len(), 200);
    }

    #[test]
    fn often_in_a_short_text_weighs_more() {
        let weight = |times, len| Posting::new(Order::MIN, Key::Body, times, len).weight();
        assert!(weight(2, 8) > weight(1, 8));
        assert!(weight(1, 4) > weight(1, 64));
        assert!(weight(4, 1) < 2.2);
    }
}
