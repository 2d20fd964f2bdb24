//! The rules that every user has.
//!
//! Those of the spec, and the three that looked for mentions in the text of messages before there
//! were intentional mentions. The spec has dropped them; but bridges and older clients still send
//! messages that say nothing about mentions, and for those alone they count.

use ruma_common::UserId;
use ruma_common::power_levels::NotificationPowerLevelsKey;
use ruma_common::push::{
    Action, ConditionalPushRule, ConditionalPushRuleInit, EventMatchConditionData,
    HighlightTweakValue, PatternedPushRule, PatternedPushRuleInit, PushCondition, Ruleset,
    SenderNotificationPermissionConditionData, SoundTweakValue, Tweak,
};

/// The rules of a user who never changed any.
pub(super) fn defaults(user_id: &UserId) -> Ruleset {
    let mut rules = Ruleset::server_default(user_id);
    let after_mention = place_after(&rules, ".m.rule.is_user_mention");
    rules
        .override_
        .shift_insert(after_mention, contains_display_name());
    let after_room = place_after(&rules, ".m.rule.is_room_mention");
    rules.override_.shift_insert(after_room, roomnotif());
    rules.content.insert(contains_user_name(user_id));
    rules
}

fn place_after(rules: &Ruleset, rule_id: &str) -> usize {
    let place = rules
        .override_
        .iter()
        .position(|rule| rule.rule_id == rule_id);
    place.map_or(rules.override_.len(), |place| place + 1)
}

fn loud() -> Vec<Action> {
    vec![
        Action::Notify,
        Action::SetTweak(Tweak::Sound(SoundTweakValue::Default)),
        highlight(),
    ]
}

fn highlight() -> Action {
    Action::SetTweak(Tweak::Highlight(HighlightTweakValue::Yes))
}

/// The user's name in the room is in the text.
#[allow(deprecated)] // It is what the rule is about.
fn contains_display_name() -> ConditionalPushRule {
    ConditionalPushRuleInit {
        rule_id: ".m.rule.contains_display_name".to_owned(),
        default: true,
        enabled: true,
        conditions: vec![PushCondition::ContainsDisplayName],
        actions: loud(),
    }
    .into()
}

/// The text says `@room`, and its sender may call everybody.
fn roomnotif() -> ConditionalPushRule {
    let text = EventMatchConditionData::new("content.body".to_owned(), "@room".to_owned());
    let may = SenderNotificationPermissionConditionData::new(NotificationPowerLevelsKey::Room);
    ConditionalPushRuleInit {
        rule_id: ".m.rule.roomnotif".to_owned(),
        default: true,
        enabled: true,
        conditions: vec![
            PushCondition::EventMatch(text),
            PushCondition::SenderNotificationPermission(may),
        ],
        actions: vec![Action::Notify, highlight()],
    }
    .into()
}

/// The first part of the user's id is in the text.
fn contains_user_name(user_id: &UserId) -> PatternedPushRule {
    PatternedPushRuleInit {
        rule_id: ".m.rule.contains_user_name".to_owned(),
        default: true,
        enabled: true,
        pattern: user_id.localpart().to_owned(),
        actions: loud(),
    }
    .into()
}
