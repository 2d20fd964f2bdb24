//! A plan or a run in figures and words, for people and for programs.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::{Deserialize, Serialize};
use skerry_core::units::{day, show_bytes};
use skerry_store::schema::media::{Accessed, MediaTable, Trash};
use skerry_store::{Scan, StoreError, schema::media::ThumbUses};

use super::{
    items::{Item, Rule, Verdict},
    order::Target,
    plan::Plan,
};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// The figures of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What goes, by group.
    pub goes: Vec<Sum>,
    /// What stays, by rule.
    pub kept: Vec<Sum>,
    /// What comes back from the trash.
    pub comes_back: u64,
    /// Everything together, in bytes: files, also in the trash, and thumbnails.
    pub used_bytes: u64,
    /// The same after the prune.
    pub left_now_bytes: u64,
    /// The same when the trash is empty too.
    pub left_later_bytes: u64,
    /// What was to be left at most, in bytes.
    pub target_bytes: Option<u64>,
    /// Whether it is reached, once the trash is empty.
    pub target_reached: bool,
    /// Of the room in question: events that could be read, and events that could not.
    pub room_events: Option<(u64, u64)>,
    /// Files that no row names, and rows whose file is not there.
    pub orphans: Option<OrphanSums>,
}

/// Some of a plan's items together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    /// A name for programs.
    pub name: String,
    /// The same for people.
    pub text: String,
    /// How many.
    pub count: u64,
    /// Bytes of the files that they name; files that several name count for each.
    pub bytes: u64,
    /// When the one that was looked at longest ago was looked at, in ms since the epoch.
    pub oldest_ms: u64,
    /// The same of the one that was looked at last.
    pub newest_ms: u64,
}

/// What a look at the disk found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrphanSums {
    /// Files that no row names.
    pub files: u64,
    /// Bytes of them.
    pub file_bytes: u64,
    /// Rows of other servers' media whose file is not there.
    pub remote_rows: u64,
    /// The same of media of this server: `mxc://` URIs, at most a hundred.
    pub lost: Vec<String>,
    /// How many those are in all.
    pub lost_rows: u64,
}

/// One item of a plan that goes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Listed {
    /// The `mxc://` URI; none for a thumbnail.
    pub mxc: Option<String>,
    /// The BLAKE3 hash of the bytes, in hexadecimal digits.
    pub hash: String,
    /// Length in bytes.
    pub bytes: u64,
    /// When it came, in ms since the epoch.
    pub created_ms: u64,
    /// When it was last looked at, if that is known.
    pub used_ms: Option<u64>,
    /// The rule by which it goes.
    pub rule: String,
    /// `delete`, `trash` or `restore`.
    pub what: String,
}

/// A part of the list, and where the next begins.
#[derive(Debug, Serialize)]
pub struct Page {
    /// The items.
    pub items: Vec<Listed>,
    /// To be asked for next; none at the end.
    pub next: Option<u64>,
}

/// Groups of what goes: a name for programs, and one for people.
fn group(plan: &Plan, item: &Item) -> Option<(u8, &'static str, &'static str)> {
    match item.verdict {
        Verdict::Stays(_) | Verdict::Back => None,
        _ if item.in_trash => Some((9, "trash", "in the trash")),
        Verdict::Goes if item.remote => Some((0, "remote", "remote cache")),
        Verdict::Trash if item.remote => Some((
            1,
            "remote_silent",
            "remote cache, of servers that do not answer (to the trash)",
        )),
        Verdict::Goes | Verdict::Trash => {
            let age = plan.now_ms.saturating_sub(item.time_ms) / DAY_MS;
            Some(match age {
                365.. => (5, "local_year", "local, older than a year"),
                90.. => (4, "local_quarter", "local, older than 90 days"),
                30.. => (3, "local_month", "local, older than 30 days"),
                _ => (2, "local_new", "local, newer than 30 days"),
            })
        }
    }
}

fn add<K: Ord>(
    sums: &mut BTreeMap<K, Sum>,
    key: K,
    (name, text): (&str, &str),
    (bytes, time_ms): (u64, u64),
) {
    let sum = sums.entry(key).or_insert_with(|| Sum {
        name: name.to_owned(),
        text: text.to_owned(),
        count: 0,
        bytes: 0,
        oldest_ms: u64::MAX,
        newest_ms: 0,
    });
    sum.count += 1;
    sum.bytes = sum.bytes.saturating_add(bytes);
    sum.oldest_ms = sum.oldest_ms.min(time_ms);
    sum.newest_ms = sum.newest_ms.max(time_ms);
}

