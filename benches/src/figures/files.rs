//! Media up and down, beside what one thread does with the same bytes on the same disk.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::report::{Report, Target};
use crate::stream::Files;
use crate::world::{User, World};

const MIB: usize = 1 << 20;
/// A large file, in bytes.
const LARGE: usize = 100 * MIB;
/// A small one.
const SMALL: usize = 4 << 10;
/// How many clients there are where there are several.
const CLIENTS: usize = 16;
/// How many files are under way at once where memory is looked at.
const AT_ONCE: usize = 20;
/// How many times one file is uploaded, and how large it is, in bytes.
const AGAIN: usize = 200;
const SAME: usize = 4 * MIB;

/// Bytes that no other file begins with and nothing can make smaller.
fn noise(seed: usize, length: usize) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    let mut bytes = vec![0; length];
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

/// Copies and hashes a file in one thread, and syncs the copy.
fn copied(from: &Path, to: &Path) -> Outcome<()> {
    let (mut from, mut copy) = (File::open(from)?, File::create(to)?);
    let mut hasher = blake3::Hasher::new();
    let mut piece = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut piece)?;
        if read == 0 {
            break;
        }
        let part = piece.get(..read).unwrap_or_default();
        hasher.update(part);
        copy.write_all(part)?;
    }
    copy.sync_all()?;
    std::hint::black_box(hasher.finalize());
    Ok(())
}

