//! Answers that are believed for a while, bounded in number.

use std::collections::HashMap;

use parking_lot::Mutex;

/// Values by name, each until some time.
pub(super) struct Kept<T> {
    most: usize,
    held: Mutex<HashMap<String, (u64, T)>>,
}

impl<T: Clone> Kept<T> {
    /// Nothing yet, and never more than so many.
    pub(super) fn new(most: usize) -> Kept<T> {
        Kept {
            most,
            held: Mutex::default(),
        }
    }

    /// What is still believed of a name.
    pub(super) fn get(&self, name: &str, now_ms: u64) -> Option<T> {
        let held = self.held.lock();
        let (until, value) = held.get(name)?;
        (*until > now_ms).then(|| value.clone())
    }

    /// Believes something until then, in ms since the epoch.
    pub(super) fn put(&self, name: &str, value: T, until_ms: u64, now_ms: u64) {
        let mut held = self.held.lock();
        if held.len() >= self.most {
            held.retain(|_, (until, _)| *until > now_ms);
        }
        if held.len() >= self.most {
            // Names come from whoever asks: what they fill up is begun anew.
            held.clear();
        }
        held.insert(name.to_owned(), (until_ms, value));
    }

    /// Believes nothing of a name any more.
    pub(super) fn forget(&self, name: &str) {
        self.held.lock().remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::Kept;

    #[test]
    fn it_forgets_in_time_and_is_bounded() {
        let kept = Kept::new(10);
        kept.put("a", 1, 100, 0);
        kept.put("b", 2, 50, 0);
        assert_eq!(kept.get("a", 99), Some(1));
        assert_eq!(kept.get("a", 100), None);
        assert_eq!(kept.get("c", 0), None);
        for n in 0..100 {
            kept.put(&n.to_string(), n, 1_000, 60);
        }
        assert!(kept.held.lock().len() <= 10);
        assert_eq!(kept.get("99", 60), Some(99));
        kept.forget("99");
        assert_eq!(kept.get("99", 60), None);
    }
}
