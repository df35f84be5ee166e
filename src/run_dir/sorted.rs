//! Rows in their order however many there are: sorted in memory while they fit, else as sorted stretches in a file, merged at
//! the end.
//!
//! The order is that of one stable sort over all rows. A file of stretches loses its name as soon as it is open where the
//! system can do that, so it is gone with the process, however that ends; elsewhere it is removed when it is done with.

use super::refused;
use crate::cmd::CommandError;
use std::cmp::Ordering;
use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::PathBuf;

/// Bounds of one output's sorting: memory is at most `buffer_bytes`, half as much again while it is sorted, and
/// `stretches * read_bytes` a level while it is merged. They change memory and speed, never output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SortLimits {
    /// Rows up to this size stay in memory.
    pub buffer_bytes: usize,
    /// Stretches in one file; at this many they become one stretch of the next level's file. At least two.
    pub stretches: usize,
    /// Read of each stretch at a time.
    pub read_bytes: usize,
}

/// One level takes four gibibytes of rows, two take half a tebibyte.
impl Default for SortLimits {
    fn default() -> Self {
        SortLimits { buffer_bytes: 32 << 20, stretches: 128, read_bytes: 128 << 10 }
    }
}

/// A row that can wait in a file.
pub(super) trait Row: Sized {
    /// What its order depends on beside the rows.
    type Order;
    /// Which of two comes first.
    fn compare(&self, other: &Self, by: &Self::Order) -> Ordering;
    /// Bytes of memory.
    fn bytes(&self) -> usize;
    /// Appends it.
    fn write(&self, to: &mut Vec<u8>);
    /// Reads one from the front, and says how long it was; none if it is not whole.
    fn read(from: &[u8]) -> Option<(Self, usize)>;
}

/// What follows an output's name in that of its file of stretches; the level's number comes after it.
pub(super) const SORTING: &str = ".sorting-";

/// Rows that will come out in order.
pub(super) struct Sorted<T> {
    path: PathBuf,
    limits: SortLimits,
    rows: Vec<T>,
    bytes: usize,
    levels: Vec<Level>,
}

impl<T: Row> Sorted<T> {
    /// None yet; should they become many, files of stretches lie beside `path`.
    pub(super) fn new(path: PathBuf, limits: SortLimits) -> Self {
        assert!(limits.stretches >= 2, "one stretch can't be merged");
        Sorted { path, limits, rows: Vec::new(), bytes: 0, levels: Vec::new() }
    }

    /// Adds a row; true when it is time to [`spill`](Self::spill).
    #[must_use]
    pub(super) fn push(&mut self, row: T) -> bool {
        self.bytes += row.bytes();
        self.rows.push(row);
        self.bytes >= self.limits.buffer_bytes
    }

    /// Writes what is in memory to a file. Rows that were in order by an earlier `by` must be so by this one.
    ///
    /// # Errors
    /// It can't be written, or read again.
    pub(super) fn spill(&mut self, by: &T::Order) -> Result<(), CommandError> {
        self.rows.sort_by(|a, b| a.compare(b, by));
        self.level(0)?;
        let mut stretch = Stretch::begin(&mut self.levels[0], self.limits);
        for row in self.rows.drain(..) {
            stretch.put(&row)?;
        }
        stretch.end()?;
        self.bytes = 0;
        let mut full = 0;
        while self.levels[full].stretches.len() >= self.limits.stretches {
            self.level(full + 1)?;
            let (lower, upper) = self.levels.split_at_mut(full + 1);
            let mut stretch = Stretch::begin(&mut upper[0], self.limits);
            let mut merge: Merge<'_, T> = Merge::new(lower[full].readers(self.limits), Vec::new(), by)?;
            while let Some(row) = merge.next(by)? {
                stretch.put(&row)?;
            }
            stretch.end()?;
            lower[full].clear()?;
            full += 1;
        }
        Ok(())
    }

    /// Gives all rows in order.
    ///
    /// # Errors
    /// Those of `each`, or a file of stretches can't be read.
    pub(super) fn finish(
        mut self,
        by: &T::Order,
        mut each: impl FnMut(&T) -> Result<(), CommandError>,
    ) -> Result<(), CommandError> {
        self.rows.sort_by(|a, b| a.compare(b, by));
        if self.levels.is_empty() {
            return self.rows.iter().try_for_each(each);
        }
        // The upper levels came first.
        let readers = self.levels.iter().rev().flat_map(|level| level.readers(self.limits)).collect();
        let mut merge = Merge::new(readers, self.rows, by)?;
        while let Some(row) = merge.next(by)? {
            each(&row)?;
        }
        Ok(())
    }

    /// Makes a level's file, if it is not there.
    fn level(&mut self, number: usize) -> Result<(), CommandError> {
        if self.levels.len() == number {
            let mut name = self.path.file_name().unwrap_or_default().to_owned();
            name.push(format!("{SORTING}{number}"));
            self.levels.push(Level::create(self.path.with_file_name(name))?);
        }
        Ok(())
    }
}

