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

    /// Words of a record.
    pub(crate) fn stride(&self) -> usize {
        self.stride
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
}

/// Windows of one length, handed out by handle; handle 0 means none yet.
///
/// A window begins short and is moved to a longer place as it fills, so that many young tags share few pages.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    len: usize,
    /// Windows of the same size so far: `FIRST_WORDS`, twice that, … up to `len`.
    sizes: Vec<Size>,
}

/// The windows of one size.
#[derive(Debug, Default)]
struct Size {
    words: usize,
    used: usize,
    /// Places whose window has moved on.
    free: Vec<u64>,
    chunks: Vec<Box<[f64]>>,
}

/// Words of a window that has just begun.
const FIRST_WORDS: usize = 64;
/// A handle is a place, counted from 1, below the number of its size.
const PLACE_BITS: u32 = 48;

impl Size {
    fn at(&self, place: usize) -> (usize, std::ops::Range<usize>) {
        let at = place % WINDOWS_PER_CHUNK * self.words;
        (place / WINDOWS_PER_CHUNK, at..at + self.words)
    }

    fn window(&self, place: usize) -> &[f64] {
        let (chunk, range) = self.at(place);
        &self.chunks[chunk][range]
    }

    fn window_mut(&mut self, place: usize) -> &mut [f64] {
        let (chunk, range) = self.at(place);
        &mut self.chunks[chunk][range]
    }

    /// A zeroed place.
    fn take(&mut self) -> usize {
        if let Some(place) = self.free.pop() {
            self.window_mut(place as usize).fill(0.0);
            return place as usize;
        }
        self.used += 1;
        self.grow();
        self.used - 1
    }

    fn grow(&mut self) {
        while self.chunks.len() * WINDOWS_PER_CHUNK < self.used {
            self.chunks.push(vec![0.0; self.words * WINDOWS_PER_CHUNK].into_boxed_slice());
        }
    }
}

impl Arena {
    pub(crate) fn new(len: usize) -> Self {
        let mut sizes = Vec::new();
        let mut words = FIRST_WORDS;
        while len > 0 && sizes.last().is_none_or(|size: &Size| size.words < len) {
            sizes.push(Size { words: words.min(len), ..Size::default() });
            words *= 2;
        }
        Arena { len, sizes }
    }

    /// Number of the size and place of a handle.
    #[inline]
    fn find(handle: u64) -> Option<(usize, usize)> {
        let place = (handle & ((1 << PLACE_BITS) - 1)).checked_sub(1)?;
        Some(((handle >> PLACE_BITS) as usize, place as usize))
    }

    /// The window of `handle`, of `least` words or more, zero where nothing was written; a handle of 0 gets a fresh one.
    #[inline]
    pub(crate) fn window(&mut self, handle: &mut u64, least: usize) -> &mut [f64] {
        let found = Self::find(*handle).filter(|(size, _)| self.sizes[*size].words >= least);
        let (size, place) = found.unwrap_or_else(|| self.lengthen(handle, least));
        self.sizes[size].window_mut(place)
    }

    #[cold]
    fn lengthen(&mut self, handle: &mut u64, least: usize) -> (usize, usize) {
        let size = self.sizes.iter().position(|size| size.words >= least);
        let size = size.expect("no window is asked to be longer than its whole length");
        let place = self.sizes[size].take();
        if let Some((old_size, old_place)) = Self::find(*handle) {
            let (shorter, longer) = self.sizes.split_at_mut(size);
            let old = shorter[old_size].window(old_place);
            longer[0].window_mut(place)[..old.len()].copy_from_slice(old);
            shorter[old_size].free.push(old_place as u64);
        }
        *handle = (size as u64) << PLACE_BITS | (place as u64 + 1);
        (size, place)
    }

    /// Takes back the window of a handle that nobody has any more.
    pub(crate) fn give_back(&mut self, handle: u64) {
        if let Some((size, place)) = Self::find(handle)
            && let Some(size) = self.sizes.get_mut(size).filter(|size| place < size.used)
        {
            size.free.push(place as u64);
        }
    }

    /// Reads `len` words of the window of `handle` from `from` on, a line at a time, so that misses of the cache overlap.
    #[inline]
    pub(crate) fn touch(&self, handle: u64, from: usize, len: usize) -> u64 {
        let Some((size, place)) = Self::find(handle) else { return 0 };
        let window = self.sizes[size].window(place);
        let window = &window[from.min(window.len() - 1)..(from + len).min(window.len())];
        window.iter().step_by(8).fold(window[window.len() - 1].to_bits(), |seen, x| seen ^ x.to_bits())
    }

    /// All bits of the windows in use, and where they lie.
    pub(crate) fn bits(&self) -> Vec<u64> {
        let mut bits = Vec::new();
        for size in &self.sizes {
            bits.extend([size.used as u64, size.free.len() as u64]);
            bits.extend(&size.free);
            let words = size.chunks.iter().flat_map(|c| c.iter().map(|x| x.to_bits()));
            bits.extend(words.take(size.used * size.words));
        }
        bits
    }

    /// Fills the arena from [`bits`](Self::bits); what is not there is empty.
    pub(crate) fn fill(&mut self, bits: &[u64]) {
        let mut rest = bits.iter().copied();
        *self = Arena::new(self.len);
        for size in &mut self.sizes {
            size.used = rest.next().unwrap_or(0) as usize;
            let free = rest.next().unwrap_or(0) as usize;
            size.free = rest.by_ref().take(free).collect();
            size.grow();
            let chunks = size.chunks.iter_mut().flat_map(|chunk| chunk.iter_mut());
            for (word, bit) in chunks.take(size.used * size.words).zip(rest.by_ref()) {
                *word = f64::from_bits(bit);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Given windows that grow at different times, when they are saved and filled again, then each holds what it held.
    #[test]
    fn windows_grow_and_are_saved() {
        let mut arena = Arena::new(600);
        let mut handles = [0; 100];
        let check = |arena: &mut Arena, handles: &mut [u64; 100], words: usize| {
            for (i, handle) in handles.iter_mut().enumerate() {
                let window = arena.window(handle, words.min(600));
                assert!(
                    (0..words.min(600))
                        .all(|k| window[k] == if k < words / 2 { (i * k) as f64 } else { 0.0 })
                );
            }
        };
        for words in [1, 64, 65, 500, 600, 1200] {
            for (i, handle) in handles.iter_mut().enumerate() {
                let window = arena.window(handle, words.min(600));
                assert!(window.len() >= words.min(600) && window.len() <= 600);
                (0..words / 2).for_each(|k| window[k] = (i * k) as f64);
            }
            check(&mut arena, &mut handles, words);
            let bits = arena.bits();
            let mut again = Arena::new(600);
            again.fill(&bits);
            check(&mut again, &mut handles, words);
            assert_eq!(again.bits(), bits);
        }
        assert_eq!(arena.sizes.iter().map(|size| size.words).collect::<Vec<_>>(), [64, 128, 256, 512, 600]);
    }
}