impl Plan {
    /// The figures.
    #[must_use]
    pub fn report(&self) -> Report {
        let (mut goes, mut kept) = (BTreeMap::new(), BTreeMap::new());
        let mut comes_back = 0;
        for item in &self.items.list {
            let figures = (item.size, item.time_ms);
            match (group(self, item), item.verdict) {
                (Some((key, name, text)), _) => add(&mut goes, key, (name, text), figures),
                (None, Verdict::Stays(rule)) => {
                    add(&mut kept, rule, (&rule_name(rule), rule.text()), figures);
                }
                (None, _) => comes_back += 1,
            }
        }
        let mut goes: Vec<Sum> = goes.into_values().collect();
        let thumbs = self.thumbs;
        if let Some((oldest_ms, newest_ms)) = thumbs.span {
            goes.push(Sum {
                name: "thumbnails".to_owned(),
                text: "thumbnails".to_owned(),
                count: thumbs.count,
                bytes: thumbs.bytes,
                oldest_ms,
                newest_ms,
            });
        }
        let target_bytes = self.order.target.map(|target| match target {
            Target::Store(bytes) | Target::Remote(bytes) => bytes,
        });
        Report {
            goes,
            kept: kept.into_values().collect(),
            comes_back,
            used_bytes: self.used,
            left_now_bytes: self.left_now,
            left_later_bytes: self.left_later,
            target_bytes,
            target_reached: self.fits,
            room_events: self.readable.map(|seen| (seen.events, seen.unreadable)),
            orphans: self.orphans.as_ref().map(|found| found.sums()),
        }
    }

    /// Why one `mxc://` stays or goes, in a sentence, and where it is named.
    #[must_use]
    pub fn explain(&self, server: &str, id: &str) -> String {
        let Some(item) = self.item(server, id) else {
            return "it is not here".to_owned();
        };
        let since = day(item.time_ms);
        match item.verdict {
            Verdict::Stays(Rule::InTrash) => format!(
                "it is in the trash since {since} and stays there; --restore brings it back"
            ),
            Verdict::Stays(rule) => format!("it stays: {}", rule.text()),
            Verdict::Back => "it is in the trash, is named again, and comes back".to_owned(),
            Verdict::Goes if item.in_trash => {
                format!("it goes: it is in the trash since {since}")
            }
            Verdict::Goes => format!("it goes at once: nothing needs it, and its time is {since}"),
            Verdict::Trash => {
                format!("it goes to the trash: nothing needs it, and its time is {since}")
            }
        }
    }

    /// How many items change.
    #[must_use]
    pub fn changes(&self) -> u64 {
        let changes = |item: &&Item| !matches!(item.verdict, Verdict::Stays(_));
        let items = self.items.list.iter().filter(changes).count();
        items as u64 + self.thumbs.count + self.orphans.as_ref().map_or(0, |found| found.count())
    }

    /// What changes, from the `from`-th item on; first media, then thumbnails.
    ///
    /// # Errors
    /// The store's.
    pub fn page(&self, from: u64, limit: usize) -> Result<Page, StoreError> {
        let mut items = Vec::new();
        let mut next = from;
        let start = usize::try_from(from).unwrap_or(usize::MAX);
        for item in self.items.list.iter().skip(start) {
            if items.len() == limit {
                let next = Some(next);
                return Ok(Page { items, next });
            }
            next += 1;
            items.extend(self.listed(item)?);
        }
        let first = usize::try_from(next.saturating_sub(self.items.list.len() as u64));
        let Some(upto) = self.thumbs_upto_ms else {
            return Ok(Page { items, next: None });
        };
        for row in self
            .snap
            .scan::<ThumbUses>(Scan::all())
            .skip(first.unwrap_or(usize::MAX))
        {
            if items.len() == limit {
                let next = Some(next);
                return Ok(Page { items, next });
            }
            next += 1;
            let ((hash, ..), row) = row?;
            if self.order.by.of_thumb(&row) <= upto && row.bytes > self.order.larger_than {
                items.push(Listed {
                    mxc: None,
                    hash: hex(&hash),
                    bytes: row.bytes,
                    created_ms: row.made_ms,
                    used_ms: Some(row.used_ms),
                    rule: "thumbnails".to_owned(),
                    what: "delete".to_owned(),
                });
            }
        }
        Ok(Page { items, next: None })
    }

