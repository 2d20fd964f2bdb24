//! What may have changed for a user since a position: from the facts of the log if they are few,
//! else from the last positions that everything keeps in rows of its own.

use std::collections::{BTreeMap, BTreeSet};

use skerry_core::{Membership, Pos, RoomNid, UserNid};
use skerry_room::{MemberOf, Rooms};

use skerry_store::Change;

use crate::notifier::{About, News};

/// What may have changed in one room. It is a hint: looking closer may find nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RoomHint {
    /// There are new events.
    pub timeline: bool,
    /// There are new receipts.
    pub receipts: bool,
    /// The user's account data of the room is new.
    pub account_data: bool,
}

impl RoomHint {
    /// Nothing is known.
    pub(crate) const ALL: RoomHint = RoomHint {
        timeline: true,
        receipts: true,
        account_data: true,
    };
}

/// Whose lists of devices may have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lists {
    /// Nobody else's.
    These(BTreeSet<UserNid>),
    /// Anybody's.
    Any,
}

/// What may have changed for one user.
#[derive(Debug)]
pub(crate) struct Changes {
    /// Rooms the user has to do with.
    pub rooms: BTreeMap<RoomNid, RoomHint>,
    /// Global account data.
    pub account_data: bool,
    /// Lists of devices.
    pub lists: Lists,
    /// What only the user may see of others' keys.
    pub private_lists: bool,
}

impl Changes {
    /// Nothing at all.
    pub(crate) fn none() -> Changes {
        Changes {
            rooms: BTreeMap::new(),
            account_data: false,
            lists: Lists::These(BTreeSet::new()),
            private_lists: false,
        }
    }

    /// What was noted for a user, and facts that were not noted yet.
    pub(crate) fn from_news(news: &News, me: UserNid) -> Changes {
        let mut changes = Changes::from_facts(&news.rest, me);
        for about in &news.noted {
            let rooms = &mut changes.rooms;
            match about {
                About::Events(room) => rooms.entry(*room).or_default().timeline = true,
                About::Receipts(room) => rooms.entry(*room).or_default().receipts = true,
                About::RoomData(room) => rooms.entry(*room).or_default().account_data = true,
                About::Data => changes.account_data = true,
                About::Device | About::Subscriptions => {}
                About::List(user) => {
                    if let Lists::These(users) = &mut changes.lists {
                        users.insert(*user);
                    }
                }
                About::PrivateList => changes.private_lists = true,
            }
        }
        changes
    }

    /// What facts say about a user. Rooms the user has nothing to do with may be among the rooms.
    pub(crate) fn from_facts(facts: &[Change], me: UserNid) -> Changes {
        let mut changes = Changes::none();
        let mut lists = BTreeSet::new();
        for fact in facts {
            let rooms = &mut changes.rooms;
            match fact {
                Change::Timeline { room, .. } | Change::Member { room, .. } => {
                    rooms.entry(*room).or_default().timeline = true;
                }
                Change::Receipt {
                    room,
                    user,
                    private,
                } if !private || *user == me => {
                    rooms.entry(*room).or_default().receipts = true;
                }
                Change::AccountData { user, room } if *user == me => match room {
                    Some(room) => rooms.entry(*room).or_default().account_data = true,
                    None => changes.account_data = true,
                },
                Change::DeviceList { user } => {
                    lists.insert(*user);
                }
                Change::PrivateList { viewer } if *viewer == me => changes.private_lists = true,
                _ => {}
            }
        }
        changes.lists = Lists::These(lists);
        changes
    }

    /// What positions say about a user: more than what changed, never less.
    pub(crate) fn from_positions(
        rooms: &Rooms,
        mine: &[(RoomNid, MemberOf)],
        since: Pos,
    ) -> Changes {
        let mut hints = BTreeMap::new();
        for (room, member) in mine {
            let moved = member.pos > since;
            let joined = member.membership == Membership::Join;
            let timeline = moved || (joined && rooms.last_pos(*room) > since);
            // Receipts and account data are found by one look each at an index by position.
            hints.insert(
                *room,
                RoomHint {
                    timeline,
                    ..RoomHint::ALL
                },
            );
        }
        Changes {
            rooms: hints,
            account_data: true,
            lists: Lists::Any,
            private_lists: true,
        }
    }
}
