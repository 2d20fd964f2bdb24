//! Redacting many events for one reason: what relates to a redacted event (MSC3912), and all that
//! a user sent who was removed (MSC4293).
//!
//! The write that asks for it redacts the first of them and leaves a row for the rest, if there
//! is one; [`Rooms::run_redactions`] goes on from there, also after a restart.

use skerry_core::canonical::{Object, Value};
use skerry_core::power::Action;
use skerry_core::{EventNid, Membership, Order, RoomNid, StoredEvent, UserNid};
use skerry_store::schema::room as t;
use skerry_store::schema::room::RelKind;
use skerry_store::schema::room_redact::{Original, OriginalAt};
use skerry_store::schema::room_redact::{RedactJob, RedactJobs, RedactKind};
use skerry_store::{Change as Fact, Scan, Snapshot, StoreError, Write, blocking};
use tokio::sync::watch;

use crate::change::Change;
use crate::draft::Draft;
use crate::redact::{Redactor, Target};
use crate::tip::Tip;
use crate::{RoomError, Rooms, Who};

/// In a member event that removes somebody: their events are to be redacted (MSC4293).
const REDACT_EVENTS: &str = "org.matrix.msc4293.redact_events";
/// Redactions that one write makes of what relates to an event.
const RELATED_STEP: usize = 50;
/// Events of a removed user that one write redacts.
const SENDER_STEP: usize = 256;
/// Places of a timeline that one write goes through for them.
const SENDER_LOOK: usize = 2_000;
/// Pieces of work taken up at once.
const JOBS: usize = 64;
/// Originals taken away in one write.
const SWEEP: usize = 512;

/// Raised when redactions were left for later.
#[derive(Default)]
pub(crate) struct RedactBell(watch::Sender<u64>);

impl RedactBell {
    pub(crate) fn ring(&self) {
        self.0.send_modify(|n| *n += 1);
    }
}

impl Rooms {
    /// Raised when there is work for [`Self::run_redactions`].
    #[must_use]
    pub fn redactions_bell(&self) -> watch::Receiver<u64> {
        self.inner.redactions.0.subscribe()
    }

    /// Carries out the redactions that were left for later.
    ///
    /// # Errors
    /// The store's; the rest of the work is still waiting then.
    pub async fn run_redactions(&self) -> Result<(), RoomError> {
        loop {
            let this = self.clone();
            let jobs = blocking(move || {
                let scan = Scan::all().limit(JOBS);
                let rows = this.store().newest();
                let rows = rows.scan::<RedactJobs>(scan);
                rows.map(|row| row.map(|(key, _)| key))
                    .collect::<Result<Vec<_>, _>>()
            });
            let jobs = jobs.await??;
            if jobs.is_empty() {
                return Ok(());
            }
            for (room, by) in jobs {
                let step = self.change(room, move |change| change.go_on(room, by));
                match step.await {
                    Ok(()) => {}
                    Err(RoomError::Store(error)) => return Err(error.into()),
                    Err(refusal) => {
                        tracing::info!(%refusal, "redactions cannot be carried out");
                        self.give_up(room, by).await?;
                    }
                }
            }
        }
    }

    /// Takes work away that cannot be done.
    async fn give_up(&self, room: RoomNid, by: EventNid) -> Result<(), StoreError> {
        let this = self.clone();
        let done = blocking(move || {
            let mut w = this.store().write();
            w.delete::<RedactJobs>(&(room, by));
            this.store().commit(w)
        });
        let applied = done.await??;
        self.store().durable(&applied).await
    }

    /// A member event takes its place: where it removes somebody and says so, what they sent is
    /// redacted, if its sender might redact it one by one.
    pub(crate) fn redact_removed(
        &self,
        w: &mut Write,
        snap: &Snapshot,
        tip: &mut Tip,
        by: EventNid,
        event: &StoredEvent,
    ) -> Result<(), RoomError> {
        let Some(removed) = event.state_key().filter(|_| asks_for_redaction(event)) else {
            return Ok(());
        };
        let power = self.power(snap, tip)?;
        let sender = event.sender();
        if !power.may(sender, Action::Redact) || !power.may_send(sender, "m.room.redaction", false)
        {
            return Ok(());
        }
        let job = RedactJob {
            kind: RedactKind::Sender,
            user: self.user(removed)?,
            admin: false,
            target: None,
            rel_types: Vec::new(),
            reached: None,
        };
        if let Some(rest) = self.sender_step(w, snap, tip, by, job)? {
            w.put::<RedactJobs>(&(tip.room, by), &rest);
            tip.fresh.redactions_left = true;
        }
        Ok(())
    }

