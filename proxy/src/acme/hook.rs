//! The operator's program that publishes records in DNS.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long it may take; it ends when the record can be seen.
const WITHIN: Duration = Duration::from_secs(10 * 60);
/// How much of what it complains of is kept, in bytes.
const COMPLAINT_MAX: u64 = 2000;

/// A published record; taken away again by [`Record::withdraw`].
pub(super) struct Record {
    hook: PathBuf,
    name: String,
    value: String,
}

impl Record {
    /// Has the program publish a TXT record and waits until it has.
    ///
    /// # Errors
    /// What the program said, in words for the operator.
    pub(super) async fn publish(hook: &Path, name: &str, value: &str) -> Result<Record, String> {
        let record = Record {
            hook: hook.to_owned(),
            name: format!("_acme-challenge.{name}"),
            value: value.to_owned(),
        };
        record.call("present").await?;
        Ok(record)
    }

    /// Has it taken away. That it cannot be is said in the log alone: the certificate is there.
    pub(super) async fn withdraw(self) {
        if let Err(error) = self.call("cleanup").await {
            tracing::warn!(name = %self.name, error, "the record in DNS was not taken away");
        }
    }

    async fn call(&self, what: &'static str) -> Result<(), String> {
        let hook = self.hook.clone();
        let args = [what.to_owned(), self.name.clone(), self.value.clone()];
        let work = move || run(&hook, &args, WITHIN);
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|e| e.to_string())?
            .map_err(|why| format!("{} {what} {}: {why}", self.hook.display(), self.name))
    }
}

fn run(hook: &Path, args: &[String], within: Duration) -> Result<(), String> {
    let mut child = Command::new(hook)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("it cannot be started: {e}"))?;
    let complaints = child.stderr.take();
    // Read beside, so that a talkative program is not held up.
    let reading = std::thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(mut complaints) = complaints {
            let _ = complaints
                .by_ref()
                .take(COMPLAINT_MAX)
                .read_to_end(&mut text);
            let _ = std::io::copy(&mut complaints, &mut std::io::sink());
        }
        String::from_utf8_lossy(&text).trim().to_owned()
    });
    let status = wait(&mut child, within)?;
    if status.success() {
        return Ok(());
    }
    let said = reading.join().unwrap_or_default();
    Err(match said.is_empty() {
        true => format!("{status}"),
        false => format!("{status}: {said}"),
    })
}

fn wait(child: &mut Child, within: Duration) -> Result<ExitStatus, String> {
    let begun = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if begun.elapsed() < within => {
                std::thread::sleep(Duration::from_millis(50));
            }
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("it did not end within {} s", within.as_secs()));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn hook(dir: &Path, script: &str) -> PathBuf {
        let path = dir.join("hook");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        path
    }

    #[tokio::test]
    async fn it_is_told_what_to_publish_and_what_to_take_away() {
        let dir = tempfile::tempdir().unwrap();
        let heard = dir.path().join("heard");
        let path = hook(dir.path(), &format!("echo \"$@\" >> {}", heard.display()));
        let record = Record::publish(&path, "a.example", "value").await.unwrap();
        record.withdraw().await;
        let heard = std::fs::read_to_string(heard).unwrap();
        let (name, value) = ("_acme-challenge.a.example", "value");
        let wanted = format!("present {name} {value}\ncleanup {name} {value}\n");
        assert_eq!(heard, wanted);
    }

    #[test]
    fn what_it_complains_of_is_passed_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = hook(dir.path(), "echo 'no such zone' >&2; exit 3");
        let said = run(&path, &[], WITHIN).unwrap_err();
        assert!(
            said.contains("no such zone") && said.contains('3'),
            "{said}"
        );
        let path = hook(dir.path(), "exec sleep 60");
        let said = run(&path, &[], Duration::from_millis(200)).unwrap_err();
        assert!(said.contains("did not end"), "{said}");
        let said = run(&dir.path().join("none"), &[], WITHIN).unwrap_err();
        assert!(said.contains("cannot be started"), "{said}");
    }
}
