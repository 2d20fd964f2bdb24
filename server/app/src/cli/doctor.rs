//! `skerry doctor`

use clap::Args;
use serde_json::json;
use skerry_core::Clock;

use super::show;
use crate::SystemClock;
use crate::config::Config;
use crate::doctor::{self, Finding, Tools, Verdict};

pub(super) const EXAMPLES: &str = "Examples:
  skerry doctor --config /etc/skerry/skerry.toml    one line for each thing that was looked at
  skerry doctor --json                              the same for programs
  skerry doctor --time-from https://example.com     compare the clock with that server's

Each line begins with one of
  ok        as it should be
  warn      it works, but somebody should look at it
  wrong     it does not work, and what to do
  unknown   it cannot be told from here
The status is 0 when nothing is wrong, 1 otherwise. Run it as the user that skerry runs as, while
skerry runs. Nobody is asked whom the configuration does not name.";

#[derive(Args)]
pub(super) struct Doctor {
    /// Print JSON: {"checks": [{check, verdict, what, advice}], "wrong": N}
    #[arg(long)]
    json: bool,
    /// Compare the clock with the answer of this server
    #[arg(long, value_name = "URL")]
    time_from: Option<String>,
}

/// Looks at everything. An error says that something is wrong.
pub(super) async fn run(config: Result<Config, String>, given: Doctor) -> Result<(), String> {
    let mut found = Vec::new();
    let mut tell = |finding: Finding| {
        if !given.json {
            show::line(&finding.line());
        }
        found.push(finding);
    };
    let ready = config.and_then(|config| {
        let tools = Tools::new(&config, SystemClock.now_ms())?;
        Ok((config, tools))
    });
    match ready {
        Ok((config, tools)) => {
            let time_from = given.time_from.as_deref();
            doctor::examine(&config, &tools, time_from, &mut tell).await;
        }
        Err(error) => tell(doctor::unread(&error)),
    }
    let wrong = found.iter().filter(|f| f.verdict == Verdict::Wrong).count();
    if given.json {
        let checks: Vec<_> = found.iter().map(Finding::json).collect();
        show::line(&json!({ "checks": checks, "wrong": wrong }).to_string());
    }
    match wrong {
        0 => Ok(()),
        wrong => Err(format!("{wrong} of {} checks: wrong", found.len())),
    }
}
