//! Aliases: names of rooms.

use skerry_core::canonical::{Object, Value};
use skerry_core::{RoomNid, names};
use skerry_store::schema::room as t;
use skerry_store::schema::room::AliasRow;
use skerry_store::{Expect, Scan, Snapshot, StoreError, Table, Write};

use crate::change::Change;
use crate::draft::Draft;
use crate::{RoomError, Rooms, Who};

/// The most further aliases that a canonical alias event may name.
const MAX_ALT_ALIASES: usize = 500;

impl Rooms {
    /// The room that an alias of this server points to.
    ///
    /// # Errors
    /// The store's.
    pub fn alias(&self, snap: &Snapshot, alias: &str) -> Result<Option<AliasRow>, StoreError> {
        snap.get::<t::Alias>(&alias.to_owned())
    }

    /// The aliases of this server that point to a room, sorted.
    ///
    /// # Errors
    /// The store's.
    pub fn aliases_of(&self, snap: &Snapshot, room: RoomNid) -> Result<Vec<String>, StoreError> {
        let rows = snap.scan::<t::AliasOf>(Scan::prefix(&room));
        rows.map(|row| row.map(|((_, alias), ())| alias)).collect()
    }

    /// The id of the room that an alias points to.
    ///
    /// # Errors
    /// `InvalidParam` for what is no alias, `NotFound`, or the store's.
    pub async fn resolve(&self, alias: &str) -> Result<String, RoomError> {
        checked_alias(alias)?;
        let alias = alias.to_owned();
        self.query(move |this, snap| match this.alias(snap, &alias)? {
            Some(row) => Ok(this.store().room_id(row.room)?.to_string()),
            None => Err(RoomError::NotFound("Unknown room alias".into())),
        })
        .await
    }

    /// The aliases of this server that point to a room, for who is in it, and for everybody where
    /// everybody may read it.
    ///
    /// # Errors
    /// `Forbidden`, or the store's.
    pub async fn aliases(&self, who: Who, room_id: &str) -> Result<Vec<String>, RoomError> {
        let room = self.inside(room_id)?;
        self.query(move |this, snap| {
            let open = this
                .public_room(snap, room)?
                .is_some_and(|room| room.world_readable);
            if !open && !this.is_joined(snap, room, who.user)? {
                return Err(RoomError::Forbidden("You are not in this room".into()));
            }
            Ok(this.aliases_of(snap, room)?)
        })
        .await
    }

    /// Gives a room an alias of this server.
    ///
    /// # Errors
    /// `AliasInUse`, `InvalidParam` for an alias that is not of this server or malformed,
    /// `Forbidden` for who is not in the room, or the store's.
    pub async fn add_alias(&self, who: Who, alias: &str, room_id: &str) -> Result<(), RoomError> {
        who.not_a_guest()?;
        self.own_alias(alias)?;
        self.check_alias_owner(&who, alias)?;
        let its_own = self.owns_alias(&who, alias);
        let (room, alias) = (self.known(room_id)?, alias.to_owned());
        let added = self.change(room, move |change| {
            let in_it = change.rooms.is_joined(&change.snap, room, who.user)?;
            if !in_it && !who.admin && !its_own {
                let text = "You have to be in a room to give it an alias";
                return Err(RoomError::Forbidden(text.into()));
            }
            if change.rooms.alias(&change.snap, &alias)?.is_some() {
                return Err(in_use(&alias));
            }
            let row = AliasRow {
                room,
                creator: who.user,
                at_ms: change.now_ms,
            };
            put_alias(&mut change.w, &alias, &row);
            Ok(())
        });
        added.await.map_err(taken)
    }

    /// Takes an alias away; for who made it, who may set the room's canonical alias, and admins.
    /// A canonical alias event that names it is changed too, where the user may.
    ///
    /// # Errors
    /// `NotFound`, `Forbidden`, `InvalidParam`, or the store's.
    pub async fn remove_alias(&self, who: Who, alias: &str) -> Result<(), RoomError> {
        self.own_alias(alias)?;
        self.check_alias_owner(&who, alias)?;
        let its_own = self.owns_alias(&who, alias);
        let alias = alias.to_owned();
        let unknown = || RoomError::NotFound("Unknown room alias".into());
        let found = {
            let alias = alias.clone();
            self.query(move |this, snap| Ok(this.alias(snap, &alias)?))
                .await?
        };
        let room = found.ok_or_else(unknown)?.room;
        self.change(room, move |change| {
            let row = change.rooms.alias(&change.snap, &alias)?;
            let row = row.filter(|row| row.room == room).ok_or_else(unknown)?;
            let power = change.rooms.power(&change.snap, &mut change.tip)?;
            let in_it = change.rooms.is_joined(&change.snap, room, who.user)?;
            let may = in_it && power.may_send(&who.user_id, "m.room.canonical_alias", true);
            if row.creator != who.user && !may && !who.admin && !its_own {
                return Err(RoomError::Forbidden("You may not delete this alias".into()));
            }
            change.w.expect::<t::Alias>(&alias, Expect::Is(&row));
            change.w.delete::<t::Alias>(&alias);
            change.w.delete::<t::AliasOf>(&(room, alias.clone()));
            if may {
                change.drop_canonical(&who, &alias)
            } else {
                Ok(())
            }
        })
        .await
    }

