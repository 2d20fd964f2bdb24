//! A mail server in the test's process: takes every mail and keeps it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// How long something expected may take.
const WITHIN: Duration = Duration::from_secs(10);

/// One mail.
#[derive(Clone, Debug)]
pub struct Mail {
    /// The address it went to.
    pub to: String,
    /// All header lines.
    pub headers: String,
    /// The text.
    pub text: String,
}

impl Mail {
    /// The first link in it, from the slash after the host on.
    #[must_use]
    pub fn link(&self) -> String {
        let whole = self.text.split_whitespace();
        let mut links = whole.filter_map(|word| word.split_once("://"));
        let (_, rest) = links.next().expect("a mail with a link");
        let (_, path) = rest.split_once('/').expect("a link with a path");
        format!("/{path}")
    }
}

#[derive(Default)]
struct Shared {
    mails: Vec<Mail>,
    /// How many mails are still to be refused for now.
    busy: usize,
}

/// A listening mail server.
pub struct MailSink {
    port: u16,
    shared: Arc<Mutex<Shared>>,
    task: JoinHandle<()>,
}

impl Drop for MailSink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl MailSink {
    /// Listens on a free port of this machine.
    pub async fn start() -> MailSink {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let task = tokio::spawn(serve(listener, Arc::clone(&shared)));
        MailSink { port, shared, task }
    }

    /// What the configuration of a server says to send its mail here.
    #[must_use]
    pub fn config(&self) -> String {
        format!(
            "[email]\nhost = \"127.0.0.1\"\nport = {}\ntls = \"none\"\nfrom = \"Test <test@test.example>\"\n",
            self.port
        )
    }

    /// Refuses the next so many mails for now.
    pub fn busy(&self, times: usize) {
        self.shared.lock().unwrap().busy = times;
    }

    /// Everything that came so far.
    #[must_use]
    pub fn mails(&self) -> Vec<Mail> {
        self.shared.lock().unwrap().mails.clone()
    }

    /// Waits until there are at least so many mails; gives the newest.
    pub async fn wait(&self, count: usize) -> Mail {
        let waiting = async {
            loop {
                let mails = self.mails();
                if mails.len() >= count {
                    return mails.last().unwrap().clone();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(WITHIN, waiting).await;
        waited.unwrap_or_else(|_| panic!("{count} mails expected, {:?}", self.mails()))
    }
}

async fn serve(listener: TcpListener, shared: Arc<Mutex<Shared>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            // A broken connection is the client's to notice.
            let _ = talk(stream, &shared).await;
        });
    }
}

async fn talk(stream: TcpStream, shared: &Mutex<Shared>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut to = String::new();
    stream.write_all(b"220 sink\r\n").await?;
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let upper = line.trim_end().to_ascii_uppercase();
        let answer = if upper.starts_with("EHLO") || upper.starts_with("HELO") {
            "250 sink"
        } else if upper.starts_with("RCPT TO:") {
            let address = line.split(['<', '>']).nth(1);
            to = address.unwrap_or_default().to_owned();
            "250 ok"
        } else if upper == "DATA" {
            stream.write_all(b"354 go on\r\n").await?;
            let data = data(&mut stream).await?;
            let mut shared = shared.lock().unwrap();
            if shared.busy > 0 {
                shared.busy -= 1;
                "451 later"
            } else {
                shared.mails.push(mail(&to, &data));
                "250 ok"
            }
        } else if upper == "QUIT" {
            stream.write_all(b"221 bye\r\n").await?;
            return Ok(());
        } else {
            "250 ok"
        };
        stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
    }
}

async fn data(stream: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut data = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 || line == ".\r\n" {
            return Ok(data);
        }
        data.push_str(line.strip_prefix('.').unwrap_or(&line));
    }
}

fn mail(to: &str, data: &str) -> Mail {
    let (headers, body) = data.split_once("\r\n\r\n").expect("headers and a body");
    let lower = headers.to_ascii_lowercase();
    assert!(!lower.contains("transfer-encoding: base64"), "{headers}");
    let text = if lower.contains("transfer-encoding: quoted-printable") {
        unquoted(body)
    } else {
        body.to_owned()
    };
    Mail {
        to: to.to_owned(),
        headers: headers.to_owned(),
        text,
    }
}

/// Quoted-printable text (RFC 2045), as far as mails here need it.
fn unquoted(text: &str) -> String {
    let joined = text.replace("=\r\n", "");
    let mut parts = joined.split('=');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (hex, rest) = part.split_at(2);
        bytes.push(u8::from_str_radix(hex, 16).unwrap());
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).unwrap()
}