    /// Redacts some more of what a user sent, going back; gives what is left to do.
    fn sender_step(
        &self,
        w: &mut Write,
        snap: &Snapshot,
        tip: &mut Tip,
        by: EventNid,
        mut job: RedactJob,
    ) -> Result<Option<RedactJob>, RoomError> {
        let before = job.reached.map_or(Order::MAX, |(_, order)| order);
        let scan = Scan::prefix(&tip.room).to(&(tip.room, before)).rev();
        let rows = snap.scan::<t::Timeline>(scan.limit(SENDER_LOOK));
        let rows: Vec<(Order, EventNid)> = rows
            .map(|row| row.map(|((_, order), nid)| (order, nid)))
            .collect::<Result<_, _>>()?;
        let nids: Vec<EventNid> = rows.iter().map(|row| row.1).collect();
        let (mut done, mut looked) = (0, 0);
        for ((order, nid), meta) in rows.iter().zip(self.metas(snap, &nids)?) {
            if done == SENDER_STEP {
                break;
            }
            looked += 1;
            job.reached = Some((RelKind::Other, *order));
            if meta.is_none_or(|meta| meta.sender != job.user) {
                continue;
            }
            let target = self.target(snap, *nid)?;
            let target = target.filter(|target| target.held.redacted_by.is_none());
            if let Some(target) = target {
                let (room, event) = (tip.room, *nid);
                let pos = w.log(Fact::Redacted { room, event });
                self.take_content(w, snap, tip, target, (by, pos))?;
                done += 1;
            }
        }
        let over = looked == rows.len() && rows.len() < SENDER_LOOK;
        Ok((!over).then_some(job))
    }

    /// Takes away what redacted events said longer ago than such things are kept.
    ///
    /// # Errors
    /// The store's.
    pub async fn sweep_originals(&self) -> Result<(), RoomError> {
        let keep_ms = self.inner.config.redacted_keep_ms;
        let before_ms = self.inner.clock.now_ms().saturating_sub(keep_ms);
        self.drop_originals(move |snap| {
            let end = (before_ms, EventNid(0));
            let rows = snap.scan::<OriginalAt>(Scan::all().to(&end).limit(SWEEP));
            rows.map(|row| row.map(|((_, nid), room)| (room, nid)))
                .collect()
        })
        .await
    }

    /// Takes away what redacted events of one user said, who asked to be forgotten.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn forget_originals(&self, user: UserNid) -> Result<(), RoomError> {
        self.drop_originals(move |snap| {
            let rows = snap.scan::<Original>(Scan::all());
            let of_user = rows.filter_map(|row| match row {
                Ok((key, row)) => (row.sender == user).then_some(Ok(key)),
                Err(error) => Some(Err(error)),
            });
            of_user.take(SWEEP).collect()
        })
        .await
    }

    /// Takes away the originals that `find` finds, until it finds none.
    async fn drop_originals(
        &self,
        find: impl Fn(&Snapshot) -> Result<Vec<(RoomNid, EventNid)>, StoreError>
        + Send
        + Clone
        + 'static,
    ) -> Result<(), RoomError> {
        loop {
            let (this, find) = (self.clone(), find.clone());
            let done = blocking(move || {
                let snap = this.store().newest();
                let found = find(&snap)?;
                if found.is_empty() {
                    return Ok(None);
                }
                let mut w = this.store().write();
                for (room, nid) in found {
                    this.forget_original(&mut w, &snap, room, nid)?;
                }
                this.store().commit(w).map(Some)
            });
            match done.await?? {
                Some(applied) => self.store().durable(&applied).await?,
                None => return Ok(()),
            }
        }
    }

    /// Takes away what one redacted event said: to be called wherever an event goes for good.
    pub(crate) fn forget_original(
        &self,
        w: &mut Write,
        snap: &Snapshot,
        room: RoomNid,
        nid: EventNid,
    ) -> Result<(), StoreError> {
        if let Some(row) = snap.get::<Original>(&(room, nid))? {
            w.delete::<Original>(&(room, nid));
            w.delete::<OriginalAt>(&(row.at_ms, nid));
        }
        Ok(())
    }
}

