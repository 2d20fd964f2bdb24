//! The server as a child process, and what `/proc` says of it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Outcome;
use crate::http::Conn;

/// A running server on a data directory of its own, which goes with it.
#[derive(Debug)]
pub(crate) struct Server {
    program: PathBuf,
    dir: TempDir,
    pub(crate) addr: String,
    child: Option<Child>,
}

/// What the process has used so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// Processor time in seconds.
    pub(crate) cpu: f64,
    /// Bytes it caused to be written to the disk.
    pub(crate) written: f64,
    /// Of those the bytes of files that were deleted before they got there.
    pub(crate) spared: f64,
    /// Memory in MiB.
    pub(crate) memory: f64,
    pub(crate) at: Instant,
}

impl Server {
    /// Prepares a server; [`Server::start`] starts it.
    pub(crate) fn new(program: &Path, parent: &Path) -> Outcome<Self> {
        Self::with(program, parent, "")
    }

    /// The same with more at the end of its configuration.
    pub(crate) fn with(program: &Path, parent: &Path, more: &str) -> Outcome<Self> {
        let dir = tempfile::Builder::new()
            .prefix("skerry-bench-")
            .tempdir_in(parent)?;
        // Free at this moment; nobody else on a quiet machine will take it.
        let addr = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let config = format!(
            "server_name = \"localhost\"\ndata_dir = \"{}\"\nmemory_budget = \"256MiB\"\n\
             [[listen]]\naddr = \"{addr}\"\n[registration]\nopen = true\n\
             [password]\ncost = \"minimal\"\n[rate_limit]\nenabled = false\n\
             [media]\nmax_upload = \"2GiB\"\n\
             [limits]\nconnections_per_address = 0\nconnections = 32768\n\
             [log]\nlevel = \"warn\"\n{more}",
            dir.path().join("data").display()
        );
        std::fs::write(dir.path().join("skerry.toml"), config)?;
        Ok(Self {
            program: program.to_owned(),
            dir,
            addr,
            child: None,
        })
    }

    /// Starts the server, and says how many seconds it took to the first answer.
    pub(crate) fn start(&mut self) -> Outcome<f64> {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("log"))?;
        let start = Instant::now();
        let child = Command::new(&self.program)
            .arg("serve")
            .arg("--config")
            .arg(self.dir.path().join("skerry.toml"))
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map_err(|error| format!("starting {}: {error}", self.program.display()))?;
        let child = self.child.insert(child);
        let mut conn = Conn::new(&self.addr, "");
        loop {
            let reply = conn.call("GET", "/_matrix/client/versions", "");
            if reply.is_ok_and(|reply| reply.status == 200) {
                return Ok(start.elapsed().as_secs_f64());
            }
            if child.try_wait()?.is_some() || start.elapsed() > Duration::from_secs(60) {
                let log = std::fs::read_to_string(self.dir.path().join("log"))?;
                return Err(format!("the server does not start:\n{log}").into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends it as Ctrl-C would, and waits for the end.
    pub(crate) fn stop(&mut self) -> Outcome<()> {
        if let Some(mut child) = self.child.take() {
            let pid = i32::try_from(child.id())
                .ok()
                .and_then(rustix::process::Pid::from_raw);
            if let Some(pid) = pid {
                rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
            }
            child.wait()?;
        }
        Ok(())
    }

    /// Ends it at once, as a crash would.
    pub(crate) fn kill(&mut self) -> Outcome<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Where its media lies.
    pub(crate) fn media(&self) -> PathBuf {
        self.dir.path().join("data/media")
    }

    /// What the process has used so far.
    pub(crate) fn usage(&self) -> Outcome<Usage> {
        let pid = self.child.as_ref().ok_or("the server does not run")?.id();
        Ok(Usage {
            cpu: cpu_seconds(pid)?,
            written: number(pid, "io", "write_bytes:")?,
            spared: number(pid, "io", "cancelled_write_bytes:")?,
            memory: memory_mib(pid)?,
            at: Instant::now(),
        })
    }
}

impl Server {
    /// Memory of the process and of those it started, in MiB; what they share counts for each.
    pub(crate) fn family_memory(&self) -> Outcome<f64> {
        let pid = self.child.as_ref().ok_or("the server does not run")?.id();
        let mut sum = number(pid, "status", "VmRSS:")?;
        for entry in std::fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let other = name.to_str().and_then(|name| name.parse::<u32>().ok());
            // One that has just ended has no numbers any more.
            let child = other.filter(|other| {
                number(*other, "status", "PPid:").is_ok_and(|parent| parent == f64::from(pid))
            });
            let memory = child.and_then(|child| number(child, "status", "VmRSS:").ok());
            sum += memory.unwrap_or_default();
        }
        Ok(sum / 1024.0)
    }
}

/// Processor time of a process in seconds.
pub(crate) fn cpu_seconds(pid: u32) -> Outcome<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace();
    // Fields 14 and 15 of the line: user and system time in ticks of 10 ms.
    let ticks: f64 = fields
        .skip(11)
        .take(2)
        .filter_map(|n| n.parse::<f64>().ok())
        .sum();
    Ok(ticks / 100.0)
}

/// Memory of a process in MiB.
pub(crate) fn memory_mib(pid: u32) -> Outcome<f64> {
    Ok(number(pid, "status", "VmRSS:")? / 1024.0)
}

fn number(pid: u32, file: &str, name: &str) -> Outcome<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number
        .ok_or_else(|| format!("no {name} in /proc/{pid}/{file}"))?
        .parse()?)
}

impl Drop for Server {
    fn drop(&mut self) {
        // The data goes away with the directory, so nothing is lost.
        let _ = self.kill();
    }
}
