//! `skerry token`

use clap::Subcommand;
use http::Method;
use serde_json::{Value, json};
use skerry_core::Clock;

use super::line::{Line, segment};
use super::show;
use crate::SystemClock;
use crate::config::{Config, duration};

pub(super) const EXAMPLES: &str = "Examples:
  skerry token create                      a random token for any number of accounts
  skerry token create --uses 1 --expires 7d
  skerry token create friends-only         a token of your own words
  skerry token list
  skerry token revoke friends-only";

/// Registration tokens.
#[derive(Subcommand)]
pub(super) enum Command {
    /// Make a token
    Create {
        /// The token: letters, digits and . _ ~ -; random if left out
        token: Option<String>,
        /// For how many accounts it is good; any number if left out
        #[arg(long, value_name = "N")]
        uses: Option<u64>,
        /// When it stops being good, such as 7d or 12h; never if left out
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
    },
    /// List all tokens
    List,
    /// Take a token out; accounts made with it stay
    Revoke {
        /// The token
        token: String,
    },
}

/// Does what the command says.
pub(super) async fn run(config: Config, command: Command) -> Result<(), String> {
    let mut line = Line::open(config, false).await?;
    let done = match command {
        Command::Create {
            token,
            uses,
            expires,
        } => create(&mut line, token, uses, expires).await,
        Command::List => list(&mut line).await,
        Command::Revoke { token } => {
            let path = format!("/_synapse/admin/v1/registration_tokens/{}", segment(&token));
            let done = line.call(Method::DELETE, &path, None).await;
            done.map(|_| show::line(&format!("revoked {token}")))
        }
    };
    line.close();
    done
}

async fn create(
    line: &mut Line,
    token: Option<String>,
    uses: Option<u64>,
    expires: Option<String>,
) -> Result<(), String> {
    let mut body = json!({});
    if let Some(token) = token {
        body["token"] = token.into();
    }
    if let Some(uses) = uses {
        body["uses_allowed"] = uses.into();
    }
    if let Some(expires) = expires {
        let time = u64::try_from(duration(&expires)?.as_millis()).unwrap_or(u64::MAX);
        body["expiry_time"] = SystemClock.now_ms().saturating_add(time).into();
    }
    let path = "/_synapse/admin/v1/registration_tokens/new";
    let made = line.call(Method::POST, path, Some(body)).await?;
    show::line(made["token"].as_str().unwrap_or_default());
    Ok(())
}

async fn list(line: &mut Line) -> Result<(), String> {
    let path = "/_synapse/admin/v1/registration_tokens";
    let answer = line.call(Method::GET, path, None).await?;
    for token in answer["registration_tokens"]
        .as_array()
        .into_iter()
        .flatten()
    {
        show::line(&described(token));
    }
    Ok(())
}

fn described(token: &Value) -> String {
    let name = token["token"].as_str().unwrap_or_default();
    let used = token["completed"].as_u64().unwrap_or(0);
    let uses = match token["uses_allowed"].as_u64() {
        Some(allowed) => format!("used {used} of {allowed}"),
        None => format!("used {used} times"),
    };
    match token["expiry_time"].as_u64() {
        Some(at) => format!("{name}  {uses}  until {}", show::day(at)),
        None => format!("{name}  {uses}"),
    }
}