impl Change<'_> {
    /// Redacts what relates to a redacted event, by redactions of the same content: as much of it
    /// as goes into this write, the rest later.
    pub(crate) fn redact_related(
        &mut self,
        who: &Who,
        target: &Target,
        content: &Object,
        rel_types: Vec<String>,
    ) -> Result<(), RoomError> {
        let Some(by) = self.tip.head.extremities.first().copied() else {
            return Ok(());
        };
        let job = RedactJob {
            kind: RedactKind::Related,
            user: who.user,
            admin: who.admin,
            target: Some(target.held.nid),
            rel_types,
            reached: None,
        };
        if let Some(rest) = self.related_step(Redactor::of(who), job, content)? {
            self.w.put::<RedactJobs>(&(self.tip.room, by), &rest);
            self.tip.fresh.redactions_left = true;
        }
        Ok(())
    }

    /// The next part of work that was left.
    fn go_on(&mut self, room: RoomNid, by: EventNid) -> Result<(), RoomError> {
        let Some(job) = self.snap.get::<RedactJobs>(&(room, by))? else {
            return Ok(());
        };
        let rest = match job.kind {
            RedactKind::Sender => {
                let rooms = self.rooms;
                rooms.sender_step(&mut self.w, &self.snap, &mut self.tip, by, job)?
            }
            RedactKind::Related => {
                let user_id = self.rooms.store().user_id(job.user)?;
                let who = Redactor {
                    user: job.user,
                    user_id: &user_id,
                    admin: job.admin,
                };
                let first = self.rooms.event(&self.snap, by)?;
                let content = first.and_then(|held| held.event.content_object().ok());
                self.related_step(who, job, &content.unwrap_or_default())?
            }
        };
        match rest {
            Some(rest) => self.w.put::<RedactJobs>(&(room, by), &rest),
            None => self.w.delete::<RedactJobs>(&(room, by)),
        }
        Ok(())
    }

    /// Redacts some more of what relates to an event; gives what is left to do. What the user may
    /// not redact is passed over.
    fn related_step(
        &mut self,
        who: Redactor<'_>,
        mut job: RedactJob,
        content: &Object,
    ) -> Result<Option<RedactJob>, RoomError> {
        let Some(parent) = job.target else {
            return Ok(None);
        };
        let scan = Scan::prefix(&parent);
        let scan = match job.reached {
            Some((kind, order)) => scan.after(&(parent, kind, order)),
            None => scan,
        };
        let rows = self.snap.scan::<t::Relations>(scan.limit(RELATED_STEP));
        let rows: Vec<_> = rows.collect::<Result<_, _>>()?;
        for ((_, kind, order), row) in &rows {
            job.reached = Some((*kind, *order));
            let Some(child) = self.rooms.target(&self.snap, row.child)? else {
                continue;
            };
            if !is_meant(&child, *kind, &job.rel_types) {
                continue;
            }
            if row.sender != who.user && !self.may_redact_of(who, &child)? {
                continue;
            }
            let mut content = content.clone();
            content.remove("redacts");
            let mut draft = Draft::message("m.room.redaction", content);
            draft.redacts = Some(child.held.event.event_id().to_owned());
            self.add(who.user_id, draft, None)?;
        }
        Ok((rows.len() == RELATED_STEP).then_some(job))
    }
}

/// Whether a related event is of the relations named.
fn is_meant(child: &Target, kind: RelKind, rel_types: &[String]) -> bool {
    let named = |name: &str| rel_types.iter().any(|rel_type| rel_type == name);
    if child.held.redacted_by.is_some() {
        return false;
    }
    named("*")
        || match kind {
            RelKind::Annotation => named("m.annotation"),
            RelKind::Replace => named("m.replace"),
            RelKind::Thread => named("m.thread"),
            RelKind::Reference => named("m.reference"),
            RelKind::Other => {
                let content = child.held.event.content_object().unwrap_or_default();
                let relates = content.object("m.relates_to");
                relates
                    .and_then(|relates| relates.str("rel_type"))
                    .is_some_and(named)
            }
        }
}

/// Whether a member event asks for the redaction of what its user sent: it removes somebody else,
/// and says so.
pub(crate) fn asks_for_redaction(event: &StoredEvent) -> bool {
    let removes = matches!(
        event.membership(),
        Some(Membership::Leave | Membership::Ban)
    );
    let other = event.state_key().is_some_and(|user| user != event.sender());
    if !removes || !other || !event.content().contains(REDACT_EVENTS) {
        return false;
    }
    let content = event.content_object().unwrap_or_default();
    content.get(REDACT_EVENTS) == Some(&Value::Bool(true))
}