fn middle(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Large files, one after the other.
pub(crate) fn large(world: &mut World, report: &mut Report) -> Outcome<()> {
    let user = world.users(1)?.pop().ok_or("no user")?;
    let folder = world.folder()?;
    let source = folder.path().join("source");
    let rounds = world.times(10).max(3);
    let (mut plain, mut up, mut down) = (Vec::new(), Vec::new(), Vec::new());
    let mut files = Files::new(&world.server.addr, &user.token)?;
    for round in 0..rounds {
        let bytes = noise(round, LARGE);
        fs::write(&source, &bytes)?;
        File::open(&source)?.sync_all()?;
        let copy = folder.path().join(format!("copy-{round}"));
        let start = Instant::now();
        copied(&source, &copy)?;
        plain.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        let id = files.upload(&bytes, LARGE)?;
        up.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        if files.download(&id)? != LARGE {
            return Err("a download is not whole".into());
        }
        down.push(start.elapsed().as_secs_f64());
        fs::remove_file(copy)?;
    }
    let (plain, up, down) = (middle(plain), middle(up), middle(down));
    let speed = |time: f64| (LARGE / MIB) as f64 / time;
    report.add(
        "copying 100 MiB: one thread",
        speed(plain),
        "MiB/s",
        Target::None,
    );
    report.add("upload of 100 MiB", speed(up), "MiB/s", Target::None);
    report.add("download of 100 MiB", speed(down), "MiB/s", Target::None);
    let least = Target::AtLeast(70.0);
    report.add(
        "upload of 100 MiB, of copying",
        100.0 * plain / up,
        "%",
        least,
    );
    report.add(
        "download of 100 MiB, of copying",
        100.0 * plain / down,
        "%",
        least,
    );
    Ok(())
}

/// Small files, from sixteen clients.
pub(crate) fn small(world: &mut World, report: &mut Report) -> Outcome<()> {
    let users = world.users(CLIENTS)?;
    let folder = world.folder()?;
    let total = world.times(16_000);
    let each = total / CLIENTS;
    let source = folder.path().join("source");
    // Sources of their own, so that both read what they write from memory.
    let start = Instant::now();
    let mut making = Duration::ZERO;
    for n in 0..total {
        let made = Instant::now();
        fs::write(&source, noise(n, SMALL))?;
        making += made.elapsed();
        copied(&source, &folder.path().join(n.to_string()))?;
    }
    let plain = total as f64 / (start.elapsed() - making).as_secs_f64();
    let start = Instant::now();
    let ids = each_client(world, &users, &|client, files| {
        let at = total + client * each;
        (at..at + each)
            .map(|n| files.upload(&noise(n, SMALL), SMALL))
            .collect::<Outcome<Vec<_>>>()
    })?;
    let up = (each * CLIENTS) as f64 / start.elapsed().as_secs_f64();
    let start = Instant::now();
    each_client(world, &users, &|client, files| {
        for id in ids.get(client).into_iter().flatten() {
            files.download(id)?;
        }
        Ok(())
    })?;
    let down = (each * CLIENTS) as f64 / start.elapsed().as_secs_f64();
    report.add(
        "copying files of 4 KiB: one thread",
        plain,
        "/s",
        Target::None,
    );
    report.add("upload of 4 KiB, 16 clients", up, "/s", Target::None);
    report.add("download of 4 KiB, 16 clients", down, "/s", Target::None);
    let least = Target::AtLeast(50.0);
    report.add(
        "upload of 4 KiB, of copying",
        100.0 * up / plain,
        "%",
        least,
    );
    report.add(
        "download of 4 KiB, of copying",
        100.0 * down / plain,
        "%",
        least,
    );
    Ok(())
}

/// One file, uploaded again and again.
pub(crate) fn again(world: &mut World, report: &mut Report) -> Outcome<()> {
    let mut world = world.fresh()?;
    let users = world.users(8)?;
    let bytes = noise(usize::MAX, SAME);
    let before = world.server.usage()?;
    let start = Instant::now();
    let left = AtomicUsize::new(AGAIN);
    each_client(&world, &users, &|_, files| {
        let next = || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        while next().is_ok() {
            files.upload(&bytes, SAME)?;
        }
        Ok(())
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let after = world.server.usage()?;
    let written = (after.written - after.spared) - (before.written - before.spared);
    let rate = (AGAIN * SAME / MIB) as f64 / seconds;
    report.add(
        "200 uploads of one file of 4 MiB",
        rate,
        "MiB/s",
        Target::None,
    );
    let kept = size_of(&world.server.media())? as f64 / MIB as f64;
    report.add(
        "the same: in the folder of blobs",
        kept,
        "MiB",
        Target::AtMost(4.0),
    );
    // Its bytes, and 200 rows with a sync each.
    let most = Target::AtMost(4.0 + 4.0);
    report.add("the same: written", written / MIB as f64, "MiB", most);
    Ok(())
}

/// Memory while very large files go up and down.
pub(crate) fn memory(world: &mut World, report: &mut Report) -> Outcome<()> {
    let mut world = world.fresh()?;
    let users = world.users(AT_ONCE)?;
    let block = noise(1, 8 * MIB);
    let one = world.times(1024) * MIB;
    let many = world.times(256) * MIB;
    // Whatever is there only once is there after this.
    each_client(&world, &users, &|_, files| {
        let id = files.upload(&block, SMALL)?;
        files.download(&id)
    })?;
    let alone = users.get(..1).unwrap_or_default();
    let mut round = |name: &str, users: &[User], size: usize| {
        let (up, ids) = watched(&world, users, &|_, files| files.upload(&block, size))?;
        let (down, _) = watched(&world, users, &|client, files| {
            files.download(ids.get(client).ok_or("no file")?)
        })?;
        let most = Target::AtMost(4.0);
        report.add(&format!("{name}: growth, upload"), up, "MiB", most);
        report.add(&format!("{name}: growth, download"), down, "MiB", most);
        Outcome::Ok(())
    };
    round(&format!("a file of {} MiB", one / MIB), alone, one)?;
    round(
        &format!("20 files of {} MiB at once", many / MIB),
        &users,
        many,
    )
}

/// Does something as several clients at once.
fn each_client<T: Send>(
    world: &World,
    users: &[User],
    work: &(dyn Fn(usize, &mut Files) -> Outcome<T> + Sync),
) -> Outcome<Vec<T>> {
    let addr = &world.server.addr;
    std::thread::scope(|scope| {
        let clients: Vec<_> = users
            .iter()
            .enumerate()
            .map(|(n, user)| scope.spawn(move || work(n, &mut Files::new(addr, &user.token)?)))
            .collect();
        let done = clients
            .into_iter()
            .map(|client| client.join().map_err(|_| "a client panicked")?);
        done.collect()
    })
}

/// The same, with the most that memory grew meanwhile, in MiB.
fn watched<T: Send>(
    world: &World,
    users: &[User],
    work: &(dyn Fn(usize, &mut Files) -> Outcome<T> + Sync),
) -> Outcome<(f64, Vec<T>)> {
    // The server gives memory back some seconds after it was used.
    std::thread::sleep(Duration::from_secs(22));
    let before = world.server.usage()?.memory;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut peak = before;
            while !over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(20));
                peak = peak.max(world.server.usage()?.memory);
            }
            Outcome::Ok(peak)
        });
        let done = each_client(world, users, work);
        over.store(true, Ordering::Relaxed);
        let peak = watching.join().map_err(|_| "the watcher panicked")??;
        Ok((peak - before, done?))
    })
}

/// Bytes of all files below a folder.
fn size_of(folder: &Path) -> Outcome<u64> {
    let mut size = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        size += match entry.file_type()?.is_dir() {
            true => size_of(&entry.path())?,
            false => entry.metadata()?.len(),
        };
    }
    Ok(size)
}
