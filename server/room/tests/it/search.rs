//! The search index against a plain look at all that was said.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use skerry_core::search::{Key, Query};
use skerry_room::{Redaction, SearchAsk, Viewer, Who};
use skerry_store::Scan;
use skerry_store::schema::search::{Search, SearchGone};

use crate::house::House;

/// A number generator good enough for a test, and the same on every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(self.0 >> 33).unwrap() % n
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    fn text(&mut self) -> String {
        let words = (0..=self.below(6)).map(|_| self.pick(WORDS));
        words.collect::<Vec<_>>().join(" ")
    }

    fn query(&mut self) -> String {
        match self.below(8) {
            0 => format!("\"{} {}\"", self.pick(WORDS), self.pick(WORDS)),
            1 => format!("{} or {}", self.pick(WORDS), self.pick(WORDS)),
            2 => format!("{} -{}", self.pick(WORDS), self.pick(WORDS)),
            3 => format!("{}*", self.pick(&["t", "te", "har", "mul"])),
            4 => self.pick(&["東", "京都", "ー", "한국"]).to_owned(),
            5 => format!("{} {}", self.pick(WORDS), self.pick(WORDS)),
            _ => self.pick(WORDS).to_owned(),
        }
    }
}

const WORDS: &[&str] = &[
    "tea",
    "Tea",
    "team",
    "harbour",
    "Hafen",
    "Müller",
    "muller",
    "東京都",
    "東京",
    "カード",
    "한국어를",
    "don't",
    "matrix.org",
    "the",
    "the",
    "x",
];

fn viewer(who: &Who) -> Viewer {
    Viewer {
        user: who.user,
        user_id: who.user_id.clone(),
        device: who.device.clone(),
    }
}

fn ask(term: &str) -> SearchAsk {
    SearchAsk {
        term: term.to_owned(),
        keys: vec![Key::Body, Key::Name, Key::Topic],
        limit: 7,
        ..SearchAsk::default()
    }
}

/// Ids of all results, page by page, and the count that the first page names.
async fn all(house: &House, who: &Who, mut ask: SearchAsk) -> (Vec<String>, usize) {
    let (mut ids, mut count) = (Vec::new(), None);
    loop {
        let found = house.rooms.search(viewer(who), ask.clone()).await.unwrap();
        let found: Value = serde_json::from_slice(&found).unwrap();
        let results = found["results"].as_array().unwrap();
        ids.extend(
            results
                .iter()
                .map(|result| result["result"]["event_id"].as_str().unwrap().to_owned()),
        );
        let said = usize::try_from(found["count"].as_u64().unwrap()).unwrap();
        assert_eq!(
            *count.get_or_insert(said),
            said,
            "the count is the same on each page"
        );
        match found["next_batch"].as_str() {
            Some(next) => ask.next = Some(next.to_owned()),
            None => return (ids, said),
        }
    }
}

/// What was said, in order.
struct Said {
    id: String,
    text: String,
    seen_by_late: bool,
    gone: bool,
}

