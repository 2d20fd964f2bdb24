//! What of a plan's candidates goes: for a target the least recently used, of the trash the oldest;
//! and what is left then.

use skerry_store::{Scan, Snapshot, StoreError, schema::media::ThumbUses};

use super::Plan;
use crate::prune::{
    items::{BlobUse, Items, Rule, Verdict},
    order::{Emptying, Order, Target},
};

/// Sums of thumbnails.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Thumbs {
    /// How many go by themselves.
    pub(crate) count: u64,
    /// Bytes of them.
    pub(crate) bytes: u64,
    /// Times of last looks at them, in ms since the epoch: the first and the last.
    pub(crate) span: Option<(u64, u64)>,
    /// How many go with their originals, and their bytes.
    pub(crate) with_originals: (u64, u64),
    /// How many stay, and their bytes.
    pub(crate) stay: (u64, u64),
}

/// A thumbnail: when it was last looked at, its bytes, and its blob's number.
pub(super) type SmallThumb = (u64, u32, u32);
/// No blob's number.
const NO_BLOB: u32 = u32::MAX;

/// Adds up thumbnails by blob; lists them where they are to be chosen from.
pub(super) fn thumbs(
    snap: &Snapshot,
    items: &mut Items,
    order: &Order,
) -> Result<Vec<SmallThumb>, StoreError> {
    let mut list = Vec::new();
    for row in snap.scan::<ThumbUses>(Scan::all()) {
        let ((hash, ..), row) = row?;
        let blob = items.blob(&hash);
        if let Some(used) = blob.and_then(|at| items.blobs.get_mut(at)) {
            used.thumbs = used.thumbs.saturating_add(row.bytes);
        }
        let time_ms = order.by.of_thumb(&row);
        let number = blob.and_then(|at| u32::try_from(at).ok());
        let bytes = u32::try_from(row.bytes).unwrap_or(u32::MAX);
        list.push((time_ms, bytes, number.unwrap_or(NO_BLOB)));
    }
    list.sort_unstable();
    Ok(list)
}

/// What is left while one after the other goes.
struct Left {
    goal: u64,
    bytes: u64,
    /// Of each blob: how many refer to it, its size, and the size of its thumbnails.
    blobs: Vec<(u32, u64, u64)>,
}

impl Left {
    fn of(target: Target, used: u64, blobs: &[BlobUse]) -> Self {
        let (goal, bytes) = match target {
            Target::Store(goal) => {
                // What is only in the trash goes by itself.
                let trash = blobs.iter().filter(|used| used.live == 0);
                let trash: u64 = trash.map(|used| used.size + used.thumbs).sum();
                (goal, used.saturating_sub(trash))
            }
            Target::Remote(goal) => {
                let remote = blobs.iter().filter(|used| used.remote);
                (goal, remote.map(|used| used.size).sum())
            }
        };
        // Thumbnails are no part of what a target for other servers' media counts.
        let thumbs = |used: &BlobUse| match target {
            Target::Store(_) => used.thumbs,
            Target::Remote(_) => 0,
        };
        let blobs = blobs
            .iter()
            .map(|used| (used.live, used.size, thumbs(used)));
        Self {
            goal,
            bytes,
            blobs: blobs.collect(),
        }
    }

    fn too_much(&self) -> bool {
        self.bytes > self.goal
    }

    fn item_goes(&mut self, blob: usize) {
        if let Some((live, size, thumbs)) = self.blobs.get_mut(blob) {
            *live = live.saturating_sub(1);
            if *live == 0 {
                self.bytes = self.bytes.saturating_sub(size.saturating_add(*thumbs));
                *thumbs = 0;
            }
        }
    }

