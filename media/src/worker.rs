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
    time::{Duration, Instant},
};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

use crate::thumbnail::{Drawn, Order};

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

/// How many pictures a worker gets, and how long it may have worked before it gets another.
const PICTURES: u32 = 64;
const WORKED_MAX: Duration = Duration::from_secs(20);
/// Processor time beside that and one last picture, in seconds.
const CPU_SPARE: u64 = 5;

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
    /// How long that took.
    worked: Duration,
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
    pub(crate) fn make(&self, source: &[u8], order: &Order) -> Result<Drawn, String> {
        let waiting = self.idle().pop();
        let mut worker = match waiting {
            Some(worker) => worker,
            None => self.start()?,
        };
        let began = Instant::now();
        match self.ask(&mut worker, source, order) {
            Ok(drawn) => {
                worker.made += 1;
                worker.worked += began.elapsed();
                // One that has little processor time left would end on somebody's good picture.
                if worker.made < PICTURES && worker.worked < WORKED_MAX {
                    self.idle().push(worker);
                }
                drawn
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
                worked: Duration::ZERO,
            },
            _ => return Err("a worker without pipes".to_owned()),
        };
        worker.bound(&self.settings).map_err(words)?;
        Ok(worker)
    }

    /// One picture; the outer error is that of the worker.
    fn ask(
        &self,
        worker: &mut Worker,
        source: &[u8],
        order: &Order,
    ) -> Result<Result<Drawn, String>, String> {
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
            let asked = wire::write_order(&mut worker.to, source, order)
                .and_then(|()| worker.to.flush())
                .and_then(|()| wire::read_answer(&mut worker.from, order.sizes.len()));
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
    fn bound(&self, settings: &WorkerSettings) -> std::io::Result<()> {
        let pid = self.pid();
        let at_most = |n: u64| Rlimit {
            current: Some(n),
            maximum: Some(n),
        };
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let mapped = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
        let kib = mapped.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
        let mapped = kib.unwrap_or(0).saturating_mul(1024);
        let memory = mapped.saturating_add(settings.memory);
        prlimit(pid, Resource::As, at_most(memory))?;
        let work = (WORKED_MAX + settings.deadline).as_secs();
        prlimit(pid, Resource::Cpu, at_most(work + CPU_SPARE))?;
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
