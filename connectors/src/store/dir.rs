//! State in a local directory: `NAME/checkpoint`, `NAME/checkpoint.previous`, `NAME/journal.jsonl`, `NAME/spill-N`.
//!
//! A checkpoint is written under another name, synced and renamed; the one before keeps a name of its own. Journal lines are
//! synced one by one; a line that could not be written whole is taken back. One process at a time: a lock file is held. Members of
//! a consumer group share the directory, and each partition in it has a lock of its own.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use super::StoreError;

/// A directory of state.
#[derive(Debug)]
pub struct DirStore {
    dir: PathBuf,
    /// Held as long as this lives.
    _lock: File,
    /// The locks of partitions, where the directory is shared.
    claims: Option<BTreeMap<String, File>>,
    journals: BTreeMap<String, Journal>,
    spills: BTreeMap<(String, u64), File>,
}

#[derive(Debug)]
struct Journal {
    file: File,
    len: u64,
}

impl DirStore {
    /// Opens or makes the directory, and locks it.
    ///
    /// # Errors
    /// It can't be made or written, or another process has it.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        Self::locked(dir, File::try_lock, None)
    }

    /// Opens or makes a directory that the members of a consumer group share: each claims its partitions.
    ///
    /// # Errors
    /// It can't be made or written, or another process has all of it.
    pub fn open_shared(dir: &Path) -> Result<Self, StoreError> {
        Self::locked(dir, File::try_lock_shared, Some(BTreeMap::new()))
    }

    fn locked(
        dir: &Path,
        lock: fn(&File) -> Result<(), TryLockError>,
        claims: Option<BTreeMap<String, File>>,
    ) -> Result<Self, StoreError> {
        make_private(dir).map_err(at(dir))?;
        let path = dir.join("lock");
        let file = open_lock(&path).map_err(at(&path))?;
        match lock(&file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse { path: dir.into() }),
            Err(TryLockError::Error(source)) => return Err(StoreError::Io { path, source }),
        }
        let (journals, spills) = (BTreeMap::new(), BTreeMap::new());
        Ok(DirStore { dir: dir.into(), _lock: file, claims, journals, spills })
    }

    /// Takes a partition's state for this process; false while another has it. Where the directory is not shared, all of it is.
    ///
    /// # Errors
    /// Its lock can't be made.
    pub fn claim(&mut self, name: &str) -> Result<bool, StoreError> {
        if self.claims.as_ref().is_none_or(|claims| claims.contains_key(name)) {
            return Ok(true);
        }
        self.make(name)?;
        let path = self.path(name, "lock");
        let file = open_lock(&path).map_err(at(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(source)) => return Err(StoreError::Io { path, source }),
        }
        if let Some(claims) = &mut self.claims {
            claims.insert(name.into(), file);
        }
        Ok(true)
    }

    /// Lets others at a partition's state.
    pub fn release(&mut self, name: &str) {
        self.journals.remove(name);
        self.spills.retain(|(spilled, _), _| spilled != name);
        if let Some(claims) = &mut self.claims {
            claims.remove(name);
        }
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Names that something is kept under, sorted.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn names(&self) -> Result<Vec<String>, StoreError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(at(&self.dir))? {
            let entry = entry.map_err(at(&self.dir))?;
            if entry.path().is_dir()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// The checkpoints, the newest first.
    ///
    /// # Errors
    /// One is there and can't be read.
    pub fn checkpoints(&self, name: &str) -> Result<Vec<Vec<u8>>, StoreError> {
        let files = [self.path(name, "checkpoint"), self.path(name, "checkpoint.previous")];
        let mut all = Vec::new();
        for path in files {
            if let Some(bytes) = read(&path)? {
                all.push(bytes);
            }
        }
        Ok(all)
    }

    /// Makes a checkpoint, and the spill that belongs to it, durable; the one before is kept.
    ///
    /// # Errors
    /// It is not durable; the one before still is.
    pub fn publish(&mut self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.make(name)?;
        for ((_, generation), file) in self.spills.iter().filter(|((n, _), _)| n == name) {
            file.sync_data().map_err(at(&self.path(name, &format!("spill-{generation}"))))?;
        }
        let (path, partial) = (self.path(name, "checkpoint"), self.path(name, "checkpoint.partial"));
        write(&partial, bytes)?;
        if path.exists() {
            fs::rename(&path, self.path(name, "checkpoint.previous")).map_err(at(&path))?;
        }
        fs::rename(&partial, &path).map_err(at(&path))?;
        sync_dir(&self.dir.join(name))
    }

    /// Takes the newest checkpoint, which is damaged, out of the way, for a person to look at.
    ///
    /// # Errors
    /// It can't be renamed.
    pub fn set_aside(&mut self, name: &str) -> Result<(), StoreError> {
        let path = self.path(name, "checkpoint");
        match fs::rename(&path, self.path(name, "checkpoint.damaged")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(&path)(error)),
            _ => sync_dir(&self.dir.join(name)),
        }
    }

    /// The journal; empty if there is none.
    ///
    /// # Errors
    /// It is there and can't be read.
    pub fn journal(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        Ok(read(&self.path(name, "journal.jsonl"))?.unwrap_or_default())
    }

    /// Adds a line to the journal; it is durable afterwards.
    ///
    /// # Errors
    /// It is not durable, and no part of it is there.
    pub fn append(&mut self, name: &str, line: &[u8]) -> Result<(), StoreError> {
        self.make(name)?;
        let path = self.path(name, "journal.jsonl");
        if !self.journals.contains_key(name) {
            let journal = open_journal(&path).map_err(at(&path))?;
            sync_dir(&self.dir.join(name))?;
            self.journals.insert(name.into(), journal);
        }
        let Some(journal) = self.journals.get_mut(name) else { return Ok(()) };
        let done = journal.file.write_all(line).and_then(|()| journal.file.sync_data());
        if let Err(source) = done {
            // The torn line goes; should even that fail, the next start takes it off.
            let _ = journal.file.set_len(journal.len);
            self.journals.remove(name);
            return Err(StoreError::Io { path, source });
        }
        journal.len += line.len() as u64;
        Ok(())
    }

    /// Replaces the journal.
    ///
    /// # Errors
    /// It is not durable; the old one still is.
    pub fn trim(&mut self, name: &str, tail: &[u8]) -> Result<(), StoreError> {
        self.make(name)?;
        let (path, partial) = (self.path(name, "journal.jsonl"), self.path(name, "journal.partial"));
        write(&partial, tail)?;
        self.journals.remove(name);
        fs::rename(&partial, &path).map_err(at(&path))?;
        sync_dir(&self.dir.join(name))
    }

    /// Writes to a spill at a place; durable at the next [`publish`](Self::publish).
    ///
    /// # Errors
    /// It can't be written.
    pub fn spill(&mut self, name: &str, generation: u64, from: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.make(name)?;
        let path = self.path(name, &format!("spill-{generation}"));
        let key = (name.to_owned(), generation);
        if !self.spills.contains_key(&key) {
            let mut options = OpenOptions::new();
            let file = options.create(true).truncate(false).read(true).write(true).open(&path);
            self.spills.insert(key.clone(), file.map_err(at(&path))?);
        }
        let Some(mut file) = self.spills.get(&key) else { return Ok(()) };
        file.seek(SeekFrom::Start(from)).and_then(|_| file.write_all(bytes)).map_err(at(&path))
    }

    /// Reads up to `len` bytes of a spill: fewer at its end, none if there is none.
    ///
    /// # Errors
    /// It is there and can't be read.
    pub fn unspill(&self, name: &str, generation: u64, from: u64, len: usize) -> Result<Vec<u8>, StoreError> {
        let path = self.path(name, &format!("spill-{generation}"));
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(StoreError::Io { path, source }),
        };
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(from))
            .and_then(|_| file.take(len as u64).read_to_end(&mut bytes))
            .map_err(at(&path))?;
        Ok(bytes)
    }

    /// Removes a spill.
    ///
    /// # Errors
    /// It is there and can't be removed.
    pub fn forget(&mut self, name: &str, generation: u64) -> Result<(), StoreError> {
        self.spills.remove(&(name.to_owned(), generation));
        let path = self.path(name, &format!("spill-{generation}"));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(&path)(error)),
            _ => Ok(()),
        }
    }

    fn path(&self, name: &str, file: &str) -> PathBuf {
        self.dir.join(name).join(file)
    }

    fn make(&self, name: &str) -> Result<(), StoreError> {
        let dir = self.dir.join(name);
        if dir.is_dir() {
            return Ok(());
        }
        make_private(&dir).map_err(at(&dir))?;
        sync_dir(&self.dir)
    }
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).open(path)
}

