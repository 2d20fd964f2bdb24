//! Other networks: what application services know of them (application service API, "Third-party
//! networks").

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use futures_util::future::join_all;
use parking_lot::Mutex;
use serde_json::{Map, Value};
use skerry_account::appservice::Appservice;

use super::{Bridges, Inner, PREFIX, escape};
use crate::http::HttpError;

/// How long what an application service says of a protocol counts, in ms.
const FRESH_MS: u64 = 3_600_000;
/// Most results of one application service that are passed on.
const RESULTS_MAX: usize = 1_000;

/// What may be looked up in another network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entity {
    /// People.
    User,
    /// Rooms.
    Location,
}

impl Entity {
    /// Its name in paths.
    fn path(self) -> &'static str {
        match self {
            Entity::User => "user",
            Entity::Location => "location",
        }
    }

    /// The field of a result that has its Matrix id.
    fn id_field(self) -> &'static str {
        match self {
            Entity::User => "userid",
            Entity::Location => "alias",
        }
    }
}

/// What application services said of protocols, by id and protocol.
#[derive(Default)]
pub(super) struct Cache(Mutex<HashMap<(Arc<str>, String), Said>>);

/// Until when it counts, in ms since the epoch; under which list; what was said.
type Said = (u64, u64, Value);

impl Bridges {
    /// All protocols that application services speak for, as each of them describes them.
    pub async fn protocols(&self) -> Map<String, Value> {
        let known = self.inner.accounts.appservices();
        let named = known
            .all()
            .iter()
            .flat_map(|one| &one.registration.protocols);
        let named: BTreeSet<&String> = named.collect();
        let described = named.into_iter().map(|protocol| self.protocol_of(protocol));
        join_all(described).await.into_iter().flatten().collect()
    }

    /// One protocol; none if nobody speaks for it, or none of those who do answers.
    pub async fn protocol(&self, protocol: &str) -> Option<Value> {
        Some(self.protocol_of(protocol).await?.1)
    }

    async fn protocol_of(&self, protocol: &str) -> Option<(String, Value)> {
        let asked = self.inner.speakers(Some(protocol));
        let described = asked.iter().map(|one| self.inner.describe(one, protocol));
        let mut all = join_all(described).await.into_iter().flatten();
        let mut first = all.next()?;
        for other in all {
            let more = other.get("instances").and_then(Value::as_array).cloned();
            let instances = first.get_mut("instances").and_then(Value::as_array_mut);
            if let (Some(instances), Some(more)) = (instances, more) {
                instances.extend(more);
            }
        }
        Some((protocol.to_owned(), first))
    }

    /// What application services find: in one network, or by a Matrix id in all of them. `query`
    /// is what the client asked for, decoded.
    pub async fn look_up(
        &self,
        entity: Entity,
        protocol: Option<&str>,
        query: &[(String, String)],
    ) -> Vec<Value> {
        let path = match protocol {
            Some(protocol) => format!("/{}/{}", entity.path(), escape(protocol)),
            None => format!("/{}", entity.path()),
        };
        let pairs = query.iter();
        let pairs = pairs.map(|(key, value)| format!("{}={}", escape(key), escape(value)));
        let query = pairs.collect::<Vec<_>>().join("&");
        let asked = self.inner.speakers(protocol);
        let found = asked
            .iter()
            .map(|one| self.inner.results(one, entity, format!("{path}?{query}")));
        join_all(found).await.into_iter().flatten().collect()
    }
}

impl Inner {
    /// Those who speak for a protocol, or for any.
    fn speakers(&self, protocol: Option<&str>) -> Vec<Arc<Appservice>> {
        let known = self.accounts.appservices();
        let speaks = |one: &&Arc<Appservice>| {
            let protocols = &one.registration.protocols;
            one.listens()
                && match protocol {
                    Some(protocol) => protocols.iter().any(|other| other == protocol),
                    None => !protocols.is_empty(),
                }
        };
        known.all().iter().filter(speaks).cloned().collect()
    }

