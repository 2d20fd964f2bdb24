#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use HistoryVisibility::{Invited, Joined, Shared, WorldReadable};
use Membership::{Ban, Invite, Join, Knock, Leave};

#[test]
fn the_table_of_the_specification() {
    for membership in [
        None,
        Some(Invite),
        Some(Join),
        Some(Knock),
        Some(Leave),
        Some(Ban),
    ] {
        for joined_since in [false, true] {
            let allows = |visibility| View::plain(visibility, membership, joined_since).allows();
            assert!(allows(WorldReadable));
            assert_eq!(allows(Shared), membership == Some(Join) || joined_since);
            assert_eq!(allows(Invited), matches!(membership, Some(Join | Invite)));
            assert_eq!(allows(Joined), membership == Some(Join));
        }
    }
}

#[test]
fn own_membership_counts_before_and_after() {
    let own = |before, after| View {
        membership_after: Some(after),
        ..View::plain(Joined, before, false)
    };
    assert!(own(None, Join).allows());
    assert!(own(Some(Join), Leave).allows());
    assert!(own(Some(Join), Ban).allows());
    assert!(!own(Some(Invite), Leave).allows());
    assert!(!own(None, Invite).allows());
}

#[test]
fn visibility_changes_count_before_and_after() {
    for (before, after) in [(WorldReadable, Joined), (Joined, WorldReadable)] {
        let view = View {
            visibility_after: Some(after),
            ..View::plain(before, None, false)
        };
        assert!(view.allows());
    }
    let view = View {
        visibility_after: Some(Invited),
        ..View::plain(Joined, Some(Invite), false)
    };
    assert!(view.allows());
    let view = View {
        visibility_after: Some(Invited),
        ..View::plain(Joined, None, true)
    };
    assert!(!view.allows());
}

#[test]
fn unknown_values_mean_shared() {
    assert_eq!(HistoryVisibility::parse("whatever"), Shared);
    assert_eq!(HistoryVisibility::of(None), Shared);
    for visibility in [WorldReadable, Shared, Invited, Joined] {
        assert_eq!(HistoryVisibility::parse(visibility.as_str()), visibility);
    }
}
