//! The server under test, and waiting for what is to happen.

use std::{
    future::Future,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// The server as a process of its own, in a directory of its own.
pub struct Skerry {
    binary: PathBuf,
    dir: tempfile::TempDir,
    pub url: String,
    child: Child,
}

impl Skerry {
    pub fn start() -> Self {
        let binary = PathBuf::from(
            std::env::var("SKERRY_BIN").expect("SKERRY_BIN must name the skerry executable"),
        );
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let config = format!(
            "server_name = \"localhost\"\ndata_dir = \"{}\"\n[[listen]]\naddr = \"127.0.0.1:{port}\"\n\
             [registration]\nopen = true\n[password]\ncost = \"minimal\"\n[rate_limit]\nenabled = false\n",
            dir.path().join("data").display()
        );
        std::fs::write(dir.path().join("skerry.toml"), config).unwrap();
        let child = Self::launch(&binary, &dir);
        let server = Self {
            binary,
            dir,
            url: format!("http://127.0.0.1:{port}"),
            child,
        };
        server.wait_until_it_answers();
        server
    }

    fn launch(binary: &PathBuf, dir: &tempfile::TempDir) -> Child {
        Command::new(binary)
            .args(["serve", "--config"])
            .arg(dir.path().join("skerry.toml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn wait_until_it_answers(&self) {
        let address = self.url.trim_start_matches("http://").to_owned();
        let end = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(&address).is_err() {
            assert!(Instant::now() < end, "the server never listened");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn restart(&mut self) {
        self.end();
        self.child = Self::launch(&self.binary, &self.dir);
        self.wait_until_it_answers();
    }

    /// Asks the process to end as Ctrl-C does, and insists on status 0.
    pub fn end(&mut self) {
        let status = Command::new("kill")
            .args(["-INT", &self.child.id().to_string()])
            .status();
        assert!(status.unwrap().success());
        let status = self.child.wait().unwrap();
        assert!(status.success(), "the server ended with {status}");
    }
}

impl Drop for Skerry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Repeats `attempt` until it gives something.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut attempt: impl FnMut() -> F) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = attempt().await {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
