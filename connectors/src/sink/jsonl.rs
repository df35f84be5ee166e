//! JSON lines: one object a line, in a file that appears only when it is complete.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{at, publish, unfinished};
use crate::SinkError;

/// Writes lines to a temporary name beside `path`; [`JsonlWriter::finish`] gives the file its name.
///
/// Dropped without `finish`, the unfinished file is removed.
#[derive(Debug)]
pub struct JsonlWriter {
    path: PathBuf,
    temporary: PathBuf,
    file: BufWriter<File>,
    lines: u64,
    finished: bool,
}

impl JsonlWriter {
    /// Starts a file that will be called `path`.
    pub fn create(path: &Path) -> Result<Self, SinkError> {
        let temporary = unfinished(path);
        let file = File::create(&temporary).map_err(at(path))?;
        let file = BufWriter::with_capacity(BUFFER_BYTES, file);
        Ok(JsonlWriter { path: path.to_owned(), temporary, file, lines: 0, finished: false })
    }

    /// Writes one value as a line.
    pub fn write<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SinkError> {
        serde_json::to_writer(&mut self.file, value).map_err(|error| {
            if error.is_io() {
                SinkError::Io { path: self.path.clone(), source: error.into() }
            } else {
                SinkError::Encode { path: self.path.clone(), reason: error.to_string() }
            }
        })?;
        self.end_line()
    }

    /// Writes one line that is JSON already, without its line end.
    pub fn write_line(&mut self, line: &[u8]) -> Result<(), SinkError> {
        self.file.write_all(line).map_err(|source| self.refused(source))?;
        self.end_line()
    }

    /// Lines written so far.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Flushes and syncs the file and gives it its name. Returns the number of lines.
    pub fn finish(mut self) -> Result<u64, SinkError> {
        self.file.flush().map_err(|source| self.refused(source))?;
        publish(self.file.get_ref(), &self.temporary, &self.path)?;
        self.finished = true;
        Ok(self.lines)
    }

    fn end_line(&mut self) -> Result<(), SinkError> {
        self.file.write_all(b"\n").map_err(|source| self.refused(source))?;
        self.lines += 1;
        Ok(())
    }

    fn refused(&self, source: std::io::Error) -> SinkError {
        SinkError::Io { path: self.path.clone(), source }
    }
}

impl Drop for JsonlWriter {
    fn drop(&mut self) {
        if !self.finished {
            // Nothing can be done about a file that cannot be removed; it has no final name.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Bytes gathered before a write.
const BUFFER_BYTES: usize = 256 * 1024;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    /// Given a writer, when lines are written, then the file has its name only after `finish`.
    #[test]
    fn a_file_appears_when_it_is_finished() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.jsonl");
        let mut writer = JsonlWriter::create(&path).unwrap();
        writer.write(&serde_json::json!({"a": 1})).unwrap();
        writer.write_line(b"{\"b\":2}").unwrap();
        assert!(!path.exists());
        assert_eq!(writer.finish().unwrap(), 2);
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"a\":1}\n{\"b\":2}\n");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    /// Given a writer, when it is dropped unfinished, then nothing stays behind.
    #[test]
    fn an_unfinished_file_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        drop(JsonlWriter::create(&directory.path().join("x.jsonl")).unwrap());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    /// Given a directory that does not exist, when a file is created in it, then the error names it.
    #[test]
    fn an_error_names_the_file() {
        let error = JsonlWriter::create(Path::new("no-such-directory/x.jsonl")).unwrap_err();
        assert!(error.to_string().contains("no-such-directory/x.jsonl"), "{error}");
    }

    /// Given a device that is always full, when lines are written and flushed, then it is an error.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error_with_the_path() {
        let file = BufWriter::new(File::options().write(true).open("/dev/full").unwrap());
        let path = PathBuf::from("events.jsonl");
        let mut writer = JsonlWriter { temporary: unfinished(&path), path, file, lines: 0, finished: false };
        writer.write_line(b"{}").unwrap();
        assert!(matches!(writer.finish(), Err(SinkError::Io { .. })));
    }
}
