//! How much of a room a user has not read.
//!
//! Nothing is written when a message comes: the count is made from the user's receipts and the
//! push rules, evaluated over the timeline after them. What was evaluated is kept in memory as a
//! list of the events that notify, so that an event is evaluated once per user, and a receipt
//! only drops the front of the list. Losing the memory loses nothing.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use skerry_core::power::{CreateFacts, PowerLevels};
use skerry_core::push::{EventFacts, evaluate};
use skerry_core::{EventNid, Order, Pos, RoomNid, UserNid};
use skerry_store::schema::room::{RelKind, Timeline};
use skerry_store::schema::room_read::{self as t, UnreadCount, UnreadRow};
use skerry_store::{Scan, Snapshot, StoreError};

use crate::cache::Cache;
use crate::{Placed, Rooms, View};

/// The thread id of what is in no thread.
pub const MAIN: &str = "main";

/// Notifying events remembered one by one for a user and room; of older ones, only how many.
const HITS_MAX: usize = 1_024;
/// Events loaded at once.
const CHUNK: usize = 256;
/// How far relations are followed to find the thread of an event.
const THREAD_HOPS: usize = 3;
/// Bytes that what is known of an event for push rules weighs, beside its text.
const FACTS_BYTES: usize = 1_024;

/// Unread events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Those that notify.
    pub notify: u64,
    /// Those of them that highlight.
    pub highlight: u64,
}

impl Count {
    fn add(&mut self, highlight: bool) {
        self.notify += 1;
        self.highlight += u64::from(highlight);
    }
}

/// Unread counts of a user in a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// What is in no thread.
    pub main: Count,
    /// By the event id of the thread's root, where anything is unread; sorted.
    pub threads: Vec<(Arc<str>, Count)>,
}

impl Unread {
    /// All of the room together, for clients that do not tell threads apart.
    #[must_use]
    pub fn total(&self) -> Count {
        self.threads
            .iter()
            .fold(self.main, |sum, (_, count)| Count {
                notify: sum.notify + count.notify,
                highlight: sum.highlight + count.highlight,
            })
    }

    fn of(counts: HashMap<Arc<str>, Count>) -> Unread {
        let mut unread = Unread::default();
        for (thread, count) in counts {
            if &*thread == MAIN {
                unread.main = count;
            } else if count.notify > 0 {
                unread.threads.push((thread, count));
            }
        }
        unread.threads.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        unread
    }
}

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
    fn of(&self, thread: &str) -> Order {
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
    upto: Order,
    /// Counts of what lies up to `base_upto`, each with the mark it was counted from.
    base: Vec<(Arc<str>, Count, Order)>,
    base_upto: Order,
    /// Events after `base_upto` that notify, in order.
    hits: Vec<Hit>,
}

#[derive(Clone, Debug)]
struct Hit {
    order: Order,
    thread: Arc<str>,
    highlight: bool,
}

impl Tally {
    fn from(mark: Order) -> Tally {
        Tally {
            upto: mark,
            base: Vec::new(),
            base_upto: mark,
            hits: Vec::new(),
        }
    }

    fn from_row(row: UnreadRow, marks: &Marks) -> Tally {
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
        }
    }

    /// Drops what was read. False if that cannot be done, because only a part was read of what
    /// is not remembered one by one.
    fn drop_read(&mut self, marks: &Marks) -> bool {
        let upto = self.base_upto;
        self.base.retain(|(thread, ..)| marks.of(thread) < upto);
        let first = self.hits.partition_point(|hit| hit.order <= marks.all);
        self.hits.drain(..first);
        self.base
            .iter()
            .all(|(thread, _, mark)| *mark == marks.of(thread))
    }

    /// Forgets the older half one by one, once there are too many.
    fn fold(&mut self, marks: &Marks) {
        if self.hits.len() <= HITS_MAX {
            return;
        }
        for hit in self.hits.drain(..HITS_MAX / 2) {
            self.base_upto = hit.order;
            let mark = marks.of(&hit.thread);
            if hit.order <= mark {
                continue;
            }
            match self.base.iter_mut().find(|entry| entry.0 == hit.thread) {
                Some((_, count, _)) => count.add(hit.highlight),
                None => {
                    let mut count = Count::default();
                    count.add(hit.highlight);
                    self.base.push((hit.thread, count, mark));
                }
            }
        }
    }

    /// The counts for somebody who has seen the log up to `head`.
    fn count(&self, marks: &Marks, head: Pos) -> Unread {
        let mut counts: HashMap<Arc<str>, Count> = HashMap::new();
        for (thread, count, _) in &self.base {
            counts.insert(thread.clone(), *count);
        }
        for hit in &self.hits {
            if hit.order.anchor <= head && hit.order > marks.of(&hit.thread) {
                counts
                    .entry(hit.thread.clone())
                    .or_default()
                    .add(hit.highlight);
            }
        }
        Unread::of(counts)
    }

    fn weight(&self) -> usize {
        256 + self.hits.len() * size_of::<Hit>() + self.base.len() * 96
    }
}