/// Makes a directory and those above it that are not there yet, for this user alone: what is kept in it is raw data. One that is
/// there stays as it is.
pub(crate) fn make_private(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// Opens for appending; a torn last line, which was never durable, goes.
fn open_journal(path: &Path) -> io::Result<Journal> {
    let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let len = text.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1) as u64;
    file.set_len(len)?;
    file.seek(SeekFrom::End(0))?;
    Ok(Journal { file, len })
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::Io { path: path.into(), source }),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    File::create(path)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .map_err(at(path))
}

fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    if cfg!(unix) {
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(at(dir))?;
    }
    Ok(())
}

fn at(path: &Path) -> impl Fn(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { path: path.clone(), source }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    /// Given checkpoints one after the other, then the newest and the one before are kept, and nothing unfinished.
    #[test]
    fn the_checkpoint_before_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = DirStore::open(dir.path()).unwrap();
        assert!(store.checkpoints("plant-0").unwrap().is_empty());
        for bytes in [b"one".as_slice(), b"two", b"three"] {
            store.publish("plant-0", bytes).unwrap();
        }
        assert_eq!(store.checkpoints("plant-0").unwrap(), [b"three".to_vec(), b"two".to_vec()]);
        assert_eq!(store.names().unwrap(), ["plant-0"]);
        assert!(!dir.path().join("plant-0/checkpoint.partial").exists());
    }

    /// Given a journal whose last line was torn by a crash, when a line is added, then it stands alone.
    #[test]
    fn a_torn_line_is_taken_off() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = DirStore::open(dir.path()).unwrap();
        store.append("p", b"{1}\n").unwrap();
        drop(store);
        let path = dir.path().join("p/journal.jsonl");
        fs::write(&path, b"{1}\n{2").unwrap();
        let mut store = DirStore::open(dir.path()).unwrap();
        store.append("p", b"{3}\n").unwrap();
        assert_eq!(store.journal("p").unwrap(), b"{1}\n{3}\n");
        store.trim("p", b"{3}\n").unwrap();
        store.append("p", b"{4}\n").unwrap();
        assert_eq!(store.journal("p").unwrap(), b"{3}\n{4}\n");
    }

    /// Given a directory that is not there, when state is kept in it, then others can't read it.
    #[cfg(unix)]
    #[test]
    fn directories_are_for_this_user_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        DirStore::open(&state).unwrap().publish("p", b"x").unwrap();
        for path in [state.clone(), state.join("p")] {
            assert_eq!(
                fs::metadata(&path).unwrap().permissions().mode() & 0o777,
                0o700,
                "{}",
                path.display()
            );
        }
    }

    #[test]
    fn a_spill_is_read_where_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = DirStore::open(dir.path()).unwrap();
        assert!(store.unspill("p", 0, 0, 10).unwrap().is_empty());
        store.spill("p", 0, 0, b"abc").unwrap();
        store.spill("p", 0, 3, b"def").unwrap();
        store.publish("p", b"x").unwrap();
        assert_eq!(store.unspill("p", 0, 2, 3).unwrap(), b"cde");
        assert_eq!(store.unspill("p", 0, 5, 9).unwrap(), b"f");
        store.forget("p", 0).unwrap();
        store.forget("p", 0).unwrap();
        assert!(store.unspill("p", 0, 0, 1).unwrap().is_empty());
    }

    /// Given a directory in use, then a second process is refused, and let in when the first is gone.
    #[test]
    fn one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let store = DirStore::open(dir.path()).unwrap();
        assert!(matches!(DirStore::open(dir.path()), Err(StoreError::InUse { .. })));
        drop(store);
        DirStore::open(dir.path()).unwrap();
    }
}
