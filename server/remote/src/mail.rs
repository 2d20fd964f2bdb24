//! Mail to people: links that show that an address is theirs.
//!
//! A mail is an item of the outbox, queued in the batch that calls for it; it goes out through
//! the operator's mail server, and waits while that fails. What is not worth sending any more
//! when its turn comes (the link was opened, or is too old) is dropped.

mod text;

pub use text::LINK_PATH;

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use skerry_account::Accounts;
use skerry_account::validation::Letter;
use skerry_core::{Clock, Pos};
use skerry_store::blocking;
use skerry_store::outbox::{self, Dest};

use crate::outbox::{Backoff, Deliver, Next, Report, Row};

/// How long one step of talking to the mail server may take.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How many mails are looked at in one go.
const BATCH_ROWS: usize = 30;
/// How long is waited where the mail server wants one of them later, in ms.
const AGAIN_MS: u64 = 30_000;
/// How many mails wait at most while the mail server is away.
const MAX_ROWS: usize = 10_000;

/// How the connection to the mail server is kept private.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailTls {
    /// TLS from the first byte (port 465).
    Tls,
    /// TLS after a plain greeting, or no mail at all (port 587).
    StartTls,
    /// None: for a mail server on this machine (port 25).
    Plain,
}

impl MailTls {
    /// The port that goes with it.
    #[must_use]
    pub fn port(self) -> u16 {
        match self {
            MailTls::Tls => 465,
            MailTls::StartTls => 587,
            MailTls::Plain => 25,
        }
    }
}

/// Where mail goes, and what it says of us.
#[derive(Clone, Debug)]
pub struct MailOptions {
    /// The mail server's name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is kept private.
    pub tls: MailTls,
    /// Name and password, where it asks for them.
    pub login: Option<(String, String)>,
    /// Whom the mails are from, such as `Skerry <no-reply@example.org>`.
    pub from: String,
    /// The name of this server.
    pub server_name: String,
    /// Where clients reach this server, without a slash at the end.
    pub base_url: String,
}

impl MailOptions {
    /// Whether mail could be set up with them, as far as it can be told without sending any.
    ///
    /// # Errors
    /// `From`.
    pub fn check(&self) -> Result<(), MailError> {
        self.mailbox().map(drop)
    }

    fn mailbox(&self) -> Result<Mailbox, MailError> {
        let from = self.from.parse();
        from.map_err(|_| MailError::From(self.from.clone()))
    }
}

/// Why mail cannot be set up, in words for the operator.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// Whom the mails are from is no address.
    #[error("\"{0}\" is not an address that mail can come from")]
    From(String),
    /// TLS cannot be set up.
    #[error("TLS with the mail server {host} cannot be set up: {cause}")]
    Tls {
        /// The mail server.
        host: String,
        /// Why.
        cause: String,
    },
}

/// Sends mail.
pub struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    options: MailOptions,
    accounts: Accounts,
    clock: Arc<dyn Clock>,
}

impl Mailer {
    /// Sets mail up. Nothing is sent yet.
    ///
    /// # Errors
    /// [`MailError`].
    pub fn new(
        options: MailOptions,
        accounts: Accounts,
        clock: Arc<dyn Clock>,
    ) -> Result<Mailer, MailError> {
        let from = options.mailbox()?;
        let tls = match options.tls {
            MailTls::Plain => Tls::None,
            private => {
                let parameters = TlsParameters::new(options.host.clone());
                let parameters = parameters.map_err(|error| MailError::Tls {
                    host: options.host.clone(),
                    cause: error.to_string(),
                })?;
                match private {
                    MailTls::Tls => Tls::Wrapper(parameters),
                    _ => Tls::Required(parameters),
                }
            }
        };
        let mut builder =
            AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(options.host.as_str())
                .port(options.port)
                .tls(tls)
                .timeout(Some(TIMEOUT))
                .hello_name(ClientId::Domain(hello(&options.server_name)));
        if let Some((name, password)) = &options.login {
            builder = builder.credentials(Credentials::new(name.clone(), password.clone()));
        }
        Ok(Mailer {
            transport: builder.build(),
            from,
            options,
            accounts,
            clock,
        })
    }