/// What counting keeps in memory.
pub(crate) struct UnreadCaches {
    tallies: Cache<(UserNid, RoomNid), Arc<Mutex<Tally>>>,
    facts: Cache<EventNid, Arc<EventFacts>>,
    powers: Cache<(EventNid, EventNid), Arc<PowerLevels>>,
}

impl UnreadCaches {
    /// Caches of about so many bytes together.
    pub(crate) fn new(budget: usize) -> UnreadCaches {
        UnreadCaches {
            tallies: Cache::new(budget / 2),
            facts: Cache::new(budget / 4),
            powers: Cache::new(budget / 4),
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        self.tallies.clear();
        self.facts.clear();
        self.powers.clear();
    }
}

impl View {
    /// How much of the room the user has not read. Nothing for who is not in it.
    ///
    /// # Errors
    /// The store's.
    pub fn unread(&self) -> Result<Unread, StoreError> {
        let (rooms, snap, user) = (&self.rooms, &self.snap, self.reader.user);
        let Some(marks) = rooms.marks(snap, self.room, user)? else {
            return Ok(Unread::default());
        };
        let tallies = &rooms.inner.reads.unread.tallies;
        let key = (user, self.room);
        let tally = match tallies.get(key) {
            Some(tally) => tally,
            None => Arc::new(Mutex::new(self.saved_tally(&marks)?)),
        };
        let mut tally_now = tally.lock();
        if self.update(&mut tally_now, &marks)? {
            let weight = tally_now.weight();
            let unread = tally_now.count(&marks, snap.head());
            drop(tally_now);
            tallies.put(key, tally, weight);
            return Ok(unread);
        }
        Ok(tally_now.count(&marks, snap.head()))
    }

    /// The counts with marks that are about to be written, as a row to write with them.
    pub(crate) fn unread_row(&self, marks: &Marks) -> Result<UnreadRow, StoreError> {
        let held = self
            .rooms
            .inner
            .reads
            .unread
            .tallies
            .get((self.reader.user, self.room));
        let mut tally = match held.map(|tally| tally.lock().clone()) {
            Some(tally) => tally,
            None => Tally::from(marks.all),
        };
        self.update(&mut tally, marks)?;
        let head = self.snap.head();
        let unread = tally.count(marks, head);
        let main = (Arc::from(MAIN), unread.main);
        let all = std::iter::once(main).chain(unread.threads);
        let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let counts = all
            .filter(|(_, count)| count.notify > 0)
            .map(|(thread, count)| UnreadCount {
                thread: thread.to_string(),
                notify: small(count.notify),
                highlight: small(count.highlight),
            });
        Ok(UnreadRow {
            upto: Order::live(head),
            receipts: marks.newest,
            counts: counts.collect(),
        })
    }

    /// What was saved, if no receipt moved since; else nothing is counted yet.
    fn saved_tally(&self, marks: &Marks) -> Result<Tally, StoreError> {
        let row = self.snap.get::<t::Unread>(&(self.reader.user, self.room))?;
        let fits = |row: &UnreadRow| row.receipts == marks.newest && row.upto >= marks.all;
        Ok(match row.filter(fits) {
            Some(row) => Tally::from_row(row, marks),
            None => Tally::from(marks.all),
        })
    }

