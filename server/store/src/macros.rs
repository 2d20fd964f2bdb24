//! The words in which the schema is written: `table!`, `tables!`, `record!`, `code_enum!`.

/// Declares a table: `table!(/// doc
/// Name: "name", Owner, KeyType => ValueType, profile Profile);`
#[macro_export]
macro_rules! table {
    ($(#[$meta:meta])* $name:ident : $text:literal, $owner:ident, $key:ty => $value:ty,
     profile $profile:ident $(,)?) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name;

        impl $crate::Table for $name {
            const NAME: &'static str = $text;
            const OWNER: $crate::Owner = $crate::Owner::$owner;
            const PROFILE: $crate::Profile = $crate::Profile::$profile;
            const TYPES: (&'static str, &'static str) = (stringify!($key), stringify!($value));
            type Key = $key;
            type Value = $value;
        }
    };
}

/// Lists the tables of one file: `tables!(Timeline, Edge);` makes `TABLES`.
#[macro_export]
macro_rules! tables {
    ($($name:ident),* $(,)?) => {
        /// The tables of this file.
        pub const TABLES: &[$crate::TableInfo] = &[$($crate::TableInfo::of::<$name>()),*];
    };
}

/// The number behind `v1` to `v9`.
#[doc(hidden)]
#[macro_export]
macro_rules! version_number {
    (v1) => {
        1u8
    };
    (v2) => {
        2u8
    };
    (v3) => {
        3u8
    };
    (v4) => {
        4u8
    };
    (v5) => {
        5u8
    };
    (v6) => {
        6u8
    };
    (v7) => {
        7u8
    };
    (v8) => {
        8u8
    };
    (v9) => {
        9u8
    };
}

/// Declares a value as a struct with a version: `record! { pub struct X v1 { pub a: u64 } }`.
///
/// A changed struct gets a new number and names its predecessor, which stays in the schema and
/// has `impl From<XV1> for X`: `record! { pub struct X v2 { .. } from XV1 }`. Rows of the old
/// version are then read as before.
#[macro_export]
macro_rules! record {
    ($(#[$meta:meta])* pub struct $name:ident $version:ident {
        $($(#[$fmeta:meta])* pub $field:ident : $type:ty),* $(,)?
    } $(from $older:ty)?) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            $($(#[$fmeta])* pub $field: $type,)*
        }

        impl $crate::codec::Field for $name {
            const SELF_VERSIONED: bool = true;

            fn put(&self, out: &mut $crate::codec::Buf) {
                out.byte($crate::version_number!($version));
                $($crate::codec::Field::put(&self.$field, out);)*
            }

            fn take(
                cur: &mut $crate::codec::Cur<'_>,
            ) -> Result<Self, $crate::codec::Malformed> {
                if cur.peek() == Some($crate::version_number!($version)) {
                    cur.byte()?;
                    return Ok(Self { $($field: <$type as $crate::codec::Field>::take(cur)?,)* });
                }
                $(
                    if cur.peek().is_some_and(|v| v < $crate::version_number!($version)) {
                        return <$older as $crate::codec::Field>::take(cur).map(Self::from);
                    }
                )?
                Err($crate::codec::Malformed)
            }
        }
    };
}

/// Declares an enum that is stored as one byte, in keys and in values:
/// `code_enum! { pub enum Kind { A = 1, B = 2 } }`.
#[macro_export]
macro_rules! code_enum {
    ($(#[$meta:meta])* pub enum $name:ident {
        $($(#[$vmeta:meta])* $variant:ident = $code:literal),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$vmeta])* $variant = $code,)*
        }

        impl $name {
            /// The byte that stands for it.
            #[must_use]
            pub const fn code(self) -> u8 {
                self as u8
            }

            /// What a byte stands for.
            #[must_use]
            pub const fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }

        impl $crate::codec::Field for $name {
            fn put(&self, out: &mut $crate::codec::Buf) {
                out.byte(self.code());
            }
            fn take(
                cur: &mut $crate::codec::Cur<'_>,
            ) -> Result<Self, $crate::codec::Malformed> {
                Self::from_code(cur.byte()?).ok_or($crate::codec::Malformed)
            }
        }

        impl $crate::codec::Key for $name {
            fn encode(&self, out: &mut $crate::codec::Buf) {
                out.byte(self.code());
            }
            fn decode(
                cur: &mut $crate::codec::Cur<'_>,
            ) -> Result<Self, $crate::codec::Malformed> {
                Self::from_code(cur.byte()?).ok_or($crate::codec::Malformed)
            }
        }
    };
}
