//! Questions to other servers: aliases, directories, what rooms show, profiles, events by time.

use std::sync::Arc;

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use skerry_core::canonical::{Mode, Object};
use skerry_core::names;

use super::call::{LARGE, QUICK, SMALL};
use super::fault::FederationError;
use super::paths::Path;
use super::{Federation, Limits};

/// The most servers that an alias names.
const MAX_SERVERS: usize = 50;
/// The most rooms in one answer of a directory.
const MAX_ROOMS: usize = 500;

/// The largest profile, in bytes: 64 KiB in canonical JSON, which others may write more loosely.
const PROFILE_MAX: usize = 128 << 10;
/// For how long a profile is believed, in ms.
const PROFILE_MS: u64 = 60_000;

/// A user's profile.
pub type Profile = Map<String, Value>;

/// A room that an alias points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aliased {
    /// The room.
    pub room_id: String,
    /// Servers through which it can be joined.
    pub servers: Vec<String>,
}

/// What is wanted of another server's directory.
#[derive(Clone, Debug, Default)]
pub struct RemoteDirectory {
    /// The most rooms.
    pub limit: Option<u64>,
    /// Where to go on, as that server said.
    pub since: Option<String>,
    /// The filter, as the client has it; none: all.
    pub filter: Option<Value>,
    /// Rooms of bridged networks too.
    pub include_all_networks: bool,
    /// Rooms of one bridged network.
    pub third_party_instance_id: Option<String>,
}

/// A page of another server's directory.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RemotePage {
    /// The rooms.
    pub chunk: Vec<Map<String, Value>>,
    /// Where the next page begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_batch: Option<String>,
    /// Where the one before begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prev_batch: Option<String>,
    /// How many rooms there are, about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_room_count_estimate: Option<u64>,
}

/// An event found by its time.
#[derive(Clone, Debug, Deserialize)]
pub struct Timed {
    /// Its id.
    pub event_id: String,
    /// Its time, in ms since the epoch.
    pub origin_server_ts: u64,
}

impl Federation {
    /// The room behind an alias, of this server or another, and servers that know it.
    ///
    /// # Errors
    /// `InvalidParam` for what is no alias; `NotFound`, or `Refused` by the other server, where
    /// there is none.
    pub async fn resolve(&self, alias: &str) -> Result<Aliased, FederationError> {
        let ours = self.rooms.server_name().to_owned();
        let server = names::server_of(alias);
        if names::is_room_alias(alias) && server.is_some_and(|server| server != ours) {
            return self.find_alias(alias).await;
        }
        let room_id = self.rooms.resolve(alias).await?;
        let others = self.servers_of(&room_id).await?;
        let others = others.iter().map(|server| server.to_string());
        let servers = std::iter::once(ours).chain(others);
        Ok(Aliased {
            servers: servers.take(MAX_SERVERS).collect(),
            room_id,
        })
    }

    /// The room behind an alias of another server.
    async fn find_alias(&self, alias: &str) -> Result<Aliased, FederationError> {
        #[derive(Deserialize)]
        struct Answer {
            room_id: String,
            #[serde(default)]
            servers: Vec<String>,
        }
        let server = names::server_of(alias).unwrap_or_default();
        let path = Path::v1("query/directory").query("room_alias", alias);
        let limits = Limits::new(QUICK, SMALL).even_if_resting();
        let mut answer: Answer = self.get(server, &path, limits).await?;
        if !names::is_room_id(&answer.room_id) {
            return Err(FederationError::answer(server, "it names no room"));
        }
        answer.servers.retain(|name| names::is_server_name(name));
        answer.servers.truncate(MAX_SERVERS);
        if answer.servers.is_empty() {
            answer.servers.push(server.to_owned());
        }
        Ok(Aliased {
            room_id: answer.room_id,
            servers: answer.servers,
        })
    }

    /// A page of another server's public rooms. Entries that name no room are left out.
    ///
    /// # Errors
    /// `Refused` where it shows them to nobody.
    pub async fn public_rooms_of(
        &self,
        server: &str,
        ask: RemoteDirectory,
    ) -> Result<RemotePage, FederationError> {
        if !names::is_server_name(server) {
            let text = format!("{server:?} is not the name of a server");
            return Err(FederationError::Nobody(text));
        }
        let limits = Limits::new(QUICK, LARGE).even_if_resting();
        let mut page: RemotePage = match &ask.filter {
            None => self.get(server, &listed(&ask), limits).await?,
            Some(_) => {
                let path = Path::v1("publicRooms");
                let body = searched(&ask);
                self.give(server, (Method::POST, &path), &body, limits)
                    .await?
            }
        };
        page.chunk.truncate(MAX_ROOMS);
        page.chunk.retain(|room| {
            let id = room.get("room_id").and_then(Value::as_str);
            id.is_some_and(names::is_room_id)
        });
        Ok(page)
    }

