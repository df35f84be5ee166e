//! Bounded state: one record per tag, in pages, and windows in an arena.
//!
//! A record holds the fixed-size state of every rule at an offset of its own, so that judging a tag touches
//! neighbouring cache lines. A page knows whether it was touched since the last snapshot.

use crate::limits::{PAGE_TAGS, WINDOWS_PER_CHUNK};

/// One record of `stride` words per tag.
#[derive(Debug, Default)]
pub(crate) struct Store {
    stride: usize,
    pages: Vec<Box<[u64]>>,
}

impl Store {
    pub(crate) fn new(stride: usize) -> Self {
        Store { stride: stride.max(1), pages: Vec::new() }
    }

    /// Makes room for tags `0..tags`.
    pub(crate) fn grow(&mut self, tags: usize) {
        while self.pages.len() * PAGE_TAGS < tags {
            self.pages.push(vec![0; self.stride * PAGE_TAGS].into_boxed_slice());
        }
    }

    #[inline]
    pub(crate) fn region(&mut self, tag: u32, offset: usize, words: usize) -> &mut [u64] {
        let (page, slot) = (tag as usize / PAGE_TAGS, tag as usize % PAGE_TAGS);
        let at = slot * self.stride + offset;
        &mut self.pages[page][at..at + words]
    }

    /// Reads the records of some tags, so that misses of the cache overlap.
    pub(crate) fn touch(&self, tags: impl Iterator<Item = u32>) {
        let seen = tags.fold(0, |seen, tag| {
            let (page, slot) = (tag as usize / PAGE_TAGS, tag as usize % PAGE_TAGS);
            let record = &self.pages[page][slot * self.stride..(slot + 1) * self.stride];
            record.iter().step_by(8).fold(seen ^ record[record.len() - 1], |seen, word| seen ^ word)
        });
        std::hint::black_box(seen);
    }

    /// All words of the first `tags` records.
    pub(crate) fn words(&self, tags: usize) -> Vec<u64> {
        self.pages.iter().flat_map(|p| p.iter().copied()).take(tags * self.stride).collect()
    }

    /// Fills the first records from [`words`](Self::words).
    pub(crate) fn fill(&mut self, words: &[u64]) {
        self.grow(words.len().div_ceil(self.stride));
        for (page, chunk) in self.pages.iter_mut().zip(words.chunks(self.stride * PAGE_TAGS)) {
            page[..chunk.len()].copy_from_slice(chunk);
        }
    }
}

/// Windows of one length, handed out by handle; handle 0 means none yet.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    len: usize,
    used: usize,
    chunks: Vec<Box<[f64]>>,
}

impl Arena {
    pub(crate) fn new(len: usize) -> Self {
        Arena { len, used: 0, chunks: Vec::new() }
    }

    /// The window of `handle`; a handle of 0 gets a fresh, zeroed window.
    #[inline]
    pub(crate) fn window(&mut self, handle: &mut u64) -> &mut [f64] {
        if *handle == 0 {
            if self.used.is_multiple_of(WINDOWS_PER_CHUNK) {
                self.chunks.push(vec![0.0; self.len * WINDOWS_PER_CHUNK].into_boxed_slice());
            }
            self.used += 1;
            *handle = self.used as u64;
        }
        let i = *handle as usize - 1;
        let at = i % WINDOWS_PER_CHUNK * self.len;
        &mut self.chunks[i / WINDOWS_PER_CHUNK][at..at + self.len]
    }

    /// Reads `len` words of the window of `handle` from `from` on, a line at a time, so that misses of the cache overlap.
    #[inline]
    pub(crate) fn touch(&self, handle: u64, from: usize, len: usize) -> u64 {
        let Some(i) = (handle as usize).checked_sub(1) else { return 0 };
        let at = i % WINDOWS_PER_CHUNK * self.len;
        let window = &self.chunks[i / WINDOWS_PER_CHUNK][at..at + self.len];
        let window = &window[from.min(self.len - 1)..(from + len).min(self.len)];
        window.iter().step_by(8).fold(window[window.len() - 1].to_bits(), |seen, x| seen ^ x.to_bits())
    }

    /// All bits of the windows in use.
    pub(crate) fn bits(&self) -> Vec<u64> {
        self.chunks.iter().flat_map(|c| c.iter().map(|x| x.to_bits())).take(self.used * self.len).collect()
    }

    /// Fills the arena from [`bits`](Self::bits).
    pub(crate) fn fill(&mut self, bits: &[u64]) {
        self.chunks.clear();
        self.used = bits.len().checked_div(self.len).unwrap_or(0);
        for chunk in bits.chunks((self.len * WINDOWS_PER_CHUNK).max(1)) {
            let mut words = vec![0.0; self.len * WINDOWS_PER_CHUNK];
            for (word, bit) in words.iter_mut().zip(chunk) {
                *word = f64::from_bits(*bit);
            }
            self.chunks.push(words.into_boxed_slice());
        }
    }
}
