//! Reading JSON, strictly: RFC 8259 and nothing more, bounded, and without a doubt about any value.

use std::sync::Arc;

use thiserror::Error;

use super::{Finite, Object, Value};
use crate::limits::{VALUE_BYTES_MAX, VALUE_DEPTH_MAX};

/// What a text may be at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Size of the text.
    pub size_bytes_max: usize,
    /// Nesting of lists and maps.
    pub depth_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { size_bytes_max: VALUE_BYTES_MAX, depth_max: VALUE_DEPTH_MAX }
    }
}

/// Where and why a text is not a value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("not valid JSON at line {line}, column {column}: {kind}")]
pub struct ParseError {
    /// Bytes before the place.
    pub offset: usize,
    /// Line, from 1.
    pub line: usize,
    /// Column in bytes, from 1.
    pub column: usize,
    /// What is wrong there.
    pub kind: ParseErrorKind,
}

/// What is wrong in a text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParseErrorKind {
    /// Larger than allowed.
    #[error("the text has {found} bytes, the limit is {limit}")]
    TooLarge {
        /// The size found.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// Nested deeper than allowed.
    #[error("nested deeper than {limit} levels")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// Not JSON.
    #[error("{expected} was expected here")]
    Expected {
        /// What would be right.
        expected: &'static str,
    },
    /// Another value or text after the end.
    #[error("the value ended before this")]
    Trailing,
    /// A key stands twice in one object.
    #[error("the key {key} stands twice in one object")]
    DuplicateKey {
        /// The key, quoted, escaped and cut.
        key: String,
    },
    /// A number outside what can be kept exactly.
    #[error("the number is out of range: integers fit in 64 bits, others are finite")]
    NumberRange,
    /// A byte order mark.
    #[error("the text starts with a byte order mark; leave it out")]
    ByteOrderMark,
    /// Not UTF-8.
    #[error("the text is not UTF-8")]
    Utf8,
    /// A control character inside a text.
    #[error("a control character must be escaped")]
    Control,
    /// Half of a surrogate pair.
    #[error("the escape stands for half a character")]
    Surrogate,
}

impl Value {
    /// Reads one JSON value.
    ///
    /// Refused beside what RFC 8259 refuses: duplicate keys, integers beyond 64 bits, floats beyond their range,
    /// lone surrogates, a byte order mark, and what is above `limits`.
    ///
    /// # Errors
    /// With the place and the reason.
    pub fn parse(text: &[u8], limits: Limits) -> Result<Value, ParseError> {
        let mut parser = Parser { text, at: 0, limits };
        parser.document().map_err(|(offset, kind)| locate(text, offset, kind))
    }
}

type Fail = (usize, ParseErrorKind);

fn locate(text: &[u8], offset: usize, kind: ParseErrorKind) -> ParseError {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
    ParseError { offset, line, column, kind }
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    limits: Limits,
}