/// A file of sorted stretches, one after the other.
struct Level {
    path: PathBuf,
    file: File,
    stretches: Vec<Range<u64>>,
    named: bool,
}

impl Level {
    fn create(path: PathBuf) -> Result<Self, CommandError> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
        let file = file.map_err(refused(&path))?;
        let named = !(cfg!(unix) && std::fs::remove_file(&path).is_ok());
        Ok(Level { path, file, stretches: Vec::new(), named })
    }

    fn end(&self) -> u64 {
        self.stretches.last().map_or(0, |stretch| stretch.end)
    }

    fn readers(&self, limits: SortLimits) -> Vec<Reader<'_>> {
        let reader = |stretch: &Range<u64>| Reader {
            level: self,
            rest: stretch.clone(),
            bytes: Vec::new(),
            at: 0,
            read_bytes: limits.read_bytes,
        };
        self.stretches.iter().map(reader).collect()
    }

    fn clear(&mut self) -> Result<(), CommandError> {
        self.stretches.clear();
        self.file.set_len(0).map_err(refused(&self.path))
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        if self.named {
            // Nothing can be done about a file that can't be removed; the next run into the directory tries again.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A stretch that is being written at the end of a level's file.
struct Stretch<'l> {
    level: &'l mut Level,
    range: Range<u64>,
    bytes: Vec<u8>,
    write_bytes: usize,
}

impl<'l> Stretch<'l> {
    fn begin(level: &'l mut Level, limits: SortLimits) -> Self {
        let end = level.end();
        Stretch { level, range: end..end, bytes: Vec::new(), write_bytes: limits.read_bytes }
    }

    fn put<T: Row>(&mut self, row: &T) -> Result<(), CommandError> {
        row.write(&mut self.bytes);
        if self.bytes.len() >= self.write_bytes { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), CommandError> {
        let mut file = &self.level.file;
        let written = file.seek(SeekFrom::Start(self.range.end)).and_then(|_| file.write_all(&self.bytes));
        written.map_err(refused(&self.level.path))?;
        self.range.end += self.bytes.len() as u64;
        self.bytes.clear();
        Ok(())
    }

    fn end(mut self) -> Result<(), CommandError> {
        self.flush()?;
        self.level.stretches.push(self.range);
        Ok(())
    }
}

/// A stretch that is being read.
struct Reader<'l> {
    level: &'l Level,
    rest: Range<u64>,
    bytes: Vec<u8>,
    at: usize,
    read_bytes: usize,
}

impl Reader<'_> {
    fn next<T: Row>(&mut self) -> Result<Option<T>, CommandError> {
        loop {
            if let Some((row, len)) = T::read(&self.bytes[self.at..]) {
                self.at += len;
                return Ok(Some(row));
            }
            if self.rest.is_empty() && self.at == self.bytes.len() {
                return Ok(None);
            }
            self.fill().map_err(refused(&self.level.path))?;
        }
    }

    /// Reads on; what is left of the last read stays in front.
    fn fill(&mut self) -> Result<(), Error> {
        let more = (self.rest.end - self.rest.start).min(self.read_bytes as u64);
        if more == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.bytes.drain(..self.at);
        self.at = 0;
        let kept = self.bytes.len();
        self.bytes.resize(kept + more as usize, 0);
        let mut file = &self.level.file;
        file.seek(SeekFrom::Start(self.rest.start))?;
        file.read_exact(&mut self.bytes[kept..])?;
        self.rest.start += more;
        Ok(())
    }
}

/// Stretches and rows in memory on their way into one order; of equal rows, those of an earlier source come first.
struct Merge<'l, T> {
    readers: Vec<Reader<'l>>,
    rows: std::vec::IntoIter<T>,
    /// The next row of each source and the source's number: a heap, the first row on top.
    heap: Vec<(T, usize)>,
}

impl<'l, T: Row> Merge<'l, T> {
    fn new(readers: Vec<Reader<'l>>, rows: Vec<T>, by: &T::Order) -> Result<Self, CommandError> {
        let mut merge =
            Merge { heap: Vec::with_capacity(readers.len() + 1), readers, rows: rows.into_iter() };
        for source in 0..=merge.readers.len() {
            if let Some(row) = merge.next_of(source)? {
                merge.heap.push((row, source));
            }
        }
        for at in (0..merge.heap.len() / 2).rev() {
            merge.sift_down(at, by);
        }
        Ok(merge)
    }

    fn next(&mut self, by: &T::Order) -> Result<Option<T>, CommandError> {
        let Some((_, source)) = self.heap.first() else { return Ok(None) };
        let row = match self.next_of(*source)? {
            Some(next) => std::mem::replace(&mut self.heap[0].0, next),
            None => self.heap.swap_remove(0).0,
        };
        self.sift_down(0, by);
        Ok(Some(row))
    }

