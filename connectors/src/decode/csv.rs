//! CSV: lines to fields. A broken line costs itself and nothing else.
//!
//! Lines are cut by hand so that a bad one can be kept as it came; fields in quotes go through the
//! `csv` crate. A quoted field may hold line ends.

use std::io::{self, BufRead};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How CSV files are written: `csv = { delimiter = ";" }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CsvConfig {
    /// One ASCII character between fields. Absent: a comma, in `.tsv` files a tab.
    pub delimiter: Option<char>,
    /// Lines that begin with this ASCII character are skipped. Absent: none.
    pub comment: Option<char>,
    /// Lines to skip before the header.
    pub skip_lines: u32,
    /// Names of the columns of files without a header line. Absent: the first line is the header.
    pub columns: Option<Vec<String>>,
}

#[expect(clippy::derivable_impls, reason = "defaults are spelled out where they are documented")]
impl Default for CsvConfig {
    fn default() -> Self {
        CsvConfig { delimiter: None, comment: None, skip_lines: 0, columns: None }
    }
}

/// Cuts a stream into records of one or, inside quotes, several lines.
#[derive(Debug)]
pub struct Lines<R> {
    input: R,
    comment: Option<u8>,
    line: Vec<u8>,
    started: bool,
}

impl<R: BufRead> Lines<R> {
    /// Reads from `input`; lines that begin with `comment` are passed over.
    pub fn new(input: R, comment: Option<u8>) -> Self {
        Lines { input, comment, line: Vec::new(), started: false }
    }

    /// The next record that is not blank, without its line end. `quotes`: a line end inside double
    /// quotes does not end it.
    pub fn next_record(&mut self, quotes: bool) -> io::Result<Option<&[u8]>> {
        loop {
            self.line.clear();
            if self.input.read_until(b'\n', &mut self.line)? == 0 {
                return Ok(None);
            }
            if !self.started {
                self.started = true;
                if self.line.starts_with(BYTE_ORDER_MARK) {
                    self.line.drain(..BYTE_ORDER_MARK.len());
                }
            }
            if self.comment.is_some_and(|comment| self.line.first() == Some(&comment)) {
                continue;
            }
            if quotes {
                self.close_quotes()?;
            }
            while matches!(self.line.last(), Some(b'\n' | b'\r')) {
                self.line.pop();
            }
            if !self.line.trim_ascii().is_empty() {
                return Ok(Some(&self.line));
            }
        }
    }

    /// Appends lines while a double quote is open, up to a bound: a stray quote must not swallow the
    /// rest of the file unseen.
    fn close_quotes(&mut self) -> io::Result<()> {
        let mut counted = 0;
        let mut open = false;
        loop {
            open ^= memchr::memchr_iter(b'"', &self.line[counted..]).count() % 2 == 1;
            counted = self.line.len();
            if !open || self.line.len() > MAX_QUOTED_BYTES {
                return Ok(());
            }
            if self.input.read_until(b'\n', &mut self.line)? == 0 {
                return Ok(());
            }
        }
    }
}

/// Cuts one record into fields; the buffers are kept between records.
#[derive(Debug)]
pub struct Fields {
    delimiter: u8,
    text: Vec<u8>,
    ends: Vec<(usize, usize)>,
}

impl Fields {
    /// Fields are separated by `delimiter`.
    #[must_use]
    pub fn new(delimiter: u8) -> Self {
        Fields { delimiter, text: Vec::new(), ends: Vec::new() }
    }

    /// Cuts `record`; [`Fields::get`] then reads the fields of it.
    pub fn cut(&mut self, record: &[u8]) {
        self.text.clear();
        self.ends.clear();
        if memchr::memchr(b'"', record).is_none() {
            self.text.extend_from_slice(record);
            let mut start = 0;
            for end in memchr::memchr_iter(self.delimiter, record) {
                self.ends.push((start, end));
                start = end + 1;
            }
            self.ends.push((start, record.len()));
            return;
        }
        let mut reader = ::csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(self.delimiter)
            .from_reader(record);
        let mut fields = ::csv::ByteRecord::new();
        // Reading bytes from memory cannot fail: lengths are flexible and UTF-8 is not asked for.
        if let Ok(true) = reader.read_byte_record(&mut fields) {
            for field in &fields {
                let start = self.text.len();
                self.text.extend_from_slice(field);
                self.ends.push((start, self.text.len()));
            }
        }
    }

    /// Number of fields of the record.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether no record has been cut yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Field `i`, without blanks around it; empty beyond the last.
    #[must_use]
    pub fn get(&self, i: usize) -> &[u8] {
        self.ends.get(i).map_or(&[], |&(start, end)| self.text[start..end].trim_ascii())
    }
}

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Longest record with line ends in quotes.
const MAX_QUOTED_BYTES: usize = 1024 * 1024;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    fn records(text: &[u8]) -> Vec<Vec<u8>> {
        let mut lines = Lines::new(text, Some(b'#'));
        let mut found = Vec::new();
        while let Some(record) = lines.next_record(true).unwrap() {
            found.push(record.to_vec());
        }
        found
    }

    /// Given a byte order mark, comments, blank lines, CRLF and a quoted line end, when cut, then
    /// only records are left.
    #[test]
    fn records_are_cut_from_lines() {
        let text = b"\xEF\xBB\xBFa,b\r\n# note\n\n1,\"x\ny\"\n2,z";
        assert_eq!(records(text), [b"a,b".to_vec(), b"1,\"x\ny\"".to_vec(), b"2,z".to_vec()]);
    }

    /// Given fields with and without quotes, when cut, then quotes and blanks around are gone.
    #[test]
    fn fields_are_cut_with_and_without_quotes() {
        let mut fields = Fields::new(b';');
        fields.cut(b"a; b ;");
        assert_eq!((fields.len(), fields.get(1), fields.get(2)), (3, &b"b"[..], &b""[..]));
        fields.cut(b"\"a;\"\"1\"\"\";b");
        assert_eq!((fields.len(), fields.get(0), fields.get(1)), (2, &b"a;\"1\""[..], &b"b"[..]));
    }
}
