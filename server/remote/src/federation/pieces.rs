//! Reading a large answer while it arrives: its lists item by item, in bounded memory.
//!
//! An answer of `/send_join` may hold a hundred thousand events and more bytes than this server
//! has memory. What is known here is only where each item begins and ends; whoever takes the
//! items parses them. Nesting, lengths and numbers of items are bounded while they are read, and
//! fields that nobody asked for are passed over.

use skerry_core::canonical::MAX_BODY_DEPTH;

/// How deeply an item may be nested here. Whoever parses it takes less; but one that nests too deep
/// spoils none of the others.
const MAX_DEPTH: usize = MAX_BODY_DEPTH;
/// The longest field name that is compared with those asked for, in bytes; longer ones are others.
const MAX_NAME: usize = 64;

/// What is wanted of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// The items of its array, one by one; so many at most.
    Items(usize),
    /// Its value, whole.
    Whole,
}

/// A field that is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    /// Its name.
    pub(crate) name: &'static str,
    /// What is wanted of it.
    pub(crate) want: Want,
    /// How many bytes the value, or each of its items, may have.
    pub(crate) max_bytes: usize,
}

/// A value that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Of which field: its place among those asked for.
    pub(crate) field: usize,
    /// Its JSON, to be parsed: where it ends is all that is known of it.
    pub(crate) json: Vec<u8>,
}

