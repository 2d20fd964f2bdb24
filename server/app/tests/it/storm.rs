//! The program under `systemd-socket-activate`, restarted in a storm of requests: the sockets stay
//! open, so nobody is refused or reset.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;

const HOLDER: &str = "systemd-socket-activate";

/// What systemd does with `Restart=always`: the sockets stay, the program is started again, with
/// its own number as the one that they are for.
const AGAIN: &str = "trap 'over=yes; kill -TERM $child' TERM; while [ -z \"$over\" ]; do \
    sh -c 'LISTEN_PID=$$; export LISTEN_PID; exec \"$0\" serve' \"$0\" & child=$!; \
    wait $child; wait $child; done; exit 0";

/// A request, and its whole answer.
fn ask(addr: SocketAddr, method: &str, path: &str, token: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(addr).expect("refused");
    stream
        .set_read_timeout(Some(Duration::from_secs(90)))
        .unwrap();
    let length = body.len();
    let shown = match token {
        "" => String::new(),
        token => format!("authorization: Bearer {token}\r\n"),
    };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\n{shown}content-length: {length}\r\n\
         connection: close\r\n\r\n"
    );
    stream.write_all((head + body).as_bytes()).expect("reset");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("reset");
    answer
}

/// The text of a field of an answer.
fn field(answer: &str, name: &str) -> String {
    let (_, rest) = answer.split_once(&format!("\"{name}\":\"")).expect(answer);
    rest.split('"').next().unwrap().to_owned()
}

/// The shell that starts the program again and again; it ends with the test.
struct Holder(Child);

impl Holder {
    fn ends_well(mut self) {
        signal("-TERM", self.0.id());
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            signal("-TERM", self.0.id());
        }
    }
}

/// The program, held; nothing where systemd is not installed and need not be.
fn held(dir: &Path) -> Option<(Holder, SocketAddr)> {
    // Free at this moment; the holder takes no port 0.
    let addr = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let spawned = Command::new(HOLDER)
        .current_dir(dir)
        .arg(format!("--listen={addr}"))
        .arg("--fdname=web")
        .args(["-E", "SKERRY_LISTEN=[{ addr = \"fd:web\" }]"])
        .args([
            "-E",
            "SKERRY_MEDIA__FREE_DISK_FLOOR=0",
            "-E",
            "SKERRY_REGISTRATION__OPEN=true",
        ])
        .args([
            "-E",
            "SKERRY_PASSWORD__COST=minimal",
            "-E",
            "SKERRY_RATE_LIMIT__ENABLED=false",
        ])
        .args(["sh", "-c", AGAIN, env!("CARGO_BIN_EXE_skerry")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    match spawned {
        Ok(child) => Some((Holder(child), addr)),
        Err(error) => {
            let needed = std::env::var_os("SKERRY_TEST_EVERYTHING").is_some();
            assert!(!needed, "{HOLDER}: {error}");
            println!("left out: {HOLDER} is not installed");
            None
        }
    }
}

/// The number of the server's process, a child of the shell.
fn server_of(holder: &Holder) -> Option<u32> {
    let id = holder.0.id();
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
    let child = children.split_whitespace().next()?.parse().ok()?;
    let name = std::fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
    (name.trim() == "skerry").then_some(child)
}

fn signal(name: &str, id: u32) {
    let sent = Command::new("kill").args([name, &id.to_string()]).status();
    assert!(sent.unwrap().success());
}

fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_restart_under_systemds_sockets_refuses_and_resets_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let Some((holder, addr)) = held(dir.path()) else {
        return;
    };
    // The first connection starts it.
    wait_until("it does not listen", || TcpStream::connect(addr).ok());
    let body = "{\"username\":\"alice\",\"password\":\"x\",\"auth\":{\"type\":\"m.login.dummy\"}}";
    let made = ask(addr, "POST", "/_matrix/client/v3/register", "", body);
    let token = field(&made, "access_token");
    let first = ask(addr, "GET", "/_matrix/client/v3/sync", &token, "");
    let since = field(&first, "next_batch");

    let over = Arc::new(AtomicBool::new(false));
    // The longest that anybody waited, in ms; the storm runs on through the restarts.
    let longest = Arc::new(AtomicU64::new(0));
    let storm: Vec<_> = (0..4)
        .map(|_| {
            let (over, longest) = (Arc::clone(&over), Arc::clone(&longest));
            std::thread::spawn(move || {
                let mut answered = 0_u32;
                while !over.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    let answer = ask(addr, "GET", "/_matrix/client/versions", "", "");
                    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                    let waited = u64::try_from(begun.elapsed().as_millis()).unwrap();
                    longest.fetch_max(waited, Ordering::Relaxed);
                    answered += 1;
                    std::thread::sleep(Duration::from_millis(2));
                }
                answered
            })
        })
        .collect();
    for _ in 0..2 {
        let before = wait_until("it does not run", || server_of(&holder));
        let path = format!("/_matrix/client/v3/sync?timeout=80000&since={since}");
        let token = token.clone();
        let poll = std::thread::spawn(move || ask(addr, "GET", &path, &token, ""));
        // It is let in and waits, as far as can be seen from here.
        std::thread::sleep(Duration::from_millis(500));
        let begun = Instant::now();
        signal("-TERM", before);
        let answer = poll.join().expect("a long poll was cut off");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "it waited to its end"
        );
        wait_until("it is not started again", || {
            server_of(&holder).filter(|now| *now != before)
        });
    }
    let answer = ask(addr, "GET", "/_matrix/client/v3/sync", &token, "");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    over.store(true, Ordering::Relaxed);
    let answered: u32 = storm.into_iter().map(|one| one.join().unwrap()).sum();
    let longest = longest.load(Ordering::Relaxed);
    println!("{answered} answers, the longest wait {longest} ms");
    assert!(answered > 50, "{answered}");
    // Of a release build on a quiet machine it is well under a second; here it may be a slow one.
    assert!(longest < 30_000, "{longest} ms");
    holder.ends_well();
}
