//! `skerry appservice`

use std::path::PathBuf;

use clap::Subcommand;
use http::Method;
use serde_json::Value;

use super::line::{Line, segment};
use super::show;
use crate::config::Config;
use crate::yaml;

pub(super) const EXAMPLES: &str = "Examples:
  skerry appservice register irc.yaml      register a bridge, or replace its registration
  skerry appservice list                   all of them, with what waits to be sent to each
  skerry appservice show my-bridge
  skerry appservice unregister my-bridge

A registration takes effect at once. Those that the option appservice_registrations names are
read at the start and are changed in their files.";

/// Application services: bridges and bots with a registration of their own.
#[derive(Subcommand)]
pub(super) enum Command {
    /// Register an application service, or replace its registration
    Register {
        /// Its registration file (YAML)
        file: PathBuf,
    },
    /// List all application services
    List,
    /// Show one registration, without its tokens
    Show {
        /// Its id
        id: String,
    },
    /// Take an application service out, with what was still to be sent to it
    Unregister {
        /// Its id
        id: String,
    },
}

const PATH: &str = "/_skerry/admin/v1/appservices";

/// Does what the command says.
pub(super) async fn run(config: Config, command: Command) -> Result<(), String> {
    // Looked at first: a mistake in it needs no server.
    let new = match &command {
        Command::Register { file } => {
            let read = yaml::registration(file);
            Some(read.map_err(|why| format!("{}: {why}", file.display()))?)
        }
        _ => None,
    };
    let mut line = Line::open(config, new.is_some()).await?;
    let done = match (command, new) {
        (Command::Register { .. }, Some(new)) => {
            let done = line.call(Method::POST, PATH, Some(new.source)).await;
            done.map(|_| show::line(&format!("registered {}", new.id)))
        }
        (Command::Show { id }, _) => {
            let path = format!("{PATH}/{}", segment(&id));
            let shown = line.call(Method::GET, &path, None).await;
            shown.map(|shown| show::text(&described(&shown)))
        }
        (Command::Unregister { id }, _) => {
            let path = format!("{PATH}/{}", segment(&id));
            let done = line.call(Method::DELETE, &path, None).await;
            done.map(|_| show::line(&format!("unregistered {id}")))
        }
        (Command::List | Command::Register { .. }, _) => list(&mut line).await,
    };
    line.close();
    done
}

async fn list(line: &mut Line) -> Result<(), String> {
    let answer = line.call(Method::GET, PATH, None).await?;
    for one in answer["appservices"].as_array().into_iter().flatten() {
        show::line(&summary(one));
    }
    Ok(())
}

/// One line about an application service.
fn summary(one: &Value) -> String {
    let text = |key: &str| one[key].as_str().unwrap_or_default();
    let place = one["url"].as_str().unwrap_or("nothing is sent");
    let waiting = one["waiting"].as_u64().unwrap_or(0);
    let state = match one["failing_since_ts"].as_u64() {
        Some(since) => format!("not reached since {}, {waiting} waiting", show::day(since)),
        None => format!("{waiting} waiting"),
    };
    let (id, sender, origin) = (text("id"), text("sender"), text("origin"));
    format!("{id}  {sender}  {place}  {state}  ({origin})")
}

fn described(one: &Value) -> String {
    let mut text = format!("{}\n", summary(one));
    let registration = serde_json::to_string_pretty(&one["registration"]).unwrap_or_default();
    text.push_str(&registration);
    text.push('\n');
    text
}