    /// Drops what was read, evaluates what is new. True if anything was evaluated.
    fn update(&self, tally: &mut Tally, marks: &Marks) -> Result<bool, StoreError> {
        if !tally.drop_read(marks) {
            *tally = Tally::from(marks.all);
        }
        let end = Order::live(self.snap.head());
        let from = tally.upto.max(marks.all);
        if from >= end || self.rooms.last_pos(self.room) <= from.anchor {
            return Ok(false);
        }
        let mut judge = None;
        let after_end = Order {
            anchor: Pos(end.anchor.0 + 1),
            n: i64::MIN,
        };
        let scan = Scan::prefix(&self.room)
            .after(&(self.room, from))
            .to(&(self.room, after_end));
        let mut rows = self.snap.scan::<Timeline>(scan);
        loop {
            let nids: Result<Vec<_>, _> = rows
                .by_ref()
                .take(CHUNK)
                .map(|row| row.map(|row| row.1))
                .collect();
            let nids = nids?;
            for event in self.load(&nids)? {
                self.judge(&mut judge, tally, &event)?;
            }
            tally.fold(marks);
            if nids.len() < CHUNK {
                break;
            }
        }
        tally.upto = end;
        Ok(true)
    }

    /// Evaluates one event; a notifying one is noted.
    fn judge(
        &self,
        judge: &mut Option<Judge>,
        tally: &mut Tally,
        event: &Arc<Placed>,
    ) -> Result<(), StoreError> {
        let sender = event.meta.sender;
        if sender == self.reader.user
            || event.redacted_by.is_some()
            || self.ignored.contains(&sender)
        {
            return Ok(());
        }
        if judge.is_none() {
            *judge = Some(self.make_judge()?);
        }
        let Some(judge) = judge else { return Ok(()) };
        let facts = self.rooms.push_facts(&self.snap, event, judge.joined)?;
        let verdict = evaluate(
            &judge.rules,
            &facts,
            judge.name.as_deref(),
            &self.reader.user_id,
        );
        if verdict.notify {
            let thread = self.rooms.thread_of(&self.snap, event)?;
            let thread = thread.unwrap_or_else(|| Arc::from(MAIN));
            tally.hits.push(Hit {
                order: event.order(),
                thread,
                highlight: verdict.highlight,
            });
        }
        Ok(())
    }

    fn make_judge(&self) -> Result<Judge, StoreError> {
        let rules = match self
            .rooms
            .inner
            .accounts
            .ruleset(&self.snap, self.reader.user)
        {
            Ok(rules) => rules,
            Err(skerry_account::AccountError::Store(error)) => return Err(error),
            // Rules that cannot be read notify of nothing.
            Err(_) => Arc::default(),
        };
        let member = self.rooms.current_event(
            &self.snap,
            self.room,
            "m.room.member",
            &self.reader.user_id,
        )?;
        let content = member.and_then(|held| held.event.content_object().ok());
        let name = content.and_then(|content| content.str("displayname").map(str::to_owned));
        let head = self.rooms.head(&self.snap, self.room)?;
        Ok(Judge {
            rules,
            name,
            joined: head.map_or(0, |head| head.joined.into()),
        })
    }
}

/// What does not change from event to event.
struct Judge {
    rules: Arc<ruma_common::push::Ruleset>,
    /// The user's name in the room.
    name: Option<String>,
    /// How many are joined.
    joined: u64,
}

impl Rooms {
    /// How far a user has read a room; `None` if they are not in it.
    pub(crate) fn marks(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        user: UserNid,
    ) -> Result<Option<Marks>, StoreError> {
        let Some(member) = self.member_of(snap, user, room)? else {
            return Ok(None);
        };
        if member.membership != skerry_core::Membership::Join {
            return Ok(None);
        }
        let all = Order::live(member.since);
        let mut marks = Marks {
            all,
            threads: HashMap::new(),
            newest: Pos::ZERO,
        };
        for row in snap.scan::<t::Receipts>(Scan::prefix(&(room, user))) {
            let ((_, _, _, thread), receipt) = row?;
            marks.raise(&thread, receipt.order, receipt.pos);
        }
        Ok(Some(marks))
    }

