//! `skerry-bench`: starts a real server, puts load on it over HTTP, and compares what it
//! measures with what must be reached.
//!
//! It knows the client-server API from outside and nothing of the server's insides, so its
//! figures are those of a client on the same machine: the load generator shares the cores. The
//! server's processor time, memory and bytes written are read from `/proc`.
//!
//! Start reading at [`figures::ALL`]; [`world::World`] is what the figures share, [`http`] the
//! client, [`server`] the child process.

mod door;
mod figures;
mod http;
mod report;
mod server;
mod stream;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::figures::ALL;
use crate::report::Report;
use crate::world::World;

/// Whatever goes wrong ends the run with a text.
pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Measure a Skerry server.
#[derive(Parser)]
#[command(name = "skerry-bench", about = "Measure a Skerry server.", after_help = help())]
struct Cli {
    /// The server's program, built for release; the environment's SKERRY_BIN without it
    #[arg(long, default_value_os_t = program())]
    server: PathBuf,
    /// Where to put the server's data: a directory on the disk to be measured
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// Fail when a target is missed
    #[arg(long)]
    check: bool,
    /// A tenth of the load: quicker, and less exact
    #[arg(long)]
    quick: bool,
    /// Which figures; all of them without any
    #[arg(value_parser = ALL.map(|figure| figure.name))]
    figures: Vec<String>,
}

fn program() -> PathBuf {
    std::env::var_os("SKERRY_BIN").map_or_else(|| "target/release/skerry".into(), PathBuf::from)
}

fn help() -> String {
    let list: Vec<_> = ALL
        .iter()
        .map(|figure| format!("  {:9} {}", figure.name, figure.what))
        .collect();
    format!("Figures:\n{}", list.join("\n"))
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(report) => {
            report.print();
            if cli.check && report.missed() {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            }
        }
        Err(error) => {
            report::line(&format!("skerry-bench: {error}"));
            ExitCode::from(2)
        }
    }
}

fn run(cli: &Cli) -> Outcome<Report> {
    let mut world = World::new(&cli.server, &cli.dir, cli.quick)?;
    let mut report = Report::default();
    for figure in ALL {
        if cli.figures.is_empty() || cli.figures.iter().any(|name| *name == figure.name) {
            report::line(&format!("{}: {}", figure.name, figure.what));
            (figure.run)(&mut world, &mut report)
                .map_err(|error| format!("{}: {error}", figure.name))?;
            let memory = world.server.usage()?.memory;
            report::line(&format!("  (the server holds {memory:.0} MiB now)"));
        }
    }
    Ok(report)
}