    /// What an application service says of a protocol; from memory for an hour.
    async fn describe(&self, one: &Appservice, protocol: &str) -> Option<Value> {
        let generation = self.accounts.appservices().generation();
        let now_ms = self.clock.now_ms();
        let key = (one.id.clone(), protocol.to_owned());
        if let Some((until_ms, under, value)) = self.networks.0.lock().get(&key)
            && *until_ms > now_ms
            && *under == generation
        {
            return Some(value.clone());
        }
        let path = format!("/protocol/{}", escape(protocol));
        let (status, value) = self.network(one, &path).await.ok()?;
        let value = (status == 200).then(|| checked(value, &one.id)).flatten()?;
        let entry = (now_ms + FRESH_MS, generation, value.clone());
        let mut cache = self.networks.0.lock();
        // What belongs to an earlier list is of no more use.
        cache.retain(|_, (_, under, _)| *under == generation);
        cache.insert(key, entry);
        Some(value)
    }

    /// One question about networks, at the path of today or else at the one from before there
    /// were versions ("Legacy routes").
    async fn network(&self, one: &Appservice, path: &str) -> Result<(u16, Value), HttpError> {
        let base = one.registration.url.as_deref().unwrap_or_default();
        let url = format!("{base}{PREFIX}/thirdparty{path}");
        match self.get(one, &url).await? {
            (404 | 405, Value::Null) => {
                let old = format!("{base}/_matrix/app/unstable/thirdparty{path}");
                self.get(one, &old).await
            }
            answer => Ok(answer),
        }
    }

    async fn results(&self, one: &Appservice, entity: Entity, path: String) -> Vec<Value> {
        match self.network(one, &path).await {
            Ok((200, Value::Array(found))) => {
                let fits = |value: &Value| is_result(value, entity);
                found.into_iter().filter(fits).take(RESULTS_MAX).collect()
            }
            Ok(_) => Vec::new(),
            Err(error) => {
                tracing::debug!(id = &*one.id, %error, "an application service is not there");
                Vec::new()
            }
        }
    }
}

/// What an application service says of a protocol, if it has the shape it must have. Each
/// network gets the id under which its rooms are listed.
fn checked(mut value: Value, id: &str) -> Option<Value> {
    let texts = |value: &Value| {
        let list = value.as_array()?;
        list.iter().all(Value::is_string).then_some(())
    };
    for field in ["user_fields", "location_fields"] {
        value.get(field).map_or(Some(()), texts)?;
    }
    for instance in value.get_mut("instances")?.as_array_mut()? {
        let fields = instance.as_object_mut()?;
        if let Some(network) = fields.get("network_id").and_then(Value::as_str) {
            let instance_id = format!("{id}|{network}");
            fields.insert("instance_id".to_owned(), instance_id.into());
        }
    }
    Some(value)
}

fn is_result(value: &Value, entity: Entity) -> bool {
    let text = |field: &str| value.get(field).is_some_and(Value::is_string);
    text(entity.id_field()) && text("protocol") && value.get("fields").is_some_and(Value::is_object)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_has_the_right_shape_is_passed_on() {
        let good = json!({ "user_fields": ["a"], "instances": [{ "network_id": "n" }, {}] });
        let good = checked(good, "irc").unwrap();
        assert_eq!(good["instances"][0]["instance_id"], "irc|n");
        assert_eq!(good["instances"][1], json!({}));
        assert_eq!(checked(json!([]), "irc"), None);
        assert_eq!(checked(json!({ "instances": [1] }), "irc"), None);
        let fields = json!({ "instances": [], "location_fields": [1] });
        assert_eq!(checked(fields, "irc"), None);
        let found = json!({ "alias": "#a:b", "protocol": "irc", "fields": {} });
        assert!(is_result(&found, Entity::Location));
        assert!(!is_result(&found, Entity::User));
    }
}
