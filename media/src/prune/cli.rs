//! The command line of a prune: `media-prune`, and `skerry media prune`.
//!
//! It asks a server for everything by its admin API, whether that runs or was only put together
//! for this one command, so the plan is the same.

use std::{fmt::Write as _, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use futures_util::future::BoxFuture;
use http::Method;
use serde_json::{Value, json};
use skerry_core::units::{bytes, duration, show_bytes};

use super::{By, Emptying, Order, Outcome, Progress, Report, Target, Verified};

/// How old media has to be unless it is said, in ms.
const OLD_MS: u64 = 30 * 24 * 60 * 60 * 1000;
/// How often a run is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// How many items are asked for at once.
const PAGE: usize = 5000;
const API: &str = "/_skerry/admin/v1/media";

/// Examples, for the help.
pub const EXAMPLES: &str = "Examples:
  media-prune --remote --dry-run                  what of other servers' media would go, and why
  media-prune --remote --thumbnails --older-than 90d
  media-prune --target-size 4GiB                  as much as is needed, least recently used first
  media-prune --local --older-than 1000d --larger-than 10MiB --keep-rooms rooms.txt
  media-prune --explain mxc://example.org/abc     why this one stays or goes
  media-prune --restore mxc://example.org/abc     back from the trash
  media-prune --check                             files and entries that do not fit together
  media-prune --verify                            read every file and compare it with its hash

What is named in a room's state, an invite, a profile, account data or a pinned message is never
deleted. DRY_RUN=1 means --dry-run. Status: 0 done, 1 error, 2 the target is not reached because of
what is kept.";

/// What to prune.
#[derive(Args, Debug, Clone, Default)]
pub struct PruneArgs {
    /// Only say what would go, and why
    #[arg(long)]
    pub dry_run: bool,
    /// For programs: every item that goes, and sums of what stays
    #[arg(long)]
    pub json: bool,
    /// Say why one mxc:// URI stays or goes
    #[arg(long, value_name = "MXC")]
    pub explain: Option<String>,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// The same as --local --remote --thumbnails --older-than 0s
    #[arg(long)]
    pub all: bool,
    /// Copies of other servers' media, and pictures of link previews
    #[arg(long)]
    pub remote: bool,
    /// Media of this server; it goes to the trash first
    #[arg(long)]
    pub local: bool,
    /// Thumbnails; they are made again when needed
    #[arg(long)]
    pub thumbnails: bool,
    /// Only what is older, such as 30d (the default; with --target-size: 0s)
    #[arg(long, value_name = "TIME")]
    pub older_than: Option<String>,
    /// What counts as old: not looked at for so long, or created so long ago
    #[arg(long, value_name = "WHAT", default_value = "access")]
    pub by: ByArg,
    /// Only what is larger, such as 10MiB
    #[arg(long, value_name = "SIZE")]
    pub larger_than: Option<String>,
    /// Only what this user uploaded
    #[arg(long, value_name = "USER")]
    pub uploader: Option<String>,
    /// Only what the readable messages of this room name
    #[arg(long, value_name = "ROOM")]
    pub room: Option<String>,
    /// Evict the least recently used until everything together fits
    #[arg(long, value_name = "SIZE")]
    pub target_size: Option<String>,
    /// A file of room ids, one a line: all media that may be named in these rooms stays
    #[arg(long, value_name = "FILE")]
    pub keep_rooms: Option<PathBuf>,
    /// Find and remove files that nothing names and entries without a file
    #[arg(long)]
    pub check: bool,
    /// Read every file and compare it with its hash
    #[arg(long)]
    pub verify: bool,
    /// Bring media back from the trash: these URIs, or all of it
    #[arg(long, value_name = "MXC", num_args = 0..)]
    pub restore: Option<Vec<String>>,
    /// Delete what is in the trash now
    #[arg(long)]
    pub empty_trash: bool,
}

/// `--by`
#[derive(ValueEnum, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ByArg {
    /// Not looked at for so long.
    #[default]
    Access,
    /// Created so long ago.
    Created,
}

/// Whom the command asks: the admin API of a server.
pub trait Server: Send {
    /// One request with a JSON body or none; an error is what the server says is wrong.
    fn call<'a>(
        &'a mut self,
        method: Method,
        path: &'a str,
        body: Option<Value>,
    ) -> BoxFuture<'a, Result<Value, String>>;
}

/// Where the command speaks to whoever typed it.
pub trait Console: Send {
    /// Prints to standard output.
    fn print(&mut self, text: &str);
    /// Shows how far it is, on the same line again and again; nothing where nobody watches.
    fn progress(&mut self, text: &str);
    /// Asks a question on a terminal; none where there is no terminal.
    fn confirm(&mut self, question: &str) -> Option<bool>;
}

