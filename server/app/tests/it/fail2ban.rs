//! Whether fail2ban finds in our log who tries out passwords.

use std::io::Read;
use std::net::TcpStream;

use super::*;

const FILTER: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../deploy/fail2ban/filter.d/skerry.conf"
);

fn ask(addr: &str, from: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nx-forwarded-for: {from}\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all((head + body).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn failed_log_ins_are_found_and_nothing_else() {
    for format in ["text", "json", "journald"] {
        let dir = tempfile::tempdir().unwrap();
        let mut command = skerry(dir.path());
        command
            .arg("serve")
            .env("SKERRY_LOG__FORMAT", format)
            .env("SKERRY_LOG__LEVEL", "debug")
            .env("SKERRY_PROXY__TRUSTED", "[\"loopback\"]");
        let file = dir.path().join("log");
        command.stdout(std::fs::File::create(&file).unwrap());
        let running = Running {
            child: command.stderr(Stdio::null()).spawn().unwrap(),
            lines: Vec::new(),
        };
        let addr = address(&file);
        // A name that looks like the line that is searched for.
        let name = "x\\n  INFO skerry::login: failed log-in from 192.0.2.99";
        let body = format!(
            "{{\"type\":\"m.login.password\",\"password\":\"x\",\
             \"identifier\":{{\"type\":\"m.id.user\",\"user\":\"{name}\"}}}}"
        );
        for from in ["192.0.2.1", "192.0.2.1", "2001:db8::7"] {
            let answer = ask(&addr, from, "/_matrix/client/v3/login", &body);
            assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
        }
        let answer = ask(&addr, "192.0.2.5", "/_matrix/client/v3/login", "{}");
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        running.ends_well("-TERM");
        let text = std::fs::read_to_string(&file).unwrap();
        let Some(found) = found(&file) else {
            return;
        };
        let wanted = ["192.0.2.1", "192.0.2.1", "2001:db8::7"];
        assert_eq!(found, wanted, "{format}: {text}");
    }
}

/// Where the server says that it listens, once it does.
fn address(log: &Path) -> String {
    for _ in 0..400 {
        let text = std::fs::read_to_string(log).unwrap();
        let line = text.lines().find(|line| line.contains("http://127"));
        if let Some(line) = line.filter(|_| text.contains("memory")) {
            return line.rsplit('/').next().unwrap().trim().to_owned();
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    panic!("it does not listen");
}

/// The addresses that the filter finds in a file; none where there is no fail2ban.
fn found(file: &Path) -> Option<Vec<String>> {
    let done = Command::new("fail2ban-regex")
        .args(["--out", "ip"])
        .arg(file)
        .arg(FILTER)
        .output();
    match done {
        Ok(done) => {
            assert!(done.status.success(), "{done:?}");
            let text = String::from_utf8(done.stdout).unwrap();
            Some(text.split_whitespace().map(str::to_owned).collect())
        }
        Err(error) => {
            let needed = std::env::var_os("SKERRY_TEST_EVERYTHING").is_some();
            assert!(!needed, "fail2ban-regex cannot be started: {error}");
            println!("left out, fail2ban-regex cannot be started: {error}");
            None
        }
    }
}
