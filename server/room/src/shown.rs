//! What the directory and summaries say of rooms, in the form that clients and servers are given alike.

use serde_json::{Value, json};

use crate::{DirectoryPage, Network, PublicRoom};

impl PublicRoom {
    /// As an entry of a list of rooms (the spec's `PublishedRoomsChunk`).
    pub fn entry(&self) -> Value {
        let mut entry = json!({
            "room_id": self.room_id,
            "num_joined_members": self.joined,
            "world_readable": self.world_readable,
            "guest_can_join": self.guest_can_join,
            "join_rule": self.join_rule,
        });
        let texts = [
            ("name", &self.name),
            ("topic", &self.topic),
            ("avatar_url", &self.avatar_url),
            ("canonical_alias", &self.canonical_alias),
            ("room_type", &self.room_type),
        ];
        for (name, text) in texts {
            if let (Some(text), Some(fields)) = (text, entry.as_object_mut()) {
                fields.insert(name.into(), text.as_str().into());
            }
        }
        entry
    }

    /// As summaries and hierarchies show it: an entry with its version, its encryption, and the rooms whose members
    /// may join.
    pub fn summary(&self) -> Value {
        let mut summary = self.entry();
        if let Some(fields) = summary.as_object_mut() {
            fields.insert("room_version".into(), self.version.as_str().into());
            if let Some(algorithm) = &self.encryption {
                fields.insert("encryption".into(), algorithm.as_str().into());
            }
            if !self.allowed_rooms.is_empty() {
                fields.insert("allowed_room_ids".into(), self.allowed_rooms.clone().into());
            }
        }
        summary
    }
}

impl DirectoryPage {
    /// As the answer of `/publicRooms`.
    pub fn json(&self) -> Value {
        let mut body = json!({
            "chunk": self.rooms.iter().map(PublicRoom::entry).collect::<Vec<_>>(),
            "total_room_count_estimate": self.total,
        });
        for (name, place) in [("next_batch", self.next), ("prev_batch", self.prev)] {
            if let (Some(place), Some(fields)) = (place, body.as_object_mut()) {
                fields.insert(name.into(), place.to_string().into());
            }
        }
        body
    }
}

impl Network {
    /// Which lists somebody asks for by `include_all_networks` and `third_party_instance_id`; `None` if for all and
    /// for one at once.
    pub fn asked(all: Option<bool>, instance: Option<String>) -> Option<Network> {
        match (all, instance) {
            (Some(true), None) => Some(Network::All),
            (Some(true), Some(_)) => None,
            (_, Some(instance)) => Some(Network::One(instance)),
            (_, None) => Some(Network::Own),
        }
    }
}