    fn thumb_goes(&mut self, thumb: &SmallThumb) {
        let bytes = u64::from(thumb.1);
        match self.blobs.get_mut(thumb.2 as usize) {
            // It is gone with its original.
            Some((0, ..)) => return,
            Some((.., thumbs)) => *thumbs = thumbs.saturating_sub(bytes),
            None => {}
        }
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl Plan {
    /// Decides what goes for a target, and adds everything up.
    pub(super) fn choose(&mut self, thumbs: &[SmallThumb]) {
        let thumb_bytes: u64 = thumbs.iter().map(|thumb| u64::from(thumb.1)).sum();
        let files: u64 = self.items.blobs.iter().map(|used| used.size).sum();
        self.used = files.saturating_add(thumb_bytes);
        let limit = self.now_ms.saturating_sub(self.order.older_than_ms);
        let selected = self.order.thumbnails;
        let mut upto = selected.then_some(limit);
        if let Some(target) = self.order.target {
            upto = self.fit(target, thumbs, upto);
        }
        if let Emptying::Oldest(wanted) = self.order.trash {
            self.empty_oldest(wanted);
        }
        self.thumbs_upto_ms = upto;
        self.sum(thumbs);
    }

    /// Lets the least recently used go until the rest fits; everything else stays after all.
    /// Gives up to when thumbnails go.
    fn fit(&mut self, target: Target, thumbs: &[SmallThumb], upto: Option<u64>) -> Option<u64> {
        let mut left = Left::of(target, self.used, &self.items.blobs);
        let mut order: Vec<(u64, u32)> = Vec::new();
        for (at, item) in self.items.list.iter().enumerate() {
            if !item.in_trash && matches!(item.verdict, Verdict::Goes | Verdict::Trash) {
                order.push((item.time_ms, u32::try_from(at).unwrap_or(u32::MAX)));
            }
        }
        order.sort_unstable();
        let larger_than = self.order.larger_than;
        let chosen = |thumb: &&SmallThumb| {
            upto.is_some_and(|upto| thumb.0 <= upto) && u64::from(thumb.1) > larger_than
        };
        let mut small = thumbs.iter().filter(chosen).peekable();
        let mut last_thumb = None;
        for (time_ms, at) in order {
            while left.too_much()
                && let Some(thumb) = small.next_if(|thumb| thumb.0 <= time_ms)
            {
                left.thumb_goes(thumb);
                last_thumb = Some(thumb.0);
            }
            if let Some(item) = self.items.list.get_mut(at as usize) {
                if left.too_much() {
                    left.item_goes(item.blob as usize);
                } else {
                    item.verdict = Verdict::Stays(Rule::Fits);
                }
            }
        }
        while left.too_much()
            && let Some(thumb) = small.next()
        {
            left.thumb_goes(thumb);
            last_thumb = Some(thumb.0);
        }
        self.fits = !left.too_much();
        last_thumb
    }

    /// Lets the oldest of the trash go until so many bytes are free.
    fn empty_oldest(&mut self, wanted: u64) {
        let mut oldest: Vec<(u64, usize)> = Vec::new();
        let mut freed = 0_u64;
        for (at, item) in self
            .items
            .list
            .iter()
            .enumerate()
            .filter(|(_, i)| i.in_trash)
        {
            match item.verdict {
                Verdict::Goes => freed = freed.saturating_add(item.size),
                Verdict::Stays(_) => oldest.push((item.time_ms, at)),
                Verdict::Trash | Verdict::Back => {}
            }
        }
        oldest.sort_unstable();
        for (_, at) in oldest {
            if freed >= wanted {
                return;
            }
            if let Some(item) = self.items.list.get_mut(at) {
                item.verdict = Verdict::Goes;
                freed = freed.saturating_add(item.size);
            }
        }
    }

    /// What is left of blobs and thumbnails, now and when the trash is empty.
    fn sum(&mut self, thumbs: &[SmallThumb]) {
        for used in &mut self.items.blobs {
            (used.live, used.trashed) = (0, 0);
        }
        for item in &self.items.list {
            let Some(used) = self.items.blobs.get_mut(item.blob as usize) else {
                continue;
            };
            match item.verdict {
                Verdict::Stays(Rule::InTrash) | Verdict::Trash => used.trashed += 1,
                Verdict::Stays(_) | Verdict::Back => used.live += 1,
                Verdict::Goes => {}
            }
        }
        for used in &self.items.blobs {
            let now = used.live > 0 || used.trashed > 0;
            self.left_now += if now { used.size } else { 0 };
            self.left_later += if used.live > 0 { used.size } else { 0 };
        }
        let mut sums = Thumbs::default();
        for &(time_ms, bytes, blob) in thumbs {
            let bytes = u64::from(bytes);
            let used = self.items.blobs.get(blob as usize);
            let gone = used.is_some_and(|used| used.live == 0 && used.trashed == 0);
            if self.thumbs_upto_ms.is_some_and(|upto| time_ms <= upto)
                && bytes > self.order.larger_than
            {
                sums.count += 1;
                sums.bytes += bytes;
                let (first, last) = sums.span.unwrap_or((time_ms, time_ms));
                sums.span = Some((first.min(time_ms), last.max(time_ms)));
            } else if gone {
                sums.with_originals.0 += 1;
                sums.with_originals.1 += bytes;
            } else {
                sums.stay.0 += 1;
                sums.stay.1 += bytes;
                self.left_now += bytes;
                self.left_later += bytes;
            }
        }
        self.thumbs = sums;
    }
}
