//! From JSON text, and from serde's values.

use super::number::float_text;
use super::{CanonicalError, MAX_INT, Mode, Object, Value};

/// Parses a whole text.
pub(super) fn parse(
    text: &[u8],
    mode: Mode,
    max_bytes: usize,
    max_depth: usize,
) -> Result<Value, CanonicalError> {
    let mut parser = Parser::new(text, mode, max_bytes)?;
    parser.max_depth = max_depth;
    parser.space();
    let value = parser.value(0)?;
    parser.space();
    parser.end().map(|()| value)
}

/// Where in a text the next value stands.
pub(super) struct Parser<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    mode: Mode,
    max_depth: usize,
}

impl<'a> Parser<'a> {
    /// At the beginning of a text.
    pub(super) fn new(
        text: &'a [u8],
        mode: Mode,
        max_bytes: usize,
    ) -> Result<Parser<'a>, CanonicalError> {
        if text.len() > max_bytes {
            return Err(CanonicalError::TooLong(max_bytes));
        }
        let text = std::str::from_utf8(text).map_err(|e| CanonicalError::Syntax {
            at: e.valid_up_to(),
            what: "not UTF-8",
        })?;
        Ok(Parser {
            text,
            bytes: text.as_bytes(),
            at: 0,
            mode,
            max_depth: super::MAX_DEPTH,
        })
    }

    /// Nothing may come any more.
    pub(super) fn end(&self) -> Result<(), CanonicalError> {
        match self.at == self.bytes.len() {
            true => Ok(()),
            false => Err(self.error("text after the value")),
        }
    }

    /// A value that holds no others.
    pub(super) fn leaf(&mut self) -> Result<Value, CanonicalError> {
        match self.peek() {
            Some(b'"') => self.string().map(Value::Str),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => Err(self.error("no value starts like this")),
            None => Err(self.error("the text ends too early")),
        }
    }

    /// A field's name and the colon behind it.
    pub(super) fn field_name(&mut self) -> Result<String, CanonicalError> {
        if self.peek() != Some(b'"') {
            return Err(self.error("expected a field name"));
        }
        let name = self.string()?;
        self.space();
        if !self.eat(b':') {
            return Err(self.error("expected a colon"));
        }
        self.space();
        Ok(name)
    }

    pub(super) fn error(&self, what: &'static str) -> CanonicalError {
        CanonicalError::Syntax { at: self.at, what }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    pub(super) fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    /// Takes the byte if it comes next.
    pub(super) fn eat(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        if there {
            self.at += 1;
        }
        there
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, CanonicalError> {
        let end = self.at + word.len();
        if self.bytes.get(self.at..end) == Some(word.as_bytes()) {
            self.at = end;
            Ok(value)
        } else {
            Err(self.error("unknown word"))
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, CanonicalError> {
        match self.peek() {
            Some(b'{') => self.object(depth + 1),
            Some(b'[') => self.array(depth + 1),
            _ => self.leaf(),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, CanonicalError> {
        if depth > self.max_depth {
            return Err(CanonicalError::TooDeep(self.max_depth));
        }
        self.at += 1;
        let mut fields = Vec::new();
        self.space();
        if self.eat(b'}') {
            return Ok(Value::Object(Object::new()));
        }
        loop {
            self.space();
            let name = self.field_name()?;
            fields.push((name, self.value(depth)?));
            self.space();
            if self.eat(b'}') {
                return Ok(Value::Object(Object::from_fields(fields)));
            }
            if !self.eat(b',') {
                return Err(self.error("expected a comma or the object's end"));
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, CanonicalError> {
        if depth > self.max_depth {
            return Err(CanonicalError::TooDeep(self.max_depth));
        }
        self.at += 1;
        let mut items = Vec::new();
        self.space();
        if self.eat(b']') {
            return Ok(Value::Array(items));
        }
        loop {
            self.space();
            items.push(self.value(depth)?);
            self.space();
            if self.eat(b']') {
                return Ok(Value::Array(items));
            }
            if !self.eat(b',') {
                return Err(self.error("expected a comma or the array's end"));
            }
        }
    }

    /// A string; the opening quote comes next.
    fn string(&mut self) -> Result<String, CanonicalError> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let start = self.at;
            let rest = self.bytes.get(start..).unwrap_or_default();
            let run = rest
                .iter()
                .position(|&b| b == b'"' || b == b'\\' || b < 0x20);
            let Some(run) = run else {
                self.at = self.bytes.len();
                return Err(self.error("the text ends inside a string"));
            };
            self.at += run;
            // Both ends stand before or after an ASCII byte, so this is never out of step.
            let plain = self.text.get(start..self.at).unwrap_or_default();
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    if out.is_empty() {
                        return Ok(plain.to_owned());
                    }
                    out.push_str(plain);
                    return Ok(out);
                }
                Some(b'\\') => {
                    out.push_str(plain);
                    self.at += 1;
                    let c = self.escape()?;
                    out.push(c);
                }
                _ => return Err(self.error("control character in a string")),
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<char, CanonicalError> {
        let byte = self
            .peek()
            .ok_or_else(|| self.error("the text ends inside a string"))?;
        self.at += 1;
        Ok(match byte {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hex4()?;
                let code = if (0xD800..0xDC00).contains(&first) {
                    if !(self.eat(b'\\') && self.eat(b'u')) {
                        return Err(self.error("half a surrogate pair"));
                    }
                    let second = self.hex4()?;
                    if !(0xDC00..0xE000).contains(&second) {
                        return Err(self.error("half a surrogate pair"));
                    }
                    0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)
                } else {
                    first
                };
                char::from_u32(code).ok_or_else(|| self.error("half a surrogate pair"))?
            }
            _ => return Err(self.error("unknown escape")),
        })
    }

    fn hex4(&mut self) -> Result<u32, CanonicalError> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|b| char::from(b).to_digit(16));
            let digit = digit.ok_or_else(|| self.error("expected a hexadecimal digit"))?;
            self.at += 1;
            code = code * 16 + digit;
        }
        Ok(code)
    }

    fn digits(&mut self) -> Result<(), CanonicalError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start {
            Err(self.error("expected a digit"))
        } else {
            Ok(())
        }
    }

    fn number(&mut self) -> Result<Value, CanonicalError> {
        let start = self.at;
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        let mut is_float = false;
        if self.eat(b'.') {
            is_float = true;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            is_float = true;
            self.at += 1;
            if !self.eat(b'+') {
                self.eat(b'-');
            }
            self.digits()?;
        }
        let text = self.text.get(start..self.at).unwrap_or_default();
        let value = if is_float {
            float(text, self.mode)
        } else {
            integer(text, self.mode)
        };
        value.ok_or(CanonicalError::Number { at: start })
    }
}

fn integer(text: &str, mode: Mode) -> Option<Value> {
    match (text.parse::<i64>(), mode) {
        (_, Mode::Strict) if text == "-0" => None,
        (Ok(n), Mode::Strict) => (-MAX_INT..=MAX_INT).contains(&n).then_some(Value::Int(n)),
        (Err(_), Mode::Strict) => None,
        (Ok(n), Mode::Lenient) => Some(Value::Int(n)),
        // JSON allows no leading zeros or plus sign, so the digits are canonical as they stand.
        (Err(_), Mode::Lenient) => Some(Value::Number(text.into())),
    }
}

fn float(text: &str, mode: Mode) -> Option<Value> {
    match mode {
        Mode::Strict => None,
        Mode::Lenient => {
            let text = float_text(text.parse().ok()?)?;
            Some(Value::Number(text.into_boxed_str()))
        }
    }
}

/// The same value from serde's.
pub(super) fn from_json(
    value: &serde_json::Value,
    mode: Mode,
    depth_left: usize,
) -> Result<Value, CanonicalError> {
    use serde_json::Value as Json;
    let deeper = || {
        depth_left
            .checked_sub(1)
            .ok_or(CanonicalError::TooDeep(super::MAX_DEPTH))
    };
    Ok(match value {
        Json::Null => Value::Null,
        Json::Bool(b) => Value::Bool(*b),
        Json::String(s) => Value::Str(s.clone()),
        Json::Number(n) => {
            let parsed = match n.as_i64() {
                Some(n) => match mode {
                    Mode::Strict => (-MAX_INT..=MAX_INT).contains(&n).then_some(Value::Int(n)),
                    Mode::Lenient => Some(Value::Int(n)),
                },
                None => match n.as_u64() {
                    Some(n) => integer(&n.to_string(), mode),
                    None => n.as_f64().and_then(|f| float(&f.to_string(), mode)),
                },
            };
            parsed.ok_or(CanonicalError::Number { at: 0 })?
        }
        Json::Array(items) => {
            let depth = deeper()?;
            let items = items.iter().map(|item| from_json(item, mode, depth));
            Value::Array(items.collect::<Result<_, _>>()?)
        }
        Json::Object(fields) => {
            let depth = deeper()?;
            let fields = fields
                .iter()
                .map(|(k, v)| Ok((k.clone(), from_json(v, mode, depth)?)));
            Value::Object(Object::from_fields(
                fields.collect::<Result<_, CanonicalError>>()?,
            ))
        }
    })
}
