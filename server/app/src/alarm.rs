//! Tells the administrators, by server notice, that a certificate cannot be had, and that it can
//! again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use skerry_account::{Accounts, TxnKey};
use skerry_core::{Clock, UserNid};
use skerry_proxy::{Acme, Standing};
use skerry_room::{Notice, Rooms};

use crate::House;

/// How often it is looked how certificates stand.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// So many failures in a row are worth a word: fewer pass by themselves.
const FAILURES: u32 = 3;
/// How many accounts are looked at in one piece.
const PAGE: usize = 1000;
const DAY_MS: u64 = 24 * 3_600_000;

/// Who tells them.
pub(crate) struct Alarm {
    acme: Acme,
    accounts: Accounts,
    rooms: Rooms,
    clock: Arc<dyn Clock>,
}

impl Alarm {
    /// The one of this house, where there are certificates to be had and the server speaks to its
    /// users.
    pub(crate) fn of(house: &House) -> Option<Alarm> {
        house.config.notices.as_ref()?;
        Some(Alarm {
            acme: house.acme.clone()?,
            accounts: house.accounts.clone(),
            rooms: house.rooms.clone(),
            clock: Arc::clone(&house.clock),
        })
    }

    /// Looks now and then.
    pub(crate) async fn run(self) {
        let mut failing = BTreeSet::new();
        loop {
            for standing in self.acme.standings() {
                let word = word(
                    &standing,
                    failing.contains(&standing.name),
                    self.clock.now_ms(),
                );
                let Some((kind, text)) = word else {
                    continue;
                };
                match self.tell(&standing.name, kind, &text).await {
                    Ok(()) if kind == FAILS => {
                        failing.insert(standing.name);
                    }
                    Ok(()) => {
                        failing.remove(&standing.name);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the administrators were not told of a certificate");
                    }
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Says something to all administrators, once a day for each name and kind, also when the
    /// server is started again meanwhile.
    async fn tell(&self, name: &str, kind: &str, text: &str) -> Result<(), String> {
        let day = self.clock.now_ms() / DAY_MS;
        for user_id in self.administrators().await? {
            let (id, path) = (
                format!("{kind}/{day}"),
                format!("certificates/{name}/{user_id}"),
            );
            let txn = TxnKey::new(UserNid(0), "", "PUT", &path, &id).map_err(in_words)?;
            let notice = Notice {
                user_id,
                kind: "m.room.message".to_owned(),
                state_key: None,
                content: json!({ "msgtype": "m.text", "body": text })
                    .to_string()
                    .into_bytes(),
                txn: Some((txn, id)),
            };
            self.rooms.send_notice(notice).await.map_err(in_words)?;
        }
        Ok(())
    }

    async fn administrators(&self) -> Result<Vec<String>, String> {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = self
                .accounts
                .list_users(after, PAGE)
                .await
                .map_err(in_words)?;
            after = page.last().map(|(user, _)| *user);
            let admins = page.iter().filter(|(_, row)| row.admin && !row.deactivated);
            found.extend(admins.map(|(_, row)| row.user_id.clone()));
            if page.len() < PAGE {
                return Ok(found);
            }
        }
    }
}

fn in_words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

const FAILS: &str = "fails";
const WORKS: &str = "works";

/// What there is to say of a name, if anything.
fn word(standing: &Standing, told: bool, now_ms: u64) -> Option<(&'static str, String)> {
    let name = &standing.name;
    let days = standing
        .until_ms
        .map(|until| until.saturating_sub(now_ms) / DAY_MS);
    match (&standing.trouble, days) {
        (Some(trouble), days) if trouble.failures >= FAILURES => {
            let served = match days {
                Some(0) => "The one that is served ends within a day.".to_owned(),
                Some(days) => format!("The one that is served is good for {days} more days."),
                None => "Until then a self-signed one is served, which browsers and other \
                         servers refuse."
                    .to_owned(),
            };
            let text = format!(
                "There is no new certificate for {name}: {} failures, the last by {}:\n\n{}\n\n\
                 {served} `skerry doctor` says more.",
                trouble.failures,
                trouble.challenge.word(),
                trouble.words
            );
            Some((FAILS, text))
        }
        (None, Some(days)) if told => {
            let text = format!("There is a certificate for {name} again, for {days} days.");
            Some((WORKS, text))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use skerry_proxy::{ChallengeKind, Trouble};

    use super::*;

    fn standing(failures: u32, until_ms: Option<u64>) -> Standing {
        Standing {
            name: "a.example".to_owned(),
            until_ms,
            trouble: (failures > 0).then(|| Trouble {
                failures,
                challenge: ChallengeKind::Http01,
                words: "connection refused".to_owned(),
                next_try_ms: 0,
            }),
        }
    }

    #[test]
    fn what_is_said_and_when() {
        assert!(word(&standing(2, None), false, 0).is_none());
        let (kind, text) = word(&standing(3, None), false, 0).unwrap();
        assert_eq!(kind, FAILS);
        for part in [
            "a.example",
            "3 failures",
            "http-01",
            "connection refused",
            "self-signed",
        ] {
            assert!(text.contains(part), "{text}");
        }
        let (_, text) = word(&standing(9, Some(5 * DAY_MS)), true, 0).unwrap();
        assert!(text.contains("good for 5 more days"), "{text}");
        assert!(word(&standing(0, Some(DAY_MS)), false, 0).is_none());
        let (kind, _) = word(&standing(0, Some(DAY_MS)), true, 0).unwrap();
        assert_eq!(kind, WORKS);
        assert!(word(&standing(1, Some(DAY_MS)), true, 0).is_none());
    }
}
