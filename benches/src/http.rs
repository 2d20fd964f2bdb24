//! A small HTTP/1.1 client that costs little: one connection, one request at a time.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::Value;

use crate::Outcome;

/// An answer is waited for at most this long.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a connection runs over.
trait Wire: Read + Write + Send + std::fmt::Debug {}
impl<T: Read + Write + Send + std::fmt::Debug> Wire for T {}

/// A kept connection to the server.
#[derive(Debug)]
pub(crate) struct Conn {
    addr: String,
    token: String,
    /// How TLS is spoken, where it is.
    tls: Option<Arc<ClientConfig>>,
    stream: Option<Box<dyn Wire>>,
    /// What was read and not yet used.
    buffer: Vec<u8>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// The body as JSON, if the request succeeded.
    pub(crate) fn json(&self) -> Outcome<Value> {
        if self.status != 200 {
            let body = String::from_utf8_lossy(&self.body);
            return Err(format!("the server answered {}: {body}", self.status).into());
        }
        Ok(serde_json::from_slice(&self.body)?)
    }

    /// How often a text is in the body.
    pub(crate) fn count(&self, text: &str) -> usize {
        let text = text.as_bytes();
        let mut count = 0;
        let mut rest = self.body.as_slice();
        while let Some(at) = find(rest, text) {
            count += 1;
            rest = rest.get(at + text.len()..).unwrap_or_default();
        }
        count
    }

    /// The text between `before` and the next quotation mark.
    pub(crate) fn after(&self, before: &str) -> Option<&str> {
        let start = find(&self.body, before.as_bytes())? + before.len();
        let rest = self.body.get(start..)?;
        let end = rest.iter().position(|byte| *byte == b'"')?;
        std::str::from_utf8(rest.get(..end)?).ok()
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    let first = *what.first()?;
    let mut from = 0;
    loop {
        let rest = text.get(from..)?;
        from += rest.iter().position(|byte| *byte == first)?;
        if text.get(from..)?.starts_with(what) {
            return Some(from);
        }
        from += 1;
    }
}

impl Conn {
    /// A connection for a token (empty: none). It is opened with the first request.
    pub(crate) fn new(addr: &str, token: &str) -> Self {
        Self {
            addr: addr.to_owned(),
            token: token.to_owned(),
            tls: None,
            stream: None,
            buffer: Vec::new(),
        }
    }

    /// The same under TLS, to `localhost`.
    pub(crate) fn secure(addr: &str, token: &str, tls: &Arc<ClientConfig>) -> Self {
        let tls = Some(Arc::clone(tls));
        Self {
            tls,
            ..Self::new(addr, token)
        }
    }

    fn open(&self) -> io::Result<Box<dyn Wire>> {
        let stream = TcpStream::connect(&self.addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let Some(tls) = &self.tls else {
            return Ok(Box::new(stream));
        };
        let name = "localhost".try_into().map_err(io::Error::other)?;
        let session = ClientConnection::new(Arc::clone(tls), name).map_err(io::Error::other)?;
        Ok(Box::new(StreamOwned::new(session, stream)))
    }

    /// Sends a request and reads the answer.
    pub(crate) fn call(&mut self, method: &str, path: &str, body: &str) -> io::Result<Reply> {
        self.send(method, path, ("application/json", body.as_bytes()))
    }

    /// Uploads a file of this type.
    pub(crate) fn upload(&mut self, path: &str, kind: &str, file: &[u8]) -> io::Result<Reply> {
        self.send("POST", path, (kind, file))
    }

    fn send(&mut self, method: &str, path: &str, body: (&str, &[u8])) -> io::Result<Reply> {
        if self.stream.is_none() {
            self.stream = Some(self.open()?);
            self.buffer.clear();
        }
        let outcome = self.exchange(method, path, body);
        if outcome.is_err() {
            self.stream = None;
        }
        outcome
    }

    /// [`Conn::call`] whose answer has to be 200 with JSON.
    pub(crate) fn json(&mut self, method: &str, path: &str, body: &str) -> Outcome<Value> {
        self.call(method, path, body)?
            .json()
            .map_err(|error| format!("{method} {path}: {error}").into())
    }

    /// [`Conn::call`] whose answer has to be 200.
    pub(crate) fn good(&mut self, method: &str, path: &str, body: &str) -> Outcome<Reply> {
        let reply = self.call(method, path, body)?;
        if reply.status == 200 {
            return Ok(reply);
        }
        let text = String::from_utf8_lossy(&reply.body);
        Err(format!(
            "{method} {path}: the server answered {}: {text}",
            reply.status
        )
        .into())
    }

    fn exchange(
        &mut self,
        method: &str,
        path: &str,
        (kind, body): (&str, &[u8]),
    ) -> io::Result<Reply> {
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n",
            body.len()
        );
        if !self.token.is_empty() {
            request.push_str("authorization: Bearer ");
            request.push_str(&self.token);
            request.push_str("\r\n");
        }
        if !body.is_empty() {
            request.push_str("content-type: ");
            request.push_str(kind);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        let stream = self.stream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        stream.write_all(&[request.as_bytes(), body].concat())?;
        let head_end = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            self.fill()?;
        };
        let head: Vec<u8> = self.buffer.drain(..head_end).collect();
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or(io::ErrorKind::InvalidData)?;
        let body = match header(&head, "content-length") {
            Some(length) => self.take(length.parse().map_err(io::Error::other)?)?,
            None if header(&head, "transfer-encoding") == Some("chunked") => self.chunks()?,
            None => Vec::new(),
        };
        if header(&head, "connection") == Some("close") {
            self.stream = None;
        }
        Ok(Reply { status, body })
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut part = [0; 64 << 10];
        let stream = self.stream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let n = stream.read(&mut part)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.buffer
            .extend_from_slice(part.get(..n).unwrap_or_default());
        Ok(())
    }

    fn take(&mut self, n: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < n {
            self.fill()?;
        }
        let rest = self.buffer.split_off(n);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let end = loop {
                if let Some(end) = find(&self.buffer, b"\r\n") {
                    break end;
                }
                self.fill()?;
            };
            let size = self.take(end + 2)?;
            let size = String::from_utf8_lossy(&size);
            let size = usize::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
            let mut chunk = self.take(size + 2)?;
            if size == 0 {
                return Ok(body);
            }
            chunk.truncate(size);
            body.append(&mut chunk);
        }
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::Conn;

    #[test]
    fn answers_with_a_length_and_in_chunks_on_one_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let answers = [
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
                "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            ];
            for answer in answers {
                let mut request = [0; 1024];
                assert!(stream.read(&mut request).unwrap() > 0);
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let mut conn = Conn::new(&addr, "t");
        let reply = conn.call("GET", "/", "").unwrap();
        assert_eq!(
            (reply.status, reply.body.as_slice()),
            (200, b"hello".as_slice())
        );
        assert_eq!(reply.count("l"), 2);
        let reply = conn.call("PUT", "/", "{}").unwrap();
        assert_eq!(
            (reply.status, reply.body.as_slice()),
            (404, b"abc".as_slice())
        );
        server.join().unwrap();
    }
}
