//! `skerry user`

use clap::Subcommand;
use http::Method;
use serde_json::{Value, json};
use skerry_core::DiceSource;
use skerry_core::keys::random_name;

use super::line::{Line, segment};
use super::show;
use crate::SystemDice;
use crate::config::Config;

pub(super) const EXAMPLES: &str = "Examples:
  skerry user create alice                 prints a random password
  skerry user create alice --admin --password-stdin < password.txt
  skerry user list
  skerry user reset-password alice         logs all her devices out
  skerry user deactivate alice --erase
  skerry user promote alice                makes her an administrator (--demote: no longer)

NAME is a username or a full id such as @alice:example.org.";

/// Accounts.
#[derive(Subcommand)]
pub(super) enum Command {
    /// Make an account; the very first one becomes an administrator
    Create {
        /// The name, the part between @ and : of the id
        name: String,
        /// Make it an administrator
        #[arg(long)]
        admin: bool,
        /// Read the password from standard input (one line) instead of making a random one
        #[arg(long)]
        password_stdin: bool,
    },
    /// List all accounts
    List,
    /// Set a new password and log all devices out
    ResetPassword {
        /// Whose
        name: String,
        /// Read the password from standard input (one line) instead of making a random one
        #[arg(long)]
        password_stdin: bool,
        /// Leave devices logged in
        #[arg(long)]
        keep_devices: bool,
    },
    /// Close an account for good: logged out, out of all rooms, the name never given again
    Deactivate {
        /// Whose
        name: String,
        /// Take the profile away and hide the messages from those who join later
        #[arg(long)]
        erase: bool,
    },
    /// Make someone an administrator
    Promote {
        /// Whom
        name: String,
        /// The other way round: no longer an administrator
        #[arg(long)]
        demote: bool,
    },
}

/// Does what the command says.
pub(super) async fn run(config: Config, command: Command) -> Result<(), String> {
    let fresh = matches!(command, Command::Create { .. });
    let mut line = Line::open(config, fresh).await?;
    let done = match command {
        Command::Create {
            name,
            admin,
            password_stdin,
        } => create(&mut line, &name, admin, password_stdin).await,
        Command::List => list(&mut line).await,
        Command::ResetPassword {
            name,
            password_stdin,
            keep_devices,
        } => reset_password(&mut line, &name, password_stdin, keep_devices).await,
        Command::Deactivate { name, erase } => deactivate(&mut line, &name, erase).await,
        Command::Promote { name, demote } => promote(&mut line, &name, !demote).await,
    };
    line.close();
    done
}

/// The password, and whether it has to be shown because it was made here.
fn password(from_stdin: bool) -> Result<(String, bool), String> {
    if !from_stdin {
        return Ok((random_name(&mut *SystemDice.dice(), 20), true));
    }
    let mut text = String::new();
    std::io::stdin()
        .read_line(&mut text)
        .map_err(|e| format!("standard input: {e}"))?;
    let password = text.trim_end_matches(['\n', '\r']).to_owned();
    if password.is_empty() {
        return Err("the password on standard input is empty".into());
    }
    Ok((password, false))
}

async fn create(
    line: &mut Line,
    name: &str,
    admin: bool,
    password_stdin: bool,
) -> Result<(), String> {
    let (password, made) = password(password_stdin)?;
    let name = localpart(name);
    let mut body = json!({ "name": name, "password": password });
    if admin {
        body["admin"] = true.into();
    }
    let answer = line
        .call(Method::POST, "/_skerry/admin/v1/users", Some(body))
        .await?;
    show::line(&format!(
        "made {}",
        answer["user_id"].as_str().unwrap_or(name)
    ));
    if made {
        show::line(&format!("password: {password}"));
    }
    Ok(())
}

/// What stands between @ and : of an id; a bare name is itself.
fn localpart(name: &str) -> &str {
    match name.strip_prefix('@') {
        Some(rest) => rest.split_once(':').map_or(rest, |(local, _)| local),
        None => name,
    }
}

async fn list(line: &mut Line) -> Result<(), String> {
    let mut from = String::from("0");
    loop {
        let path = format!("/_synapse/admin/v2/users?limit=500&from={from}");
        let page = line.call(Method::GET, &path, None).await?;
        for user in page["users"].as_array().into_iter().flatten() {
            show::line(&described(user));
        }
        match page["next_token"].as_str() {
            Some(next) => from = next.to_owned(),
            None => return Ok(()),
        }
    }
}

fn described(user: &Value) -> String {
    let flags: Vec<&str> = [
        ("admin", "admin"),
        ("is_guest", "guest"),
        ("deactivated", "deactivated"),
    ]
    .iter()
    .filter(|(key, _)| user[*key].as_bool() == Some(true))
    .map(|(_, word)| *word)
    .collect();
    let made = show::day(user["creation_ts"].as_u64().unwrap_or(0));
    let name = user["name"].as_str().unwrap_or_default();
    format!("{made}  {name}  {}", flags.join(", "))
        .trim_end()
        .to_owned()
}

async fn reset_password(
    line: &mut Line,
    name: &str,
    password_stdin: bool,
    keep_devices: bool,
) -> Result<(), String> {
    let (password, made) = password(password_stdin)?;
    let path = format!("/_synapse/admin/v1/reset_password/{}", segment(name));
    let body = json!({ "new_password": password, "logout_devices": !keep_devices });
    line.call(Method::POST, &path, Some(body)).await?;
    show::line(&format!("set a new password for {name}"));
    if made {
        show::line(&format!("password: {password}"));
    }
    Ok(())
}

async fn deactivate(line: &mut Line, name: &str, erase: bool) -> Result<(), String> {
    let path = format!("/_synapse/admin/v1/deactivate/{}", segment(name));
    line.call(Method::POST, &path, Some(json!({ "erase": erase })))
        .await?;
    show::line(&format!("deactivated {name}"));
    Ok(())
}

async fn promote(line: &mut Line, name: &str, admin: bool) -> Result<(), String> {
    let path = format!("/_synapse/admin/v1/users/{}/admin", segment(name));
    line.call(Method::PUT, &path, Some(json!({ "admin": admin })))
        .await?;
    let what = if admin {
        "is now an administrator"
    } else {
        "is no longer an administrator"
    };
    show::line(&format!("{name} {what}"));
    Ok(())
}
