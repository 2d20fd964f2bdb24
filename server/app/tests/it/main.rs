//! The program itself, as people type it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod door;
mod fail2ban;
mod pictures;
mod storm;
mod testssl;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const LISTEN: &str = "[{ addr = \"127.0.0.1:0\" }]";

fn skerry(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skerry"));
    command
        .current_dir(dir)
        .env_clear()
        .env("SKERRY_LISTEN", LISTEN)
        .env("SKERRY_PASSWORD__COST", "minimal")
        .env("SKERRY_MEDIA__FREE_DISK_FLOOR", "0")
        .stdin(Stdio::null());
    command
}

fn run(dir: &Path, args: &[&str]) -> Output {
    skerry(dir).args(args).output().unwrap()
}

/// What a command that succeeds prints.
fn prints(dir: &Path, args: &[&str]) -> String {
    let output = run(dir, args);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a command that fails says.
fn complains(dir: &Path, args: &[&str]) -> String {
    let output = run(dir, args);
    assert_eq!(output.status.code(), Some(1), "{args:?}");
    String::from_utf8(output.stderr).unwrap()
}

struct Running {
    child: Child,
    lines: Vec<String>,
}

impl Running {
    /// Starts the server and reads what it prints until it is ready.
    fn start(dir: &Path) -> Running {
        let mut command = skerry(dir);
        command.arg("serve");
        Running::of(command)
    }

    /// The same of a command that starts it.
    fn of(mut command: Command) -> Running {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        let mut lines = Vec::new();
        let mut line = String::new();
        while reader.read_line(&mut line).unwrap() > 0 {
            lines.push(std::mem::take(&mut line));
            if lines.last().is_some_and(|line| line.contains("memory")) {
                break;
            }
        }
        // Whatever else it prints may go nowhere, but has to go.
        std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
        Running { child, lines }
    }

    fn ends_well(mut self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &id])
                .status()
                .unwrap()
                .success()
        );
        let deadline = Instant::now() + Duration::from_secs(15);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "{status}");
                return;
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn version_help_and_examples() {
    let dir = tempfile::tempdir().unwrap();
    assert!(prints(dir.path(), &["version"]).starts_with("skerry "));
    let help = prints(dir.path(), &["--help"]);
    for word in [
        "serve",
        "check-config",
        "user",
        "token",
        "Examples",
        "SKERRY_CONFIG",
    ] {
        assert!(help.contains(word), "{word} is not in the help");
    }
    assert!(prints(dir.path(), &["user", "--help"]).contains("reset-password"));
    assert!(prints(dir.path(), &["check-config", "--print-example"]).contains("[registration]"));
    assert_eq!(run(dir.path(), &["fly"]).status.code(), Some(2));
}

#[test]
fn a_configuration_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    assert!(prints(dir.path(), &["check-config"]).contains("localhost"));
    let file = dir.path().join("x.toml");
    std::fs::write(
        &file,
        "server_name = \"example.org\"\n[registration]\nopne = true\n",
    )
    .unwrap();
    let text = complains(dir.path(), &["check-config", "--config", "x.toml"]);
    assert!(text.contains("opne") && text.contains("x.toml"), "{text}");
    std::fs::write(
        &file,
        "[[listen]]\naddr = \"127.0.0.1:0\"\ntls = \"acme\"\n",
    )
    .unwrap();
    let output = skerry(dir.path())
        .env_remove("SKERRY_LISTEN")
        .args(["serve", "--config", "x.toml"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && text.contains("acme.email"),
        "{text}"
    );
    assert!(complains(dir.path(), &["serve", "--config", "none.toml"]).contains("none.toml"));
}

