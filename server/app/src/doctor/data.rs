//! The data directory: who may read it, where it lies, how much room there is.

use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Finding;
use crate::config::{Config, show_bytes};

const DATA: &str = "data";
const DISK: &str = "disk";
/// More than any of our secrets, in bytes.
const SECRET_MAX: u64 = 64 << 10;

/// Looks at the directory, the secrets in it, and its disk.
pub(crate) fn look(config: &Config) -> Vec<Finding> {
    let dir = &config.data_dir;
    let facts = match fs::metadata(dir) {
        Ok(facts) => facts,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let what = format!("{} is not there", dir.display());
            let advice = "it is made at the first start; if there was one, look at data_dir";
            return vec![Finding::warn(DATA, what, advice)];
        }
        Err(error) => {
            let what = format!("{} cannot be looked at: {error}", dir.display());
            let advice = "run this as the user that skerry runs as";
            return vec![Finding::wrong(DATA, what, advice)];
        }
    };
    let mut found = Vec::new();
    let owner = facts.uid();
    let me = rustix::process::geteuid().as_raw();
    let shown = dir.display().to_string();
    found.extend(directory(&shown, facts.is_dir(), facts.mode(), owner, me));
    let has_database = dir.join("db").exists();
    for (name, needed) in [
        ("signing.key", true),
        ("pepper", true),
        ("vapid.key", false),
    ] {
        found.extend(secret_file(&dir.join(name), owner, needed && has_database));
    }
    found.extend(secret_file(&config.registration.token_file, owner, false));
    if found.is_empty() {
        let what = format!("{shown}: its owner alone can read the secrets");
        found.push(Finding::ok(DATA, what));
    }
    found.extend(disk(dir, config.free_disk_floor));
    found
}

/// Judges the directory itself.
pub(crate) fn directory(
    dir: &str,
    is_dir: bool,
    mode: u32,
    owner: u32,
    me: u32,
) -> Option<Finding> {
    if !is_dir {
        let what = format!("{dir} is not a directory");
        return Some(Finding::wrong(DATA, what, "name another data_dir"));
    }
    if me != 0 && me != owner {
        let what = format!("{dir} belongs to another user");
        let advice = "run this as the user that skerry runs as, or give the directory to that user";
        return Some(Finding::wrong(DATA, what, advice));
    }
    (mode & 0o077 != 0).then(|| {
        let what = format!("other users of this machine may look into {dir}");
        Finding::warn(DATA, what, &format!("chmod 700 {dir}"))
    })
}

fn secret_file(path: &Path, owner: u32, needed: bool) -> Option<Finding> {
    let shown = path.display().to_string();
    let facts = match fs::metadata(path) {
        Ok(facts) => facts,
        Err(error) if error.kind() == ErrorKind::NotFound && !needed => return None,
        Err(error) => {
            let what = format!("{shown} cannot be used, though there is a database: {error}");
            let advice = "bring it back from a backup before the next start, else a new one is \
                          made: everybody is logged out, and other servers see a stranger";
            return Some(Finding::wrong(DATA, what, advice));
        }
    };
    let read = fs::File::open(path).and_then(|file| {
        let mut text = String::new();
        file.take(SECRET_MAX).read_to_string(&mut text)?;
        Ok(text)
    });
    let read = read.map_err(|e| e.to_string());
    secret(&shown, facts.mode(), facts.uid(), owner, &read)
}

/// Judges a file that its owner alone may read.
pub(crate) fn secret(
    path: &str,
    mode: u32,
    uid: u32,
    owner: u32,
    text: &Result<String, String>,
) -> Option<Finding> {
    if let Err(error) = text {
        let what = format!("{path} cannot be read: {error}");
        let advice = "give it to the user that skerry runs as, or bring it back from a backup";
        return Some(Finding::wrong(DATA, what, advice));
    }
    if text.as_ref().is_ok_and(|text| text.trim().is_empty()) {
        let what = format!("{path} is empty");
        return Some(Finding::wrong(DATA, what, "bring it back from a backup"));
    }
    if uid != owner {
        let what = format!("{path} belongs to another user than its directory");
        let advice = format!("chown it to the owner of the directory (user id {owner})");
        return Some(Finding::wrong(DATA, what, &advice));
    }
    (mode & 0o077 != 0).then(|| {
        let what = format!("other users of this machine can read {path}");
        Finding::wrong(DATA, what, &format!("chmod 600 {path}"))
    })
}

fn disk(dir: &Path, floor: u64) -> Vec<Finding> {
    let mut found = Vec::new();
    match rustix::fs::statvfs(dir) {
        Ok(facts) => {
            let free = facts.f_bavail.saturating_mul(facts.f_frsize);
            found.push(space(free, floor));
        }
        Err(error) => {
            let what = format!("the free space cannot be told: {error}");
            found.push(Finding::unknown(DISK, what, "look with df"));
        }
    }
    if let Ok(facts) = rustix::fs::statfs(dir) {
        // Some machines have it signed; what matters is its lower half.
        found.push(filesystem((i128::from(facts.f_type) & 0xffff_ffff) as u32));
    }
    found
}

/// Judges the free space, in bytes.
pub(crate) fn space(free: u64, floor: u64) -> Finding {
    let (shown, least) = (show_bytes(free), show_bytes(floor));
    let advice = "free some space, or lower media.free_disk_floor";
    if free <= floor {
        let what = format!("{shown} are free, which is not more than the floor of {least}");
        let advice = format!("nothing is written any more: {advice}");
        return Finding::wrong(DISK, what, &advice);
    }
    if free < floor.saturating_mul(2) {
        let what = format!("{shown} are free; at {least} nothing more is written");
        return Finding::warn(DISK, what, advice);
    }
    Finding::ok(DISK, format!("{shown} are free"))
}

/// Judges the kind of file system by its number (statfs(2)).
pub(crate) fn filesystem(kind: u32) -> Finding {
    let (name, why) = match kind {
        0x6969 => ("NFS", "a lost connection can damage the database"),
        0xff53_4d42 | 0xfe53_4d42 | 0x517b => ("SMB", "a lost connection can damage the database"),
        0x6573_5546 => ("FUSE", "it may not keep what it says it has written"),
        0x0102_1994 | 0x8584_58f6 => ("memory", "all is lost at the next restart"),
        0x794c_7630 => (
            "a container's own layer",
            "all is lost with the container; mount a volume",
        ),
        0x4d44 => ("FAT", "it knows no owners, so the secrets are open"),
        _ => return Finding::ok(DISK, "the file system is a local one"),
    };
    let what = format!("the data lies on {name}");
    Finding::warn(DISK, what, &format!("{why}; use a local disk"))
}