    /// An alias that this server can give: well formed, and of this server.
    fn own_alias(&self, alias: &str) -> Result<(), RoomError> {
        checked_alias(alias)?;
        if names::server_of(alias) != Some(self.server_name()) {
            let text = "The alias belongs to another server";
            return Err(RoomError::InvalidParam(text.into()));
        }
        names::new_room_alias(names::localpart_of(alias), self.server_name())
            .map_err(|error| RoomError::InvalidParam(error.to_string()))?;
        Ok(())
    }
}

impl Change<'_> {
    /// Aliases that a canonical alias event newly names have to point to the room
    /// (client-server API, "m.room.canonical_alias").
    pub(crate) fn vet_canonical_alias(&self, content: &Object) -> Result<(), RoomError> {
        let kind = "m.room.canonical_alias";
        let present = self.rooms.tip_state(&self.snap, &self.tip, kind, "")?;
        let present = present.and_then(|event| event.event().content_object().ok());
        let before = named(&present.unwrap_or_default()).unwrap_or_default();
        for alias in named(content)? {
            if before.contains(&alias) {
                continue;
            }
            checked_alias(&alias)?;
            let row = self.rooms.alias(&self.snap, &alias)?;
            if row.is_none_or(|row| row.room != self.tip.room) {
                return Err(RoomError::BadAlias(format!(
                    "{alias} does not point to this room"
                )));
            }
        }
        Ok(())
    }

    /// Changes the canonical alias event so that it no longer names an alias.
    fn drop_canonical(&mut self, who: &Who, alias: &str) -> Result<(), RoomError> {
        let kind = "m.room.canonical_alias";
        let Some(present) = self.rooms.tip_state(&self.snap, &self.tip, kind, "")? else {
            return Ok(());
        };
        let Ok(mut content) = present.event().content_object() else {
            return Ok(());
        };
        if !named(&content)
            .unwrap_or_default()
            .iter()
            .any(|name| name == alias)
        {
            return Ok(());
        }
        if content.str("alias") == Some(alias) {
            content.remove("alias");
        }
        if let Some(Value::Array(alternatives)) = content.get_mut("alt_aliases") {
            alternatives.retain(|name| name.as_str() != Some(alias));
            if alternatives.is_empty() {
                content.remove("alt_aliases");
            }
        }
        self.add(&who.user_id, Draft::state(kind, "", content), None)?;
        Ok(())
    }
}

/// Adds the rows of an alias to a write, which fails with a conflict if there is one already.
pub(crate) fn put_alias(w: &mut Write, alias: &str, row: &AliasRow) {
    let alias = alias.to_owned();
    w.expect::<t::Alias>(&alias, Expect::Absent);
    w.put::<t::Alias>(&alias, row);
    w.put::<t::AliasOf>(&(row.room, alias), &());
}

/// A commit that lost the race for an alias.
pub(crate) fn taken(error: RoomError) -> RoomError {
    match error {
        RoomError::Store(StoreError::Conflict { table }) if table == <t::Alias as Table>::NAME => {
            RoomError::AliasInUse("The alias is already in use".into())
        }
        other => other,
    }
}

pub(crate) fn in_use(alias: &str) -> RoomError {
    RoomError::AliasInUse(format!("The alias {alias} is already in use"))
}

fn checked_alias(alias: &str) -> Result<(), RoomError> {
    if names::is_room_alias(alias) {
        Ok(())
    } else {
        Err(RoomError::InvalidParam(format!(
            "{alias:?} is not a room alias"
        )))
    }
}

/// The aliases that content of a canonical alias event names.
fn named(content: &Object) -> Result<Vec<String>, RoomError> {
    let malformed =
        |field| RoomError::BadJson(format!("`{field}` is not of the form it must have"));
    let mut aliases = Vec::new();
    match content.get("alias") {
        None | Some(Value::Null) => {}
        // Some clients clear it this way.
        Some(Value::Str(alias)) if alias.is_empty() => {}
        Some(Value::Str(alias)) => aliases.push(alias.clone()),
        Some(_) => return Err(malformed("alias")),
    }
    match content.get("alt_aliases") {
        None | Some(Value::Null) => {}
        Some(Value::Array(items)) if items.len() <= MAX_ALT_ALIASES => {
            for item in items {
                let alias = item.as_str().ok_or_else(|| malformed("alt_aliases"))?;
                aliases.push(alias.to_owned());
            }
        }
        Some(_) => return Err(malformed("alt_aliases")),
    }
    Ok(aliases)
}