/// Why an answer cannot be read on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PiecesError {
    /// Not JSON, or no object; with the place in bytes.
    #[error("it is no JSON object, at byte {0}")]
    Syntax(u64),
    /// It ends too early.
    #[error("it ends too early, after {0} bytes")]
    Early(u64),
    /// A field that should be a list is something else.
    #[error("its `{0}` is not a list")]
    NoList(&'static str),
    /// A field is there twice.
    #[error("it has two `{0}`")]
    Twice(&'static str),
    /// A value is too long.
    #[error("something in its `{0}` is too long")]
    TooLong(&'static str),
    /// A list has too many items.
    #[error("its `{0}` has too many items")]
    TooMany(&'static str),
    /// Nested too deeply.
    #[error("it is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

/// Where in the answer the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before the object.
    Start,
    /// Before a field's name; `first`: the object may also end.
    Name { first: bool },
    /// Inside a field's name.
    InName,
    /// Before the colon.
    Colon,
    /// Before a field's value.
    Value,
    /// Before an item; `first`: the list may also end.
    Item { first: bool },
    /// Inside a value.
    In { item: bool },
    /// Behind an item.
    AfterItem,
    /// Behind a field's value.
    AfterValue,
    /// Behind the object.
    Done,
}

/// The value that is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// A string by itself.
    Text,
    /// A number or a word.
    Bare,
    /// An object or a list.
    Nest,
}

/// Reads one answer, fed with its bytes in pieces of any size.
pub(crate) struct Pieces {
    fields: &'static [Field],
    /// Which fields have been there, by their places.
    seen: Vec<bool>,
    /// How many items of each field there were.
    counts: Vec<usize>,
    place: Place,
    /// The field whose value is read; none: one that nobody asked for.
    field: Option<usize>,
    name: Vec<u8>,
    shape: Shape,
    /// Inside a string.
    quoted: bool,
    /// The last byte was a backslash in a string.
    escaped: bool,
    /// For each level the byte that ends it, the innermost last.
    brackets: Vec<u8>,
    held: Vec<u8>,
    /// Bytes read before what is fed now.
    before: u64,
}

impl Pieces {
    /// Reads these fields of an object.
    pub(crate) fn new(fields: &'static [Field]) -> Pieces {
        Pieces {
            fields,
            seen: vec![false; fields.len()],
            counts: vec![0; fields.len()],
            place: Place::Start,
            field: None,
            name: Vec::new(),
            shape: Shape::Bare,
            quoted: false,
            escaped: false,
            brackets: Vec::new(),
            held: Vec::new(),
            before: 0,
        }
    }

    /// Takes the next bytes; what became whole by them is added to `out`.
    ///
    /// # Errors
    /// [`PiecesError`]; nothing can be read after one.
    pub(crate) fn feed(&mut self, bytes: &[u8], out: &mut Vec<Piece>) -> Result<(), PiecesError> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            at = match self.place {
                Place::In { item } => self.inside(bytes, at, item, out)?,
                Place::InName => {
                    self.in_name(byte, at)?;
                    at + 1
                }
                _ if is_space(byte) => at + 1,
                _ => at + usize::from(self.between(byte, at)?),
            };
        }
        self.before += bytes.len() as u64;
        Ok(())
    }

    /// To be called when no more bytes come.
    ///
    /// # Errors
    /// `Early` where the object is not complete.
    pub(crate) fn end(&self) -> Result<(), PiecesError> {
        match self.place {
            Place::Done => Ok(()),
            _ => Err(PiecesError::Early(self.before)),
        }
    }

    fn syntax(&self, at: usize) -> PiecesError {
        PiecesError::Syntax(self.before + at as u64)
    }

    /// A byte between values; says whether it is used up, or is the first one of a value.
    fn between(&mut self, byte: u8, at: usize) -> Result<bool, PiecesError> {
        self.place = match (self.place, byte) {
            (Place::Start, b'{') => Place::Name { first: true },
            (Place::Name { first: true }, b'}') | (Place::AfterValue, b'}') => Place::Done,
            (Place::Name { .. }, b'"') => {
                self.name.clear();
                Place::InName
            }
            (Place::Colon, b':') => Place::Value,
            (Place::Value, _) => match self.wanted() {
                Some(field) if matches!(field.want, Want::Items(_)) => match byte {
                    b'[' => Place::Item { first: true },
                    _ => return Err(PiecesError::NoList(field.name)),
                },
                _ => return self.begin(byte, at, false),
            },
            (Place::Item { first: true }, b']') | (Place::AfterItem, b']') => Place::AfterValue,
            (Place::Item { .. }, _) => {
                self.count()?;
                return self.begin(byte, at, true);
            }
            (Place::AfterItem, b',') => Place::Item { first: false },
            (Place::AfterValue, b',') => Place::Name { first: false },
            _ => return Err(self.syntax(at)),
        };
        Ok(true)
    }

    /// The field that is read, if it was asked for.
    fn wanted(&self) -> Option<&'static Field> {
        self.field.and_then(|field| self.fields.get(field))
    }

    /// One more item of the list that is read.
    fn count(&mut self) -> Result<(), PiecesError> {
        let Some(field) = self.wanted() else {
            return Ok(());
        };
        let count = self.field.and_then(|field| self.counts.get_mut(field));
        if let (Some(count), Want::Items(most)) = (count, field.want) {
            *count += 1;
            if *count > most {
                return Err(PiecesError::TooMany(field.name));
            }
        }
        Ok(())
    }

    /// The first byte of a value, which is not used up.
    fn begin(&mut self, byte: u8, at: usize, item: bool) -> Result<bool, PiecesError> {
        self.shape = match byte {
            b'"' => Shape::Text,
            b'{' | b'[' => Shape::Nest,
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => Shape::Bare,
            _ => return Err(self.syntax(at)),
        };
        self.held.clear();
        (self.quoted, self.escaped) = (false, false);
        self.brackets.clear();
        self.place = Place::In { item };
        Ok(false)
    }

    /// A byte of a field's name.
    fn in_name(&mut self, byte: u8, at: usize) -> Result<(), PiecesError> {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = true,
            b'"' => {
                self.field = self.named();
                self.place = Place::Colon;
                return match self.wanted() {
                    Some(field) => self.first_time(field),
                    None => Ok(()),
                };
            }
            0..0x20 => return Err(self.syntax(at)),
            _ => {}
        }
        if self.name.len() <= MAX_NAME {
            self.name.push(byte);
        }
        Ok(())
    }

    /// The field of the name that was read, if it was asked for.
    fn named(&self) -> Option<usize> {
        let plain = [b"\"", self.name.as_slice(), b"\""].concat();
        let name: String = serde_json::from_slice(&plain).ok()?;
        self.fields.iter().position(|field| field.name == name)
    }

    fn first_time(&mut self, field: &'static Field) -> Result<(), PiecesError> {
        let seen = self.field.and_then(|field| self.seen.get_mut(field));
        match seen {
            Some(seen) if !*seen => *seen = true,
            _ => return Err(PiecesError::Twice(field.name)),
        }
        Ok(())
    }

    /// Reads on inside a value; says where that ends, or that the bytes are used up.
    fn inside(
        &mut self,
        bytes: &[u8],
        from: usize,
        item: bool,
        out: &mut Vec<Piece>,
    ) -> Result<usize, PiecesError> {
        let mut at = from;
        let mut over = false;
        while let (Some(&byte), false) = (bytes.get(at), over) {
            if self.shape == Shape::Bare && (is_space(byte) || matches!(byte, b',' | b']' | b'}')) {
                over = true;
                break;
            }
            over = self.step(byte).ok_or_else(|| self.syntax(at))?;
            if self.brackets.len() > MAX_DEPTH {
                return Err(PiecesError::TooDeep);
            }
            at += 1;
        }
        if let Some(field) = self.wanted() {
            self.held
                .extend_from_slice(bytes.get(from..at).unwrap_or_default());
            if self.held.len() > field.max_bytes {
                return Err(PiecesError::TooLong(field.name));
            }
        }
        if over {
            self.place = if item {
                Place::AfterItem
            } else {
                Place::AfterValue
            };
            if let Some(field) = self.field {
                let json = std::mem::take(&mut self.held);
                out.push(Piece { field, json });
            }
        }
        Ok(at)
    }

    /// One byte of a value: whether it is the last one; nothing where it cannot stand there.
    fn step(&mut self, byte: u8) -> Option<bool> {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.quoted => self.escaped = true,
            b'"' if self.shape != Shape::Bare => {
                self.quoted = !self.quoted;
                return Some(!self.quoted && self.shape == Shape::Text);
            }
            0..0x20 if self.quoted => return None,
            _ if self.quoted => {}
            b'{' | b'[' if self.shape == Shape::Nest => {
                self.brackets.push(if byte == b'{' { b'}' } else { b']' });
            }
            b'}' | b']' if self.shape == Shape::Nest => {
                if self.brackets.pop() != Some(byte) {
                    return None;
                }
                return Some(self.brackets.is_empty());
            }
            b'+' | b'-' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {}
            b',' | b':' if self.shape == Shape::Nest => {}
            _ if self.shape == Shape::Nest && is_space(byte) => {}
            _ => return None,
        }
        Some(false)
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

#[cfg(test)]
mod tests;
