//! What a change of an account leaves to be done in the user's rooms (`skerry_account::job`).

use std::sync::Arc;

use skerry_account::job::{self, Job, RoomJob};
use skerry_account::profile::{self, FaceChange};
use skerry_core::canonical::Object;
use skerry_core::{Membership, RoomNid, UserNid};
use skerry_store::{StoreError, blocking};

use crate::change::Change;
use crate::delayed::is_damage;
use crate::{RoomError, Rooms, thread_subs};

/// What of a profile is to be shown, by field.
type Faces = Arc<[(String, FaceChange)]>;

/// Jobs taken up at once.
const BATCH: usize = 64;

impl Rooms {
    /// Does all work that is waiting. Each step may be repeated, so that a restart in the middle
    /// only does some of it again. A room whose data is damaged is passed over; work that has to
    /// do with it stays, and `false` is the answer.
    ///
    /// # Errors
    /// The store's; the rest of the work is still waiting then.
    pub async fn run_jobs(&self) -> Result<bool, RoomError> {
        self.move_links().await?;
        let (mut after, mut all) = (None, true);
        loop {
            let jobs = self.query(move |_, snap| Ok(job::pending_after(snap, after, BATCH)?));
            let jobs = jobs.await?;
            if jobs.is_empty() {
                return Ok(all);
            }
            for job in jobs {
                all &= self.run_job(job).await?;
                after = Some(job);
            }
        }
    }

    /// Does one piece of work; says whether nothing of it is left.
    async fn run_job(&self, job: Job) -> Result<bool, RoomError> {
        let user_id = self.store().user_id(job.user)?.to_string();
        let rooms = self
            .query(move |this, snap| Ok(this.rooms_of(snap, job.user)?))
            .await?;
        let faces = self.query(move |_, snap| Ok(profile::face_changes(snap, job.user)?));
        let faces: Arc<[_]> = faces.await?.into();
        let mut all = true;
        for (room, row) in rooms {
            let there = match job.kind {
                RoomJob::Profile => row.membership == Membership::Join,
                RoomJob::Leave => !matches!(row.membership, Membership::Leave | Membership::Ban),
            };
            if !there {
                continue;
            }
            let user_id = user_id.clone();
            let work = (job.kind, faces.clone());
            match self.run_in_room(work, room, user_id.clone()).await {
                Err(RoomError::Store(error)) if is_damage(&error) => {
                    tracing::error!(%error, user = user_id, "a damaged room is passed over");
                    all = false;
                }
                done => done?,
            }
        }
        if all {
            self.finish_job(job).await?;
        }
        Ok(all)
    }

    /// The work was done in all rooms.
    async fn finish_job(&self, job: Job) -> Result<(), RoomError> {
        if matches!(job.kind, RoomJob::Leave) {
            self.forget_if_erased(job.user).await?;
        }
        let this = self.clone();
        let finished = blocking(move || {
            let mut w = this.store().write();
            if job.kind == RoomJob::Leave {
                thread_subs::forget_user(&mut w, job.user);
                this.forget_delayed(&mut w, &this.newest(), job.user)?;
            }
            job::done(&mut w, job);
            this.store().commit(w)
        });
        match finished.await? {
            Ok(applied) => Ok(self.store().durable(&applied).await?),
            // The account changed again meanwhile: the job is still there.
            Err(StoreError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Of a user who asked to be forgotten, moderators are not to read what was redacted either.
    async fn forget_if_erased(&self, user: UserNid) -> Result<(), RoomError> {
        let erased = self.query(move |_, snap| Ok(skerry_account::user::is_erased(snap, user)?));
        if erased.await? {
            self.forget_originals(user).await?;
        }
        Ok(())
    }

    async fn run_in_room(
        &self,
        (kind, faces): (RoomJob, Faces),
        room: RoomNid,
        user_id: String,
    ) -> Result<(), RoomError> {
        let id = user_id.clone();
        let done = self.change(room, move |change| match kind {
            RoomJob::Profile => change.show_profile(&user_id, &faces),
            RoomJob::Leave => change.shift(&user_id, &user_id, Membership::Leave, Object::new()),
        });
        match done.await {
            Err(RoomError::Store(error)) => Err(error.into()),
            Err(refusal) => {
                tracing::info!(user = id, %refusal, "a room does not let a profile change in");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}

impl Change<'_> {
    /// Writes what changed of a joined user's profile into their member event: all else in it
    /// stays.
    fn show_profile(&mut self, user_id: &str, faces: &Faces) -> Result<(), RoomError> {
        if self.membership(user_id)? != Some(Membership::Join) {
            return Ok(());
        }
        let Some(mut content) = self.content("m.room.member", user_id)? else {
            return Ok(());
        };
        let before = content.clone();
        let now = self.profile_of(user_id)?;
        for (field, change) in faces.iter() {
            let shown = before.str(field).map(str::to_owned);
            if !change.everywhere && !change.before.contains(&shown) {
                continue;
            }
            match now.get(field) {
                Some(value) => content.insert(field, value.clone()),
                None => content.remove(field),
            };
        }
        if content == before {
            return Ok(());
        }
        // Whoever let the user in then, and why they came, is no part of the new event.
        content.remove("reason");
        content.remove("join_authorised_via_users_server");
        self.shift(user_id, user_id, Membership::Join, content)
    }
}