    /// The mails that these rows stand for; none for a row that is not worth sending any more.
    async fn letters(&self, rows: &[Row]) -> Result<Vec<(Pos, Option<Letter>)>, String> {
        let (accounts, rows) = (self.accounts.clone(), rows.to_vec());
        let read = blocking(move || {
            let snap = accounts.store().snapshot();
            rows.iter()
                .map(|row| Ok((row.pos, accounts.letter(&snap, &row.item)?)))
                .collect::<Result<Vec<_>, skerry_account::AccountError>>()
        });
        let read = read.await.map_err(|error| error.to_string())?;
        read.map_err(|error| error.to_string())
    }

    fn message(&self, pos: Pos, letter: &Letter) -> Option<Message> {
        let (subject, body) = text::of(letter, &self.options);
        let now_ms = self.clock.now_ms();
        let id = format!("<{}.{now_ms}@{}>", pos.0, hello(&self.options.server_name));
        let automatic = HeaderValue::new(
            HeaderName::new_from_ascii_str("Auto-Submitted"),
            "auto-generated".to_owned(),
        );
        Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, letter.to.parse().ok()?))
            .subject(subject)
            .date(UNIX_EPOCH + Duration::from_millis(now_ms))
            .message_id(Some(id))
            .raw_header(automatic)
            .header(ContentType::TEXT_PLAIN)
            .body(body)
            .ok()
    }

    async fn sent(&self, rows: &[Row]) -> Report {
        let letters = match self.letters(rows).await {
            Ok(letters) => letters,
            Err(why) => return Report::failed(why),
        };
        let mut report = Report::done(&[]);
        let mut again = Vec::new();
        for (row, (pos, letter)) in rows.iter().zip(letters) {
            let message = letter.and_then(|letter| self.message(pos, &letter));
            let Some(message) = message else {
                report.done.push(pos);
                continue;
            };
            match self.transport.send(message).await {
                Ok(_) => report.done.push(pos),
                Err(error) if error.is_permanent() => {
                    tracing::warn!(%error, "the mail server refused a mail");
                    report.done.push(pos);
                }
                Err(error) if error.is_transient() => {
                    tracing::info!(%error, "the mail server wants a mail later");
                    again.push(row);
                }
                Err(error) => {
                    report.next = Report::failed(error).next;
                    break;
                }
            }
        }
        self.put_back(report, &again)
    }

    /// One mailbox that is full must not hold up the others: its mail goes to the end of the
    /// queue.
    fn put_back(&self, mut report: Report, again: &[&Row]) -> Report {
        if again.is_empty() {
            return report;
        }
        let mut w = self.accounts.store().write();
        for row in again {
            outbox::queue(&mut w, &Dest::Mail, &row.item);
            report.done.push(row.pos);
        }
        report.write = Some(w);
        if report.next == Next::Go {
            let later = self.clock.now_ms().saturating_add(AGAIN_MS);
            report.next = Next::NotBefore(later);
        }
        report
    }
}

/// The name by which we greet: a server name without its port.
fn hello(server_name: &str) -> String {
    let host = server_name
        .rsplit_once(':')
        .filter(|(_, port)| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
    host.map_or(server_name, |(host, _)| host).to_owned()
}

impl Deliver for Mailer {
    fn serves(&self, dest: &Dest) -> bool {
        *dest == Dest::Mail
    }

    fn batch_rows(&self) -> usize {
        BATCH_ROWS
    }

    fn max_rows(&self) -> usize {
        MAX_ROWS
    }

    fn backoff(&self) -> Backoff {
        Backoff {
            first_ms: 5_000,
            longest_ms: 10 * 60_000,
        }
    }

    fn deliver<'a>(&'a self, _: &'a Dest, rows: &'a [Row]) -> BoxFuture<'a, Report> {
        Box::pin(self.sent(rows))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::hello;

    #[test]
    fn a_port_is_not_part_of_a_greeting() {
        assert_eq!(hello("example.org:8448"), "example.org");
        assert_eq!(hello("example.org"), "example.org");
        assert_eq!(hello("[::1]:80"), "[::1]");
    }
}
