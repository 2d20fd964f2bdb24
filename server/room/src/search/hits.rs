//! What the index says: which events of which rooms have the terms of a search, and how well they
//! fit.

use std::collections::BTreeSet;

use skerry_core::search::{Conjunction, Query, Term, Unit};
use skerry_core::{Order, Pos, RoomNid};
use skerry_store::schema::search::Search;
use skerry_store::{Scan, Snapshot, StoreError, Table};

use super::find::SearchAsk;
use super::postings::{Posting, unpack};
use super::token::Hit;

/// The most postings of one term looked at in one room, the newest.
const POSTINGS_MAX: usize = 200_000;
/// The most hits looked at, the newest of each room.
const HITS_MAX: usize = 400_000;
/// How many texts there are, for how much a rare word says: about.
const TEXTS: f32 = 1e5;

/// Hits of the index, room by room.
pub(super) struct Hits<'a> {
    query: &'a Query,
    ask: &'a SearchAsk,
    upto: Pos,
    /// Every term of the query once.
    terms: Vec<&'a Term>,
    /// How many events have each term.
    having: Vec<usize>,
    hits: Vec<(Order, RoomNid)>,
    /// For each hit and each term, how much the term says about the hit.
    weights: Vec<f32>,
}

/// The postings of the terms in one room, as far as they have been looked up.
struct Lists<'a> {
    snap: &'a Snapshot,
    room: RoomNid,
    lists: Vec<Option<Vec<Posting>>>,
}

