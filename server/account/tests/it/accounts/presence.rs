use std::sync::Arc;

use skerry_account::{EphemeralPos, PresenceAbroad, PresenceState};
use skerry_core::UserNid;

use super::home::Home;

const ALICE: UserNid = UserNid(1);

fn device(name: &str) -> Arc<str> {
    Arc::from(name)
}

#[test]
fn a_user_is_as_present_as_their_most_present_device() {
    let home = Home::new();
    let board = home.accounts.presence();
    assert_eq!(board.of(ALICE).state, PresenceState::Offline);
    let idle = board.syncing(ALICE, &device("A"), PresenceState::Unavailable);
    assert_eq!(board.of(ALICE).state, PresenceState::Unavailable);
    let here = board.syncing(ALICE, &device("B"), PresenceState::Online);
    assert_eq!(board.of(ALICE).state, PresenceState::Online);
    assert!(board.of(ALICE).currently_active);
    drop(here);
    home.clock.advance(30_000);
    board.sweep();
    assert_eq!(board.of(ALICE).state, PresenceState::Unavailable);
    drop(idle);
    board.sweep();
    assert_eq!(board.of(ALICE).state, PresenceState::Unavailable);
    home.clock.advance(30_000);
    board.sweep();
    assert_eq!(board.of(ALICE).state, PresenceState::Offline);
}

#[test]
fn others_are_told_only_what_they_can_see() {
    let home = Home::new();
    let board = home.accounts.presence();
    let bell = home.accounts.ephemeral().subscribe();
    board.set(
        ALICE,
        &device("A"),
        PresenceState::Online,
        Some("hello".into()),
    );
    let first = home.accounts.ephemeral().current();
    assert_eq!(*bell.borrow(), first);
    board.set(
        ALICE,
        &device("A"),
        PresenceState::Online,
        Some("hello".into()),
    );
    drop(board.syncing(ALICE, &device("A"), PresenceState::Online));
    board.touch(ALICE);
    assert_eq!(home.accounts.ephemeral().current(), first);
    home.clock.advance(60_000);
    assert!(!board.of(ALICE).currently_active);
    assert_eq!(board.of(ALICE).last_active_ago_ms, Some(60_000));
    board.touch(ALICE);
    assert!(board.of(ALICE).currently_active);
    let changed = board.changed_since(first);
    assert_eq!(changed.len(), 1);
    assert_eq!(changed[0].status_msg.as_deref(), Some("hello"));
    board.set(UserNid(2), &device("A"), PresenceState::Busy, None);
    let users: Vec<_> = board
        .changed_since(EphemeralPos(0))
        .iter()
        .map(|p| p.user)
        .collect();
    assert_eq!(users, [ALICE, UserNid(2)]);
    assert!(
        board
            .changed_since(home.accounts.ephemeral().current())
            .is_empty()
    );
}

#[test]
fn busy_outlives_syncs_that_say_online() {
    let home = Home::new();
    let board = home.accounts.presence();
    board.set(ALICE, &device("A"), PresenceState::Busy, None);
    let _sync = board.syncing(ALICE, &device("A"), PresenceState::Online);
    assert_eq!(board.of(ALICE).state, PresenceState::Busy);
    board.set(ALICE, &device("A"), PresenceState::Offline, None);
    assert_eq!(board.of(ALICE).state, PresenceState::Offline);
}

#[test]
fn a_sync_that_says_offline_changes_nothing() {
    let home = Home::new();
    let board = home.accounts.presence();
    drop(board.syncing(ALICE, &device("A"), PresenceState::Offline));
    assert_eq!(home.accounts.ephemeral().current(), EphemeralPos(0));
    board.set(ALICE, &device("A"), PresenceState::Online, None);
    drop(board.syncing(ALICE, &device("A"), PresenceState::Offline));
    assert_eq!(board.of(ALICE).state, PresenceState::Online);
}

#[test]
fn names_of_states_go_both_ways() {
    for name in ["online", "offline", "unavailable", "busy"] {
        assert_eq!(PresenceState::named(name).unwrap().name(), name);
    }
    assert_eq!(PresenceState::named("away"), None);
}

const BOB: UserNid = UserNid(2);

fn abroad(state: PresenceState, active: bool) -> PresenceAbroad {
    PresenceAbroad {
        state,
        status_msg: None,
        last_active_ago_ms: Some(5_000),
        currently_active: active,
    }
}

#[test]
fn a_user_of_another_server_is_as_present_as_it_says_for_half_an_hour() {
    let home = Home::new();
    let board = home.accounts.presence();
    board.tell_abroad(BOB, abroad(PresenceState::Offline, false));
    assert_eq!(home.accounts.ephemeral().current(), EphemeralPos(0));
    board.tell_abroad(BOB, abroad(PresenceState::Online, true));
    let first = home.accounts.ephemeral().current();
    assert_eq!(board.changed_since(EphemeralPos(0)).len(), 1);
    assert!(board.of(BOB).currently_active);
    assert_eq!(board.of(BOB).last_active_ago_ms, Some(5_000));
    home.clock.advance(25 * 60_000);
    board.sweep();
    assert_eq!(board.of(BOB).state, PresenceState::Online);
    board.tell_abroad(BOB, abroad(PresenceState::Online, true));
    let current = home.accounts.ephemeral().current();
    assert_eq!(current, first, "what is only said again is no news");
    home.clock.advance(25 * 60_000);
    board.sweep();
    assert_eq!(board.of(BOB).state, PresenceState::Online);
    home.clock.advance(10 * 60_000);
    board.sweep();
    assert_eq!(board.of(BOB).state, PresenceState::Offline);
    assert!(!board.of(BOB).currently_active);
    assert_eq!(board.changed_since(first).len(), 1);
    home.clock.advance(24 * 3_600_000);
    board.sweep();
    assert!(board.changed_since(EphemeralPos(0)).is_empty());
}
