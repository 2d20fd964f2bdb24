//! Sockets that systemd holds. The test program starts itself anew, as systemd would start us.

use std::process::{Child, Command, Stdio};

use skerry_proxy::Inherited;

use super::*;

const ROLE: &str = "SKERRY_TEST_SERVES_INHERITED";

/// Not a test on its own: what is started below.
#[tokio::test]
async fn the_child() {
    if std::env::var(ROLE).is_err() {
        return;
    }
    let mut inherited = Inherited::from_environment();
    assert_eq!(inherited.left(), ["web", "local", "5"]);
    let named = |name: &str| spec(Addr::Inherited(name.to_owned()), None);
    let missing = Listener::open(&named("other"), &mut inherited, None).await;
    let missing = missing.err().unwrap().to_string();
    assert!(
        missing.contains("fd:other") && missing.contains("web"),
        "{missing}"
    );
    let mut doors = Vec::new();
    for name in ["web", "local", "5"] {
        let opened = Listener::open(&named(name), &mut inherited, None).await;
        for listener in opened.unwrap() {
            let router = router();
            doors.push(Door { listener, router });
        }
    }
    assert_eq!(doors.len(), 3);
    assert!(inherited.left().is_empty());
    let (stop, stopped) = watch::channel(false);
    let (_reload, reload) = watch::channel(());
    let orders = Orders {
        stop: stopped,
        reload,
    };
    let mut signal =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
    let settings = Settings {
        limits: quick(),
        ..Settings::default()
    };
    let serving = tokio::spawn(serve(doors, settings, orders));
    signal.recv().await;
    stop.send_replace(true);
    serving.await.unwrap();
}

fn activated(ports: [u16; 2], socket: &Path) -> Option<Child> {
    let child = Command::new("systemd-socket-activate")
        .args(["--fdname=web:local:", "-E", &format!("{ROLE}=1")])
        .arg(format!("--listen=127.0.0.1:{}", ports[0]))
        .arg(format!("--listen={}", socket.display()))
        .arg(format!("--listen=127.0.0.1:{}", ports[1]))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "inherited::the_child"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    match child {
        Ok(child) => Some(child),
        Err(error) => {
            println!("left out, systemd-socket-activate cannot be started: {error}");
            None
        }
    }
}

async fn answers(port: u16) -> bool {
    for _ in 0..100 {
        if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)).await {
            return exchange(stream, ASK).await.ends_with("here");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

#[tokio::test]
async fn sockets_of_systemd() {
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ports = [free(), free()].map(|free| free.local_addr().unwrap().port());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.sock");
    let Some(mut child) = activated(ports, &path) else {
        return;
    };
    assert!(answers(ports[0]).await);
    assert!(answers(ports[1]).await);
    let stream = UnixStream::connect(&path).await.unwrap();
    assert!(exchange(stream, ASK).await.ends_with("here"));
    let id = child.id().to_string();
    Command::new("kill").arg(&id).status().unwrap();
    let ended = tokio::task::spawn_blocking(move || child.wait());
    assert!(ended.await.unwrap().unwrap().success());
    assert!(path.exists(), "the socket is not ours to remove");
}
