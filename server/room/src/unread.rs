//! How much of a room a user has not read.
//!
//! Nothing is written when a message comes: the count is made from the user's receipts and the
//! push rules, evaluated over the timeline after them. What was evaluated is kept in memory as a
//! list of the events that notify, so that an event is evaluated once per user, and a receipt
//! only drops the front of the list. Losing the memory loses nothing.

mod alert;
mod notified;
mod save;
mod tally;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use skerry_core::power::{CreateFacts, PowerLevels};
use skerry_core::push::{EventFacts, Verdict, evaluate};
use skerry_core::{EventNid, Order, Pos, RoomNid, UserNid};
use skerry_store::schema::room::{RelKind, Timeline};
use skerry_store::schema::room_read::{self as t, UnreadCount, UnreadRow};
use skerry_store::{Scan, Snapshot, StoreError};

use crate::cache::Cache;
use crate::redact_many::asks_for_redaction;
use crate::{Placed, Rooms, View};

pub use alert::Alert;
pub use notified::{NOTIFICATIONS_MAX, NotificationsAsk};
pub(crate) use tally::{Marks, Tally};

/// The thread id of what is in no thread.
pub const MAIN: &str = "main";

/// Events loaded at once.
const CHUNK: usize = 128;
/// Events evaluated after which the counts are worth saving.
const SAVE_AFTER: usize = 200;
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

/// What counting keeps in memory.
pub(crate) struct UnreadCaches {
    tallies: Cache<(UserNid, RoomNid), Arc<Mutex<Tally>>>,
    facts: Cache<EventNid, Arc<EventFacts>>,
    powers: Cache<(EventNid, EventNid), Arc<PowerLevels>>,
    /// Counts that took so much work that they are to be saved.
    unsaved: Mutex<HashSet<(UserNid, RoomNid)>>,
}