impl PruneArgs {
    /// What is asked for.
    ///
    /// # Errors
    /// What cannot be understood, in words.
    pub fn order(&self) -> Result<Order, String> {
        let kinds = self.remote || self.local || self.thumbnails || self.all;
        let about = self.uploader.is_some() || self.room.is_some();
        let other = self.check || self.empty_trash;
        let filters = self.older_than.is_some() || self.larger_than.is_some();
        let target = self.target_size.as_deref().map(bytes).transpose()?;
        if !kinds && !about && !other && !filters && target.is_none() {
            return Err(
                "say what: --remote, --thumbnails, --local, --all, or --target-size".to_owned(),
            );
        }
        // Without a kind: what can be had again; of a person or a room, everything.
        let default = !kinds && (about || filters || target.is_some());
        let older_than_ms = match self.older_than.as_deref().map(duration).transpose()? {
            Some(time) => u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
            None if self.all || target.is_some() => 0,
            None => OLD_MS,
        };
        let order = Order {
            remote: self.remote || self.all || default,
            local: self.local || self.all || default && about,
            thumbnails: self.thumbnails || self.all || default && !about,
            older_than_ms,
            by: match self.by {
                ByArg::Access => By::Access,
                ByArg::Created => By::Created,
            },
            larger_than: self
                .larger_than
                .as_deref()
                .map(bytes)
                .transpose()?
                .unwrap_or(0),
            uploader: self.uploader.clone(),
            room: self.room.clone(),
            target: target.map(Target::Store),
            keep_rooms: self.rooms_to_keep()?,
            trash: match self.empty_trash {
                true => Emptying::All,
                false => Emptying::No,
            },
            check: self.check,
        };
        order.check()?;
        Ok(order)
    }

    fn rooms_to_keep(&self) -> Result<Vec<String>, String> {
        let Some(file) = &self.keep_rooms else {
            return Ok(Vec::new());
        };
        let text = std::fs::read_to_string(file)
            .map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        let lines = text.lines().map(str::trim);
        let rooms = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        Ok(rooms.map(str::to_owned).collect())
    }
}

/// Does what the command says; gives the exit status.
///
/// # Errors
/// What went wrong, in words.
pub async fn run(
    args: &PruneArgs,
    server: &mut dyn Server,
    console: &mut dyn Console,
) -> Result<u8, String> {
    if let Some(mxcs) = &args.restore {
        return restore(mxcs, server, console).await;
    }
    if args.verify {
        return verify(args.json, server, console).await;
    }
    if let Some(mxc) = &args.explain {
        return explain(args, mxc, server, console).await;
    }
    let order = serde_json::to_value(args.order()?).map_err(|error| error.to_string())?;
    let path = format!("{API}/prune/plans");
    let plan = server.call(Method::POST, &path, Some(order)).await?;
    let number = plan["plan"].as_u64().unwrap_or(0);
    let changes = plan["changes"].as_u64().unwrap_or(0);
    let report: Report = serde_json::from_value(plan["report"].clone())
        .map_err(|error| format!("the server's plan cannot be read: {error}"))?;
    if args.json {
        items(number, &plan["report"], server, console).await?;
    } else {
        console.print(&report.text());
    }
    let status = if report.target_reached { 0 } else { 2 };
    if args.dry_run || changes == 0 {
        if args.json {
            console.print("}\n");
        }
        return Ok(status);
    }
    let go = args.yes
        || match console.confirm(&format!("Do this to {changes} items?")) {
            Some(go) => go,
            None => return Err("this is no terminal to ask on; say --yes, or --dry-run".to_owned()),
        };
    if !go {
        console.print(if args.json {
            "}\n"
        } else {
            "Nothing was done.\n"
        });
        return Ok(status);
    }
    let body = json!({ "plan": number });
    let path = format!("{API}/prune/runs");
    let started = server.call(Method::POST, &path, Some(body)).await?;
    let (progress, _) = follow(&started, server, console).await?;
    if args.json {
        let done = serde_json::to_string(&progress).map_err(|error| error.to_string())?;
        console.print(&format!(",\n\"done\":{done}}}\n"));
    } else {
        console.print(&done(&progress));
    }
    Ok(status)
}

fn done(progress: &Progress) -> String {
    let mut text = format!(
        "Done: {} items went, {} are free.",
        progress.removed,
        show_bytes(progress.freed_bytes)
    );
    if progress.revived > 0 {
        let _ = write!(
            text,
            " {} stayed or came back: they are named again.",
            progress.revived
        );
    }
    text.push('\n');
    text
}

/// Prints the plan as JSON, all but its last brace, a page of items at a time.
async fn items(
    number: u64,
    report: &Value,
    server: &mut dyn Server,
    console: &mut dyn Console,
) -> Result<(), String> {
    console.print(&format!("{{\"report\":{report},\n\"items\":["));
    let (mut from, mut first) = (0, true);
    loop {
        let path = format!("{API}/prune/plans/{number}/items?from={from}&limit={PAGE}");
        let page = server.call(Method::GET, &path, None).await?;
        let mut text = String::new();
        for item in page["items"].as_array().into_iter().flatten() {
            let comma = if std::mem::take(&mut first) { "" } else { "," };
            let _ = write!(text, "{comma}\n{item}");
        }
        console.print(&text);
        match page["next"].as_u64() {
            Some(next) => from = next,
            None => break,
        }
    }
    console.print("\n]");
    Ok(())
}

