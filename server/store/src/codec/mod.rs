//! How keys and values become bytes.
//!
//! Keys and values have codecs of their own. A key's bytes sort as the key does, and the first
//! parts of a key encode to a true prefix of the whole ([`Key`], [`Prefix`]). A value is a
//! version byte and then its fields ([`Field`]). Both write into a [`Buf`], which notes where a
//! placeholder [`Pos`] lies, so that a commit can put the real position there; both read from a
//! [`Cur`], which never reads past its end and reports [`Malformed`] instead of panicking.

mod field;
mod key;
#[cfg(test)]
mod tests;

pub use field::{Field, Raw};
pub use key::{Key, Prefix};

use skerry_core::Pos;

/// Bytes do not decode as the type asked for. Becomes `StoreError::Corrupt` with table and key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Grows by what is encoded, and notes the offset of every placeholder position.
#[derive(Debug, Default, Clone)]
pub struct Buf {
    pub(crate) bytes: Vec<u8>,
    pub(crate) stamps: Vec<u32>,
}

impl Buf {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends one byte.
    pub fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    /// Appends bytes as they are.
    pub fn slice(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends a number in as few bytes as it needs, seven bits to a byte.
    pub fn varint(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.bytes.push((n as u8) | 0x80);
            n >>= 7;
        }
        self.bytes.push(n as u8);
    }

    /// Appends a position as eight bytes, big end first; a placeholder is noted for the commit.
    pub fn pos(&mut self, pos: Pos) {
        if pos.is_stamp() {
            // A write stays far below 4 GiB; the offset of a larger one would be refused by
            // the commit's size check before it is used.
            self.stamps
                .push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
        }
        self.bytes.extend_from_slice(&pos.0.to_be_bytes());
    }

    /// What was encoded so far.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads what a [`Buf`] wrote.
#[derive(Debug, Clone)]
pub struct Cur<'a>(&'a [u8]);

impl<'a> Cur<'a> {
    /// A reader of the whole slice.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next byte.
    ///
    /// # Errors
    /// `Malformed` at the end.
    pub fn byte(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.0.split_first().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*first)
    }

    /// The next byte, left in place.
    #[must_use]
    pub fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The next `n` bytes.
    ///
    /// # Errors
    /// `Malformed` when fewer are left.
    pub fn slice(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.0.split_at_checked(n).ok_or(Malformed)?;
        self.0 = rest;
        Ok(head)
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// `Malformed` when fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*head)
    }

    /// A number written by [`Buf::varint`].
    ///
    /// # Errors
    /// `Malformed` at the end, and for more than 64 bits.
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        let mut n = 0u64;
        let mut shift = 0u32;
        loop {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                return Err(Malformed);
            }
            n |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(n);
            }
            shift += 7;
            if shift > 63 {
                return Err(Malformed);
            }
        }
    }

    /// A length written by [`Buf::varint`]; never more than the bytes that are left, since every
    /// item takes at least one byte or none at all.
    ///
    /// # Errors
    /// `Malformed` for a length that cannot be true.
    pub fn length(&mut self) -> Result<usize, Malformed> {
        let n = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
        if n > self.0.len() {
            Err(Malformed)
        } else {
            Ok(n)
        }
    }

    /// A position.
    ///
    /// # Errors
    /// `Malformed` when fewer than eight bytes are left.
    pub fn pos(&mut self) -> Result<Pos, Malformed> {
        Ok(Pos(u64::from_be_bytes(self.array()?)))
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// Succeeds when nothing is left.
    ///
    /// # Errors
    /// `Malformed` when something is.
    pub fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Malformed)
        }
    }
}

/// The bytes of a value: a version byte, then its fields.
pub(crate) fn put_value<T: Field>(value: &T, out: &mut Buf) {
    if !T::SELF_VERSIONED {
        out.byte(1);
    }
    value.put(out);
}

/// Reads what [`put_value`] wrote; every byte has to be used.
pub(crate) fn take_value<T: Field>(bytes: &[u8]) -> Result<T, Malformed> {
    let mut cur = Cur::new(bytes);
    if !T::SELF_VERSIONED && cur.byte()? != 1 {
        return Err(Malformed);
    }
    let value = T::take(&mut cur)?;
    cur.end()?;
    Ok(value)
}
