//! What a prune would delete, and what it would not: computed in one pass over one snapshot,
//! before anything is touched.

mod choose;

use std::collections::{HashMap, HashSet};

use skerry_core::UserNid;
use skerry_store::{
    Scan, Snapshot, StoreError,
    schema::media::{Accessed, Media, MediaTable, Preview, ProtectedMedia, Trash},
};

use super::{
    PruneError,
    check::Orphans,
    items::{Item, Items, Rule, Seen, Verdict},
    order::{By, Emptying, Order},
    refs::{Readable, References, Spot},
};
use crate::{Blobs, blobs::NOBODY, mxc::fingerprint, preview};
use choose::{Thumbs, thumbs};

/// How long another server may be silent before copies of its media count as originals, in ms.
const SILENT_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// A plan: what goes, what stays, and why.
pub struct Plan {
    pub(crate) order: Order,
    /// When it was made, in ms since the epoch.
    pub(crate) now_ms: u64,
    /// What it is about.
    pub(crate) snap: Snapshot,
    pub(crate) generation: u64,
    pub(crate) items: Items,
    /// Thumbnails that were last looked at no later than this go; none: no thumbnails do.
    pub(crate) thumbs_upto_ms: Option<u64>,
    pub(crate) thumbs: Thumbs,
    pub(crate) orphans: Option<Orphans>,
    /// How much of the room in question could be read.
    pub(crate) readable: Option<Readable>,
    /// Everything together, in bytes: files, also those in the trash, and thumbnails.
    pub(crate) used: u64,
    /// What is left at once, and what is left when the trash is empty.
    pub(crate) left_now: u64,
    /// See above.
    pub(crate) left_later: u64,
    /// Whether the target is reached.
    pub(crate) fits: bool,
    /// Where the one `mxc://` is named that was asked about.
    pub(crate) spots: Vec<Spot>,
}

/// Everything that decides about one `mxc://`.
struct Judge<'a> {
    order: &'a Order,
    now_ms: u64,
    own: &'a str,
    named: HashMap<u128, Rule>,
    protected: HashSet<u128>,
    shown: HashSet<String>,
    uploader: Option<UserNid>,
    in_room: Option<HashSet<u128>>,
    keep_users: HashSet<UserNid>,
    keep_servers: HashSet<String>,
    grace_ms: u64,
    silent: HashMap<String, bool>,
}

/// Makes a plan. `about` is an `mxc://` whose places are wanted.
///
/// # Errors
/// [`PruneError::Ask`] for what cannot be asked, or what the store or the disk says.
pub fn plan(
    blobs: &Blobs,
    refs: &dyn References,
    order: Order,
    about: Option<(&str, &str)>,
) -> Result<Plan, PruneError> {
    order.check().map_err(PruneError::Ask)?;
    // Times of looks that are only in memory count too.
    blobs.write_uses_now()?;
    let generation = blobs.store.generation();
    let snap = blobs.store.newest();
    let now_ms = blobs.clock.now_ms();
    let mut spots = Vec::new();
    let (mut judge, readable) =
        Judge::new(blobs, refs, &snap, &order, now_ms, (about, &mut spots))?;
    let mut items = Items::default();
    judge.live(&snap, refs, &mut items)?;
    judge.trash(&snap, &mut items)?;
    items.number_blobs();
    let thumbs = thumbs(&snap, &mut items, &order)?;
    let mut plan = Plan {
        now_ms,
        snap,
        generation,
        items,
        thumbs_upto_ms: None,
        thumbs: Thumbs::default(),
        orphans: None,
        readable,
        used: 0,
        left_now: 0,
        left_later: 0,
        fits: true,
        spots,
        order,
    };
    plan.choose(&thumbs);
    if plan.order.check {
        plan.orphans = Some(Orphans::find(blobs, &plan.snap)?);
    }
    Ok(plan)
}