impl Parser<'_> {
    fn document(&mut self) -> Result<Value, Fail> {
        let found = self.text.len();
        if found > self.limits.size_bytes_max {
            return Err((0, ParseErrorKind::TooLarge { found, limit: self.limits.size_bytes_max }));
        }
        if self.text.starts_with(b"\xef\xbb\xbf") {
            return Err((0, ParseErrorKind::ByteOrderMark));
        }
        // Checked once for the whole text, so that slices of it need no second look.
        std::str::from_utf8(self.text)
            .map_err(|error| (error.valid_up_to(), ParseErrorKind::Utf8))?;
        self.skip_space();
        let value = self.value(self.limits.depth_max)?;
        self.skip_space();
        if self.at < self.text.len() { self.fail(ParseErrorKind::Trailing) } else { Ok(value) }
    }

    fn fail<T>(&self, kind: ParseErrorKind) -> Result<T, Fail> {
        Err((self.at, kind))
    }

    fn expected<T>(&self, expected: &'static str) -> Result<T, Fail> {
        self.fail(ParseErrorKind::Expected { expected })
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn accept(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self, depth_left: usize) -> Result<Value, Fail> {
        match self.peek() {
            Some(b'{') => self.object(self.descend(depth_left)?).map(Value::Map),
            Some(b'[') => self.list(self.descend(depth_left)?).map(Value::List),
            Some(b'"') => self.string().map(|text| Value::Text(Arc::from(text))),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            _ => self.expected("a value"),
        }
    }

    fn descend(&self, depth_left: usize) -> Result<usize, Fail> {
        depth_left
            .checked_sub(1)
            .ok_or((self.at, ParseErrorKind::TooDeep { limit: self.limits.depth_max }))
    }

    fn word(&mut self, word: &'static str, value: Value) -> Result<Value, Fail> {
        if self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word.as_bytes())) {
            self.at += word.len();
            Ok(value)
        } else {
            self.expected("a value")
        }
    }

    fn list(&mut self, depth_left: usize) -> Result<Vec<Value>, Fail> {
        let mut list = Vec::new();
        self.at += 1;
        self.skip_space();
        if self.accept(b']') {
            return Ok(list);
        }
        loop {
            self.skip_space();
            list.push(self.value(depth_left)?);
            self.skip_space();
            if self.accept(b']') {
                return Ok(list);
            }
            if !self.accept(b',') {
                return self.expected("a comma or the end of the list");
            }
        }
    }

    fn object(&mut self, depth_left: usize) -> Result<Object, Fail> {
        let mut object = Object::new();
        self.at += 1;
        self.skip_space();
        if self.accept(b'}') {
            return Ok(object);
        }
        loop {
            self.skip_space();
            let key_at = self.at;
            if self.peek() != Some(b'"') {
                return self.expected("a key in quotes");
            }
            let key: Arc<str> = Arc::from(self.string()?);
            self.skip_space();
            if !self.accept(b':') {
                return self.expected("a colon");
            }
            self.skip_space();
            let value = self.value(depth_left)?;
            if object.get(&key).is_some() {
                let shown: String = key.chars().take(KEY_SHOWN_CHARS).collect();
                return Err((key_at, ParseErrorKind::DuplicateKey { key: format!("{shown:?}") }));
            }
            object.insert(key, value);
            self.skip_space();
            if self.accept(b'}') {
                return Ok(object);
            }
            if !self.accept(b',') {
                return self.expected("a comma or the end of the object");
            }
        }
    }

    fn digits(&mut self) -> Result<(), Fail> {
        let from = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == from { self.expected("a digit") } else { Ok(()) }
    }

    fn number(&mut self) -> Result<Value, Fail> {
        let from = self.at;
        self.accept(b'-');
        if !self.accept(b'0') {
            self.digits()?;
        } else if matches!(self.peek(), Some(b'0'..=b'9')) {
            return self.expected("no digit after a leading zero");
        }
        let mut integer = true;
        if self.accept(b'.') {
            integer = false;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            integer = false;
            self.at += 1;
            if !self.accept(b'+') {
                self.accept(b'-');
            }
            self.digits()?;
        }
        let digits =
            self.text.get(from..self.at).and_then(|digits| std::str::from_utf8(digits).ok());
        let value = digits
            .and_then(|digits| if integer { parse_integer(digits) } else { parse_float(digits) });
        value.ok_or((from, ParseErrorKind::NumberRange))
    }

    fn string(&mut self) -> Result<String, Fail> {
        let mut text = String::new();
        self.at += 1;
        loop {
            let plain_from = self.at;
            while self.peek().is_some_and(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
                self.at += 1;
            }
            // The slice ends before an ASCII byte or at the end, so it is whole characters.
            let plain = self.text.get(plain_from..self.at).unwrap_or_default();
            text.push_str(
                std::str::from_utf8(plain).map_err(|_| (plain_from, ParseErrorKind::Utf8))?,
            );
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => text.push(self.escape()?),
                Some(_) => return self.fail(ParseErrorKind::Control),
                None => return self.expected("the closing quote of a text"),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Fail> {
        let from = self.at;
        self.at += 1;
        let escaped = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.escape_unicode(from),
            _ => return self.expected("one of \" \\ / b f n r t u"),
        };
        self.at += 1;
        Ok(escaped)
    }

    fn escape_unicode(&mut self, from: usize) -> Result<char, Fail> {
        let mut code = self.hex4()?;
        if (0xd800..0xdc00).contains(&code) {
            let low =
                if self.accept(b'\\') && self.peek() == Some(b'u') { self.hex4()? } else { 0 };
            if !(0xdc00..0xe000).contains(&low) {
                return Err((from, ParseErrorKind::Surrogate));
            }
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        }
        char::from_u32(code).ok_or((from, ParseErrorKind::Surrogate))
    }

    /// Four hex digits after the `u` that stands here.
    fn hex4(&mut self) -> Result<u32, Fail> {
        self.at += 1;
        let mut code = 0;
        for _ in 0..4 {
            let Some(digit) = self.peek().and_then(|byte| char::from(byte).to_digit(16)) else {
                return self.expected("four hex digits");
            };
            code = code << 4 | digit;
            self.at += 1;
        }
        Ok(code)
    }
}

const KEY_SHOWN_CHARS: usize = 40;

fn parse_integer(digits: &str) -> Option<Value> {
    digits.parse().map(Value::I64).or_else(|_| digits.parse().map(Value::U64)).ok()
}

fn parse_float(digits: &str) -> Option<Value> {
    digits.parse().ok().and_then(Finite::new).map(Value::F64)
}
