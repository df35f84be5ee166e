//! A scanner for the plainest JSON: flat rows with known keys, strings without escapes.
//!
//! It knows less than the general reader and accepts nothing that one refuses: whatever it does not
//! know (an escape, a nested value, a missing key, bytes after the end) it answers with `None`, and
//! the record is read again from its start.

use super::super::{
    rows::{Quality, RecordContext, Row, RowBuilder},
    time::TimeUnit,
};

/// The keys of a flat row.
#[derive(Debug)]
pub(super) struct FlatPlan {
    keys: Vec<(Vec<u8>, Part)>,
    ts_unit: TimeUnit,
}

/// What a key holds.
#[derive(Debug, Clone, Copy)]
enum Part {
    Ts,
    Tag,
    Value,
    Quality,
    Seq,
}

/// A scalar in the record.
#[derive(Clone, Copy)]
enum Scalar<'b> {
    Absent,
    Null,
    Whole(i64),
    Decimal(f64),
    Text(&'b [u8]),
    Bool,
}

impl FlatPlan {
    /// A plan for these keys, in the order ts, tag, value, quality, seq.
    pub(super) fn new(keys: [&str; 5], ts_unit: TimeUnit) -> Self {
        let parts = [Part::Ts, Part::Tag, Part::Value, Part::Quality, Part::Seq];
        let keys = keys.iter().zip(parts).map(|(key, part)| (key.as_bytes().to_vec(), part)).collect();
        Self { keys, ts_unit }
    }

    /// Appends all rows of a record, or answers `None` after having appended some of them.
    pub(super) fn decode(&self, body: &[u8], ctx: &RecordContext<'_>, out: &mut RowBuilder) -> Option<()> {
        let mut cursor = Cursor { body, at: 0 };
        cursor.skip_blanks();
        match cursor.peek()? {
            b'{' => self.row(&mut cursor, 0, ctx, out)?,
            b'[' => {
                cursor.at += 1;
                let mut index = 0;
                loop {
                    cursor.skip_blanks();
                    self.row(&mut cursor, index, ctx, out)?;
                    index = index.checked_add(1)?;
                    cursor.skip_blanks();
                    match cursor.next()? {
                        b',' => {}
                        b']' => break,
                        _ => return None,
                    }
                }
            }
            _ => return None,
        }
        cursor.skip_blanks();
        (cursor.at == body.len()).then_some(())
    }

    fn row(
        &self,
        cursor: &mut Cursor<'_>,
        index: u32,
        ctx: &RecordContext<'_>,
        out: &mut RowBuilder,
    ) -> Option<()> {
        let mut cells = [Scalar::Absent; 5];
        let mut expected = 0;
        cursor.expect(b'{')?;
        loop {
            cursor.skip_blanks();
            let key = cursor.text()?;
            cursor.skip_blanks();
            cursor.expect(b':')?;
            cursor.skip_blanks();
            let scalar = cursor.scalar()?;
            match self.part(key, &mut expected) {
                Some(part) => cells[part as usize] = scalar,
                None if key.is_ascii() && !matches!(scalar, Scalar::Text(text) if !text.is_ascii()) => {}
                None => return None,
            }
            cursor.skip_blanks();
            match cursor.next()? {
                b',' => {}
                b'}' => break,
                _ => return None,
            }
        }
        let [ts, tag, value, quality, seq] = cells;
        let ts_ns = match ts {
            Scalar::Text(text) => self.ts_unit.parse(text)?,
            Scalar::Whole(whole) => whole.checked_mul(self.ts_unit.scale_ns()?)?,
            _ => return None,
        };
        let tag = match tag {
            Scalar::Text(text) if !text.is_empty() => std::str::from_utf8(text).ok()?,
            _ => return None,
        };
        let value = match value {
            Scalar::Decimal(value) => value,
            Scalar::Whole(value) => value as f64,
            Scalar::Null => f64::NAN,
            _ => return None,
        };
        let quality = match quality {
            Scalar::Absent | Scalar::Null => Quality::Absent,
            Scalar::Whole(code) => Quality::Code(u32::try_from(code).ok()?),
            Scalar::Text(name) => Quality::Name(std::str::from_utf8(name).ok()?),
            _ => return None,
        };
        let seq = match seq {
            Scalar::Absent | Scalar::Null => None,
            Scalar::Whole(seq) => Some(seq),
            _ => return None,
        };
        out.push(ctx, Row { index, ts_ns, tag, value, quality, seq });
        Some(())
    }

