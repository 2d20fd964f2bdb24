#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

/// Runs gpg in a home of its own; nothing where it is not installed and need not be.
fn gpg(home: &Path, args: &[&str]) -> Option<Vec<u8>> {
    let output = Command::new("gpg")
        .arg("--homedir")
        .arg(home)
        .args([
            "--batch",
            "--yes",
            "--quiet",
            "--pinentry-mode",
            "loopback",
            "--passphrase",
            "",
        ])
        .args(args)
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{args:?}: {said}");
            Some(output.stdout)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let needed = std::env::var_os("SKERRY_TEST_EVERYTHING").is_some();
            assert!(!needed, "gpg is not installed");
            println!("left out: gpg is not installed");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// A project that signs its releases.
struct Project {
    dir: tempfile::TempDir,
}

impl Project {
    /// With a key made and used with these further options of gpg.
    fn new(name: &str, more: &[&str]) -> Option<Project> {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::make().unwrap();
        let user = format!("{name} <{name}@example.org>");
        let gpg = |args: &[&str]| gpg(&home.0, &[more, args].concat());
        gpg(&["--quick-gen-key", &user, "ed25519", "sign", "2y"])?;
        let armored = gpg(&["--armor", "--export"])?;
        let plain = gpg(&["--export"])?;
        fs::write(dir.path().join("key.asc"), armored).unwrap();
        fs::write(dir.path().join("key.gpg"), plain).unwrap();
        fs::write(dir.path().join("client.tar.gz"), "a release").unwrap();
        let archive = dir.path().join("client.tar.gz").display().to_string();
        gpg(&["--armor", "--detach-sign", &archive])?;
        gpg(&["--detach-sign", &archive])?;
        // Its agent would stay.
        let _ = Command::new("gpgconf")
            .arg("--homedir")
            .arg(&home.0)
            .args(["--kill", "all"])
            .status();
        Some(Project { dir })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

#[test]
fn a_signature_by_the_given_key_is_good_and_no_other() {
    let Some(project) = Project::new("keeper", &[]) else {
        return;
    };
    let stranger = Project::new("stranger", &[]).unwrap();
    let archive = project.file("client.tar.gz");
    let mut signers = Vec::new();
    for (key, signature) in [
        ("key.asc", "client.tar.gz.asc"),
        ("key.asc", "client.tar.gz.sig"),
        ("key.gpg", "client.tar.gz.asc"),
        ("key.gpg", "client.tar.gz.sig"),
    ] {
        let (key, signature) = (project.file(key), project.file(signature));
        signers.push(check_signature(&archive, &signature, &key).unwrap());
    }
    assert!(
        signers.iter().all(|s| s.len() == 40 && *s == signers[0]),
        "{signers:?}"
    );

    let signature = project.file("client.tar.gz.asc");
    let refused = |archive: &Path, signature: &Path, key: &Path| {
        let error = check_signature(archive, signature, key).unwrap_err();
        assert!(matches!(error, SignatureError::Bad(_)), "{error}");
        error.to_string()
    };
    // By somebody else; of other bytes; no signature at all.
    let text = refused(&archive, &signature, &stranger.file("key.asc"));
    assert!(
        text.contains("gpgv says:") && text.contains("public key"),
        "{text}"
    );
    let changed = project.file("changed.tar.gz");
    fs::write(&changed, "a releasE").unwrap();
    refused(&changed, &signature, &project.file("key.asc"));
    refused(&archive, &changed, &project.file("key.asc"));
    // Two keys in one file: either may have signed.
    let both = project.file("both.asc");
    let mut keys = fs::read(stranger.file("key.asc")).unwrap();
    keys.extend(fs::read(project.file("key.asc")).unwrap());
    fs::write(&both, keys).unwrap();
    assert_eq!(
        check_signature(&archive, &signature, &both).unwrap(),
        signers[0]
    );
}

#[test]
fn a_key_whose_time_is_over_signs_nothing() {
    let Some(project) = Project::new("late", &["--faked-system-time", "20200101T000000"]) else {
        return;
    };
    let (archive, key) = (project.file("client.tar.gz"), project.file("key.asc"));
    let error = check_signature(&archive, &project.file("client.tar.gz.asc"), &key).unwrap_err();
    assert!(matches!(error, SignatureError::Bad(_)), "{error}");
}

#[test]
fn what_is_missing_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let (archive, key) = (dir.path().join("a"), dir.path().join("k"));
    fs::write(&archive, "x").unwrap();
    fs::write(&key, "no key").unwrap();
    let check = |program: &str| check_with(program, &archive, &archive, &key).unwrap_err();
    assert!(matches!(check(GPGV), SignatureError::NoKey(_)));
    fs::write(&key, [0x99, 1, 2]).unwrap();
    let error = check("no-such-gpgv");
    assert!(error.to_string().contains("apt install gpgv"), "{error}");
    fs::remove_file(&key).unwrap();
    assert!(matches!(check(GPGV), SignatureError::File { .. }));
}

#[test]
fn armor_of_all_shapes() {
    let armored = "text\r\n-----BEGIN PGP PUBLIC KEY BLOCK-----\r\nVersion: x\r\n\r\nmQ==\r\n\
                   =abcd\r\n-----END PGP PUBLIC KEY BLOCK-----\r\n";
    assert_eq!(unarmored(armored.as_bytes()).unwrap(), [0x99]);
    let endless = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQ==";
    assert!(unarmored(endless.as_bytes()).is_none());
    assert!(unarmored(b"").is_none());
    assert!(unarmored(b"hello").is_none());
    let private = "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nmQ==\n-----END";
    assert!(unarmored(private.as_bytes()).is_none());
}