impl<'a> Hits<'a> {
    pub(super) fn new(query: &'a Query, ask: &'a SearchAsk, upto: Pos) -> Hits<'a> {
        let units = query
            .any
            .iter()
            .flat_map(|some| some.all.iter().chain(&some.none));
        let terms: BTreeSet<&Term> = units.flat_map(|unit| &unit.terms).collect();
        let terms: Vec<&Term> = terms.into_iter().collect();
        Hits {
            query,
            ask,
            upto,
            having: vec![0; terms.len()],
            terms,
            hits: Vec::new(),
            weights: Vec::new(),
        }
    }

    /// Adds what the index knows of a room.
    pub(super) fn add_room(&mut self, snap: &Snapshot, room: RoomNid) -> Result<(), StoreError> {
        if self.hits.len() >= HITS_MAX {
            return Ok(());
        }
        let mut lists = Lists {
            snap,
            room,
            lists: vec![None; self.terms.len()],
        };
        let mut orders = BTreeSet::new();
        for some in &self.query.any {
            orders.extend(self.conjunction(&mut lists, some)?);
        }
        for (having, list) in self.having.iter_mut().zip(&lists.lists) {
            *having += list.as_ref().map_or(0, Vec::len);
        }
        for order in orders.into_iter().rev().take(HITS_MAX) {
            self.hits.push((order, room));
            if self.ask.recent {
                continue;
            }
            self.weights.extend(lists.lists.iter().map(|list| {
                let list = list.as_deref().unwrap_or_default();
                let at = list.binary_search_by_key(&order, |posting| posting.order);
                at.ok()
                    .and_then(|at| list.get(at))
                    .map_or(0.0, |posting| posting.weight())
            }));
        }
        Ok(())
    }

    /// Events of a room with all of some terms and without others.
    fn conjunction(
        &self,
        lists: &mut Lists<'_>,
        some: &Conjunction,
    ) -> Result<Vec<Order>, StoreError> {
        let Some(mut orders) = self.with_all(lists, some.all.iter())? else {
            return Ok(Vec::new());
        };
        // Where terms alone do not tell, the text is asked later.
        for unit in some.none.iter().filter(|unit| unit.exact.is_none()) {
            let having = self
                .with_all(lists, std::iter::once(unit))?
                .unwrap_or_default();
            orders.retain(|order| having.binary_search(order).is_err());
        }
        Ok(orders)
    }

    /// Events that have all terms of some units, in order; `None` if one term is nowhere.
    fn with_all<'u>(
        &self,
        lists: &mut Lists<'_>,
        units: impl Iterator<Item = &'u Unit>,
    ) -> Result<Option<Vec<Order>>, StoreError> {
        let mut orders: Option<Vec<Order>> = None;
        for term in units.flat_map(|unit| &unit.terms) {
            let list = self.list(lists, term)?;
            let next: Vec<Order> = match orders {
                None => list.iter().map(|posting| posting.order).collect(),
                Some(orders) => common(&orders, list),
            };
            if next.is_empty() {
                return Ok(None);
            }
            orders = Some(next);
        }
        Ok(orders)
    }

    /// The postings of a term in a room, in order.
    fn list<'l>(&self, lists: &'l mut Lists<'_>, term: &Term) -> Result<&'l [Posting], StoreError> {
        let at = self.terms.iter().position(|other| *other == term);
        let (snap, room) = (lists.snap, lists.room);
        let Some(slot) = at.and_then(|at| lists.lists.get_mut(at)) else {
            return Ok(&[]);
        };
        let list = match slot.take() {
            Some(list) => list,
            None => self.look_up(snap, room, term)?,
        };
        Ok(slot.insert(list))
    }

    fn look_up(
        &self,
        snap: &Snapshot,
        room: RoomNid,
        term: &Term,
    ) -> Result<Vec<Posting>, StoreError> {
        let scan = if term.prefix {
            let end = format!("{}\u{10ffff}", term.text);
            Scan::prefix(&room)
                .from(&(room, term.text.clone(), Order::MIN))
                .to(&(room, end, Order::MAX))
        } else {
            Scan::prefix(&(room, term.text.clone()))
        };
        let upto = Order::live(self.upto);
        let mut found = Vec::new();
        for row in snap.scan::<Search>(scan.rev()) {
            let (at, row) = row?;
            let keep = |posting: Posting| {
                let wanted = |key| self.ask.keys.contains(&key);
                if posting.order <= upto && posting.key().is_some_and(wanted) {
                    found.push(posting);
                }
            };
            let damaged = |_| StoreError::missing(Search::NAME, &at);
            unpack(at.2, &row, keep).map_err(damaged)?;
            if found.len() >= POSTINGS_MAX {
                break;
            }
        }
        found.sort_unstable();
        found.dedup_by_key(|posting| posting.order);
        Ok(found)
    }

    /// The hits, the best or the newest first.
    pub(super) fn ranked(self, by_rank: bool) -> Vec<Hit> {
        let says = |having: &usize| (1.0 + TEXTS / (1.0 + *having as f32)).ln();
        let says: Vec<f32> = self.having.iter().map(says).collect();
        let mut rows = self.weights.chunks(says.len().max(1));
        let mut hits: Vec<Hit> = self
            .hits
            .iter()
            .map(|(order, room)| {
                let weights = if by_rank { rows.next() } else { None };
                let weights = weights.unwrap_or_default().iter();
                Hit {
                    rank: weights.zip(&says).map(|(weight, says)| weight * says).sum(),
                    order: *order,
                    room: *room,
                }
            })
            .collect();
        hits.sort_unstable_by(Hit::compare);
        hits
    }
}

/// What is in both of two sorted lists.
fn common(orders: &[Order], list: &[Posting]) -> Vec<Order> {
    let (mut found, mut rest) = (Vec::new(), list);
    for order in orders {
        // Most steps are short.
        let step = rest
            .iter()
            .take(8)
            .take_while(|posting| posting.order < *order)
            .count();
        let step = match step {
            8 => rest.partition_point(|posting| posting.order < *order),
            step => step,
        };
        rest = rest.get(step..).unwrap_or_default();
        match rest.first() {
            Some(posting) if posting.order == *order => found.push(*order),
            Some(_) => {}
            None => break,
        }
    }
    found
}
