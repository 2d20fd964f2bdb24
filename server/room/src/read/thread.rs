//! How many events a thread has, and from whom: counted once, then kept up to date.

use std::collections::HashMap;
use std::sync::Arc;

use skerry_core::{EventNid, Order, Pos, UserNid};
use skerry_store::schema::room::{RelKind, Relations};
use skerry_store::{Scan, StoreError};

use crate::View;

/// Events of a thread, by sender.
#[derive(Clone, Debug)]
pub(crate) struct ThreadSum {
    /// The log position that this is true at.
    head: Pos,
    /// The room's newest redaction then: each may have taken an event out of the thread.
    redacted: Pos,
    /// Place of the last event counted.
    upto: Order,
    by_sender: HashMap<UserNid, u64>,
}

impl ThreadSum {
    /// How many events the thread has, but for those of some senders.
    pub(crate) fn count_without(&self, ignored: &std::collections::HashSet<UserNid>) -> u64 {
        let heard = self
            .by_sender
            .iter()
            .filter(|(sender, _)| !ignored.contains(sender));
        heard.map(|(_, count)| count).sum()
    }

    /// Whether a user wrote in the thread.
    pub(crate) fn has(&self, user: UserNid) -> bool {
        self.by_sender.contains_key(&user)
    }

    /// Bytes it weighs in its cache.
    fn weight(&self) -> usize {
        160 + self.by_sender.len() * 32
    }
}

impl View {
    /// The sum of a thread, without its root.
    pub(crate) fn thread_sum(&self, root: EventNid) -> Result<Arc<ThreadSum>, StoreError> {
        let head = self.snap.head();
        let redacted = self.rooms.redacted_at(&self.snap, self.room)?;
        let cache = &self.rooms.inner.reads.threads;
        let held = cache
            .get(root)
            .filter(|sum| sum.redacted == redacted && sum.head <= head);
        let mut sum = match held {
            Some(sum) if sum.head == head || self.rooms.last_pos(self.room) <= sum.head => {
                return Ok(sum);
            }
            Some(sum) => ThreadSum::clone(&sum),
            None => ThreadSum {
                head,
                redacted,
                upto: Order::MIN,
                by_sender: HashMap::new(),
            },
        };
        let prefix = (root, RelKind::Thread);
        let scan = Scan::prefix(&prefix).after(&(root, RelKind::Thread, sum.upto));
        for row in self.snap.scan::<Relations>(scan) {
            let ((_, _, order), relation) = row?;
            *sum.by_sender.entry(relation.sender).or_default() += 1;
            sum.upto = order;
        }
        sum.head = head;
        let sum = Arc::new(sum);
        cache.put(root, sum.clone(), sum.weight());
        Ok(sum)
    }
}