async fn redact(house: &House, who: &Who, room: &str, id: &str) {
    let redaction = Redaction {
        target: id.to_owned(),
        content: b"{}".to_vec(),
        with_rel_types: Vec::new(),
        txn: None,
    };
    house
        .rooms
        .redact(who.clone(), room, redaction)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finds_what_a_look_at_everything_finds() {
    for seed in 1..4 {
        let mut chance = Chance(seed);
        let mut house = House::new();
        let (early, late) = (house.person("early"), house.person("late"));
        let rooms = [
            house.public_room(&early).await,
            house.public_room(&early).await,
        ];
        for room in &rooms {
            let joined = json!({ "history_visibility": "joined" });
            let kind = "m.room.history_visibility";
            house.set(&early, room, kind, "", joined).await.unwrap();
        }
        let mut said: Vec<Said> = Vec::new();
        for n in 0..150 {
            let room = &rooms[chance.below(2)];
            match chance.below(12) {
                0 if !said.is_empty() => {
                    let at = chance.below(said.len());
                    let target = house.event(&said[at].id);
                    let room = target.event.room_id().to_owned();
                    if !said[at].gone {
                        redact(&house, &early, &room, &said[at].id).await;
                        said[at].gone = true;
                    }
                }
                1 => house.rooms.index_now().await.unwrap(),
                2 if n == 100 || chance.below(20) == 0 => house = house.restart(),
                _ => {
                    let text = chance.text();
                    let id = house.say(&early, room, &text, None).await.unwrap();
                    said.push(Said {
                        id,
                        text,
                        seen_by_late: *room == rooms[0] && n > 70,
                        gone: false,
                    });
                }
            }
            if n == 70 {
                house.join(&late, &rooms[0]).await.unwrap();
            }
        }
        for turn in 0..60 {
            let query = chance.query();
            let parsed = Query::parse(&query);
            let wanted = |late: bool| -> Vec<String> {
                let found = said.iter().filter(|one| {
                    !one.gone && (!late || one.seen_by_late) && parsed.matches(&one.text)
                });
                found.map(|one| one.id.clone()).collect()
            };
            for (who, is_late) in [(&early, false), (&late, true)] {
                let mut recent = ask(&query);
                recent.recent = turn % 2 == 0;
                let newest_first = recent.recent;
                let (mut found, count) = all(&house, who, recent).await;
                let mut expected = wanted(is_late);
                assert_eq!(count, expected.len(), "{query}");
                if newest_first {
                    expected.reverse();
                } else {
                    found.sort();
                    expected.sort();
                }
                assert_eq!(found, expected, "seed {seed}: {query}");
            }
        }
    }
}

/// Nothing of a redacted event stays in the index.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_redacted_is_in_no_row() {
    let house = House::new();
    let alice = house.person("alice");
    let room = house.public_room(&alice).await;
    house
        .say(&alice, &room, "common before", None)
        .await
        .unwrap();
    let id = house
        .say(&alice, &room, "common secretword", None)
        .await
        .unwrap();
    house
        .say(&alice, &room, "common after", None)
        .await
        .unwrap();
    house.rooms.index_now().await.unwrap();
    let terms = |house: &House| -> BTreeSet<String> {
        let snap = house.snap();
        let rows = snap.scan::<Search>(Scan::all());
        rows.map(|row| row.unwrap().0.1).collect()
    };
    assert!(terms(&house).contains("secretword"));
    redact(&house, &alice, &room, &id).await;
    assert!(all(&house, &alice, ask("secretword")).await.0.is_empty());
    assert!(!terms(&house).contains("secretword"));
    assert_eq!(house.snap().scan::<SearchGone>(Scan::all()).count(), 0);
    assert_eq!(all(&house, &alice, ask("common")).await.1, 2);

    let id = house
        .say(&alice, &room, "another secretword", None)
        .await
        .unwrap();
    redact(&house, &alice, &room, &id).await;
    house.rooms.index_now().await.unwrap();
    assert!(
        !terms(&house).contains("secretword"),
        "redacted before it was seen"
    );
}

/// A store from before there was an index gets one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_there_before_the_index_is_found() {
    let house = House::new();
    let alice = house.person("alice");
    let room = house.public_room(&alice).await;
    for n in 0..20 {
        house
            .say(&alice, &room, &format!("early {n}"), None)
            .await
            .unwrap();
    }
    let (found, count) = all(&house, &alice, ask("early")).await;
    assert_eq!((found.len(), count), (20, 20));
    house.say(&alice, &room, "late", None).await.unwrap();
    assert_eq!(all(&house, &alice, ask("late")).await.1, 1);
    assert_eq!(all(&house, &alice, ask("early")).await.1, 20);
}

/// A word said often in a short text is worth more, and a rare one more than a common one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_best_come_first() {
    let house = House::new();
    let alice = house.person("alice");
    let room = house.public_room(&alice).await;
    let mut ids = Vec::new();
    for text in [
        "tea",
        "tea and a great many other things that have nothing to do with it at all, as said",
        "tea tea tea",
        "rare tea or common",
    ] {
        ids.push(house.say(&alice, &room, text, None).await.unwrap());
    }
    let (found, _) = all(&house, &alice, ask("tea")).await;
    let expected = [&ids[2], &ids[0], &ids[3], &ids[1]].map(String::clone);
    assert_eq!(found, expected);
    let (found, _) = all(&house, &alice, ask("tea or rare")).await;
    assert_eq!(found[0], ids[3]);
}
