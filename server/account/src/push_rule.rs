//! Push rules: when an event notifies, kept as account data `m.push_rules`.
//!
//! Nothing is stored until a user changes something; until then, and for every rule of the
//! server's that the user did not touch, the spec's defaults apply as this version knows them.

mod defaults;
mod rules;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use ruma_common::UserId;
use ruma_common::push::{Action, RuleKind, Ruleset};
use serde_json::{Map, Value, json};
use skerry_core::{Pos, UserNid};
use skerry_store::Snapshot;

use crate::{AccountError, Accounts, data};
use rules::{NO_RULE, POST_CONTENT, Place, Rules, check_actions, kind, shaped};

/// The type of account data that push rules are kept in.
pub const PUSH_RULES: &str = "m.push_rules";

/// How many users' rules are kept parsed.
const MAX_CACHED: usize = 4_096;

/// Parsed rules, and the position of the datum they were parsed from under the store's generation.
type Parsed = ((u64, Pos), Arc<Rules>);

/// Parsed rules. Each belongs to one position of the datum, so it is right for every snapshot
/// that shows the datum at that position; position 0 stands for the defaults.
#[derive(Default)]
pub(crate) struct RulesCache(Mutex<HashMap<UserNid, Parsed>>);

impl Accounts {
    /// The push rules of a local user, to be evaluated.
    ///
    /// # Errors
    /// Those of the store.
    pub fn ruleset(&self, snap: &Snapshot, user: UserNid) -> Result<Arc<Ruleset>, AccountError> {
        Ok(self.rules(snap, user)?.set().clone())
    }

    /// The push rules of a local user.
    pub(crate) fn rules(&self, snap: &Snapshot, user: UserNid) -> Result<Arc<Rules>, AccountError> {
        let datum = data::one(snap, user, None, PUSH_RULES)?;
        let pos = datum.as_ref().map_or(Pos::ZERO, |datum| datum.pos);
        // A position that was lost with what was written there is given out again.
        let at = (self.inner.store.generation(), pos);
        if let Some((held, rules)) = self.inner.rules.0.lock().get(&user)
            && *held == at
        {
            return Ok(rules.clone());
        }
        let id = self.inner.store.user_id(user)?;
        let id = <&UserId>::try_from(&*id);
        let id = id.map_err(|_| AccountError::Invalid("Not a user id"))?;
        let rules = Arc::new(match datum {
            Some(datum) => Rules::parse(&datum.json, id),
            None => Rules::defaults(id),
        });
        let mut cache = self.inner.rules.0.lock();
        if cache.len() >= MAX_CACHED {
            cache.clear();
        }
        cache.insert(user, (at, rules.clone()));
        Ok(rules)
    }

    /// All push rules: `{"global": {...}}`.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn push_rules(&self, user: UserNid) -> Result<Value, AccountError> {
        let this = self.clone();
        self.read(move |_, snap| this.rules(snap, user)?.content())
            .await
    }

    /// All push rules of one kind.
    ///
    /// # Errors
    /// `Invalid` for an unknown kind.
    pub async fn push_rules_of(&self, user: UserNid, of: &str) -> Result<Value, AccountError> {
        let of = match kind(of)? {
            RuleKind::PostContent => POST_CONTENT,
            _ => of,
        };
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
        let (of, id) = (kind(of)?, id.to_owned());
        let place = Place { before, after };
        self.edit_rules(user, move |rules| rules.insert(of, &id, body, &place))
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
        self.edit_rules(user, move |rules| rules.remove(of, &id))
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
        self.edit_rules(user, move |rules| rules.enable(of, &id, enabled))
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
        check_actions(Some(&actions))?;
        let actions: Vec<Action> = shaped(actions)?;
        self.edit_rules(user, move |rules| rules.set_actions(of, &id, actions))
            .await
    }

    async fn edit_rules(
        &self,
        user: UserNid,
        edit: impl FnOnce(&mut Rules) -> Result<(), AccountError> + Send + 'static,
    ) -> Result<(), AccountError> {
        let this = self.clone();
        self.change(user, move |tx| {
            let mut rules = Rules::clone(&*this.rules(&tx.snap, user)?);
            edit(&mut rules)?;
            data::write(tx, user, None, PUSH_RULES, &rules.content()?)
        })
        .await
    }
}
