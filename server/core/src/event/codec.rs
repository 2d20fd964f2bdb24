//! The stored bytes of an event: version, header, text.

use super::{Span, StoredEvent};
use crate::room_version::RoomVersion;

/// First byte of what is written now.
const FORMAT: u8 = 1;
const HAS_STATE_KEY: u8 = 1;
const HAS_REDACTS: u8 = 2;
const IS_STICKY: u8 = 4;

/// Stored bytes are not an event; the text says what was wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("stored event is damaged: {0}")]
pub struct DecodeError(pub &'static str);

impl StoredEvent {
    /// The bytes to store. The first one is the version of this format.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.text.len() + 48);
        let mut flags = 0;
        if self.state_key.is_some() {
            flags |= HAS_STATE_KEY;
        }
        if self.redacts.is_some() {
            flags |= HAS_REDACTS;
        }
        if self.sticky_ms.is_some() {
            flags |= IS_STICKY;
        }
        out.extend([FORMAT, flags, self.version.number()]);
        put(self.origin_server_ts, &mut out);
        put(self.depth, &mut out);
        put(u64::from(self.json.start), &mut out);
        for span in self
            .fixed_spans()
            .into_iter()
            .chain(self.state_key)
            .chain(self.redacts)
        {
            put(u64::from(span.start), &mut out);
            put(u64::from(span.len), &mut out);
        }
        if let Some(sticky_ms) = self.sticky_ms {
            put(u64::from(sticky_ms), &mut out);
        }
        out.extend_from_slice(self.text.as_bytes());
        out
    }

    fn fixed_spans(&self) -> [Span; 7] {
        [
            self.event_id,
            self.room_id,
            self.sender,
            self.kind,
            self.content,
            self.auth_events,
            self.prev_events,
        ]
    }

    /// Reads what [`Self::encode`] wrote, without parsing any JSON.
    ///
    /// # Errors
    /// The bytes are damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader { rest: bytes };
        if reader.byte()? != FORMAT {
            return Err(DecodeError("unknown format"));
        }
        let flags = reader.byte()?;
        let version = RoomVersion::from_number(reader.byte()?);
        let version = version.ok_or(DecodeError("unknown room version"))?;
        let origin_server_ts = reader.number()?;
        let depth = reader.number()?;
        let json_at = reader.small()?;
        let mut spans = [Span { start: 0, len: 0 }; 7];
        for span in &mut spans {
            *span = reader.span()?;
        }
        let state_key = (flags & HAS_STATE_KEY != 0)
            .then(|| reader.span())
            .transpose()?;
        let redacts = (flags & HAS_REDACTS != 0)
            .then(|| reader.span())
            .transpose()?;
        let sticky_ms = (flags & IS_STICKY != 0)
            .then(|| reader.small())
            .transpose()?;
        let text = std::str::from_utf8(reader.rest).map_err(|_| DecodeError("not UTF-8"))?;
        let len = text
            .len()
            .checked_sub(json_at as usize)
            .ok_or(DecodeError("no JSON"))?;
        let json = Span {
            start: json_at,
            len: len as u32,
        };
        let [
            event_id,
            room_id,
            sender,
            kind,
            content,
            auth_events,
            prev_events,
        ] = spans;
        let inside = |span: &Span| {
            let start = span.start as usize;
            text.get(start..start + span.len as usize).is_some()
        };
        if !spans
            .iter()
            .chain(&state_key)
            .chain(&redacts)
            .chain([&json])
            .all(inside)
        {
            return Err(DecodeError("field outside the text"));
        }
        Ok(StoredEvent {
            version,
            origin_server_ts,
            depth,
            text: text.into(),
            json,
            event_id,
            room_id,
            sender,
            kind,
            content,
            auth_events,
            prev_events,
            state_key,
            redacts,
            sticky_ms,
        })
    }
}

/// Seven bits a byte, low ones first; the high bit says that more follow.
fn put(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push((n & 0x7F) as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, DecodeError> {
        let (&first, rest) = self.rest.split_first().ok_or(DecodeError("too short"))?;
        self.rest = rest;
        Ok(first)
    }

    fn number(&mut self) -> Result<u64, DecodeError> {
        let mut n = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            n |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(n);
            }
        }
        Err(DecodeError("number too long"))
    }

    fn small(&mut self) -> Result<u32, DecodeError> {
        u32::try_from(self.number()?).map_err(|_| DecodeError("number too large"))
    }

    fn span(&mut self) -> Result<Span, DecodeError> {
        Ok(Span {
            start: self.small()?,
            len: self.small()?,
        })
    }
}
