#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

use super::{InstallError, Shelf};

/// An archive with these entries; a path is written as it is, however wicked.
fn archive(dir: &Path, entries: &[(&str, EntryType, &str)]) -> PathBuf {
    let path = dir.join("client.tar.gz");
    let file = fs::File::create(&path).unwrap();
    let mut builder = Builder::new(GzEncoder::new(file, Compression::fast()));
    for (name, kind, text) in entries {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o777);
        if *kind == EntryType::Symlink {
            header.set_link_name(text).unwrap();
            header.set_size(0);
            header.set_cksum();
            builder.append(&header, &b""[..]).unwrap();
        } else {
            header.set_size(text.len() as u64);
            header.set_cksum();
            builder.append(&header, text.as_bytes()).unwrap();
        }
    }
    builder.into_inner().unwrap().finish().unwrap();
    path
}

fn build(dir: &Path, text: &str) -> PathBuf {
    archive(
        dir,
        &[
            ("element-1/index.html", EntryType::Regular, text),
            ("element-1/img/logo.svg", EntryType::Regular, "<svg/>"),
        ],
    )
}

fn index(shelf: &Shelf) -> String {
    fs::read_to_string(shelf.current().unwrap().join("index.html")).unwrap()
}

#[test]
fn a_build_is_installed_replaced_and_brought_back() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Shelf::new(&dir.path().join("web"));
    assert_eq!(shelf.current(), None);
    assert!(matches!(
        shelf.roll_back(),
        Err(InstallError::NothingBefore)
    ));

    let one = shelf
        .install(&build(dir.path(), "one"), "element-1", None)
        .unwrap();
    assert_eq!((one.files, one.bytes), (2, 9));
    assert_eq!(index(&shelf), "one");
    shelf
        .install(&build(dir.path(), "two"), "element-2", None)
        .unwrap();
    assert_eq!(index(&shelf), "two");
    assert_eq!(shelf.roll_back().unwrap(), "element-1");
    assert_eq!(index(&shelf), "one");
    assert_eq!(shelf.roll_back().unwrap(), "element-2");
    assert_eq!(index(&shelf), "two");

    // The same version again is beside the old one until it is in use.
    shelf
        .install(&build(dir.path(), "three"), "element-2", None)
        .unwrap();
    assert_eq!(index(&shelf), "three");
    let names = shelf.names();
    assert_eq!(
        names,
        (Some("element-2-2".into()), Some("element-2".into()))
    );
    let folders = fs::read_dir(dir.path().join("web")).unwrap().count();
    assert_eq!(folders, 4, "two builds and two links");
}

#[test]
fn a_folder_is_a_build_too() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("cinny");
    fs::create_dir_all(from.join("assets")).unwrap();
    fs::write(from.join("index.html"), "cinny").unwrap();
    fs::write(from.join("assets/a.js"), "1").unwrap();
    let shelf = Shelf::new(&dir.path().join("web"));
    shelf.install(&from, "../../cinny", None).unwrap();
    assert_eq!(index(&shelf), "cinny");
    assert_eq!(shelf.names().0.as_deref(), Some("cinny"));
}

#[test]
fn nothing_wicked_is_unpacked_and_what_was_in_use_stays() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Shelf::new(&dir.path().join("web"));
    shelf
        .install(&build(dir.path(), "good"), "good", None)
        .unwrap();
    let wicked: &[&[(&str, EntryType, &str)]] = &[
        &[("../escape", EntryType::Regular, "x")],
        &[("/tmp/escape", EntryType::Regular, "x")],
        &[("a/../../escape", EntryType::Regular, "x")],
        &[
            ("link", EntryType::Symlink, "/etc"),
            ("index.html", EntryType::Regular, "x"),
        ],
        &[("readme.txt", EntryType::Regular, "no index")],
    ];
    for entries in wicked {
        let from = archive(dir.path(), entries);
        assert!(shelf.install(&from, "bad", None).is_err(), "{entries:?}");
        assert_eq!(index(&shelf), "good");
    }
    assert!(!dir.path().join("escape").exists());
    assert!(!Path::new("/tmp/escape").exists());

    let from = build(dir.path(), "other");
    let wrong = shelf.install(&from, "other", Some(&"0".repeat(64)));
    let Err(InstallError::Hash { found, .. }) = wrong else {
        panic!("{wrong:?}");
    };
    assert_eq!(index(&shelf), "good");
    shelf
        .install(&from, "other", Some(&found.to_uppercase()))
        .unwrap();
    assert_eq!(index(&shelf), "other");

    fs::write(&from, "not an archive").unwrap();
    assert!(shelf.install(&from, "bad", None).is_err());
    assert_eq!(index(&shelf), "other");
}
