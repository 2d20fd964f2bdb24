//! Decoding in processes of its own, so that a fault in a decoder harms nobody: a worker is this
//! same program started again, with no files, no network, little memory and little time. One that
//! breaks a bound, or breaks, is killed, and the next picture gets a new one.

pub mod child;
#[cfg(test)]
mod tests;
mod wire;

use std::{
    ffi::OsString,
    io::{BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Mutex, PoisonError, mpsc},
    time::Duration,
};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

use crate::thumbnail::{Made, Wanted};

/// What a worker may use.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// The program and its arguments; it has to call [`child::serve`].
    pub command: Vec<OsString>,
    /// How much memory, in bytes, beyond what it has when it starts.
    pub memory: u64,
    /// How long one picture may take.
    pub deadline: Duration,
}

/// Processor time of a worker's whole life, in seconds, and how many pictures it gets meanwhile.
const CPU_SECS: u64 = 60;
const PICTURES: u32 = 64;

/// The workers.
#[derive(Debug)]
pub(crate) struct Workers {
    settings: WorkerSettings,
    idle: Mutex<Vec<Worker>>,
}

#[derive(Debug)]
struct Worker {
    process: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    /// How many pictures it has made.
    made: u32,
}

impl Workers {
    /// No worker runs before there is a picture.
    pub(crate) fn new(settings: WorkerSettings) -> Self {
        Self {
            settings,
            idle: Mutex::default(),
        }
    }

    /// Has thumbnails made. Blocks until they are, or until the deadline.
    ///
    /// # Errors
    /// Why there are none, in words.
    pub(crate) fn make(&self, source: &[u8], sizes: &[Wanted]) -> Result<Vec<Made>, String> {
        let waiting = self.idle().pop();
        let mut worker = match waiting {
            Some(worker) => worker,
            None => self.start()?,
        };
        match self.ask(&mut worker, source, sizes) {
            Ok(made) => {
                worker.made += 1;
                if worker.made < PICTURES {
                    self.idle().push(worker);
                }
                made
            }
            Err(why) => {
                tracing::warn!(why, "a worker for pictures ended");
                Err(format!("the picture cannot be decoded: {why}"))
            }
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Worker>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self) -> Result<Worker, String> {
        let words = |error: std::io::Error| format!("no worker can be started: {error}");
        let (program, args) = self.settings.command.split_first().ok_or("no worker")?;
        let mut process = Command::new(program)
            .args(args)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(words)?;
        let (to, from) = (process.stdin.take(), process.stdout.take());
        let worker = match (to, from) {
            (Some(to), Some(from)) => Worker {
                process,
                to,
                from: BufReader::new(from),
                made: 0,
            },
            _ => return Err("a worker without pipes".to_owned()),
        };
        worker.bound(self.settings.memory).map_err(words)?;
        Ok(worker)
    }

    /// One picture; the outer error is that of the worker.
    fn ask(
        &self,
        worker: &mut Worker,
        source: &[u8],
        sizes: &[Wanted],
    ) -> Result<Result<Vec<Made>, String>, String> {
        let deadline = self.settings.deadline;
        let pid = worker.pid();
        let (over, watched) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let watch = scope.spawn(move || {
                let late = watched.recv_timeout(deadline) == Err(mpsc::RecvTimeoutError::Timeout);
                if late && let Some(pid) = pid {
                    // The process is ours and was not waited for: the number is still its own.
                    let _ = kill_process(pid, Signal::KILL);
                }
                late
            });
            let asked = wire::write_order(&mut worker.to, source, sizes)
                .and_then(|()| worker.to.flush())
                .and_then(|()| wire::read_answer(&mut worker.from, sizes.len()));
            drop(over);
            match (asked, watch.join()) {
                (Ok(answer), _) => Ok(answer),
                (Err(_), Ok(true)) => Err("it takes too long".to_owned()),
                (Err(error), _) => Err(error.to_string()),
            }
        })
    }
}

impl Worker {
    fn pid(&self) -> Option<Pid> {
        i32::try_from(self.process.id())
            .ok()
            .and_then(Pid::from_raw)
    }

    /// Sets its bounds. It has done nothing yet: it waits for its first picture.
    fn bound(&self, memory: u64) -> std::io::Result<()> {
        let pid = self.pid();
        let at_most = |n: u64| Rlimit {
            current: Some(n),
            maximum: Some(n),
        };
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let mapped = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
        let kib = mapped.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
        let mapped = kib.unwrap_or(0).saturating_mul(1024);
        prlimit(pid, Resource::As, at_most(mapped.saturating_add(memory)))?;
        prlimit(pid, Resource::Cpu, at_most(CPU_SECS))?;
        prlimit(pid, Resource::Core, at_most(0))?;
        prlimit(pid, Resource::Fsize, at_most(0))?;
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