impl UnreadCaches {
    /// Caches of about so many bytes together.
    pub(crate) fn new(budget: usize) -> UnreadCaches {
        UnreadCaches {
            tallies: Cache::new(budget / 4 * 3),
            facts: Cache::new(budget / 8),
            powers: Cache::new(budget / 8),
            unsaved: Mutex::new(HashSet::new()),
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
        if !tally_now.reaches(&marks, snap.head()) {
            drop(tally_now);
            let mut older = self.saved_tally(&marks)?;
            self.update(&mut older, &marks)?;
            return Ok(older.count(&marks, snap.head()));
        }
        if self.update(&mut tally_now, &marks)? {
            if tally_now.unsaved >= SAVE_AFTER {
                rooms.inner.reads.unread.note_unsaved(key);
            }
            let weight = tally_now.settle();
            let unread = tally_now.count(&marks, snap.head());
            drop(tally_now);
            tallies.put(key, tally, weight);
            return Ok(unread);
        }
        Ok(tally_now.count(&marks, snap.head()))
    }

    /// The counts with marks that are about to be written, as a row to write with them; `before`
    /// are those that are in the store.
    pub(crate) fn unread_row(
        &self,
        before: &Marks,
        marks: &Marks,
    ) -> Result<UnreadRow, StoreError> {
        let held = self
            .rooms
            .inner
            .reads
            .unread
            .tallies
            .get((self.reader.user, self.room));
        let mut tally = match held.map(|tally| tally.lock().clone()) {
            Some(tally) => tally,
            None => self.saved_tally(before)?,
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
            tally.drop_read(marks);
        }
        let end = Order::live(self.snap.head());
        let from = tally.upto.max(marks.all);
        if from >= end || self.rooms.last_pos(self.room) <= from.anchor {
            return Ok(false);
        }
        let mut judge = None;
        if let Some(rows) = self
            .rooms
            .tail(&self.snap, self.room, (from, end), usize::MAX)?
        {
            let nids: Vec<EventNid> = rows.into_iter().rev().map(|row| row.1).collect();
            self.judge_all(&mut judge, tally, &nids)?;
            tally.fold(marks);
            tally.upto = end;
            return Ok(true);
        }
        let mut rows = self
            .snap
            .scan::<Timeline>(Scan::prefix(&self.room).after(&(self.room, from)));
        loop {
            let chunk = rows.by_ref().take(CHUNK).map(|row| row.map(|row| row.1));
            let nids: Vec<EventNid> = chunk.collect::<Result<_, _>>()?;
            self.judge_all(&mut judge, tally, &nids)?;
            tally.fold(marks);
            if nids.len() < CHUNK {
                break;
            }
        }
        tally.upto = end;
        Ok(true)
    }

    fn judge_all(
        &self,
        judge: &mut Option<Judge>,
        tally: &mut Tally,
        nids: &[EventNid],
    ) -> Result<(), StoreError> {
        tally.unsaved += nids.len();
        for event in self.load(nids)? {
            self.judge(judge, tally, &event)?;
        }
        Ok(())
    }

    /// Evaluates one event; a notifying one is noted.
    fn judge(
        &self,
        judge: &mut Option<Judge>,
        tally: &mut Tally,
        event: &Arc<Placed>,
    ) -> Result<(), StoreError> {
        self.withdraw(tally, event)?;
        let verdict = self.verdict(judge, event)?;
        if let Some(verdict) = verdict.filter(|verdict| verdict.notify) {
            let thread = self.rooms.thread_of(&self.snap, event)?;
            let thread = thread.unwrap_or_else(|| Arc::from(MAIN));
            tally.hit(event.order(), &thread, verdict.highlight);
        }
        Ok(())
    }

    /// What the user's push rules say about an event; `None` where they are not asked.
    fn verdict<'j>(
        &self,
        judge: &'j mut Option<Judge>,
        event: &Arc<Placed>,
    ) -> Result<Option<Verdict<'j>>, StoreError> {
        let (user, sender) = (self.reader.user, event.meta.sender);
        let gone = event.redacted_by.is_some() || self.is_expired(event);
        if sender == user || gone || self.ignored.contains(&sender) {
            return Ok(None);
        }
        if judge.is_none() {
            *judge = Some(self.make_judge()?);
        }
        let Some(judge) = judge else { return Ok(None) };
        let facts = self.rooms.push_facts(&self.snap, event)?;
        Ok(Some(evaluate(
            &judge.rules,
            &facts,
            judge.name.as_deref(),
            &self.reader.user_id,
            self.rooms.follows_thread(&self.snap, user, event)?,
        )))
    }

    /// What a redaction took away notifies no more. One that is no longer remembered by itself
    /// stays counted until the counts are made anew.
    fn withdraw(&self, tally: &mut Tally, event: &Placed) -> Result<(), StoreError> {
        if asks_for_redaction(&event.event) {
            return self.withdraw_redacted(tally);
        }
        if event.event.event_type() != "m.room.redaction" {
            return Ok(());
        }
        let Some(target) = event.event.redacts() else {
            return Ok(());
        };
        let Some(target) = self.rooms.store().event_nid(&self.snap, target)? else {
            return Ok(());
        };
        let target = self.rooms.placed(&self.snap, self.room, target)?;
        if let Some(target) = target.filter(|target| target.redacted_by.is_some()) {
            tally.withdraw(target.order());
        }
        Ok(())
    }

    /// The same for all that is remembered, where many may have been redacted at once.
    fn withdraw_redacted(&self, tally: &mut Tally) -> Result<(), StoreError> {
        for order in tally.remembered() {
            let Some(nid) = self.snap.get::<Timeline>(&(self.room, order))? else {
                continue;
            };
            let event = self.rooms.placed(&self.snap, self.room, nid)?;
            if event.is_some_and(|event| event.redacted_by.is_some()) {
                tally.withdraw(order);
            }
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
        let user_id = &self.reader.user_id;
        let member = self
            .rooms
            .current(&self.snap, self.room, "m.room.member", user_id)?;
        let member = match member {
            Some(nid) => self.rooms.placed(&self.snap, self.room, nid)?,
            None => None,
        };
        let content = member.and_then(|member| member.event.content_object().ok());
        let name = content.and_then(|content| content.str("displayname").map(str::to_owned));
        Ok(Judge { rules, name })
    }
}

/// What does not change from event to event.
struct Judge {
    rules: Arc<ruma_common::push::Ruleset>,
    /// The user's name in the room.
    name: Option<String>,
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
    /// timeline, as is one whose root the room does not have.
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
            let Some(parent) = self.store().event_nid(snap, &relates.parent)? else {
                return Ok(None);
            };
            // A root that is no event of the room makes no thread: members keep a count for each
            // thread, and names for threads could be invented without end.
            let Some(parent) = self.placed(snap, event.meta.room, parent)? else {
                return Ok(None);
            };
            if relates.kind() == RelKind::Thread {
                return Ok(Some(Arc::from(relates.parent.as_str())));
            }
            at = parent;
        }
        Ok(None)
    }

    /// What push rules may ask about an event; made once for all members.
    fn push_facts(&self, snap: &Snapshot, event: &Placed) -> Result<Arc<EventFacts>, StoreError> {
        let cache = &self.inner.reads.unread.facts;
        if let Some(facts) = cache.get(event.nid) {
            return Ok(facts);
        }
        let power = self.power_at(snap, event)?;
        let head = self.head(snap, event.meta.room)?;
        let joined = head.map_or(0, |head| head.joined.into());
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
        // An invite to a room that is not here has no state before it: nobody has any power then.
        let facts = facts.unwrap_or_else(|| CreateFacts::unknown(event.event.version()));
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
