//! How long a plan takes, and how much memory:
//! `cargo test --release -p skerry-media plan_speed -- --ignored --nocapture`.

use std::time::Instant;

use skerry_store::schema::media::Media;

use super::*;

const ROWS: u32 = 1_000_000;
/// Profiles, rooms and members, each with an avatar.
const NAMED: u32 = 20_000 + 2_000 + 300_000;
const CHUNK: u32 = 10_000;

fn id(n: u32) -> String {
    format!("{n:024}")
}

/// Resident bytes of this process.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes; for figures"]
async fn plan_speed() {
    let w = world();
    let store = &w.blobs().store;
    for first in (0..ROWS).step_by(CHUNK as usize) {
        let mut write = store.write();
        for n in first..first + CHUNK {
            let hash = *blake3::hash(&n.to_le_bytes()).as_bytes();
            let server = if n % 2 == 0 { "localhost" } else { "a.example" };
            let media = Media {
                hash,
                size: 1000,
                content_type: "image/jpeg".to_owned(),
                name: None,
                uploader: UserNid(u64::from(n % 20_000) + 1),
                created_ms: u64::from(n),
                unauthenticated: false,
            };
            let key = (server.to_owned(), id(n));
            write.put::<Blob>(&hash, &1000);
            write.put::<BlobRef>(&(hash, key.0.clone(), key.1.clone()), &());
            write.put::<MediaTable>(&key, &media);
        }
        let applied = store.commit(write).unwrap();
        store.durable(&applied).await.unwrap();
    }
    let names = (0..NAMED).map(|n| {
        let server = if n % 2 == 0 { "localhost" } else { "a.example" };
        (server.to_owned(), id(n))
    });
    *w.named.names.lock().unwrap() = names.collect();
    let (before, began) = (resident(), Instant::now());
    let (_, plan) = w.pruner.plan(all()).await.unwrap();
    let (time, after) = (began.elapsed(), resident());
    assert_eq!(plan.changes(), u64::from(ROWS - NAMED));
    println!(
        "a plan over {ROWS} rows with {NAMED} names: {time:?}, {} MiB",
        after.saturating_sub(before) >> 20
    );
}
