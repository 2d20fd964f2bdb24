//! `multipart/mixed` as servers send media to each other (server-server API, content repository):
//! a JSON object, then the bytes or where they are. Read piece by piece, whatever the pieces are.

/// The longest boundary, in bytes (RFC 2046, 5.1.1).
const BOUNDARY_MAX: usize = 70;
/// The longest part that is not the file, and the longest headers of a part, in bytes.
const SMALL_MAX: usize = 64 * 1024;

/// What is wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The content type is not multipart with a boundary.
    #[error("the answer is not multipart")]
    NotMultipart,
    /// The parts are not what they should be.
    #[error("the parts of the answer are not what they should be")]
    Parts,
    /// Headers or metadata that do not end.
    #[error("the answer's headers are too long")]
    TooLong,
}

/// What the second part begins with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// `Content-Type`.
    pub content_type: String,
    /// `Content-Disposition`.
    pub disposition: String,
    /// `Location`: the bytes are there, and not here.
    pub location: Option<String>,
}

/// The boundary of a `Content-Type`.
///
/// # Errors
/// [`Malformed::NotMultipart`].
pub fn boundary(content_type: &str) -> Result<String, Malformed> {
    let mut parts = content_type.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
    if !kind.starts_with("multipart/") {
        return Err(Malformed::NotMultipart);
    }
    let value = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("boundary")
            .then(|| value.trim().trim_matches('"').to_owned())
    });
    value
        .filter(|value| (1..=BOUNDARY_MAX).contains(&value.len()))
        .ok_or(Malformed::NotMultipart)
}

/// Reads an answer: pieces go in, and the bytes of the file come out.
#[derive(Debug)]
pub struct Reader {
    /// `\r\n--boundary`, which ends every part.
    mark: Vec<u8>,
    /// What was not looked at yet.
    held: Vec<u8>,
    state: State,
    head: Option<Head>,
    /// How much at the beginning of the file was put there by us.
    ours: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first boundary.
    Before,
    /// Behind a boundary's line: headers of the part with this number.
    Headers(u8),
    /// In the JSON, which says nothing yet.
    Metadata,
    /// In the file.
    File,
    /// Behind it.
    Over,
}

impl Reader {
    /// With this boundary.
    #[must_use]
    pub fn new(boundary: &str) -> Self {
        Self {
            mark: format!("\r\n--{boundary}").into_bytes(),
            // So that the first boundary is found like the others, also without a line before it.
            held: b"\r\n".to_vec(),
            state: State::Before,
            head: None,
            ours: 0,
        }
    }