    fn next_of(&mut self, source: usize) -> Result<Option<T>, CommandError> {
        match self.readers.get_mut(source) {
            Some(reader) => reader.next(),
            None => Ok(self.rows.next()),
        }
    }

    fn sift_down(&mut self, mut at: usize, by: &T::Order) {
        let before = |heap: &[(T, usize)], a: usize, b: usize| {
            let ((x, i), (y, j)) = (&heap[a], &heap[b]);
            x.compare(y, by).then(i.cmp(j)).is_lt()
        };
        loop {
            let (left, right) = (2 * at + 1, 2 * at + 2);
            if left >= self.heap.len() {
                return;
            }
            let other = right < self.heap.len() && before(&self.heap, right, left);
            let child = if other { right } else { left };
            if !before(&self.heap, child, at) {
                return;
            }
            self.heap.swap(child, at);
            at = child;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// A key, and where the row stood among all.
    #[derive(Debug, Clone, PartialEq)]
    struct Pair(u32, Vec<u8>);

    impl Row for Pair {
        type Order = ();
        fn compare(&self, other: &Self, (): &()) -> Ordering {
            self.0.cmp(&other.0)
        }
        fn bytes(&self) -> usize {
            8 + self.1.len()
        }
        fn write(&self, to: &mut Vec<u8>) {
            to.extend(self.0.to_le_bytes());
            to.extend((self.1.len() as u32).to_le_bytes());
            to.extend(&self.1);
        }
        fn read(from: &[u8]) -> Option<(Self, usize)> {
            let key = u32::from_le_bytes(*from.first_chunk()?);
            let len = u32::from_le_bytes(*from.get(4..)?.first_chunk()?) as usize;
            Some((Pair(key, from.get(8..8 + len)?.to_vec()), 8 + len))
        }
    }

    /// Few keys, so that many rows are equal; lengths from nothing to more than is read at a time.
    fn pairs(n: u32) -> Vec<Pair> {
        let hash = |i: u32| i.wrapping_mul(2_654_435_761) >> 16;
        let text = |i: u32| format!("{i}{}", "x".repeat((hash(i) % 90) as usize));
        (0..n).map(|i| Pair(hash(i) % 50, text(i).into())).collect()
    }

    fn sorted(dir: &Path, limits: SortLimits, rows: &[Pair]) -> (Vec<Pair>, usize) {
        let mut sorter = Sorted::new(dir.join("t"), limits);
        for row in rows {
            if sorter.push(row.clone()) {
                sorter.spill(&()).expect("written");
            }
        }
        let (mut all, levels) = (Vec::new(), sorter.levels.len());
        let keep = |row: &Pair| {
            all.push(row.clone());
            Ok(())
        };
        sorter.finish(&(), keep).expect("read");
        (all, levels)
    }

    const TINY: SortLimits = SortLimits { buffer_bytes: 300, stretches: 3, read_bytes: 64 };

    /// Given rows many of which are equal, and bounds so small that stretches are merged over several levels, then they come out
    /// as one stable sort has them, and no file is left.
    #[test]
    fn stretches_over_several_levels_equal_one_stable_sort() {
        let dir = tempfile::tempdir().expect("a directory");
        let rows = pairs(2_000);
        let mut wanted = rows.clone();
        wanted.sort_by_key(|row| row.0);
        let (tiny, levels) = sorted(dir.path(), TINY, &rows);
        assert!(levels > 3, "{levels} levels");
        assert!(tiny == wanted, "another order");
        assert!(sorted(dir.path(), SortLimits::default(), &rows) == (wanted, 0));
        assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 0);
    }

    /// Given rows that fit, then no file is made; given one that does not, then its file is gone when sorting is given up.
    #[test]
    fn a_file_is_made_when_rows_do_not_fit_and_goes_with_the_sorting() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = || std::fs::read_dir(dir.path()).expect("listed").count();
        let mut sorter = Sorted::new(dir.path().join("t"), TINY);
        assert!(!sorter.push(Pair(1, vec![0; 100])));
        assert!(sorter.push(Pair(1, vec![0; 400])));
        assert!(sorter.levels.is_empty());
        sorter.spill(&()).expect("written");
        // A file without a name is gone whatever becomes of the process.
        assert!(sorter.levels.len() == 1 && (cfg!(not(unix)) || files() == 0));
        drop(sorter);
        assert_eq!(files(), 0);
    }

    /// Given a device that is always full, then it is an error that names the file.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error_with_the_path() {
        let file = File::options().read(true).write(true).open("/dev/full").expect("there");
        let mut sorter = Sorted::new("out/verdicts.parquet".into(), TINY);
        let path = "out/verdicts.parquet.sorting-0".into();
        sorter.levels.push(Level { path, file, stretches: Vec::new(), named: false });
        assert!(sorter.push(Pair(1, vec![0; 400])));
        let error = sorter.spill(&()).expect_err("full").to_string();
        assert!(error.contains("out/verdicts.parquet.sorting-0: No space left"), "{error}");
    }
}
