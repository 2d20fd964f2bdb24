//! The program under a holder of its sockets, as under systemd.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

const VERSIONS: &[u8] = b"GET /_matrix/client/versions HTTP/1.1\r\nhost: localhost\r\n\
    x-forwarded-for: 198.51.100.1\r\naccept-encoding: gzip\r\nconnection: close\r\n\r\n";

fn ask(addr: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.write_all(VERSIONS)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Starts the server with this socket as its descriptor 3.
fn held(dir: &Path, socket: &TcpListener) -> Running {
    let passed = OwnedFd::from(socket.try_clone().unwrap());
    let mut command = Command::new("sh");
    command
        .current_dir(dir)
        .env_clear()
        .env("SKERRY_LISTEN", "[{ addr = \"fd:web\" }]")
        .env("SKERRY_MEDIA__FREE_DISK_FLOOR", "0")
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDNAMES", "web")
        .args([
            "-c",
            "LISTEN_PID=$$; export LISTEN_PID; exec \"$0\" serve 3<&0 0</dev/null",
        ])
        .arg(env!("CARGO_BIN_EXE_skerry"))
        .stdin(Stdio::from(passed));
    Running::of(command)
}

#[test]
fn a_restart_under_a_holder_of_the_socket_refuses_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    let mut running = held(dir.path(), &socket);
    let over = Arc::new(AtomicBool::new(false));
    let storm: Vec<_> = (0..4)
        .map(|_| {
            let over = Arc::clone(&over);
            std::thread::spawn(move || {
                let mut answered = 0_u32;
                while !over.load(Ordering::Relaxed) {
                    let answer = ask(addr).expect("refused or reset");
                    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                    answered += 1;
                    std::thread::sleep(Duration::from_millis(2));
                }
                answered
            })
        })
        .collect();
    for _ in 0..2 {
        std::thread::sleep(Duration::from_millis(300));
        running.ends_well("-TERM");
        running = held(dir.path(), &socket);
    }
    std::thread::sleep(Duration::from_millis(300));
    over.store(true, Ordering::Relaxed);
    let answered: u32 = storm.into_iter().map(|one| one.join().unwrap()).sum();
    assert!(answered > 50, "{answered}");
    running.ends_well("-INT");
}

#[test]
fn the_admin_socket_has_figures_of_the_doors() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path());
    let line = running.lines.iter().find(|line| line.contains("http://"));
    let addr = line.unwrap().rsplit('/').next().unwrap().trim().parse();
    ask(addr.unwrap()).unwrap();
    let socket = dir.path().join("data/admin.sock");
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    let head = "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    for part in [
        "\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n",
        "\nskerry_connections_total 2\n",
        "\nskerry_http_requests_total{class=\"read\",status=\"200\"} 1\n",
        "\nprocess_resident_memory_bytes ",
    ] {
        assert!(answer.contains(part), "{part}: {answer}");
    }
    running.ends_well("-TERM");
}

#[test]
fn a_hangup_ends_nothing_and_a_redirect_leads_to_the_public_address() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = skerry(dir.path());
    command
        .arg("serve")
        .env("SKERRY_PUBLIC__BASE_URL", "https://matrix.example.org")
        .env(
            "SKERRY_LISTEN",
            "[{ addr = \"127.0.0.1:0\", redirect = true }]",
        );
    let running = Running::of(command);
    let id = running.child.id().to_string();
    Command::new("kill").args(["-HUP", &id]).status().unwrap();
    let line = running.lines.iter().find(|line| line.contains("http://"));
    let addr = line.unwrap().rsplit('/').next().unwrap().trim().parse();
    let answer = ask(addr.unwrap()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 308"), "{answer}");
    let place = "location: https://matrix.example.org/_matrix/client/versions\r\n";
    assert!(answer.contains(place), "{answer}");
    running.ends_well("-TERM");
}