    fn listed(&self, item: &Item) -> Result<Option<Listed>, StoreError> {
        let what = match item.verdict {
            Verdict::Stays(_) => return Ok(None),
            Verdict::Goes => "delete",
            Verdict::Trash => "trash",
            Verdict::Back => "restore",
        };
        let (server, id) = self.items.name(item);
        let key = (server.to_owned(), id.to_owned());
        let (media, used_ms) = if item.in_trash {
            match self.snap.get::<Trash>(&key)? {
                Some(row) => (row.media, row.used_ms),
                None => return Ok(None),
            }
        } else {
            match self.snap.get::<MediaTable>(&key)? {
                Some(media) => (media, self.snap.get::<Accessed>(&key)?),
                None => return Ok(None),
            }
        };
        Ok(Some(Listed {
            mxc: Some(format!("mxc://{server}/{id}")),
            hash: hex(&media.hash),
            bytes: media.size,
            created_ms: media.created_ms,
            used_ms,
            rule: group(self, item)
                .map_or("named_again", |group| group.1)
                .to_owned(),
            what: what.to_owned(),
        }))
    }
}

pub(crate) fn hex(hash: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*hash).to_hex().to_string()
}

fn rule_name(rule: Rule) -> String {
    let name = serde_json::to_value(rule).ok();
    let name = name.as_ref().and_then(|name| name.as_str());
    name.unwrap_or_default().to_owned()
}

impl Report {
    /// The figures as a page of text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let line = |text: &mut String, sum: &Sum, verb: &str| {
            let _ = writeln!(
                text,
                "  {:>9} {:>10}  {verb}{}{}",
                sum.count,
                show_bytes(sum.bytes),
                sum.text,
                span(sum)
            );
        };
        if self.goes.is_empty() {
            text.push_str("Nothing would go.\n");
        } else {
            text.push_str("What goes:\n");
        }
        for sum in &self.goes {
            line(&mut text, sum, "");
        }
        if let Some(found) = &self.orphans {
            let _ = writeln!(
                text,
                "  {:>9} {:>10}  files that nothing names",
                found.files,
                show_bytes(found.file_bytes)
            );
            let _ = writeln!(
                text,
                "  {:>9} {:>10}  entries of other servers' media whose file is not there",
                found.remote_rows, ""
            );
            for mxc in &found.lost {
                let _ = writeln!(text, "  the file of {mxc} is not there");
            }
            if found.lost_rows > 0 {
                let _ = writeln!(
                    text,
                    "  {} files of this server are lost; their entries stay, since a backup may \
                     have the files",
                    found.lost_rows
                );
            }
        }
        if self.comes_back > 0 {
            let _ = writeln!(
                text,
                "Named again, and brought back from the trash: {}",
                self.comes_back
            );
        }
        if !self.kept.is_empty() {
            text.push_str("What stays:\n");
        }
        for sum in &self.kept {
            line(&mut text, sum, "");
        }
        self.totals(&mut text);
        text
    }

    fn totals(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "Now {}; then {}, and {} when the trash is empty.",
            show_bytes(self.used_bytes),
            show_bytes(self.left_now_bytes),
            show_bytes(self.left_later_bytes)
        );
        if let Some((events, unreadable)) = self.room_events {
            let _ = writeln!(
                text,
                "Of the room, {events} events could be read. {unreadable} are encrypted, and what \
                 they name is not covered."
            );
        }
        if let Some(target) = self.target_bytes.filter(|_| !self.target_reached) {
            let _ = writeln!(
                text,
                "The target of {} is not reached: what is left is kept by the rules above.",
                show_bytes(target)
            );
        }
    }
}

fn span(sum: &Sum) -> String {
    if sum.count == 0 || sum.oldest_ms > sum.newest_ms {
        return String::new();
    }
    let (oldest, newest) = (day(sum.oldest_ms), day(sum.newest_ms));
    if oldest == newest {
        format!("  ({oldest})")
    } else {
        format!("  ({oldest} to {newest})")
    }
}
