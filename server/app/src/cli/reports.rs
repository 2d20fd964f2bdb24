//! `skerry report`

use clap::Subcommand;
use http::Method;
use serde_json::Value;

use super::line::Line;
use super::show;
use crate::config::Config;

pub(super) const EXAMPLES: &str = "Examples:
  skerry report list           what people reported and nobody dealt with yet, the newest first
  skerry report show 4711      one report, and the event it is about
  skerry report close 4711     takes it out of the list";

/// Reports of rooms, messages and people.
#[derive(Subcommand)]
pub(super) enum Command {
    /// List all open reports
    List,
    /// Show one report with all there is to it
    Show {
        /// Its number
        id: u64,
    },
    /// Close reports: they were dealt with
    Close {
        /// Their numbers
        #[arg(required = true)]
        ids: Vec<u64>,
    },
}

/// Does what the command says.
pub(super) async fn run(config: Config, command: Command) -> Result<(), String> {
    let mut line = Line::open(config, false).await?;
    let done = match command {
        Command::List => list(&mut line).await,
        Command::Show { id } => show_one(&mut line, id).await,
        Command::Close { ids } => close(&mut line, &ids).await,
    };
    line.close();
    done
}

async fn list(line: &mut Line) -> Result<(), String> {
    let mut from = 0;
    loop {
        let path = format!("/_skerry/admin/v1/reports?limit=500&from={from}");
        let page = line.call(Method::GET, &path, None).await?;
        for report in page["reports"].as_array().into_iter().flatten() {
            show::line(&described(report));
        }
        match page["next_token"].as_u64() {
            Some(next) => from = next,
            None => return Ok(()),
        }
    }
}

fn described(report: &Value) -> String {
    let text = |name: &str| report[name].as_str().unwrap_or_default();
    let about = match text("kind") {
        "user" => format!("user {}", text("about_user_id")),
        "room" => format!("room {}", room(report)),
        _ => format!("message by {} in {}", text("about_user_id"), room(report)),
    };
    let day = show::day(report["received_ts"].as_u64().unwrap_or(0));
    let reason = printable(text("reason"));
    format!(
        "{}  {day}  {about}, by {}: {reason}",
        report["id"],
        text("user_id")
    )
    .trim_end_matches([' ', ':'])
    .to_owned()
}

/// The room by its alias if it has one.
fn room(report: &Value) -> &str {
    let names = ["canonical_alias", "room_id"];
    let mut names = names.iter().filter_map(|name| report[*name].as_str());
    names.next().unwrap_or("a room that is gone")
}

/// Somebody else's words on one line of a terminal, without what could steer it.
fn printable(text: &str) -> String {
    let plain = text.split_whitespace().collect::<Vec<_>>().join(" ");
    plain
        .chars()
        .filter(|c| !c.is_control())
        .take(200)
        .collect()
}

async fn show_one(line: &mut Line, id: u64) -> Result<(), String> {
    let path = format!("/_skerry/admin/v1/reports/{id}");
    let report = line.call(Method::GET, &path, None).await?;
    let text = serde_json::to_string_pretty(&report).map_err(|e| e.to_string())?;
    show::line(&text);
    Ok(())
}

async fn close(line: &mut Line, ids: &[u64]) -> Result<(), String> {
    for id in ids {
        let path = format!("/_skerry/admin/v1/reports/{id}");
        line.call(Method::DELETE, &path, None).await?;
        show::line(&format!("closed {id}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use serde_json::json;

    use super::described;

    #[test]
    fn a_line_for_each_report() {
        let report = json!({
            "id": 7, "kind": "event", "received_ts": 951_782_400_000_u64,
            "user_id": "@a:x", "about_user_id": "@b:x", "room_id": "!r", "event_id": "$e",
            "reason": "rude\n\u{1b}[31m words",
        });
        let expected = "7  2000-02-29  message by @b:x in !r, by @a:x: rude [31m words";
        assert_eq!(described(&report), expected);
        let report = json!({
            "id": 8, "kind": "user", "received_ts": 0, "user_id": "@a:x", "about_user_id": "@b:x",
        });
        assert_eq!(described(&report), "8  1970-01-01  user @b:x, by @a:x");
    }
}
