//! The real program in a process of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::Client;

/// A running `skerry serve`. Killed when dropped.
pub struct Child {
    process: std::process::Child,
    /// Where it listens.
    pub addr: SocketAddr,
}

impl Child {
    /// The program: beside the test's own executable, where cargo puts binaries, or where
    /// `SKERRY_BIN` says.
    #[must_use]
    pub fn program() -> Option<PathBuf> {
        if let Some(path) = std::env::var_os("SKERRY_BIN") {
            return Some(path.into());
        }
        // .../debug/deps/it-0123 -> .../debug/skerry
        let mut path = std::env::current_exe().ok()?;
        path.pop();
        path.pop();
        path.push("skerry");
        path.exists().then_some(path)
    }

    /// Starts the program on a data directory and waits until it answers. `more` is added to its
    /// configuration.
    pub async fn start(program: &Path, data_dir: &Path, more: &str) -> Child {
        let started = Child::launch(program, data_dir, more, &[]).await;
        started.unwrap_or_else(|status| panic!("skerry ended at its start: {status}"))
    }

    /// The same with environment variables; how it ended, where it did so before it answered.
    pub async fn launch(
        program: &Path,
        data_dir: &Path,
        more: &str,
        environment: &[(&str, &Path)],
    ) -> Result<Child, ExitStatus> {
        let addr = free_port();
        let config = data_dir.with_extension("toml");
        let text = format!(
            "server_name = \"crash.example\"\ndata_dir = {:?}\n[[listen]]\naddr = \"{addr}\"\n\
             [registration]\nopen = true\n[password]\ncost = \"minimal\"\n\
             [rate_limit]\nenabled = false\n[media]\nfree_disk_floor = \"0\"\n\
             [log]\nlevel = \"warn\"\n{more}",
            data_dir.display().to_string()
        );
        std::fs::write(&config, text).unwrap();
        let process = Command::new(program)
            .args(["serve", "--config"])
            .arg(&config)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut child = Child { process, addr };
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(mut client) = Client::connect(addr).await
                && let Some((200, _)) = client.req(http::Method::GET, "/health", None, None).await
            {
                return Ok(child);
            }
            if let Some(status) = child.process.try_wait().unwrap() {
                return Err(status);
            }
            assert!(Instant::now() < deadline, "skerry does not answer");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits for it to end by itself: how it ended, if it did so within the time.
    pub async fn ended(&mut self, within: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return Some(status);
            }
            if Instant::now() > deadline {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Kills it at once, without a chance to do anything more.
    pub fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Asks it to stop (SIGTERM) and waits until it has.
    pub fn stop(mut self) -> ExitStatus {
        let status = Command::new("kill")
            .arg(self.process.id().to_string())
            .status()
            .unwrap();
        assert!(status.success());
        self.process.wait().unwrap()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}
