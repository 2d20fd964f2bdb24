//! Links between spaces and a room that is replaced (MSC4168): the new room takes over its own,
//! and other rooms' links are pointed to it.
//!
//! The new room's own links are part of the upgrade. Those of other rooms are changes of these
//! rooms, one after the other; what is to be done is noted in the upgrade's own batch, so that a
//! restart does not leave it undone.

use skerry_core::canonical::{Object, Value};
use skerry_core::{Membership, RoomNid};
use skerry_store::schema::directory::{SpaceLinks, SpaceLinksTodo};
use skerry_store::{Scan, StoreError, blocking};

use crate::change::Change;
use crate::delayed::is_damage;
use crate::draft::Draft;
use crate::{RoomError, Rooms, Who};

/// The types of links, each with the other room's id for its key.
const KINDS: [&str; 2] = ["m.space.child", "m.space.parent"];

impl Rooms {
    /// Points links of other rooms to the successors of rooms that were replaced, as far as
    /// those who replaced them may do that. Each step may be repeated.
    ///
    /// # Errors
    /// The store's; the rest is still noted then.
    pub(crate) async fn move_links(&self) -> Result<(), RoomError> {
        let todo = self.query(|_, snap| {
            let rows = snap.scan::<SpaceLinksTodo>(Scan::all());
            Ok(rows.collect::<Result<Vec<_>, _>>()?)
        });
        for (old, links) in todo.await? {
            self.move_links_of(old, &links).await?;
        }
        Ok(())
    }

    async fn move_links_of(&self, old: RoomNid, links: &SpaceLinks) -> Result<(), RoomError> {
        let who = Who::inside(self.store().user_id(links.by)?, links.by);
        let (from, to) = (self.store().room_id(old)?, self.store().room_id(links.to)?);
        let rooms = {
            let (by, from, new) = (who.user, from.clone(), links.to);
            self.query(move |this, snap| {
                let mut linked = Vec::new();
                for (room, member) in this.rooms_of(snap, by)? {
                    let own = room == old || room == new;
                    if own || member.membership != Membership::Join {
                        continue;
                    }
                    for kind in KINDS {
                        if this.current(snap, room, kind, &from)?.is_some() {
                            linked.push((room, kind));
                        }
                    }
                }
                Ok(linked)
            })
            .await?
        };
        for (room, kind) in rooms {
            let (who, from, to) = (who.clone(), from.clone(), to.clone());
            let moved = self.change(room, move |change| {
                change.move_link(&who, kind, (&from, &to))
            });
            match moved.await {
                Err(RoomError::Store(error)) if !is_damage(&error) => return Err(error.into()),
                Err(refusal) => tracing::info!(%refusal, "a link to a replaced room stays"),
                Ok(()) => {}
            }
        }
        let this = self.clone();
        let applied = blocking(move || {
            let mut w = this.store().write();
            w.delete::<SpaceLinksTodo>(&old);
            this.store().commit(w)
        });
        Ok(self.store().durable(&applied.await??).await?)
    }
}

impl Change<'_> {
    /// The links that a room takes along into its successor: to its parents, and those of a space
    /// to its rooms. Others cannot be asked for the way yet, so all go by this server.
    pub(super) fn own_links(
        &self,
        is_space: bool,
    ) -> Result<Vec<(&'static str, String, Object)>, StoreError> {
        let mut links = Vec::new();
        for (key, event) in self.tip.state.iter() {
            let (kind, state_key) = self.rooms.store().state_key(key)?;
            let Some(kind) = KINDS.into_iter().find(|link| **link == *kind) else {
                continue;
            };
            if kind == "m.space.child" && !is_space {
                continue;
            }
            let event = self.rooms.ruled(&self.snap, &self.tip, event)?;
            let content = event.event().content_object().ok();
            if let Some(content) = content.filter(is_link) {
                links.push((kind, state_key.to_string(), self.by_this_server(content)));
            }
        }
        Ok(links)
    }

    /// Points a link to another room.
    fn move_link(
        &mut self,
        who: &Who,
        kind: &str,
        (from, to): (&str, &str),
    ) -> Result<(), RoomError> {
        let Some(content) = self.content(kind, from)?.filter(is_link) else {
            return Ok(());
        };
        if !self
            .content(kind, to)?
            .is_some_and(|present| is_link(&present))
        {
            let content = self.by_this_server(content);
            self.add(&who.user_id, Draft::state(kind, to, content), None)?;
        }
        self.add(&who.user_id, Draft::state(kind, from, Object::new()), None)?;
        Ok(())
    }

    fn by_this_server(&self, mut content: Object) -> Object {
        let server = Value::from(self.rooms.server_name());
        content.insert("via", Value::Array(vec![server]));
        content
    }
}

/// A link without servers to go by is none (any more).
fn is_link(content: &Object) -> bool {
    let via = content.get("via").and_then(Value::as_array);
    via.is_some_and(|via| !via.is_empty())
}
