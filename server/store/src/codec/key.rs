//! Keys: bytes that sort as the key does.

use skerry_core::{
    EventNid, Membership, Order, Pos, RoomNid, ServerNid, StateId, StateKeyNid, UserNid,
};

use super::{Buf, Cur, Malformed};

/// A key of a table, or a part of one.
///
/// Law, tested by property: `a < b` exactly when the bytes of `a` sort before those of `b`, and
/// no key's bytes are the start of another's. So tuples are plain concatenation.
pub trait Key: Sized {
    /// Appends this key.
    fn encode(&self, out: &mut Buf);

    /// Reads a key.
    ///
    /// # Errors
    /// `Malformed` when the bytes are not of this type.
    fn decode(cur: &mut Cur<'_>) -> Result<Self, Malformed>;
}

/// The leading part of a key `K`: selects all keys that start with it.
pub trait Prefix<K> {
    /// Appends the bytes that all keys with this prefix start with.
    fn encode_prefix(&self, out: &mut Buf);
}

macro_rules! uint_key {
    ($($t:ty),*) => {$(
        impl Key for $t {
            fn encode(&self, out: &mut Buf) {
                out.slice(&self.to_be_bytes());
            }
            fn decode(cur: &mut Cur<'_>) -> Result<Self, Malformed> {
                cur.array().map(Self::from_be_bytes)
            }
        }
    )*};
}
uint_key!(u8, u16, u32, u64);

const SIGN: u64 = 1 << 63;

impl Key for i64 {
    fn encode(&self, out: &mut Buf) {
        out.slice(&((*self as u64) ^ SIGN).to_be_bytes());
    }
    fn decode(cur: &mut Cur<'_>) -> Result<Self, Malformed> {
        cur.array()
            .map(|bytes| (u64::from_be_bytes(bytes) ^ SIGN) as i64)
    }
}

impl Key for bool {
    fn encode(&self, out: &mut Buf) {
        out.byte(u8::from(*self));
    }
    fn decode(cur: &mut Cur<'_>) -> Result<Self, Malformed> {
        match cur.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }
}

macro_rules! nid_key {
    ($($t:ident),*) => {$(
        impl Key for $t {
            fn encode(&self, out: &mut Buf) {
                self.0.encode(out);
            }
            fn decode(cur: &mut Cur<'_>) -> Result<Self, Malformed> {
                u64::decode(cur).map($t)
            }
        }
    )*};
}
nid_key!(RoomNid, UserNid, EventNid, StateKeyNid, ServerNid, StateId);

impl Key for Pos {
    fn encode(&self, out: &mut Buf) {
        out.pos(*self);
    }
    fn decode(cur: &mut Cur<'_>) -> Result<Self, Malformed> {
        cur.pos()
    }
}

impl Key for Order {
    fn encode(&self, out: &mut Buf) {
        out.pos(self.anchor);
        self.n.encode(out);
    }
    fn decode(cur: &mut Cur<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            anchor: cur.pos()?,
            n: i64::decode(cur)?,
        })
    }
}

impl Key for Membership {
    fn encode(&self, out: &mut Buf) {
        out.byte(self.code());
    }
    fn decode(cur: &mut Cur<'_>) -> Result<Self, Malformed> {
        Membership::from_code(cur.byte()?).ok_or(Malformed)
    }
}

/// Zero bytes are followed by 0xff, and two zero bytes end the key: shorter sorts first.
fn encode_bytes(bytes: &[u8], out: &mut Buf) {
    for part in bytes.split_inclusive(|byte| *byte == 0) {
        out.slice(part);
        if part.last() == Some(&0) {
            out.byte(0xff);
        }
    }
    out.slice(&[0, 0]);
}

fn decode_bytes(cur: &mut Cur<'_>) -> Result<Vec<u8>, Malformed> {
    let mut bytes = Vec::new();
    loop {
        match cur.byte()? {
            0 => match cur.byte()? {
                0 => return Ok(bytes),
                0xff => bytes.push(0),
                _ => return Err(Malformed),
            },
            byte => bytes.push(byte),
        }
    }
}

impl Key for String {
    fn encode(&self, out: &mut Buf) {
        encode_bytes(self.as_bytes(), out);
    }
    fn decode(cur: &mut Cur<'_>) -> Result<Self, Malformed> {
        String::from_utf8(decode_bytes(cur)?).map_err(|_| Malformed)
    }
}

impl Key for Vec<u8> {
    fn encode(&self, out: &mut Buf) {
        encode_bytes(self, out);
    }
    fn decode(cur: &mut Cur<'_>) -> Result<Self, Malformed> {
        decode_bytes(cur)
    }
}

impl<const N: usize> Key for [u8; N] {
    fn encode(&self, out: &mut Buf) {
        out.slice(self);
    }
    fn decode(cur: &mut Cur<'_>) -> Result<Self, Malformed> {
        cur.array()
    }
}

impl Key for () {
    fn encode(&self, _out: &mut Buf) {}
    fn decode(_cur: &mut Cur<'_>) -> Result<Self, Malformed> {
        Ok(())
    }
}

macro_rules! tuple_key {
    ($($name:ident . $n:tt),*) => {
        impl<$($name: Key),*> Key for ($($name,)*) {
            fn encode(&self, out: &mut Buf) {
                $(self.$n.encode(out);)*
            }
            fn decode(cur: &mut Cur<'_>) -> Result<Self, Malformed> {
                Ok(($($name::decode(cur)?,)*))
            }
        }
    };
}
tuple_key!(A.0, B.1);
tuple_key!(A.0, B.1, C.2);
tuple_key!(A.0, B.1, C.2, D.3);

macro_rules! prefix {
    ($($whole:ident),* => $part:ty) => {
        impl<$($whole: Key),*> Prefix<($($whole,)*)> for $part {
            fn encode_prefix(&self, out: &mut Buf) {
                self.encode(out);
            }
        }
    };
}
prefix!(A, B => A);
prefix!(A, B, C => A);
prefix!(A, B, C => (A, B));
prefix!(A, B, C, D => A);
prefix!(A, B, C, D => (A, B));
prefix!(A, B, C, D => (A, B, C));
