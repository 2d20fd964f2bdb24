//! `skerry media`, and the program `media-prune`, which is the same as `skerry media prune`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use futures_util::future::BoxFuture;
use http::Method;
use serde_json::Value;
use skerry_media::prune::cli::{EXAMPLES, PruneArgs, Server, Stdio};

use super::line::Line;
use crate::allocator;
use crate::config::Config;

/// Media.
#[derive(Subcommand)]
pub(super) enum Command {
    /// Delete media that nothing needs any more, by a plan that can be read first
    #[command(after_help = EXAMPLES)]
    Prune(PruneArgs),
}

impl Server for Line {
    fn call<'a>(
        &'a mut self,
        method: Method,
        path: &'a str,
        body: Option<Value>,
    ) -> BoxFuture<'a, Result<Value, String>> {
        Box::pin(Line::call(self, method, path, body))
    }
}

/// Does what the command says; gives the exit status.
pub(super) async fn run(config: Config, command: Command) -> Result<ExitCode, String> {
    let Command::Prune(mut args) = command;
    args.dry_run |= std::env::var_os("DRY_RUN").is_some_and(|value| value == "1");
    let mut line = Line::open(config, false).await?;
    let done = skerry_media::prune::cli::run(&args, &mut line, &mut Stdio::default()).await;
    line.close();
    done.map(ExitCode::from)
}

/// Delete media that nothing needs any more, by a plan that can be read first.
#[derive(Parser)]
#[command(name = "media-prune", version, about, after_help = EXAMPLES)]
struct Prune {
    /// The configuration file, as for `skerry serve`
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    args: PruneArgs,
}

/// The program `media-prune`.
#[must_use]
pub fn media_prune() -> ExitCode {
    allocator::settle();
    let prune = match Prune::try_parse() {
        Ok(prune) => prune,
        // 2 says that a target was not reached, so a wrong command line is 1 here.
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    let done = super::load(prune.config.as_deref()).and_then(|config| {
        let command = Command::Prune(prune.args);
        super::runtime()?.block_on(run(config, command))
    });
    done.unwrap_or_else(|text| {
        eprintln!("media-prune: {text}");
        ExitCode::FAILURE
    })
}
