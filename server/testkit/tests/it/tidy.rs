//! The rules of the house that a compiler does not know: who may depend on whom, what may be
//! named where. Reads the manifests and the sources.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use toml::Table;

/// Each crate's folder, name, and the crates of ours that it may use.
const CRATES: &[(&str, &str, &[&str])] = &[
    ("server/core", "core", &[]),
    ("server/store", "store", &["core"]),
    ("server/account", "account", &["core", "store"]),
    ("server/room", "room", &["core", "store", "account"]),
    ("server/sync", "sync", &["core", "store", "account", "room"]),
    ("server/http", "http", &["core"]),
    (
        "server/remote",
        "remote",
        &["core", "store", "account", "room"],
    ),
    (
        "server/client",
        "client",
        &["core", "store", "account", "room", "sync", "remote", "http"],
    ),
    (
        "server/admin",
        "admin",
        &[
            "core", "store", "account", "room", "remote", "http", "media",
        ],
    ),
    (
        "server/federation",
        "federation",
        &["core", "store", "account", "room", "remote", "http"],
    ),
    ("media", "media", &["core", "store", "remote", "http"]),
    ("proxy", "proxy", &[]),
    ("web", "web", &["http"]),
    (
        "server/app",
        "app",
        &[
            "core",
            "store",
            "account",
            "room",
            "sync",
            "remote",
            "http",
            "client",
            "federation",
            "admin",
            "media",
            "proxy",
            "web",
        ],
    ),
    (
        "server/testkit",
        "testkit",
        &[
            "core",
            "store",
            "account",
            "room",
            "sync",
            "remote",
            "http",
            "client",
            "federation",
            "admin",
            "media",
            "proxy",
            "web",
            "app",
        ],
    ),
    (
        "benches",
        "benches",
        &[
            "core",
            "store",
            "account",
            "room",
            "sync",
            "remote",
            "http",
            "client",
            "federation",
            "admin",
            "media",
            "proxy",
            "web",
            "app",
            "testkit",
        ],
    ),
];

/// Crates of others that only these of ours may use.
const RESERVED: &[(&str, &[&str])] = &[
    ("rocksdb", &["store"]),
    ("axum", &["http", "proxy", "app"]),
    ("ruma-client-api", &["client"]),
    ("ruma-federation-api", &["federation", "remote"]),
    ("image", &["media", "benches"]),
    ("rustls", &["proxy", "remote", "testkit", "benches"]),
    ("clap", &["app", "media", "benches"]),
];

/// Words that may not stand in core, outside tests: it is pure.
const NOT_IN_CORE: &[&str] = &[
    "async fn",
    "async move",
    "tokio",
    "std::fs",
    "std::net",
    "SystemTime",
    "Instant::now",
    "getrandom",
    "rand::",
    "std::env",
    "std::thread",
];

/// Tables belong to one crate; nobody else names them.
const TABLES: &[(&str, &str)] = &[
    ("schema::account", "account"),
    ("schema::appservice", "account"),
    ("schema::e2e", "account"),
    ("schema::room", "room"),
    ("schema::room_read", "room"),
    ("schema::media", "media"),
    ("schema::inbox", "federation"),
    ("schema::push", "account"),
    ("schema::remote", "remote"),
];

/// Kinds of state that no static may hold.
const STATE: &[&str] = &[
    "Mutex", "RwLock", "Atomic", "OnceLock", "OnceCell", "LazyLock", "LazyCell", "RefCell",
    "Cell<", "watch::", "mut ",
];

const MAX_LINES: usize = 500;
const MAX_FUNCTION_LINES: usize = 70;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

fn manifest(folder: &str) -> Table {
    let path = root().join(folder).join("Cargo.toml");
    fs::read_to_string(&path).unwrap().parse().unwrap()
}

fn dependencies(manifest: &Table, section: &str) -> Vec<String> {
    let table = manifest.get(section).and_then(|value| value.as_table());
    table
        .map(|table| table.keys().cloned().collect())
        .unwrap_or_default()
}

/// All source files under a crate's `src`, with their text.
fn sources(folder: &str) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root().join(folder).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.insert(path.strip_prefix(root()).unwrap().to_owned(), text);
            }
        }
    }
    found
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests")
        || path.file_stem().is_some_and(|stem| stem == "tests")
        || path.components().any(|part| part.as_os_str() == "fixtures")
        || path.file_stem().is_some_and(|stem| stem == "fixtures")
}