impl<'a> Judge<'a> {
    fn new(
        blobs: &'a Blobs,
        refs: &dyn References,
        snap: &Snapshot,
        order: &'a Order,
        now_ms: u64,
        (about, spots): (Option<(&str, &str)>, &mut Vec<Spot>),
    ) -> Result<(Self, Option<Readable>), PruneError> {
        let mut named = HashMap::new();
        refs.all(snap, &mut |server, id, spot| {
            named.entry(fingerprint(server, id)).or_insert(rule(spot));
            if about == Some((server, id)) {
                spots.push(spot);
            }
        })?;
        let mut protected = HashSet::new();
        for row in snap.scan::<ProtectedMedia>(Scan::all()) {
            let ((server, id), ()) = row?;
            protected.insert(fingerprint(&server, &id));
        }
        let unknown = |what: &str, name: &str| PruneError::Ask(format!("no {what} {name} here"));
        let uploader = match &order.uploader {
            Some(name) => Some(refs.user(name)?.ok_or_else(|| unknown("user", name))?),
            None => None,
        };
        let (mut in_room, mut readable) = (None, None);
        if let Some(room) = &order.room {
            let mut found = HashSet::new();
            let seen = refs.in_room(snap, room, &mut |server, id, _| {
                found.insert(fingerprint(server, id));
            })?;
            readable = Some(seen.ok_or_else(|| unknown("room", room))?);
            in_room = Some(found);
        }
        let (mut keep_users, mut keep_servers) = (HashSet::new(), HashSet::new());
        for room in &order.keep_rooms {
            let people = refs.people(snap, room)?;
            let people = people.ok_or_else(|| unknown("room", room))?;
            keep_users.extend(people.users);
            keep_servers.extend(people.servers);
        }
        let judge = Self {
            order,
            now_ms,
            own: &blobs.settings.server_name,
            named,
            protected,
            shown: shown(snap, now_ms)?,
            uploader,
            in_room,
            keep_users,
            keep_servers,
            grace_ms: blobs.settings.trash_ms,
            silent: HashMap::new(),
        };
        Ok((judge, readable))
    }

    /// All that is not in the trash. Media and times of looks lie in the same order.
    fn live(
        &mut self,
        snap: &Snapshot,
        refs: &dyn References,
        items: &mut Items,
    ) -> Result<(), PruneError> {
        let mut looks = snap.scan::<Accessed>(Scan::all()).peekable();
        for row in snap.scan::<MediaTable>(Scan::all()) {
            let (key, media) = row?;
            let mut used_ms = None;
            while let Some(look) = looks.next_if(|look| look.as_ref().map_or(true, |l| l.0 <= key))
            {
                let (at, time_ms) = look?;
                used_ms = (at == key).then_some(time_ms);
            }
            let time_ms = match self.order.by {
                By::Access => used_ms.unwrap_or(media.created_ms).max(media.created_ms),
                By::Created => media.created_ms,
            };
            let remote = key.0 != self.own || media.uploader == NOBODY;
            let verdict = match self.stays(&key, &media, remote, time_ms) {
                Some(rule) => Verdict::Stays(rule),
                None if self.grace_ms > 0 && self.is_original(snap, refs, &key.0, remote)? => {
                    Verdict::Trash
                }
                None => Verdict::Goes,
            };
            let seen = Seen {
                time_ms,
                remote,
                in_trash: false,
                verdict,
            };
            items.push((&key.0, &key.1), (&media.hash, media.size), seen);
        }
        Ok(())
    }