    /// What the second part begins with, once that is known.
    #[must_use]
    pub fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// Whether the file is whole.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Takes a piece of the answer; gives what of the file can be told from what was taken.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn take(&mut self, piece: &[u8]) -> Result<Vec<u8>, Malformed> {
        self.held.extend_from_slice(piece);
        let mut file = Vec::new();
        loop {
            let before = (self.state, self.held.len());
            match self.state {
                State::Before => {
                    self.up_to_mark(State::Headers(0))?;
                }
                State::Metadata => {
                    self.up_to_mark(State::Headers(1))?;
                }
                State::Headers(part) => self.headers(part)?,
                State::File => self.file(&mut file),
                State::Over => self.held.clear(),
            }
            if (self.state, self.held.len()) == before {
                return Ok(file);
            }
        }
    }

    fn find(&self, what: &[u8]) -> Option<usize> {
        self.held.windows(what.len()).position(|at| at == what)
    }

    /// Passes everything up to a boundary.
    fn up_to_mark(&mut self, next: State) -> Result<(), Malformed> {
        match self.find(&self.mark) {
            Some(at) => {
                self.held.drain(..at + self.mark.len());
                self.state = next;
                Ok(())
            }
            None if self.held.len() > SMALL_MAX => Err(Malformed::TooLong),
            None => Ok(()),
        }
    }

    /// The rest of the boundary's line, and headers up to an empty line.
    fn headers(&mut self, part: u8) -> Result<(), Malformed> {
        if self.held.starts_with(b"--") {
            return Err(Malformed::Parts);
        }
        let Some(end) = self.find(b"\r\n\r\n") else {
            return match self.held.len() > SMALL_MAX {
                true => Err(Malformed::TooLong),
                false => Ok(()),
            };
        };
        let text: Vec<u8> = self.held.drain(..end + 4).collect();
        if part == 0 {
            // The empty line may be the one before the next boundary.
            self.held.splice(0..0, *b"\r\n");
            self.state = State::Metadata;
            return Ok(());
        }
        let text = String::from_utf8_lossy(&text);
        let mut head = Head::default();
        for line in text.lines() {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            let value = value.trim().to_owned();
            match name.trim().to_ascii_lowercase().as_str() {
                "content-type" => head.content_type = value,
                "content-disposition" => head.disposition = value,
                "location" => head.location = Some(value),
                _ => {}
            }
        }
        self.head = Some(head);
        // So that the boundary is found behind an empty file too.
        self.held.splice(0..0, *b"\r\n");
        self.ours = 2;
        self.state = State::File;
        Ok(())
    }

    /// Everything that cannot be the beginning of a boundary belongs to the file.
    fn file(&mut self, file: &mut Vec<u8>) {
        let mark = self.find(&self.mark);
        let sure = match mark {
            Some(at) => at,
            None => (self.held.len() + 1).saturating_sub(self.mark.len()),
        };
        let ours = self.ours.min(sure);
        self.ours -= ours;
        file.extend(self.held.drain(..sure).skip(ours));
        if mark.is_some() {
            self.held.clear();
            self.state = State::Over;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const ANSWER: &[u8] =
        b"--gc0p4Jq0M2Yt08jU534c0p\r\nContent-Type: application/json\r\n\r\n{}\r\n\
        --gc0p4Jq0M2Yt08jU534c0p\r\nContent-Type: text/plain\r\n\
        Content-Disposition: inline; filename=a.txt\r\n\r\n\
        \r\nThis --media is plain.\r\n--gc0\r\n\r\n--gc0p4Jq0M2Yt08jU534c0p--\r\n";

    fn read(answer: &[u8], size: usize) -> Result<(Vec<u8>, Reader), Malformed> {
        let boundary = boundary("multipart/mixed; boundary=gc0p4Jq0M2Yt08jU534c0p")?;
        let (mut reader, mut file) = (Reader::new(&boundary), Vec::new());
        for piece in answer.chunks(size) {
            file.extend(reader.take(piece)?);
        }
        Ok((file, reader))
    }

    #[test]
    fn the_file_comes_out_whatever_the_pieces_are() {
        for size in 1..ANSWER.len() {
            let (file, reader) = read(ANSWER, size).unwrap();
            assert_eq!(file, b"\r\nThis --media is plain.\r\n--gc0\r\n", "{size}");
            assert!(reader.is_over());
            let head = reader.head().unwrap();
            assert_eq!(head.content_type, "text/plain");
            assert_eq!(head.disposition, "inline; filename=a.txt");
            assert_eq!(head.location, None);
        }
    }

    #[test]
    fn empty_files_and_other_places() {
        let mark = "gc0p4Jq0M2Yt08jU534c0p";
        let place = format!(
            "--{mark}\r\n\r\n--{mark}\r\nlocation: https://cdn.example/x\r\n\r\n\r\n--{mark}--"
        );
        for size in [1, 7, 1000] {
            let (file, reader) = read(place.as_bytes(), size).unwrap();
            assert!(file.is_empty() && reader.is_over());
            let location = reader.head().unwrap().location.as_deref();
            assert_eq!(location, Some("https://cdn.example/x"));
        }
    }

    #[test]
    fn what_is_cut_off_or_endless_is_no_file() {
        for end in 0..ANSWER.len() - 30 {
            if let Ok((_, reader)) = read(&ANSWER[..end], 10) {
                assert!(!reader.is_over(), "{end}");
            }
        }
        assert!(matches!(
            read(&[b'x'; 100_000], 1000),
            Err(Malformed::TooLong)
        ));
        for wrong in [
            "text/plain",
            "multipart/mixed",
            "multipart/mixed; boundary=",
        ] {
            assert_eq!(boundary(wrong), Err(Malformed::NotMultipart));
        }
        assert_eq!(
            boundary("Multipart/Mixed; Boundary=\"a b\"").unwrap(),
            "a b"
        );
    }
}