#[test]
fn accounts_and_tokens_on_a_running_server_and_on_a_stopped_one() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    assert!(complains(dir, &["user", "list"]).contains("no data"));
    let running = Running::start(dir);
    assert!(
        running.lines[0].contains("localhost"),
        "{:?}",
        running.lines
    );
    assert!(
        running
            .lines
            .iter()
            .any(|line| line.contains("http://127.0.0.1:"))
    );
    let data = dir.join("data");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for dir in [&data, &data.join("db"), &data.join("media")] {
        assert_eq!(mode(dir), 0o700, "{}", dir.display());
    }
    for name in ["admin.sock", "signing.key", "pepper", "registration_token"] {
        assert_eq!(mode(&data.join(name)), 0o600, "{name}");
    }

    let made = prints(dir, &["user", "create", "alice"]);
    assert!(
        made.contains("@alice:localhost") && made.contains("password: "),
        "{made}"
    );
    assert!(complains(dir, &["user", "create", "alice"]).contains("taken"));
    assert!(complains(dir, &["serve"]).contains("cannot be opened"));
    assert_eq!(
        prints(dir, &["token", "create", "abc", "--uses", "3"]),
        "abc\n"
    );
    running.ends_well("-TERM");
    assert!(!data.join("admin.sock").exists());

    let mut create = skerry(dir)
        .args(["user", "create", "bob", "--password-stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    create
        .stdin
        .take()
        .unwrap()
        .write_all(b"correct horse\n")
        .unwrap();
    let made = String::from_utf8(create.wait_with_output().unwrap().stdout).unwrap();
    assert!(
        made.contains("@bob:localhost") && !made.contains("password"),
        "{made}"
    );
    prints(dir, &["user", "promote", "@bob:localhost"]);
    let list = prints(dir, &["user", "list"]);
    let lines: Vec<&str> = list.lines().collect();
    assert!(lines[0].ends_with("@alice:localhost  admin"), "{list}");
    assert!(lines[1].ends_with("@bob:localhost  admin"), "{list}");
    prints(dir, &["user", "deactivate", "bob"]);
    assert!(prints(dir, &["user", "list"]).contains("deactivated"));
    assert!(complains(dir, &["user", "promote", "nobody"]).contains("No such user"));
    assert!(prints(dir, &["token", "list"]).contains("abc  used 0 of 3"));
    prints(dir, &["token", "revoke", "abc"]);

    let running = Running::start(dir);
    assert!(prints(dir, &["user", "list"]).contains("@alice:localhost"));
    assert!(!prints(dir, &["token", "list"]).contains("abc"));
    running.ends_well("-INT");
}

#[test]
fn a_server_keeps_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    prints(dir, &["user", "create", "alice"]);
    let other = |args: &[&str]| {
        let mut command = skerry(dir);
        let output = command
            .env("SKERRY_SERVER_NAME", "other.example")
            .args(args);
        let output = output.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {text}");
        assert!(
            text.contains("localhost") && text.contains("other.example"),
            "{text}"
        );
    };
    other(&["serve"]);
    other(&["user", "list"]);
    assert!(prints(dir, &["user", "list"]).contains("@alice:localhost"));
}

#[test]
fn bridges_come_and_go_on_a_running_server_and_on_a_stopped_one() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let write = |file: &str, id: &str, token: &str| {
        let text = format!(
            "id: {id}\nurl: null\nas_token: {token}\nhs_token: other\nsender_localpart: {id}-bot\n\
             namespaces:\n  users:\n    - {{ regex: '@{id}_.*', exclusive: true }}\n"
        );
        std::fs::write(dir.join(file), text).unwrap();
    };
    write("irc.yaml", "irc", "a-token");
    write("xmpp.yaml", "xmpp", "b-token");
    let register = |file| ["appservice", "register", file];
    assert_eq!(prints(dir, &register("irc.yaml")), "registered irc\n");
    let running = Running::start(dir);
    assert_eq!(prints(dir, &register("xmpp.yaml")), "registered xmpp\n");
    let list = prints(dir, &["appservice", "list"]);
    assert_eq!(
        list,
        "irc  @irc-bot:localhost  nothing is sent  0 waiting  (registered)\n\
         xmpp  @xmpp-bot:localhost  nothing is sent  0 waiting  (registered)\n"
    );
    let shown = prints(dir, &["appservice", "show", "irc"]);
    assert!(
        shown.contains("\"sender_localpart\": \"irc-bot\""),
        "{shown}"
    );
    assert!(!shown.contains("token"), "{shown}");
    write("again.yaml", "again", "a-token");
    let said = complains(dir, &register("again.yaml"));
    assert!(said.contains("\"irc\" has the same one"), "{said}");
    let said = complains(dir, &register("none.yaml"));
    assert!(said.contains("none.yaml: cannot be read"), "{said}");
    running.ends_well("-INT");
    let unregister = ["appservice", "unregister", "irc"];
    assert_eq!(prints(dir, &unregister), "unregistered irc\n");
    assert!(complains(dir, &unregister).contains("No such application service"));
    assert!(!prints(dir, &["appservice", "list"]).contains("irc"));
}