    /// What another server says of its user. Believed for a minute, so that a client which looks
    /// at many fields, or many clients, ask once.
    ///
    /// # Errors
    /// `Refused` where there is no such user, or nothing is told of them.
    pub async fn profile(&self, user_id: &str) -> Result<Arc<Profile>, FederationError> {
        let now_ms = self.clock.now_ms();
        if let Some(profile) = self.asked.profiles.get(user_id, now_ms) {
            return Ok(profile);
        }
        let server = names::server_of(user_id).unwrap_or_default();
        let path = Path::v1("query/profile").query("user_id", user_id);
        let limits = Limits::new(QUICK, PROFILE_MAX);
        let profile: Arc<Profile> = Arc::new(self.get(server, &path, limits).await?);
        let held = Arc::clone(&profile);
        self.asked
            .profiles
            .put(user_id, held, now_ms + PROFILE_MS, now_ms);
        Ok(profile)
    }

    /// The event of a room closest to a time that another server knows.
    ///
    /// # Errors
    /// `Refused` where it knows none.
    pub(super) async fn timed_by(
        &self,
        server: &str,
        room_id: &str,
        (ts, back): (u64, bool),
    ) -> Result<Timed, FederationError> {
        let path = Path::v1("timestamp_to_event")
            .part(room_id)
            .query("ts", &ts.to_string())
            .query("dir", if back { "b" } else { "f" });
        let found: Timed = self.get(server, &path, Limits::new(QUICK, SMALL)).await?;
        let right_side = match back {
            true => found.origin_server_ts <= ts,
            false => found.origin_server_ts >= ts,
        };
        if names::is_event_id(&found.event_id) && right_side {
            Ok(found)
        } else {
            Err(FederationError::answer(server, "it is on the wrong side"))
        }
    }

    /// What a room shows of itself to another server, with its children.
    ///
    /// # Errors
    /// `Refused` where it shows nothing.
    pub(super) async fn shown_by(
        &self,
        server: &str,
        room_id: &str,
        suggested_only: bool,
    ) -> Result<Shown, FederationError> {
        let path = Path::v1("hierarchy").part(room_id).query(
            "suggested_only",
            if suggested_only { "true" } else { "false" },
        );
        let limits = Limits::new(QUICK, LARGE);
        let shown: Shown = self.get(server, &path, limits).await?;
        Ok(shown)
    }
}

/// What a server shows of a room.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Shown {
    pub(super) room: ShownRoom,
    #[serde(default)]
    pub(super) children: Vec<ShownRoom>,
}

/// One room of that.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ShownRoom {
    pub(super) room_id: String,
    #[serde(default)]
    pub(super) children_state: Vec<Box<RawValue>>,
    #[serde(flatten)]
    pub(super) rest: Map<String, Value>,
}

/// The path of a question without a filter.
fn listed(ask: &RemoteDirectory) -> Path {
    let mut path = Path::v1("publicRooms");
    if let Some(limit) = ask.limit {
        path = path.query("limit", &limit.to_string());
    }
    if let Some(since) = &ask.since {
        path = path.query("since", since);
    }
    if ask.include_all_networks {
        path = path.query("include_all_networks", "true");
    }
    match &ask.third_party_instance_id {
        Some(instance) => path.query("third_party_instance_id", instance),
        None => path,
    }
}

/// The body of a question with a filter.
fn searched(ask: &RemoteDirectory) -> Object {
    let mut body = Object::new();
    if let Some(limit) = ask.limit.and_then(|limit| i64::try_from(limit).ok()) {
        body.insert("limit", limit);
    }
    if let Some(since) = &ask.since {
        body.insert("since", since.as_str());
    }
    if ask.include_all_networks {
        body.insert("include_all_networks", true);
    }
    if let Some(instance) = &ask.third_party_instance_id {
        body.insert("third_party_instance_id", instance.as_str());
    }
    let filter = ask.filter.as_ref();
    if let Some(filter) = filter.and_then(|filter| Object::from_json(filter, Mode::Strict).ok()) {
        body.insert("filter", filter);
    }
    body
}
