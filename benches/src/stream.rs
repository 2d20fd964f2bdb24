//! Files up and down: bodies that are never whole in memory, unlike those of [`crate::http`].

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use crate::Outcome;

/// How much is written or read at once, in bytes.
const PIECE: usize = 256 << 10;
/// An answer is waited for at most this long.
const PATIENCE: Duration = Duration::from_secs(300);
/// The longest head of an answer, in bytes.
const HEAD_MAX: usize = 64 << 10;

/// A kept connection of somebody who has files.
#[derive(Debug)]
pub(crate) struct Files {
    stream: TcpStream,
    token: String,
    piece: Vec<u8>,
}

impl Files {
    /// Connects.
    pub(crate) fn new(addr: &str, token: &str) -> Outcome<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            token: token.to_owned(),
            piece: vec![0; PIECE],
        })
    }

    /// Uploads `length` bytes, which are `block` over and over; gives the media id.
    pub(crate) fn upload(&mut self, block: &[u8], length: usize) -> Outcome<String> {
        let mut head = self.head("POST", "/_matrix/media/v3/upload");
        head.push_str(&format!(
            "content-type: application/octet-stream\r\ncontent-length: {length}\r\n\r\n"
        ));
        let mut first = head.into_bytes();
        if length <= block.len().min(PIECE) {
            // One packet where it fits, as a client would.
            first.extend_from_slice(block.get(..length).unwrap_or_default());
            self.stream.write_all(&first)?;
        } else {
            self.stream.write_all(&first)?;
            let mut left = length;
            while left > 0 {
                let now = left.min(block.len());
                self.stream
                    .write_all(block.get(..now).unwrap_or_default())?;
                left -= now;
            }
        }
        let mut body = Vec::new();
        self.answer(&mut |piece| body.extend_from_slice(piece))?;
        let answer: Value = serde_json::from_slice(&body)?;
        let uri = answer["content_uri"].as_str().unwrap_or_default();
        let id = uri.strip_prefix("mxc://localhost/");
        Ok(id.ok_or("an upload without an mxc://")?.to_owned())
    }

    /// Downloads a file; gives how many bytes came.
    pub(crate) fn download(&mut self, id: &str) -> Outcome<usize> {
        let path = format!("/_matrix/client/v1/media/download/localhost/{id}");
        let mut head = self.head("GET", &path);
        head.push_str("\r\n");
        self.stream.write_all(head.as_bytes())?;
        let mut came = 0;
        self.answer(&mut |piece| came += piece.len())?;
        Ok(came)
    }

    fn head(&self, method: &str, path: &str) -> String {
        let token = &self.token;
        format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n")
    }

    /// Reads an answer that says its length.
    fn answer(&mut self, each: &mut dyn FnMut(&[u8])) -> Outcome<()> {
        let mut start = Vec::new();
        let end = loop {
            if let Some(at) = start.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            let read = self.read()?;
            start.extend_from_slice(self.piece.get(..read).unwrap_or_default());
            if start.len() > HEAD_MAX + PIECE {
                return Err("an answer without an end of its head".into());
            }
        };
        let body = start.split_off(end);
        let head = String::from_utf8_lossy(&start).to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .and_then(|length| length.trim().parse::<usize>().ok());
        let length = length.ok_or("an answer that does not say its length")?;
        if !head.starts_with("http/1.1 200") {
            let text = String::from_utf8_lossy(&body);
            return Err(format!("{}: {text}", head.lines().next().unwrap_or_default()).into());
        }
        let mut left = length.saturating_sub(body.len());
        each(&body);
        while left > 0 {
            let read = self.read()?;
            each(self.piece.get(..read).unwrap_or_default());
            left = left.saturating_sub(read);
        }
        Ok(())
    }

    fn read(&mut self) -> io::Result<usize> {
        match self.stream.read(&mut self.piece)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => Ok(read),
        }
    }
}