#[test]
fn the_doctor_looks_at_a_server_that_runs_and_at_one_that_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    std::fs::write(
        dir.join("x.toml"),
        format!(
            "[[listen]]\naddr = \"127.0.0.1:{port}\"\n[password]\ncost = \"minimal\"\n\
             [media]\nfree_disk_floor = \"0\"\n"
        ),
    )
    .unwrap();
    let run = |args: &[&str]| {
        let mut command = skerry(dir);
        let output = command.env_remove("SKERRY_LISTEN").args(args);
        let output = output.args(["--config", "x.toml"]).output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    let (status, said) = run(&["doctor"]);
    assert_eq!(status, Some(1), "{said}");
    assert!(
        said.contains("wrong   server       it does not run"),
        "{said}"
    );
    assert!(said.contains("nothing listens there"), "{said}");

    let mut child = skerry(dir)
        .env_remove("SKERRY_LISTEN")
        .args(["serve", "--config", "x.toml"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !dir.join("data/admin.sock").exists() {
        assert!(Instant::now() < deadline, "it does not start");
        std::thread::sleep(Duration::from_millis(50));
    }
    let (status, said) = run(&["doctor"]);
    assert_eq!(status, Some(0), "{said}");
    for line in [
        "ok      config",
        "ok      data",
        "ok      disk",
        "ok      server       it runs and is well",
        "ok      port",
        "ok      base_url     http://localhost:",
        "answers as this server",
        "unknown clock",
    ] {
        assert!(said.contains(line), "{line} is not in\n{said}");
    }
    let mode = |mode| {
        let path = dir.join("data/pepper");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(0o644);
    let (status, said) = run(&["doctor", "--json"]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.ends_with("\"wrong\":1}\n"), "{said}");
    assert!(said.contains("chmod 600 ./data/pepper"), "{said}");
    mode(0o600);
    assert!(
        Command::new("kill")
            .args(["-TERM", &child.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
    assert!(child.wait().unwrap().success());

    std::fs::write(dir.join("x.toml"), "server_nam = \"x\"\n").unwrap();
    let (status, said) = run(&["doctor"]);
    assert_eq!(status, Some(1));
    assert!(said.starts_with("wrong   config       x.toml: "), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

fn media_prune(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_media-prune"))
        .args(args)
        .current_dir(dir)
        .env_clear()
        .env("SKERRY_LISTEN", LISTEN)
        .env("SKERRY_PASSWORD__COST", "minimal")
        .env("SKERRY_MEDIA__FREE_DISK_FLOOR", "0")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn media_is_pruned_on_a_running_and_on_a_stopped_server() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let missing = media_prune(dir, &["--remote", "--dry-run"]);
    assert_eq!(missing.status.code(), Some(1));
    prints(dir, &["user", "create", "alice"]);
    let run = |args: &[&str]| {
        let output = media_prune(dir, args);
        let text = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), text, errors)
    };
    // A file that nothing names, as a crash leaves it.
    let folder = dir.join("data/media/ab/cd");
    std::fs::create_dir_all(&folder).unwrap();
    let orphan = folder.join("0".repeat(60));
    let running = Running::start(dir);
    std::fs::write(&orphan, b"orphan").unwrap();
    let (status, text, errors) = run(&["--check", "--dry-run"]);
    assert_eq!(status, Some(0), "{errors}");
    assert!(text.contains("files that nothing names"), "{text}");
    assert!(orphan.exists());
    // There is no terminal to ask on.
    let (status, _, errors) = run(&["--check"]);
    assert_eq!(status, Some(1));
    assert!(errors.contains("--yes"), "{errors}");
    let (status, text, errors) = run(&["--check", "--yes"]);
    assert_eq!(status, Some(0), "{errors}");
    assert!(text.contains("Done: 1 items went"), "{text}");
    assert!(!orphan.exists());
    running.ends_well("-TERM");

    std::fs::write(&orphan, b"orphan").unwrap();
    // A start removes it; then there is nothing to do, and the plan is the same as before.
    let (status, text, errors) = run(&["--check", "--all", "--json"]);
    assert_eq!(status, Some(0), "{errors}");
    assert!(!orphan.exists());
    assert!(
        text.starts_with("{\"report\":") && text.trim_end().ends_with('}'),
        "{text}"
    );
    // Nothing is left to go, so any target is reached; a wrong one is an error.
    assert_eq!(run(&["--target-size", "1GiB", "--dry-run"]).0, Some(0));
    assert_eq!(run(&["--target-size", "many"]).0, Some(1));
    assert_eq!(run(&["--fly"]).0, Some(1));
    assert_eq!(run(&[]).0, Some(1));
    let (_, text, _) = run(&["--explain", "mxc://localhost/nothing"]);
    assert!(text.contains("it is not here"), "{text}");
    let (status, _, errors) = run(&["--restore", "mxc://localhost/nothing"]);
    assert_eq!(status, Some(1));
    assert!(errors.contains("trash"), "{errors}");
    assert_eq!(run(&["--verify"]).0, Some(0));
    assert!(prints(dir, &["media", "prune", "--help"]).contains("--keep-rooms"));
}
