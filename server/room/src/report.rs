//! What users report to the operator: rooms, events, users (client-server API, "Reporting
//! Content"). Reports wait in a queue until the operator closes them.

mod queue;

use skerry_core::{RoomNid, UserNid, names};
use skerry_store::schema::directory::{Report, ReportKind, Reports, ReportsBy};
use skerry_store::{Scan, StoreError, blocking};

use crate::read::Viewer;
use crate::{RoomError, Rooms, Standing, Who};

pub use queue::{Reported, ReportsAsk, ReportsPage};

/// Longest reason, in bytes.
const MAX_REASON_BYTES: usize = 8_192;
/// Most reports of one user that are kept: a further one takes the place of the oldest.
const MAX_OF_USER: usize = 200;

/// Why something is reported.
#[derive(Clone, Debug, Default)]
pub struct Complaint {
    /// In the words of whoever reports.
    pub reason: Option<String>,
    /// How bad they find it, from -100 (worst) to 0.
    pub score: Option<i64>,
}

/// What is reported.
#[derive(Clone, Debug, Default)]
struct Subject {
    room: Option<RoomNid>,
    event: Option<String>,
    user: Option<UserNid>,
}

impl Rooms {
    /// Reports a room. A room that this server does not know is not noted, and the answer does
    /// not tell.
    ///
    /// # Errors
    /// `TooLarge` for a long reason, or the store's.
    pub async fn report_room(
        &self,
        who: Who,
        room_id: &str,
        why: Complaint,
    ) -> Result<(), RoomError> {
        let known = match self.store().room_nid(room_id)? {
            Some(room) => {
                self.query(move |this, snap| Ok(this.room_row(snap, room)?.map(|_| room)))
                    .await?
            }
            None => None,
        };
        let subject = known.map(|room| Subject {
            room: Some(room),
            ..Subject::default()
        });
        self.note_report(who, ReportKind::Room, subject, why).await
    }

    /// Reports a user. One that this server does not know is not noted, and the answer does not
    /// tell.
    ///
    /// # Errors
    /// `InvalidParam` for what is no user id, `TooLarge` for a long reason, or the store's.
    pub async fn report_user(
        &self,
        who: Who,
        user_id: &str,
        why: Complaint,
    ) -> Result<(), RoomError> {
        if !names::is_user_id(user_id) {
            return Err(RoomError::InvalidParam(format!(
                "{user_id:?} is not a user id"
            )));
        }
        let local = self.is_local(user_id);
        let known = match self.store().user_nid(user_id)? {
            Some(user) if local => {
                self.query(move |_, snap| {
                    let exists = skerry_account::user::exists(snap, user)?;
                    Ok(exists.then_some(user))
                })
                .await?
            }
            known => known,
        };
        let subject = known.map(|user| Subject {
            user: Some(user),
            ..Subject::default()
        });
        self.note_report(who, ReportKind::User, subject, why).await
    }

    /// Reports an event of a room that the user is in.
    ///
    /// # Errors
    /// `NotFound` for an event that there is not or that they cannot see, and where they are not
    /// in the room: always the same; `TooLarge` for a long reason, or the store's.
    pub async fn report_event(
        &self,
        who: Who,
        room_id: &str,
        event_id: &str,
        why: Complaint,
    ) -> Result<(), RoomError> {
        let hidden = || {
            let text = "There is no such event, or you cannot see it";
            RoomError::NotFound(text.into())
        };
        let viewer = Viewer {
            user: who.user,
            user_id: who.user_id.clone(),
            device: who.device.clone(),
        };
        let (room_id, event_id) = (room_id.to_owned(), event_id.to_owned());
        let subject = self.query(move |this, snap| {
            let room = this.room_nid(snap, &room_id)?.ok_or_else(hidden)?;
            let mut view = this.view(snap, &viewer, room)?;
            let nid = this.store().event_nid(snap, &event_id)?;
            let nid = nid.filter(|_| view.standing() == Standing::Joined);
            let nid = nid.ok_or_else(hidden)?;
            let event = this.placed(snap, room, nid)?.ok_or_else(hidden)?;
            if !view.may_see(&event)? {
                return Err(hidden());
            }
            Ok(Subject {
                room: Some(room),
                event: Some(event_id),
                user: Some(event.meta.sender),
            })
        });
        let subject = Some(subject.await?);
        self.note_report(who, ReportKind::Event, subject, why).await
    }

    async fn note_report(
        &self,
        who: Who,
        kind: ReportKind,
        subject: Option<Subject>,
        why: Complaint,
    ) -> Result<(), RoomError> {
        if why
            .reason
            .as_ref()
            .is_some_and(|text| text.len() > MAX_REASON_BYTES)
        {
            return Err(RoomError::TooLarge("The reason is too long".into()));
        }
        let Some(subject) = subject else {
            return Ok(());
        };
        let report = Report {
            kind,
            by: who.user,
            room: subject.room,
            event: subject.event,
            user: subject.user,
            reason: why.reason,
            score: why.score,
            at_ms: self.inner.clock.now_ms(),
        };
        let lane = self.inner.lookups.reports.lock(()).await;
        let this = self.clone();
        let applied = blocking(move || {
            let _lane = lane;
            this.put_report(&report)
        })
        .await??;
        Ok(self.store().durable(&applied).await?)
    }

    /// Inside the lane of reports.
    fn put_report(&self, report: &Report) -> Result<skerry_store::Applied, StoreError> {
        let snap = self.store().newest();
        let mut w = self.store().write();
        let pos = w.stamp();
        w.put::<Reports>(&pos, report);
        w.put::<ReportsBy>(&(report.by, pos), &());
        let own = snap.scan::<ReportsBy>(Scan::prefix(&report.by));
        let own = own.map(|row| row.map(|((_, pos), ())| pos));
        let own = own.collect::<Result<Vec<_>, _>>()?;
        let spare = (own.len() + 1).saturating_sub(MAX_OF_USER);
        for pos in own.into_iter().take(spare) {
            w.delete::<Reports>(&pos);
            w.delete::<ReportsBy>(&(report.by, pos));
        }
        self.store().commit(w)
    }
}