/// Asks how far a run is until it is over.
async fn follow(
    started: &Value,
    server: &mut dyn Server,
    console: &mut dyn Console,
) -> Result<(Progress, Value), String> {
    let run = started["run"].as_u64().unwrap_or(0);
    let path = format!("{API}/prune/runs/{run}");
    loop {
        let state = server.call(Method::GET, &path, None).await?;
        let read = |name: &str| state[name].clone();
        let progress: Progress =
            serde_json::from_value(read("progress")).map_err(|error| error.to_string())?;
        let outcome: Outcome =
            serde_json::from_value(read("outcome")).map_err(|error| error.to_string())?;
        console.progress(&bar(&progress));
        match outcome {
            Outcome::Running => tokio::time::sleep(ASK_EVERY).await,
            Outcome::Done => {
                console.progress("");
                return Ok((progress, state));
            }
            Outcome::Failed(why) => {
                console.progress("");
                return Err(format!("{why}; {}", done(&progress).trim_end()));
            }
        }
    }
}

fn bar(progress: &Progress) -> String {
    const WIDTH: u64 = 30;
    let total = progress.total.max(progress.done).max(1);
    let full = progress.done * WIDTH / total;
    let mut text = String::from("[");
    for at in 0..WIDTH {
        text.push(if at < full { '#' } else { '.' });
    }
    let freed = show_bytes(progress.freed_bytes);
    let _ = write!(text, "] {} of {total}, {freed} free", progress.done);
    text
}

async fn restore(
    mxcs: &[String],
    server: &mut dyn Server,
    console: &mut dyn Console,
) -> Result<u8, String> {
    let body = match mxcs {
        [] => json!({ "all": true }),
        mxcs => json!({ "mxc": mxcs }),
    };
    let path = format!("{API}/trash/restore");
    let answer = server.call(Method::POST, &path, Some(body)).await?;
    let count = answer["restored"].as_u64().unwrap_or(0);
    console.print(&format!("{count} came back from the trash\n"));
    if count < mxcs.len() as u64 {
        return Err("not all of them are in the trash".to_owned());
    }
    Ok(0)
}

async fn verify(
    json: bool,
    server: &mut dyn Server,
    console: &mut dyn Console,
) -> Result<u8, String> {
    let path = format!("{API}/verify");
    let started = server.call(Method::POST, &path, Some(json!({}))).await?;
    let (_, state) = follow(&started, server, console).await?;
    if json {
        console.print(&format!("{}\n", state["verified"]));
    }
    let verified: Verified =
        serde_json::from_value(state["verified"].clone()).map_err(|error| error.to_string())?;
    if !json {
        let size = show_bytes(verified.bytes);
        console.print(&format!("{} files with {size} were read\n", verified.read));
        for (hash, names) in &verified.corrupt {
            let names = names.join(", ");
            console.print(&format!("corrupt, and set aside: {hash} ({names})\n"));
        }
    }
    match verified.corrupt.len() {
        0 => Ok(0),
        count => Err(format!("{count} files are corrupt")),
    }
}

async fn explain(
    args: &PruneArgs,
    mxc: &str,
    server: &mut dyn Server,
    console: &mut dyn Console,
) -> Result<u8, String> {
    // Without a selection the question is what could happen at all.
    let order = match args.order() {
        Ok(order) => order,
        Err(_) => PruneArgs {
            all: true,
            ..PruneArgs::default()
        }
        .order()?,
    };
    let body = json!({ "order": order, "mxc": mxc });
    let path = format!("{API}/prune/explain");
    let answer = server.call(Method::POST, &path, Some(body)).await?;
    if args.json {
        console.print(&format!("{answer}\n"));
        return Ok(0);
    }
    let said = answer["verdict"].as_str().unwrap_or_default();
    console.print(&format!("{mxc}: {said}\n"));
    for place in answer["places"].as_array().into_iter().flatten() {
        let place = place.as_str().unwrap_or_default();
        console.print(&format!("  named in {place}\n"));
    }
    Ok(0)
}

/// The console of a real terminal, or of whatever stands in its place.
#[derive(Debug, Default)]
pub struct Stdio {
    shown: usize,
}

impl Console for Stdio {
    fn print(&mut self, text: &str) {
        use std::io::Write as _;
        let mut out = std::io::stdout().lock();
        // A reader that went away is no error.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    fn progress(&mut self, text: &str) {
        use std::io::{IsTerminal as _, Write as _};
        let mut err = std::io::stderr().lock();
        if err.is_terminal() {
            let width = std::mem::replace(&mut self.shown, text.chars().count());
            let _ = write!(
                err,
                "\r{text:width$}{}",
                if text.is_empty() { "\r" } else { "" }
            );
            let _ = err.flush();
        }
    }

    fn confirm(&mut self, question: &str) -> Option<bool> {
        use std::io::{IsTerminal as _, Write as _};
        let input = std::io::stdin();
        if !input.is_terminal() {
            return None;
        }
        let mut err = std::io::stderr().lock();
        let _ = write!(err, "{question} [y/N] ");
        let _ = err.flush();
        let mut line = String::new();
        input.read_line(&mut line).ok()?;
        Some(matches!(line.trim(), "y" | "Y" | "yes"))
    }
}