    /// Why it stays, if it does.
    fn stays(
        &self,
        (server, id): &(String, String),
        media: &Media,
        remote: bool,
        time_ms: u64,
    ) -> Option<Rule> {
        let print = fingerprint(server, id);
        let kept_room = if server == self.own {
            self.keep_users.contains(&media.uploader)
        } else {
            self.keep_servers.contains(server)
        };
        let selected = if remote {
            self.order.remote
        } else {
            self.order.local
        };
        if self.protected.contains(&print) {
            Some(Rule::Protected)
        } else if let Some(rule) = self.named.get(&print) {
            Some(*rule)
        } else if kept_room {
            Some(Rule::KeptRoom)
        } else if media.uploader == NOBODY && server == self.own && self.shown.contains(id) {
            Some(Rule::Preview)
        } else if !selected {
            Some(Rule::Kind)
        } else if self
            .uploader
            .is_some_and(|user| user != media.uploader || server != self.own)
        {
            Some(Rule::Uploader)
        } else if self
            .in_room
            .as_ref()
            .is_some_and(|room| !room.contains(&print))
        {
            Some(Rule::Room)
        } else if self.order.larger_than > 0 && media.size <= self.order.larger_than {
            Some(Rule::Small)
        } else if time_ms.saturating_add(self.order.older_than_ms) > self.now_ms {
            Some(Rule::Young)
        } else {
            None
        }
    }

    /// Whether this may be the only copy there is: ours, or of a server that may be gone.
    fn is_original(
        &mut self,
        snap: &Snapshot,
        refs: &dyn References,
        server: &str,
        remote: bool,
    ) -> Result<bool, StoreError> {
        if server == self.own {
            return Ok(!remote);
        }
        if let Some(&silent) = self.silent.get(server) {
            return Ok(silent);
        }
        let since = refs.silent_since(snap, server)?;
        let silent = since.is_some_and(|since| since.saturating_add(SILENT_MS) <= self.now_ms);
        self.silent.insert(server.to_owned(), silent);
        Ok(silent)
    }

    /// What is in the trash: it comes back where it is named again.
    fn trash(&self, snap: &Snapshot, items: &mut Items) -> Result<(), StoreError> {
        for row in snap.scan::<Trash>(Scan::all()) {
            let ((server, id), row) = row?;
            let print = fingerprint(&server, &id);
            let due = row.trashed_ms.saturating_add(self.grace_ms) <= self.now_ms;
            let empties = match self.order.trash {
                Emptying::No => false,
                Emptying::Due | Emptying::Oldest(_) => due,
                Emptying::All => true,
            };
            let needed = self.named.contains_key(&print) || self.protected.contains(&print);
            let verdict = match (needed, empties) {
                (true, _) => Verdict::Back,
                (false, true) => Verdict::Goes,
                (false, false) => Verdict::Stays(Rule::InTrash),
            };
            let seen = Seen {
                time_ms: row.trashed_ms,
                remote: server != self.own,
                in_trash: true,
                verdict,
            };
            items.push((&server, &id), (&row.media.hash, row.media.size), seen);
        }
        Ok(())
    }
}

/// The pictures of previews that are still good.
pub(crate) fn shown(snap: &Snapshot, now_ms: u64) -> Result<HashSet<String>, StoreError> {
    let mut shown = HashSet::new();
    for row in snap.scan::<Preview>(Scan::all()) {
        let (_, row) = row?;
        let good = row.made_ms.saturating_add(preview::GOOD_FOR_MS) > now_ms;
        shown.extend(row.picture.filter(|_| good));
    }
    Ok(shown)
}

fn rule(spot: Spot) -> Rule {
    match spot {
        Spot::State { .. } | Spot::Message { .. } => Rule::State,
        Spot::Pinned { .. } => Rule::Pinned,
        Spot::Stripped { .. } => Rule::Invite,
        Spot::Profile { .. } => Rule::Profile,
        Spot::AccountData { .. } => Rule::AccountData,
        Spot::Setting => Rule::Setting,
    }
}

impl Plan {
    /// What becomes of one `mxc://`; none if it is not here.
    pub(crate) fn item(&self, server: &str, id: &str) -> Option<&Item> {
        let is = |item: &&Item| self.items.name(item) == (server, id);
        self.items.list.iter().find(is)
    }
}
