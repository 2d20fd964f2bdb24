//! Figures, printed: `cargo test --release -p skerry-room search_speed -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use serde_json::Value;
use skerry_core::search::Key;
use skerry_room::{SearchAsk, Viewer};
use skerry_store::Scan;
use skerry_store::schema::search::Search;

use crate::house::House;

/// Messages, of 4 to 19 words each out of 30,000, of which the first are the most common; one in
/// twenty is Chinese.
const MESSAGES: u32 = 100_000;

struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `n`; each about as likely as all twice as large together.
    fn rank(&mut self, n: f64) -> u32 {
        let even = f64::from(u32::try_from(self.next() >> 32).unwrap()) / f64::from(u32::MAX);
        ((n + 1.0).powf(even) - 1.0) as u32
    }

    fn text(&mut self) -> String {
        let words = 4 + self.next() % 16;
        if self.next().is_multiple_of(20) {
            let letters = (0..words).map(|_| char::from_u32(0x4e00 + self.rank(3_000.0)).unwrap());
            return letters.collect();
        }
        let words: Vec<String> = (0..words).map(|_| word(self.rank(30_000.0))).collect();
        words.join(" ")
    }
}

fn word(rank: u32) -> String {
    let (mut n, mut out) = (rank + 7, String::new());
    while n > 0 {
        out.push(char::from(b'a' + u8::try_from(n % 26).unwrap()));
        n /= 26;
    }
    out
}

#[ignore = "prints figures"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn index_and_queries() {
    let house = House::new();
    let alice = house.person("alice");
    let mut rooms = Vec::new();
    for _ in 0..20 {
        rooms.push(house.public_room(&alice).await);
    }
    let mut chance = Chance(88_172_645_463_325_252);
    for _ in 0..MESSAGES / 20 {
        for room in &rooms {
            house.say(&alice, room, &chance.text(), None).await.unwrap();
        }
    }
    let start = Instant::now();
    house.rooms.index_now().await.unwrap();
    let took = start.elapsed();
    let snap = house.snap();
    let (mut rows, mut bytes) = (0_u32, 0_usize);
    for row in snap.scan::<Search>(Scan::all()) {
        let ((_, term, _), postings) = row.unwrap();
        rows += 1;
        bytes += 29 + term.len() + postings.0.len();
    }
    let each = |n: f64| n / f64::from(MESSAGES);
    println!(
        "indexed {:.0}/s; each {:.1} rows, {:.0} bytes before compression",
        f64::from(MESSAGES) / took.as_secs_f64(),
        each(f64::from(rows)),
        each(bytes as f64)
    );
    let viewer = Viewer {
        user: alice.user,
        user_id: alice.user_id.clone(),
        device: alice.device.clone(),
    };
    for (what, term) in [
        ("a common word", word(1)),
        ("a word", word(500)),
        ("a rare word", word(20_000)),
        ("two words", format!("{} {}", word(5), word(200))),
        (
            "two words side by side",
            format!("\"{} {}\"", word(1), word(2)),
        ),
        ("two Chinese letters", "\u{4e00}\u{4e01}".to_owned()),
    ] {
        let ask = SearchAsk {
            term,
            keys: vec![Key::Body],
            limit: 10,
            ..SearchAsk::default()
        };
        let (mut times, mut found) = (Duration::ZERO, Vec::new());
        for _ in 0..10 {
            let start = Instant::now();
            found = house
                .rooms
                .search(viewer.clone(), ask.clone())
                .await
                .unwrap();
            times += start.elapsed();
        }
        let found: Value = serde_json::from_slice(&found).unwrap();
        println!(
            "{what}: {:.2} ms, {} found",
            times.as_secs_f64() * 100.0,
            found["count"]
        );
    }
}
