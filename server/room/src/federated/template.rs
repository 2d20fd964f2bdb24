//! What another server needs to make its user's member event in one of our rooms: the templates
//! of `make_join`, `make_leave` and `make_knock`.

use std::sync::Arc;

use skerry_core::canonical::Object;
use skerry_core::{Membership, RoomVersion, StoredEvent, names};

use crate::change::Change;
use crate::compose::Author;
use crate::draft::Draft;
use crate::send::checked_user;
use crate::{RoomError, Rooms};

/// A member event to be completed by the server of its user.
#[derive(Clone, Debug)]
pub struct Template {
    /// The version of the room.
    pub version: RoomVersion,
    /// The event, without hashes and signatures.
    pub event: Object,
}

impl Rooms {
    /// A template for a user of the server that asks (`origin`), who wants to join, knock or
    /// leave. `versions` are the room versions that server knows; not looked at for a leave.
    ///
    /// # Errors
    /// `NotFound` for a room that this server does not take part in; `Forbidden` for users of
    /// others than `origin`, for servers that the room keeps out, and by the rules of the room;
    /// `IncompatibleVersion`, `UnableToAuthoriseJoin` and `UnableToGrantJoin`; or the store's.
    pub async fn template(
        &self,
        origin: &str,
        room_id: &str,
        user_id: &str,
        to: Membership,
        versions: &[String],
    ) -> Result<Template, RoomError> {
        checked_user(user_id)?;
        if names::server_of(user_id) != Some(origin) {
            let text = "The user is not one of the server that asks";
            return Err(RoomError::Forbidden(text.into()));
        }
        let room = self.known(room_id)?;
        let (origin, user_id) = (origin.to_owned(), user_id.to_owned());
        let versions = versions.to_vec();
        self.change(room, move |change| {
            change.open_to(&origin)?;
            let version = change.tip.version;
            let known = versions.iter().any(|known| known == version.as_str());
            if to != Membership::Leave && !known {
                return Err(RoomError::IncompatibleVersion(version.to_string()));
            }
            change.template(&user_id, to)
        })
        .await
    }
}

impl Change<'_> {
    /// Another server can have the room go on through this one: a user of ours is in it, and the
    /// room does not keep that server out.
    pub(crate) fn open_to(&self, origin: &str) -> Result<(), RoomError> {
        let head = &self.tip.head;
        if head.joined <= head.remote {
            return Err(RoomError::NotFound("Nobody here is in the room".into()));
        }
        if !self.rooms.acl_allows(&self.snap, self.tip.room, origin)? {
            return Err(super::kept_out());
        }
        Ok(())
    }

    fn template(&mut self, user_id: &str, to: Membership) -> Result<Template, RoomError> {
        let mut content = Object::new();
        if to == Membership::Join
            && let Some(voucher) = self.voucher_of_join(user_id)?
        {
            content.insert("join_authorised_via_users_server", voucher);
        }
        let draft = Draft::member(user_id, to, content);
        let author = Author {
            user_id,
            now_ms: self.now_ms,
        };
        let event = self.rooms.build(&self.snap, &self.tip, author, draft)?;
        let event = Arc::new(event);
        self.rooms.check(&self.snap, &mut self.tip, &event)?;
        Ok(Template {
            version: self.tip.version,
            event: unsigned(&event)?,
        })
    }

    /// Who of this server vouches for the join of a remote user, where somebody has to.
    pub(crate) fn voucher_of_join(&mut self, user_id: &str) -> Result<Option<String>, RoomError> {
        match self.membership(user_id)? {
            Some(Membership::Join | Membership::Invite) => Ok(None),
            Some(Membership::Ban) => {
                let text = "The user is banned from this room";
                Err(RoomError::Forbidden(text.into()))
            }
            _ => self.voucher_for_remote(user_id),
        }
    }
}

/// Everything but what the server of the sender adds.
fn unsigned(event: &StoredEvent) -> Result<Object, RoomError> {
    let mut object = event
        .object()
        .map_err(|error| RoomError::BadJson(error.to_string()))?;
    for field in ["hashes", "signatures"] {
        object.remove(field);
    }
    if event.version().references_have_hashes() {
        object.remove("event_id");
    }
    Ok(object)
}