    /// The event id of the root of the thread an event belongs to; `None` if it is in the main
    /// timeline.
    ///
    /// # Errors
    /// The store's.
    pub fn thread_of(
        &self,
        snap: &Snapshot,
        event: &Arc<Placed>,
    ) -> Result<Option<Arc<str>>, StoreError> {
        let mut at = event.clone();
        for _ in 0..THREAD_HOPS {
            let Some(relates) = at.relates() else {
                return Ok(None);
            };
            if relates.kind() == RelKind::Thread {
                return Ok(Some(Arc::from(relates.parent.as_str())));
            }
            let Some(parent) = self.store().event_nid(snap, &relates.parent)? else {
                return Ok(None);
            };
            match self.placed(snap, event.meta.room, parent)? {
                Some(parent) => at = parent,
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    /// What push rules may ask about an event; made once for all members.
    fn push_facts(
        &self,
        snap: &Snapshot,
        event: &Placed,
        joined: u64,
    ) -> Result<Arc<EventFacts>, StoreError> {
        let cache = &self.inner.reads.unread.facts;
        if let Some(facts) = cache.get(event.nid) {
            return Ok(facts);
        }
        let power = self.power_at(snap, event)?;
        let facts = Arc::new(EventFacts::new(&event.event, joined, power));
        cache.put(
            event.nid,
            facts.clone(),
            FACTS_BYTES + 2 * event.event.memory_bytes(),
        );
        Ok(facts)
    }

    /// The power levels at an event.
    fn power_at(&self, snap: &Snapshot, event: &Placed) -> Result<Arc<PowerLevels>, StoreError> {
        let map = self.state_map(snap, event.meta.before)?;
        let create = self
            .in_state(&map, "m.room.create", "")?
            .unwrap_or(event.nid);
        let levels = self.in_state(&map, "m.room.power_levels", "")?;
        let key = (create, levels.unwrap_or(create));
        if let Some(power) = self.inner.reads.unread.powers.get(key) {
            return Ok(power);
        }
        let create = self.placed(snap, event.meta.room, create)?;
        let levels = match levels {
            Some(nid) => self.placed(snap, event.meta.room, nid)?,
            None => None,
        };
        let facts = create.and_then(|create| CreateFacts::of(&create.event));
        let facts = facts.ok_or_else(|| StoreError::missing("event", key.0))?;
        let levels = PowerLevels::of(&facts, levels.as_ref().map(|levels| &levels.event));
        // Levels that break the rules never became state; then the defaults hold.
        let power = levels.or_else(|_| PowerLevels::new(&facts, None));
        let power = power.map_err(|_| StoreError::missing("event", key.1))?;
        let power = Arc::new(power);
        self.inner
            .reads
            .unread
            .powers
            .put(key, power.clone(), FACTS_BYTES);
        Ok(power)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn at(n: u64) -> Order {
        Order::live(Pos(n))
    }

    fn marks(all: u64, threads: &[(&str, u64)]) -> Marks {
        let threads = threads
            .iter()
            .map(|(id, n)| ((*id).to_owned(), at(*n)))
            .collect();
        Marks {
            all: at(all),
            threads,
            newest: Pos(0),
        }
    }

    fn hit(n: u64, thread: &str, highlight: bool) -> Hit {
        Hit {
            order: at(n),
            thread: Arc::from(thread),
            highlight,
        }
    }

    #[test]
    fn counts_by_thread_and_by_what_the_reader_has_seen() {
        let mut tally = Tally::from(at(0));
        tally.hits = vec![hit(1, MAIN, false), hit(2, "$t", true), hit(3, "$t", false)];
        let unread = tally.count(&marks(0, &[]), Pos(9));
        assert_eq!(
            unread.main,
            Count {
                notify: 1,
                highlight: 0
            }
        );
        assert_eq!(
            unread.threads,
            vec![(
                Arc::from("$t"),
                Count {
                    notify: 2,
                    highlight: 1
                }
            )]
        );
        assert_eq!(
            unread.total(),
            Count {
                notify: 3,
                highlight: 1
            }
        );
        let unread = tally.count(&marks(0, &[("$t", 2)]), Pos(9));
        assert_eq!(
            unread.total(),
            Count {
                notify: 2,
                highlight: 0
            }
        );
        assert_eq!(tally.count(&marks(0, &[]), Pos(2)).total().notify, 2);
        assert!(tally.drop_read(&marks(2, &[])));
        assert_eq!(tally.hits.len(), 1);
    }

    #[test]
    fn folding_keeps_the_sums_until_a_part_is_read() {
        let mut tally = Tally::from(at(0));
        let none = marks(0, &[]);
        for n in 1..=2_000_u64 {
            tally
                .hits
                .push(hit(n, if n % 2 == 0 { "$t" } else { MAIN }, n % 10 == 0));
            tally.fold(&none);
        }
        assert!(tally.hits.len() <= HITS_MAX);
        let total = tally.count(&none, Pos(9_999)).total();
        assert_eq!(
            total,
            Count {
                notify: 2_000,
                highlight: 200
            }
        );
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
