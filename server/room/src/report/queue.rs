//! The queue of reports as the operator sees it.

use skerry_core::{Pos, UserNid};
use skerry_store::schema::directory::{Report, ReportKind, Reports, ReportsBy};
use skerry_store::{Scan, Snapshot, StoreError, blocking};

use crate::{RoomError, Rooms};

/// Which reports are wanted.
#[derive(Clone, Debug, Default)]
pub struct ReportsAsk {
    /// Only reports of this kind.
    pub kind: Option<ReportKind>,
    /// Only reports by this user.
    pub by: Option<String>,
    /// Only reports about this room.
    pub room: Option<String>,
    /// Only reports about this user, or about an event of theirs.
    pub about: Option<String>,
    /// The oldest first.
    pub forwards: bool,
    /// How many to pass over.
    pub from: usize,
    /// The most to give.
    pub limit: usize,
}

/// A report.
#[derive(Clone, Debug)]
pub struct Reported {
    /// Its number.
    pub id: u64,
    /// What kind of thing it is about.
    pub kind: ReportKind,
    /// Who reported it.
    pub by: String,
    /// The room's id.
    pub room_id: Option<String>,
    /// The room's name.
    pub room_name: Option<String>,
    /// The room's main alias.
    pub canonical_alias: Option<String>,
    /// The event's id.
    pub event_id: Option<String>,
    /// The reported user, or who sent the event.
    pub user: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// How bad they found it, from -100 (worst) to 0.
    pub score: Option<i64>,
    /// When, in ms since the epoch.
    pub at_ms: u64,
}

/// A part of the queue.
#[derive(Clone, Debug, Default)]
pub struct ReportsPage {
    /// The reports.
    pub reports: Vec<Reported>,
    /// How many fit the question in all.
    pub total: usize,
}

impl Rooms {
    /// A part of the queue.
    ///
    /// # Errors
    /// The store's.
    pub async fn reports(&self, ask: ReportsAsk) -> Result<ReportsPage, RoomError> {
        self.query(move |this, snap| {
            let mut page = ReportsPage::default();
            let wanted = Wanted::of(this, &ask)?;
            let scan = if ask.forwards {
                Scan::all()
            } else {
                Scan::all().rev()
            };
            for row in snap.scan::<Reports>(scan) {
                let (pos, report) = row?;
                if !wanted.as_ref().is_some_and(|wanted| wanted.fits(&report)) {
                    continue;
                }
                if page.total >= ask.from && page.reports.len() < ask.limit {
                    page.reports.push(this.reported(snap, pos, report)?);
                }
                page.total += 1;
            }
            Ok(page)
        })
        .await
    }

    /// One report, and the event it is about as other servers would get it, if it is about one.
    ///
    /// # Errors
    /// `NotFound`, or the store's.
    pub async fn report(&self, id: u64) -> Result<(Reported, Option<String>), RoomError> {
        self.query(move |this, snap| {
            let report = snap.get::<Reports>(&Pos(id))?.ok_or_else(no_report)?;
            let event = match &report.event {
                Some(event_id) => this.event_by_id(snap, event_id)?,
                None => None,
            };
            let event = event.map(|held| held.event.json().to_owned());
            Ok((this.reported(snap, Pos(id), report)?, event))
        })
        .await
    }

    /// Takes a report out of the queue.
    ///
    /// # Errors
    /// `NotFound`, or the store's.
    pub async fn close_report(&self, id: u64) -> Result<(), RoomError> {
        let lane = self.inner.lookups.reports.lock(()).await;
        let this = self.clone();
        let applied = blocking(move || {
            let _lane = lane;
            let pos = Pos(id);
            let Some(report) = this.store().newest().get::<Reports>(&pos)? else {
                return Ok(None);
            };
            let mut w = this.store().write();
            w.delete::<Reports>(&pos);
            w.delete::<ReportsBy>(&(report.by, pos));
            this.store().commit(w).map(Some)
        });
        match applied.await?? {
            Some(applied) => Ok(self.store().durable(&applied).await?),
            None => Err(no_report()),
        }
    }

    fn reported(&self, snap: &Snapshot, pos: Pos, report: Report) -> Result<Reported, StoreError> {
        let user = |nid: UserNid| self.store().user_id(nid).map(|id| id.to_string());
        let room = match report.room {
            Some(room) => self.public_room(snap, room)?,
            None => None,
        };
        Ok(Reported {
            id: pos.0,
            kind: report.kind,
            by: user(report.by)?,
            room_id: room.as_ref().map(|room| room.room_id.clone()),
            room_name: room.as_ref().and_then(|room| room.name.clone()),
            canonical_alias: room.and_then(|room| room.canonical_alias),
            event_id: report.event,
            user: report.user.map(user).transpose()?,
            reason: report.reason,
            score: report.score,
            at_ms: report.at_ms,
        })
    }
}

fn no_report() -> RoomError {
    RoomError::NotFound("There is no such report".into())
}

/// A question with numbers for names.
struct Wanted {
    kind: Option<ReportKind>,
    by: Option<UserNid>,
    room: Option<skerry_core::RoomNid>,
    about: Option<UserNid>,
}

impl Wanted {
    /// `None` where a name is one that nothing can be about.
    fn of(rooms: &Rooms, ask: &ReportsAsk) -> Result<Option<Wanted>, StoreError> {
        let store = rooms.store();
        let mut wanted = Wanted {
            kind: ask.kind,
            by: None,
            room: None,
            about: None,
        };
        for (name, place) in [(&ask.by, &mut wanted.by), (&ask.about, &mut wanted.about)] {
            if let Some(name) = name {
                *place = store.user_nid(name)?;
                if place.is_none() {
                    return Ok(None);
                }
            }
        }
        if let Some(name) = &ask.room {
            wanted.room = store.room_nid(name)?;
            if wanted.room.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(wanted))
    }

    fn fits(&self, report: &Report) -> bool {
        self.kind.is_none_or(|kind| kind == report.kind)
            && self.by.is_none_or(|by| by == report.by)
            && self.room.is_none_or(|room| report.room == Some(room))
            && self.about.is_none_or(|about| report.user == Some(about))
    }
}