/// A file's lines without comments and without the tests at its end.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let text = text.get(..end).unwrap_or(text);
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn say(faults: &[String]) {
    assert!(faults.is_empty(), "\n  {}\n", faults.join("\n  "));
}

#[test]
fn every_member_of_the_workspace_is_listed() {
    let workspace: Table = fs::read_to_string(root().join("Cargo.toml"))
        .unwrap()
        .parse()
        .unwrap();
    let members = workspace["workspace"]["members"].as_array().unwrap();
    let mut members: Vec<&str> = members.iter().map(|m| m.as_str().unwrap()).collect();
    let mut listed: Vec<&str> = CRATES.iter().map(|(folder, ..)| *folder).collect();
    members.sort_unstable();
    listed.sort_unstable();
    assert_eq!(members, listed);
}

#[test]
fn arrows_point_down_only() {
    let mut faults = Vec::new();
    for (folder, name, allowed) in CRATES {
        let manifest = manifest(folder);
        for dependency in dependencies(&manifest, "dependencies") {
            let Some(ours) = dependency.strip_prefix("skerry-") else {
                continue;
            };
            if !allowed.contains(&ours) {
                faults.push(format!("{name} may not use {ours}"));
            }
        }
    }
    say(&faults);
}

#[test]
fn what_is_reserved_stays_where_it_belongs() {
    let mut faults = Vec::new();
    for (folder, name, _) in CRATES {
        let dependencies = dependencies(&manifest(folder), "dependencies");
        for (reserved, holders) in RESERVED {
            let has = dependencies.iter().any(|dependency| dependency == reserved);
            if has && !holders.contains(name) {
                faults.push(format!("{name} may not use {reserved}, only {holders:?}"));
            }
        }
    }
    say(&faults);
}

#[test]
fn core_is_pure() {
    let mut faults = Vec::new();
    assert!(!dependencies(&manifest("server/core"), "dependencies").contains(&"tokio".into()));
    for (path, text) in sources("server/core")
        .iter()
        .filter(|(path, _)| !is_test(path))
    {
        for (number, line) in code(text) {
            for word in NOT_IN_CORE.iter().filter(|word| line.contains(*word)) {
                faults.push(format!("{}:{}: {word}", path.display(), number + 1));
            }
        }
    }
    say(&faults);
}

#[test]
fn time_and_chance_are_arguments_below_app() {
    let mut faults = Vec::new();
    for (folder, name, _) in CRATES {
        if ["app", "testkit", "benches", "proxy"].contains(name) {
            continue;
        }
        for (path, text) in sources(folder).iter().filter(|(path, _)| !is_test(path)) {
            for (number, line) in code(text) {
                for word in ["SystemTime::now", "getrandom::", "rand::rng()", "OsRng"] {
                    if line.contains(word) {
                        faults.push(format!("{}:{}: {word}", path.display(), number + 1));
                    }
                }
            }
        }
    }
    say(&faults);
}

#[test]
fn no_static_holds_state() {
    let mut faults = Vec::new();
    // The testkit listens to the log of the whole test process.
    for (folder, ..) in CRATES.iter().filter(|(_, name, _)| *name != "testkit") {
        for (path, text) in sources(folder).iter().filter(|(path, _)| !is_test(path)) {
            for (number, line) in code(text) {
                let line = line.trim_start();
                let item = line.strip_prefix("pub ").unwrap_or(line);
                let item = item.strip_prefix("pub(crate) ").unwrap_or(item);
                let stateful = item.starts_with("static ")
                    && STATE.iter().any(|kind| item.contains(kind))
                    || item.starts_with("thread_local!");
                if stateful {
                    faults.push(format!("{}:{}: {line}", path.display(), number + 1));
                }
            }
        }
    }
    say(&faults);
}

#[test]
fn tables_are_named_by_their_owner_alone() {
    let mut faults = Vec::new();
    for (folder, name, _) in CRATES {
        // The store declares them all.
        if *name == "store" {
            continue;
        }
        // What a test lays down by hand is of its own making.
        let sources = sources(folder).into_iter();
        for (path, text) in sources.filter(|(path, _)| !is_test(path)) {
            for (number, line) in code(&text) {
                for (module, owner) in TABLES {
                    let named = line.match_indices(module).any(|(at, _)| {
                        let after = line.get(at + module.len()..).unwrap_or("");
                        !after.starts_with(|c: char| c.is_alphanumeric() || c == '_')
                    });
                    if named && owner != name {
                        let place = format!("{}:{}", path.display(), number + 1);
                        faults.push(format!("{place}: {module} belongs to {owner}"));
                    }
                }
            }
        }
    }
    say(&faults);
}

