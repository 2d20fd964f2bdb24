use std::sync::Arc;

use skerry_account::{EphemeralPos, PresenceState};
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
