//! What was evaluated for one user and room, and what of it is unread.

use std::collections::HashMap;
use std::sync::Arc;

use skerry_core::{Order, Pos};
use skerry_store::schema::room_read::UnreadRow;

use super::{Count, Unread};

/// Notifying events remembered one by one for a user and room; of older ones, only how many.
/// Few, so that a tally stays at some two kilobytes and all members of a busy room fit into memory:
/// with 1,024 the tallies of 50 members drove each other out, and each sync counted from nothing.
const HITS_MAX: usize = 64;

/// How far a user has read a room.
#[derive(Clone, Debug)]
pub(crate) struct Marks {
    /// In all threads; at least the user's join.
    pub(crate) all: Order,
    /// In single threads.
    pub(crate) threads: HashMap<String, Order>,
    /// Position of the newest receipt among them.
    pub(crate) newest: Pos,
}

impl Marks {
    /// How far a thread is read.
    pub(super) fn of(&self, thread: &str) -> Order {
        self.threads
            .get(thread)
            .map_or(self.all, |order| self.all.max(*order))
    }

    /// Takes in a receipt; an empty thread stands for all.
    pub(crate) fn raise(&mut self, thread: &str, order: Order, pos: Pos) {
        if thread.is_empty() {
            self.all = self.all.max(order);
        } else {
            let mark = self.threads.entry(thread.to_owned()).or_insert(order);
            *mark = order.max(*mark);
        }
        self.newest = self.newest.max(pos);
    }
}

/// What was evaluated for one user and room.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    /// Everything up to here is evaluated.
    pub(crate) upto: Order,
    /// Counts of what lies up to `base_upto`, each with the mark it was counted from.
    base: Vec<(Arc<str>, Count, Order)>,
    base_upto: Order,
    /// Events after `base_upto` that notify, in order.
    hits: Vec<Hit>,
    /// Position of the newest receipt that anything was dropped for.
    newest: Pos,
    /// The threads that hits are in.
    threads: Vec<Arc<str>>,
    /// What was counted last, with the newest receipt and the mark that it was counted with.
    counted: Option<((Pos, Order), Unread)>,
    /// How many events were evaluated since the counts were last written to the store.
    pub(crate) unsaved: usize,
}

#[derive(Clone, Debug)]
struct Hit {
    order: Order,
    /// Index of its thread.
    thread: u32,
    highlight: bool,
}

impl Tally {
    /// Nothing is evaluated yet of what comes after a place.
    pub(crate) fn from(mark: Order) -> Tally {
        Tally {
            upto: mark,
            base: Vec::new(),
            base_upto: mark,
            hits: Vec::new(),
            newest: Pos::ZERO,
            threads: Vec::new(),
            counted: None,
            unsaved: 0,
        }
    }

    /// What was saved.
    pub(crate) fn from_row(row: UnreadRow, marks: &Marks) -> Tally {
        let base = row.counts.into_iter().map(|c| {
            let count = Count {
                notify: c.notify.into(),
                highlight: c.highlight.into(),
            };
            let mark = marks.of(&c.thread);
            (Arc::from(c.thread), count, mark)
        });
        Tally {
            upto: row.upto,
            base: base.collect(),
            base_upto: row.upto,
            hits: Vec::new(),
            newest: Pos::ZERO,
            threads: Vec::new(),
            counted: None,
            unsaved: 0,
        }
    }

    /// Whether it can tell the counts of somebody who has seen the log up to `head`, and who has
    /// these marks: what came or was read later may be gone.
    pub(crate) fn reaches(&self, marks: &Marks, head: Pos) -> bool {
        self.newest <= marks.newest && self.base_upto.anchor <= head
    }

    /// The places of the events that are remembered one by one.
    pub(crate) fn remembered(&self) -> Vec<Order> {
        self.hits.iter().map(|hit| hit.order).collect()
    }

    /// Drops what was read. False if that cannot be done, because only a part was read of what
    /// is not remembered one by one.
    pub(crate) fn drop_read(&mut self, marks: &Marks) -> bool {
        self.newest = marks.newest;
        let upto = self.base_upto;
        self.base.retain(|(thread, ..)| marks.of(thread) < upto);
        let first = self.hits.partition_point(|hit| hit.order <= marks.all);
        if first > 0 {
            self.hits.drain(..first);
        }
        self.base
            .iter()
            .all(|(thread, _, mark)| *mark == marks.of(thread))
    }

    /// Once there are too many one by one, only the newest few stay so.
    pub(crate) fn fold(&mut self, marks: &Marks) {
        if self.hits.len() <= HITS_MAX {
            return;
        }
        let surplus = self.hits.len() - HITS_MAX / 2;
        for hit in self.hits.drain(..surplus) {
            self.base_upto = hit.order;
            let Some(thread) = self.threads.get(hit.thread as usize) else {
                continue;
            };
            let mark = marks.of(thread);
            if hit.order <= mark {
                continue;
            }
            match self.base.iter_mut().find(|entry| entry.0 == *thread) {
                Some((_, count, _)) => count.add(hit.highlight),
                None => {
                    let mut count = Count::default();
                    count.add(hit.highlight);
                    self.base.push((thread.clone(), count, mark));
                }
            }
        }
    }