    /// The part a key holds; keys in the expected order are found at the first look.
    fn part(&self, key: &[u8], expected: &mut usize) -> Option<Part> {
        let n = self.keys.len();
        for i in 0..n {
            let at = (*expected + i) % n;
            let (known, part) = &self.keys[at];
            if known.as_slice() == key {
                *expected = at + 1;
                return Some(*part);
            }
        }
        None
    }
}

struct Cursor<'b> {
    body: &'b [u8],
    at: usize,
}

impl<'b> Cursor<'b> {
    #[inline]
    fn peek(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    #[inline]
    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    #[inline]
    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    /// A string without escapes, without its quotes. Not checked to be UTF-8.
    #[inline]
    fn text(&mut self) -> Option<&'b [u8]> {
        self.expect(b'"')?;
        let start = self.at;
        loop {
            match self.next()? {
                b'"' => return self.body.get(start..self.at - 1),
                b'\\' | 0..0x20 => return None,
                _ => {}
            }
        }
    }

    #[inline]
    fn scalar(&mut self) -> Option<Scalar<'b>> {
        match self.peek()? {
            b'"' => self.text().map(Scalar::Text),
            b'-' | b'0'..=b'9' => self.number(),
            b'n' => self.word(b"null", Scalar::Null),
            b't' => self.word(b"true", Scalar::Bool),
            b'f' => self.word(b"false", Scalar::Bool),
            _ => None,
        }
    }

    fn word(&mut self, word: &[u8], scalar: Scalar<'b>) -> Option<Scalar<'b>> {
        self.body.get(self.at..)?.starts_with(word).then(|| self.at += word.len())?;
        Some(scalar)
    }

    /// A number of few digits: `-?(0|[1-9][0-9]*)(\.[0-9]+)?`, without an exponent. A whole one may have nineteen, as
    /// nanoseconds have: so many fit into 64 bits, and those beyond an `i64` go the general way.
    ///
    /// With at most eighteen digits a decimal is one exact division when its digits are below 2^53 and the
    /// power of ten is exact (10^22 is the largest); others go through the standard parser.
    #[inline]
    fn number(&mut self) -> Option<Scalar<'b>> {
        let start = self.at;
        let negative = self.peek()? == b'-';
        self.at += usize::from(negative);
        let whole_start = self.at;
        let mut digits: u64 = 0;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            digits = digits.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            self.at += 1;
        }
        let whole_digits = self.at - whole_start;
        let leading_zero = self.body.get(whole_start) == Some(&b'0');
        if whole_digits == 0 || (leading_zero && whole_digits > 1) {
            return None;
        }
        let mut decimals = 0;
        if self.peek() == Some(b'.') {
            self.at += 1;
            let decimals_start = self.at;
            while let Some(digit @ b'0'..=b'9') = self.peek() {
                digits = digits.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
                self.at += 1;
            }
            decimals = self.at - decimals_start;
            if decimals == 0 {
                return None;
            }
        } else if whole_digits <= 19
            && let Ok(whole) = i64::try_from(digits)
        {
            if matches!(self.peek(), Some(b'e' | b'E')) || (negative && digits == 0) {
                return None;
            }
            return Some(Scalar::Whole(if negative { -whole } else { whole }));
        }
        if matches!(self.peek(), Some(b'e' | b'E')) || decimals == 0 {
            return None;
        }
        if whole_digits + decimals <= 18 && digits < 1 << 53 {
            let value = digits as f64 / EXACT_POWERS[decimals];
            return Some(Scalar::Decimal(if negative { -value } else { value }));
        }
        let text = std::str::from_utf8(self.body.get(start..self.at)?).ok()?;
        text.parse().ok().filter(|value: &f64| value.is_finite()).map(Scalar::Decimal)
    }
}

const EXACT_POWERS: [f64; 19] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18];
