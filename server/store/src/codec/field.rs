//! Values and their fields.

use std::sync::Arc;

use skerry_core::{
    EventNid, Membership, Order, Pos, RoomNid, ServerNid, StateId, StateKeyNid, UserNid,
};

use super::{Buf, Cur, Malformed};

/// A value of a table, or a part of one.
///
/// Numbers take as many bytes as they need; a [`Pos`] always takes eight, so that a commit can
/// put the real one in place. Records and enums come from `record!` and `code_enum!`.
pub trait Field: Sized {
    /// Starts with a version byte of its own (records do).
    const SELF_VERSIONED: bool = false;

    /// Appends this value.
    fn put(&self, out: &mut Buf);

    /// Reads a value.
    ///
    /// # Errors
    /// `Malformed` when the bytes are not of this type.
    fn take(cur: &mut Cur<'_>) -> Result<Self, Malformed>;

    /// Appends all items, without their number.
    fn put_all(items: &[Self], out: &mut Buf) {
        for item in items {
            item.put(out);
        }
    }

    /// Reads `n` items.
    ///
    /// # Errors
    /// `Malformed` when the bytes are not of this type.
    fn take_all(n: usize, cur: &mut Cur<'_>) -> Result<Vec<Self>, Malformed> {
        // Bounded: `n` is at most the number of bytes that are left.
        let mut items = Vec::with_capacity(n.min(4096));
        for _ in 0..n {
            items.push(Self::take(cur)?);
        }
        Ok(items)
    }
}

/// Bytes that run to the end of the row, without a length. Only as the last field.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Raw(pub Vec<u8>);

impl Field for Raw {
    fn put(&self, out: &mut Buf) {
        out.slice(&self.0);
    }
    fn take(cur: &mut Cur<'_>) -> Result<Self, Malformed> {
        Ok(Self(cur.rest().to_vec()))
    }
}

impl Field for u8 {
    fn put(&self, out: &mut Buf) {
        out.byte(*self);
    }
    fn take(cur: &mut Cur<'_>) -> Result<Self, Malformed> {
        cur.byte()
    }
    fn put_all(items: &[Self], out: &mut Buf) {
        out.slice(items);
    }
    fn take_all(n: usize, cur: &mut Cur<'_>) -> Result<Vec<Self>, Malformed> {
        cur.slice(n).map(<[u8]>::to_vec)
    }
}

impl Field for bool {
    fn put(&self, out: &mut Buf) {
        out.byte(u8::from(*self));
    }
    fn take(cur: &mut Cur<'_>) -> Result<Self, Malformed> {
        match cur.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }
}

macro_rules! varint_field {
    ($($t:ty),*) => {$(
        impl Field for $t {
            fn put(&self, out: &mut Buf) {
                out.varint(u64::from(*self));
            }
            fn take(cur: &mut Cur<'_>) -> Result<Self, Malformed> {
                Self::try_from(cur.varint()?).map_err(|_| Malformed)
            }
        }
    )*};
}
varint_field!(u16, u32, u64);

impl Field for i64 {
    fn put(&self, out: &mut Buf) {
        out.varint(((*self << 1) ^ (*self >> 63)) as u64);
    }
    fn take(cur: &mut Cur<'_>) -> Result<Self, Malformed> {
        let n = cur.varint()?;
        Ok((n >> 1) as i64 ^ -((n & 1) as i64))
    }
}

macro_rules! nid_field {
    ($($t:ident),*) => {$(
        impl Field for $t {
            fn put(&self, out: &mut Buf) {
                out.varint(self.0);
            }
            fn take(cur: &mut Cur<'_>) -> Result<Self, Malformed> {
                cur.varint().map($t)
            }
        }
    )*};
}
nid_field!(RoomNid, UserNid, EventNid, StateKeyNid, ServerNid, StateId);

impl Field for Pos {
    fn put(&self, out: &mut Buf) {
        out.pos(*self);
    }
    fn take(cur: &mut Cur<'_>) -> Result<Self, Malformed> {
        cur.pos()
    }
}

impl Field for Order {
    fn put(&self, out: &mut Buf) {
        out.pos(self.anchor);
        self.n.put(out);
    }
    fn take(cur: &mut Cur<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            anchor: cur.pos()?,
            n: i64::take(cur)?,
        })
    }
}

impl Field for Membership {
    fn put(&self, out: &mut Buf) {
        out.byte(self.code());
    }
    fn take(cur: &mut Cur<'_>) -> Result<Self, Malformed> {
        Membership::from_code(cur.byte()?).ok_or(Malformed)
    }
}

impl Field for String {
    fn put(&self, out: &mut Buf) {
        out.varint(self.len() as u64);
        out.slice(self.as_bytes());
    }
    fn take(cur: &mut Cur<'_>) -> Result<Self, Malformed> {
        let n = cur.length()?;
        std::str::from_utf8(cur.slice(n)?)
            .map(str::to_owned)
            .map_err(|_| Malformed)
    }
}

macro_rules! str_field {
    ($($t:ty),*) => {$(
        impl Field for $t {
            fn put(&self, out: &mut Buf) {
                out.varint(self.len() as u64);
                out.slice(self.as_bytes());
            }
            fn take(cur: &mut Cur<'_>) -> Result<Self, Malformed> {
                let n = cur.length()?;
                std::str::from_utf8(cur.slice(n)?).map(Into::into).map_err(|_| Malformed)
            }
        }
    )*};
}
str_field!(Box<str>, Arc<str>);

impl<T: Field> Field for Vec<T> {
    fn put(&self, out: &mut Buf) {
        out.varint(self.len() as u64);
        T::put_all(self, out);
    }
    fn take(cur: &mut Cur<'_>) -> Result<Self, Malformed> {
        let n = cur.length()?;
        T::take_all(n, cur)
    }
}

impl<T: Field> Field for Box<[T]> {
    fn put(&self, out: &mut Buf) {
        out.varint(self.len() as u64);
        T::put_all(self, out);
    }
    fn take(cur: &mut Cur<'_>) -> Result<Self, Malformed> {
        let n = cur.length()?;
        T::take_all(n, cur).map(Vec::into_boxed_slice)
    }
}

impl<T: Field> Field for Option<T> {
    fn put(&self, out: &mut Buf) {
        match self {
            None => out.byte(0),
            Some(value) => {
                out.byte(1);
                value.put(out);
            }
        }
    }
    fn take(cur: &mut Cur<'_>) -> Result<Self, Malformed> {
        match cur.byte()? {
            0 => Ok(None),
            1 => T::take(cur).map(Some),
            _ => Err(Malformed),
        }
    }
}

impl<const N: usize> Field for [u8; N] {
    fn put(&self, out: &mut Buf) {
        out.slice(self);
    }
    fn take(cur: &mut Cur<'_>) -> Result<Self, Malformed> {
        cur.array()
    }
}

impl Field for () {
    fn put(&self, _out: &mut Buf) {}
    fn take(_cur: &mut Cur<'_>) -> Result<Self, Malformed> {
        Ok(())
    }
}

macro_rules! tuple_field {
    ($($name:ident . $n:tt),*) => {
        impl<$($name: Field),*> Field for ($($name,)*) {
            fn put(&self, out: &mut Buf) {
                $(self.$n.put(out);)*
            }
            fn take(cur: &mut Cur<'_>) -> Result<Self, Malformed> {
                Ok(($($name::take(cur)?,)*))
            }
        }
    };
}
tuple_field!(A.0, B.1);
tuple_field!(A.0, B.1, C.2);
tuple_field!(A.0, B.1, C.2, D.3);