#[test]
fn every_crate_says_what_it_is() {
    let mut faults = Vec::new();
    for (folder, name, _) in CRATES {
        let source = root().join(folder).join("src");
        let text = fs::read_to_string(source.join("lib.rs"))
            .or_else(|_| fs::read_to_string(source.join("main.rs")))
            .unwrap();
        let doc: Vec<&str> = text
            .lines()
            .take_while(|line| line.starts_with("//!"))
            .collect();
        let doc = doc.join("\n").to_lowercase();
        if !doc.contains("start reading") && !doc.contains("where to start") {
            faults.push(format!(
                "{name}: its root does not say where to start reading"
            ));
        }
    }
    say(&faults);
}

/// What deletes media, and the one place where it may stand: the planner carries out what it
/// planned, whoever asked for it, and nothing else deletes.
#[test]
fn media_is_deleted_in_one_place() {
    let rows = [
        "MediaTable",
        "Blob",
        "BlobRef",
        "Trash",
        "Thumb",
        "ThumbUses",
    ];
    let mut words: Vec<String> = Vec::new();
    for table in rows {
        for verb in ["delete", "delete_range", "delete_between"] {
            words.push(format!("{verb}::<{table}>"));
        }
    }
    words.push("storage.remove(".to_owned());
    let places = ["media/src/prune/carry.rs", "media/src/prune/check.rs"];
    let (mut faults, mut found) = (Vec::new(), 0);
    for (folder, ..) in CRATES {
        for (path, text) in sources(folder).iter().filter(|(path, _)| !is_test(path)) {
            let here = path.to_string_lossy();
            for (number, line) in code(text) {
                let deletes = words.iter().any(|word| line.contains(word.as_str()));
                let unlinks = here.starts_with("media/")
                    && line.contains("remove_file(")
                    && !["media/src/files.rs", "media/src/spool.rs"].contains(&&*here);
                if deletes && places.contains(&&*here) {
                    found += 1;
                } else if deletes || unlinks {
                    faults.push(format!("{here}:{}: {}", number + 1, line.trim()));
                }
            }
        }
    }
    say(&faults);
    // The words are still those that are used.
    assert!(found >= 8, "{found}");
}

#[test]
fn nothing_is_left_undone() {
    let mut faults = Vec::new();
    for (folder, ..) in CRATES {
        for (path, text) in sources(folder) {
            for (number, line) in text.lines().enumerate() {
                let marks = ["todo!(", "unimplemented!(", "dbg!(", "TODO", "FIXME", "XXX"];
                if marks.iter().any(|mark| line.contains(mark)) {
                    faults.push(format!(
                        "{}:{}: {}",
                        path.display(),
                        number + 1,
                        line.trim()
                    ));
                }
            }
        }
    }
    say(&faults);
}

/// A list to look at, not a fault: a long file is a question.
#[test]
fn long_files_are_listed() {
    let mut total = 0;
    for (folder, name, _) in CRATES {
        let mut lines = 0;
        for (path, text) in sources(folder).iter().filter(|(path, _)| !is_test(path)) {
            let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
            let count = text.get(..end).unwrap_or(text).lines().count();
            lines += count;
            if count > MAX_LINES {
                println!("long: {} has {count} lines", path.display());
            }
            let wide = text
                .lines()
                .filter(|line| line.chars().count() > 100)
                .count();
            if wide > 0 {
                println!("wide: {} has {wide} lines of more than 100", path.display());
            }
        }
        total += lines;
        println!("{name}: {lines} lines");
    }
    println!("all: {total} lines");
}

/// The functions of a file that are longer than they should be: their first line and length.
fn long_functions(text: &str) -> Vec<(&str, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let bare = line.trim_start();
        let indent = line.len() - bare.len();
        let head = bare.split('(').next().unwrap_or(bare);
        if !head.split_whitespace().any(|word| word == "fn") || bare.starts_with("//") {
            continue;
        }
        let closes = |line: &str| line.trim_end() == format!("{}}}", " ".repeat(indent));
        let length = lines.iter().skip(start).position(|line| closes(line));
        if let Some(length) = length.filter(|length| length + 1 > MAX_FUNCTION_LINES) {
            found.push((bare, length + 1));
        }
    }
    found
}

#[test]
fn long_functions_are_listed() {
    for (folder, ..) in CRATES {
        for (path, text) in sources(folder).iter().filter(|(path, _)| !is_test(path)) {
            for (head, lines) in long_functions(text) {
                println!("long: {}: {lines} lines: {head}", path.display());
            }
        }
    }
}
