//! Push rules: when an event notifies, kept as account data `m.push_rules`.
//!
//! Nothing is stored until a user changes something; until then, and for every rule of the
//! server's that the user did not touch, the spec's defaults apply as this version knows them.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use ruma_common::push::{
    Action, InsertPushRuleError, NewConditionalPushRule, NewPatternedPushRule, NewPushRule,
    NewSimplePushRule, PushCondition, RemovePushRuleError, RuleKind, Ruleset,
};
use ruma_common::{RoomId, UserId};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use skerry_core::{Pos, UserNid};
use skerry_store::Snapshot;

use crate::{AccountError, Accounts, data};

/// The type of account data that push rules are kept in.
pub const PUSH_RULES: &str = "m.push_rules";

/// How many users' rules are kept parsed.
const MAX_CACHED: usize = 4_096;
/// How many rules a user can have, the server's included.
const MAX_RULES: usize = 2_000;
/// Longest rule id, in bytes.
const MAX_RULE_ID_BYTES: usize = 512;
/// The kinds of rules, by their names in the protocol.
const KINDS: [&str; 5] = ["override", "content", "room", "sender", "underride"];

const NO_RULE: AccountError = AccountError::NotFound("No such push rule");

/// Parsed rules. Each belongs to one position of the datum, so it is right for every snapshot
/// that shows the datum at that position; position 0 stands for the defaults.
#[derive(Default)]
pub(crate) struct RulesetCache(Mutex<HashMap<UserNid, (Pos, Arc<Ruleset>)>>);

/// The content of `m.push_rules`, with all kinds present.
pub(crate) fn content(rules: &Ruleset) -> Result<Value, AccountError> {
    let shape = |_| AccountError::BadJson("The push rules cannot be written as JSON");
    let mut global = serde_json::to_value(rules).map_err(shape)?;
    if let Some(map) = global.as_object_mut() {
        for kind in KINDS {
            map.entry(kind).or_insert_with(|| json!([]));
        }
    }
    Ok(json!({ "global": global }))
}

fn parse(stored: &str, user_id: &UserId) -> Ruleset {
    #[derive(Deserialize)]
    struct Content {
        global: Ruleset,
    }
    let defaults = Ruleset::server_default(user_id);
    match serde_json::from_str::<Content>(stored) {
        Ok(Content { mut global }) => {
            global.update_with_server_default(defaults);
            global
        }
        // Only this module writes them, so this is never met; the defaults do no harm.
        Err(_) => defaults,
    }
}

fn kind(name: &str) -> Result<RuleKind, AccountError> {
    if KINDS.contains(&name) {
        Ok(RuleKind::from(name))
    } else {
        Err(AccountError::Invalid("Unknown kind of push rule"))
    }
}

/// Reads the body of a new rule, whose shape depends on its kind.
fn new_rule(kind: &RuleKind, id: &str, body: Value) -> Result<NewPushRule, AccountError> {
    #[derive(Deserialize)]
    struct Simple {
        actions: Vec<Action>,
    }
    #[derive(Deserialize)]
    struct Patterned {
        actions: Vec<Action>,
        pattern: String,
    }
    #[derive(Deserialize)]
    struct Conditional {
        actions: Vec<Action>,
        #[serde(default)]
        conditions: Vec<PushCondition>,
    }
    let id = id.to_owned();
    Ok(match kind {
        RuleKind::Override => {
            let Conditional {
                actions,
                conditions,
            } = shaped(body)?;
            NewPushRule::Override(NewConditionalPushRule::new(id, conditions, actions))
        }
        RuleKind::Underride => {
            let Conditional {
                actions,
                conditions,
            } = shaped(body)?;
            NewPushRule::Underride(NewConditionalPushRule::new(id, conditions, actions))
        }
        RuleKind::Content => {
            let Patterned { actions, pattern } = shaped(body)?;
            NewPushRule::Content(NewPatternedPushRule::new(id, pattern, actions))
        }
        RuleKind::Room => {
            let Simple { actions } = shaped(body)?;
            let room = RoomId::parse(&id);
            let room = room.map_err(|_| AccountError::Invalid("The rule id must be a room id"))?;
            NewPushRule::Room(NewSimplePushRule::new(room.to_owned(), actions))
        }
        RuleKind::Sender => {
            let Simple { actions } = shaped(body)?;
            let sender = UserId::parse(&id);
            let sender =
                sender.map_err(|_| AccountError::Invalid("The rule id must be a user id"))?;
            NewPushRule::Sender(NewSimplePushRule::new(sender.to_owned(), actions))
        }
        _ => return Err(AccountError::Invalid("Unknown kind of push rule")),
    })
}

fn shaped<T: DeserializeOwned>(body: Value) -> Result<T, AccountError> {
    serde_json::from_value(body)
        .map_err(|_| AccountError::BadJson("The push rule does not have the right shape"))
}

fn refused(error: InsertPushRuleError) -> AccountError {
    match error {
        InsertPushRuleError::UnknownRuleId => {
            AccountError::NotFound("The rule named by before or after does not exist")
        }
        InsertPushRuleError::ServerDefaultRuleId => {
            AccountError::Invalid("Rule ids that begin with a dot are the server's")
        }
        InsertPushRuleError::RelativeToServerDefaultRule => {
            AccountError::Invalid("A rule cannot be placed relative to one of the server's")
        }
        InsertPushRuleError::BeforeHigherThanAfter => {
            AccountError::Invalid("The rule of before has a higher priority than that of after")
        }
        _ => AccountError::Invalid("Invalid rule id"),
    }
}

