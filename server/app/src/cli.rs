//! The command line.

mod appservices;
mod doctor;
pub(crate) mod line;
mod media;
mod reports;
pub(crate) mod show;
mod tokens;
mod users;
mod web;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

pub use media::media_prune;

use crate::allocator;
use crate::config::{Config, example, show_bytes};
use crate::serve;

const EXAMPLES: &str = "Examples:
  skerry serve                                  start with no configuration: data in ./data,
                                                server name localhost, http://127.0.0.1:8008
  skerry serve --config /etc/skerry/skerry.toml
  skerry user create alice --admin              make an account; prints its password
  skerry token create --uses 5                  a registration token for five accounts
  skerry appservice register bridge.yaml        let a bridge in
  skerry check-config --config skerry.toml      say what is wrong with a configuration
  skerry check-config --print-example           every option with its meaning
  skerry media prune --remote --dry-run         what of other servers' media nobody needs
  skerry doctor --config skerry.toml            look at the whole set-up: what is wrong, what to do

Environment: SKERRY_CONFIG names the configuration file; SKERRY_SECTION__KEY sets one option, for
example SKERRY_SERVER_NAME=example.org or SKERRY_REGISTRATION__OPEN=true.";

/// Threads for work on the store and other work that blocks, at most; further work waits. More
/// would only cost memory on the machines this is for.
const MAX_BLOCKING: usize = 64;

/// A Matrix homeserver.
#[derive(Parser)]
#[command(name = "skerry", version, about = "A Matrix homeserver.", after_help = EXAMPLES)]
#[command(arg_required_else_help = true)]
struct Cli {
    /// The configuration file; without one the defaults count
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the server; it runs until Ctrl-C or SIGTERM
    Serve,
    /// Check a configuration without starting
    CheckConfig(CheckConfig),
    /// Look at the whole set-up and say what is wrong and what to do
    #[command(after_help = doctor::EXAMPLES)]
    Doctor(doctor::Doctor),
    /// Print the version
    Version,
    /// Make thumbnails for a server that starts this; not for people
    #[command(hide = true)]
    MakeThumbnails,
    /// Accounts; works on a running server and on a stopped one
    #[command(subcommand, after_help = users::EXAMPLES)]
    User(users::Command),
    /// Registration tokens; works on a running server and on a stopped one
    #[command(subcommand, after_help = tokens::EXAMPLES)]
    Token(tokens::Command),
    /// Application services; works on a running server and on a stopped one
    #[command(subcommand, after_help = appservices::EXAMPLES)]
    Appservice(appservices::Command),
    /// What people reported; works on a running server and on a stopped one
    #[command(subcommand, after_help = reports::EXAMPLES)]
    Report(reports::Command),
    /// Media; works on a running server and on a stopped one
    #[command(subcommand)]
    Media(media::Command),
    /// The web client that this server serves
    #[command(subcommand, after_help = web::EXAMPLES)]
    Web(web::Command),
}

#[derive(Args)]
struct CheckConfig {
    /// Print an example file with all options, their defaults and their meaning
    #[arg(long)]
    print_example: bool,
}

/// Reads the command line and does what it says. The status is 0 for success, 1 for failure, 2
/// for a command line that cannot be understood.
#[must_use]
pub fn main() -> ExitCode {
    allocator::settle();
    let cli = Cli::parse();
    run(cli).unwrap_or_else(|text| {
        eprintln!("skerry: {text}");
        ExitCode::FAILURE
    })
}

/// The configuration of a file, or of the one that the environment names, or the default.
fn load(file: Option<&Path>) -> Result<Config, String> {
    let named = std::env::var_os("SKERRY_CONFIG").map(PathBuf::from);
    // A variable that is not UTF-8 cannot be one of ours.
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Config::load(file.or(named.as_deref()), environment).map_err(|e| e.to_string())
}

fn run(cli: Cli) -> Result<ExitCode, String> {
    let load = || load(cli.config.as_deref());
    match cli.command {
        Command::Version => show::line(&format!("skerry {}", env!("CARGO_PKG_VERSION"))),
        Command::MakeThumbnails => skerry_media::serve_worker().map_err(|e| e.to_string())?,
        Command::CheckConfig(CheckConfig {
            print_example: true,
        }) => show::text(&example()),
        Command::CheckConfig(_) => check(&load()?)?,
        Command::Doctor(given) => runtime()?.block_on(doctor::run(load(), given))?,
        Command::Serve => runtime()?.block_on(serve::serve(load()?))?,
        Command::User(command) => runtime()?.block_on(users::run(load()?, command))?,
        Command::Token(command) => runtime()?.block_on(tokens::run(load()?, command))?,
        Command::Media(command) => return runtime()?.block_on(media::run(load()?, command)),
        Command::Web(command) => runtime()?.block_on(web::run(load()?, command))?,
        Command::Appservice(command) => runtime()?.block_on(appservices::run(load()?, command))?,
        Command::Report(command) => runtime()?.block_on(reports::run(load()?, command))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(MAX_BLOCKING)
        .build()
        .map_err(|e| format!("cannot start: {e}"))
}

/// Says what the configuration means, as far as it is not plain from the file.
fn check(config: &Config) -> Result<(), String> {
    show::line("The configuration is good.");
    show::line(&format!("  server name  {}", config.server_name));
    show::line(&format!("  data         {}", config.data_dir.display()));
    show::line(&format!(
        "  memory       {}",
        show_bytes(config.memory_budget)
    ));
    show::line(&format!("  clients use  {}", config.base_url));
    for spec in &config.listen {
        show::line(&format!("  listens on   {}", spec.addr));
        spec.check().map_err(|e| e.to_string())?;
    }
    if let Some(acme) = &config.acme {
        let names = acme.settings.names.join(", ");
        show::line(&format!("  certificates {names}"));
    }
    if config.web.host.is_none() {
        show::line("  note: a web client is safer under a host name of its own: web.host");
    }
    for key in &config.ignored {
        show::line(&format!(
            "  note: {key} is set, but does nothing as the others stand"
        ));
    }
    Ok(())
}