    /// The counts for somebody who has seen the log up to `head`.
    pub(crate) fn count(&mut self, marks: &Marks, head: Pos) -> Unread {
        let whole = self.hits.last().is_none_or(|hit| hit.order.anchor <= head);
        if let (true, Some((newest, unread))) = (whole, &self.counted)
            && *newest == (marks.newest, marks.all)
        {
            return unread.clone();
        }
        let threads: Vec<Order> = self.threads.iter().map(|thread| marks.of(thread)).collect();
        let mut counts = vec![Count::default(); threads.len()];
        for hit in &self.hits {
            let mark = threads
                .get(hit.thread as usize)
                .copied()
                .unwrap_or(marks.all);
            if hit.order.anchor <= head
                && hit.order > mark
                && let Some(count) = counts.get_mut(hit.thread as usize)
            {
                count.add(hit.highlight);
            }
        }
        let mut sums: HashMap<Arc<str>, Count> = self
            .base
            .iter()
            .map(|(thread, count, _)| (thread.clone(), *count))
            .collect();
        for (thread, count) in self.threads.iter().zip(counts) {
            let sum = sums.entry(thread.clone()).or_default();
            sum.notify += count.notify;
            sum.highlight += count.highlight;
        }
        let unread = Unread::of(sums);
        if whole {
            self.counted = Some(((marks.newest, marks.all), unread.clone()));
        }
        unread
    }

    /// Takes in an event that notifies.
    pub(crate) fn hit(&mut self, order: Order, thread: &Arc<str>, highlight: bool) {
        let known = self.threads.iter().position(|other| other == thread);
        let thread = known.unwrap_or_else(|| {
            self.threads.push(thread.clone());
            self.threads.len() - 1
        });
        // As many threads would not fit into memory.
        let thread = u32::try_from(thread).unwrap_or(u32::MAX);
        self.hits.push(Hit {
            order,
            thread,
            highlight,
        });
        self.counted = None;
    }

    /// An event notifies no more.
    pub(crate) fn withdraw(&mut self, order: Order) {
        if let Ok(at) = self.hits.binary_search_by(|hit| hit.order.cmp(&order)) {
            self.hits.remove(at);
            self.counted = None;
        }
    }

    /// Gives back room that only its making needed, and says how many bytes it holds, about.
    pub(crate) fn settle(&mut self) -> usize {
        self.hits.shrink_to(HITS_MAX);
        320 + self.hits.capacity() * size_of::<Hit>() + (self.base.len() + self.threads.len()) * 96
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::super::MAIN;
    use super::*;

    fn at(n: u64) -> Order {
        Order::live(Pos(n))
    }

    fn marks(all: u64, threads: &[(&str, u64)]) -> Marks {
        let newest = Pos(all * 10_000 + threads.iter().map(|thread| thread.1).sum::<u64>());
        let threads = threads
            .iter()
            .map(|(id, n)| ((*id).to_owned(), at(*n)))
            .collect();
        Marks {
            all: at(all),
            threads,
            newest,
        }
    }

    fn count(notify: u64, highlight: u64) -> Count {
        Count { notify, highlight }
    }

    #[test]
    fn counts_by_thread_and_by_what_the_reader_has_seen() {
        let mut tally = Tally::from(at(0));
        let (main, thread) = (Arc::from(MAIN), Arc::from("$t"));
        tally.hit(at(1), &main, false);
        tally.hit(at(2), &thread, true);
        tally.hit(at(3), &thread, false);
        let unread = tally.count(&marks(0, &[]), Pos(9));
        assert_eq!(unread.main, count(1, 0));
        assert_eq!(unread.threads, vec![(Arc::from("$t"), count(2, 1))]);
        assert_eq!(unread.total(), count(3, 1));
        let unread = tally.count(&marks(0, &[("$t", 2)]), Pos(9));
        assert_eq!(unread.total(), count(2, 0));
        assert_eq!(tally.count(&marks(0, &[]), Pos(2)).total().notify, 2);
        assert!(tally.drop_read(&marks(2, &[])));
        assert_eq!(tally.hits.len(), 1);
    }

    #[test]
    fn folding_keeps_the_sums_until_a_part_is_read() {
        let mut tally = Tally::from(at(0));
        let none = marks(0, &[]);
        for n in 1..=2_000_u64 {
            let thread = Arc::from(if n % 2 == 0 { "$t" } else { MAIN });
            tally.hit(at(n), &thread, n % 10 == 0);
            tally.fold(&none);
        }
        assert!(tally.hits.len() <= HITS_MAX);
        let total = tally.count(&none, Pos(9_999)).total();
        assert_eq!(total, count(2_000, 200));
        assert!(tally.reaches(&none, Pos(2_000)) && !tally.reaches(&none, Pos(1_000)));
        assert!(tally.clone().drop_read(&none));
        assert!(
            !tally.clone().drop_read(&marks(10, &[])),
            "a part of the folded was read"
        );
        let mut read = tally.clone();
        assert!(read.drop_read(&marks(1_990, &[])));
        assert_eq!(
            read.count(&marks(1_990, &[]), Pos(9_999)).total().notify,
            10
        );
        let mut read = tally;
        let thread = marks(0, &[("$t", 2_000)]);
        assert!(read.drop_read(&thread));
        let unread = read.count(&thread, Pos(9_999));
        assert_eq!((unread.main.notify, unread.threads.len()), (1_000, 0));
    }
}