impl Accounts {
    /// The push rules of a local user.
    ///
    /// # Errors
    /// Those of the store.
    pub fn ruleset(&self, snap: &Snapshot, user: UserNid) -> Result<Arc<Ruleset>, AccountError> {
        let datum = data::one(snap, user, None, PUSH_RULES)?;
        let pos = datum.as_ref().map_or(Pos::ZERO, |datum| datum.pos);
        if let Some((cached, rules)) = self.inner.rulesets.0.lock().get(&user)
            && *cached == pos
        {
            return Ok(rules.clone());
        }
        let id = self.inner.store.user_id(user)?;
        let id = <&UserId>::try_from(&*id);
        let id = id.map_err(|_| AccountError::Invalid("Not a user id"))?;
        let rules = Arc::new(match datum {
            Some(datum) => parse(&datum.json, id),
            None => Ruleset::server_default(id),
        });
        let mut cache = self.inner.rulesets.0.lock();
        if cache.len() >= MAX_CACHED {
            cache.clear();
        }
        cache.insert(user, (pos, rules.clone()));
        Ok(rules)
    }

    /// All push rules: `{"global": {...}}`.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn push_rules(&self, user: UserNid) -> Result<Value, AccountError> {
        let this = self.clone();
        self.read(move |_, snap| content(&*this.ruleset(snap, user)?))
            .await
    }

    /// All push rules of one kind.
    ///
    /// # Errors
    /// `Invalid` for an unknown kind.
    pub async fn push_rules_of(&self, user: UserNid, of: &str) -> Result<Value, AccountError> {
        kind(of)?;
        let mut rules = self.push_rules(user).await?;
        let rules = rules
            .get_mut("global")
            .and_then(|global| global.get_mut(of));
        Ok(rules.map(Value::take).unwrap_or_else(|| json!([])))
    }

    /// One push rule.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn push_rule(
        &self,
        user: UserNid,
        of: &str,
        id: &str,
    ) -> Result<Map<String, Value>, AccountError> {
        let Value::Array(rules) = self.push_rules_of(user, of).await? else {
            return Err(NO_RULE);
        };
        let named = |rule: &Value| rule.get("rule_id").and_then(Value::as_str) == Some(id);
        match rules.into_iter().find(named) {
            Some(Value::Object(rule)) => Ok(rule),
            _ => Err(NO_RULE),
        }
    }

    /// Makes or replaces a rule of the user's own.
    ///
    /// # Errors
    /// `Invalid` for an id that cannot be, `BadJson` for a body of the wrong shape, `NotFound`
    /// where `before` or `after` name no rule.
    pub async fn set_push_rule(
        &self,
        user: UserNid,
        (of, id): (&str, &str),
        body: Value,
        before: Option<String>,
        after: Option<String>,
    ) -> Result<(), AccountError> {
        let rule_kind = kind(of)?;
        if id.is_empty() || id.len() > MAX_RULE_ID_BYTES {
            return Err(AccountError::Invalid(
                "The rule id must be 1 to 512 bytes long",
            ));
        }
        let rule = new_rule(&rule_kind, id, body)?;
        self.edit_rules(user, move |rules| {
            rules
                .insert(rule, after.as_deref(), before.as_deref())
                .map_err(refused)?;
            if rules.iter().count() > MAX_RULES {
                return Err(AccountError::TooLarge("Too many push rules"));
            }
            Ok(())
        })
        .await
    }

    /// Takes out a rule of the user's own.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for a rule of the server's.
    pub async fn remove_push_rule(
        &self,
        user: UserNid,
        of: &str,
        id: &str,
    ) -> Result<(), AccountError> {
        let (of, id) = (kind(of)?, id.to_owned());
        self.edit_rules(user, move |rules| match rules.remove(of, &id) {
            Ok(()) => Ok(()),
            Err(RemovePushRuleError::ServerDefault) => Err(AccountError::Invalid(
                "The server's rules cannot be deleted",
            )),
            Err(_) => Err(NO_RULE),
        })
        .await
    }

    /// Switches a rule on or off.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn enable_push_rule(
        &self,
        user: UserNid,
        of: &str,
        id: &str,
        enabled: bool,
    ) -> Result<(), AccountError> {
        let (of, id) = (kind(of)?, id.to_owned());
        self.edit_rules(user, move |rules| {
            rules.set_enabled(of, &id, enabled).map_err(|_| NO_RULE)
        })
        .await
    }

    /// Gives a rule other actions.
    ///
    /// # Errors
    /// `NotFound`; `BadJson` for what is no list of actions.
    pub async fn set_push_rule_actions(
        &self,
        user: UserNid,
        of: &str,
        id: &str,
        actions: Value,
    ) -> Result<(), AccountError> {
        let (of, id) = (kind(of)?, id.to_owned());
        let actions: Vec<Action> = shaped(actions)?;
        self.edit_rules(user, move |rules| {
            rules.set_actions(of, &id, actions).map_err(|_| NO_RULE)
        })
        .await
    }

    async fn edit_rules(
        &self,
        user: UserNid,
        edit: impl FnOnce(&mut Ruleset) -> Result<(), AccountError> + Send + 'static,
    ) -> Result<(), AccountError> {
        let this = self.clone();
        self.change(user, move |tx| {
            let before = this.ruleset(&tx.snap, user)?;
            let mut rules = Ruleset::clone(&before);
            edit(&mut rules)?;
            data::write(tx, user, None, PUSH_RULES, &content(&rules)?)
        })
        .await
    }
}
