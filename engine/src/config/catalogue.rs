//! The tag catalogue: numbers by tag and column, as one table.

use detectors::detect::Columns;
use std::collections::HashMap;
use std::sync::Arc;

/// Column of the catalogue with the value of a tag that stands for "no measurement".
pub(crate) const SENTINEL: &str = "sentinel";

/// Column of the catalogue with the heartbeat of a tag that reports by exception, in seconds.
pub(crate) const HEARTBEAT: &str = "heartbeat_s";

/// The tag catalogue: numbers by tag and column.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    /// In order, each once.
    tags: Vec<Arc<str>>,
    /// Position of each tag.
    positions: HashMap<Arc<str>, u32, foldhash::fast::FixedState>,
    /// Names of the columns.
    columns: Vec<Box<str>>,
    /// The cells of each tag in the order of `columns`, NaN where there is none.
    cells: Vec<f64>,
}

impl Catalogue {
    /// From a column of tags and columns of numbers, NaN where a tag has none. Tags may come in any order; of two rows of one
    /// tag the last counts.
    ///
    /// # Panics
    /// When a column is not as long as that of the tags.
    pub fn new(tags: &[impl AsRef<str>], columns: &[(impl AsRef<str>, Vec<f64>)]) -> Catalogue {
        for (name, cells) in columns {
            assert_eq!(cells.len(), tags.len(), "column `{}` and the tags differ in length", name.as_ref());
        }
        let mut order: Vec<usize> = (0..tags.len()).collect();
        order.sort_by_key(|i| tags[*i].as_ref());
        order.dedup_by(|next, kept| {
            let same = tags[*next].as_ref() == tags[*kept].as_ref();
            *kept = if same { *next } else { *kept };
            same
        });
        let cells = order.iter().flat_map(|i| columns.iter().map(|(_, cells)| cells[*i])).collect();
        let tags: Vec<Arc<str>> = order.iter().map(|i| tags[*i].as_ref().into()).collect();
        let positions = tags.iter().zip(0..).map(|(tag, i)| (tag.clone(), i)).collect();
        let columns = columns.iter().map(|(name, _)| name.as_ref().into()).collect();
        Catalogue { tags, positions, columns, cells }
    }

    /// How many tags there are.
    pub fn len(&self) -> usize {
        self.tags.len()
    }

    /// Whether there is no tag.
    pub fn is_empty(&self) -> bool {
        self.tags.is_empty()
    }

    /// The tags, in order.
    pub fn tags(&self) -> impl Iterator<Item = &str> + Clone {
        self.tags.iter().map(|tag| &**tag)
    }

    /// Whether it knows a tag.
    pub fn contains(&self, tag: &str) -> bool {
        self.positions.contains_key(tag)
    }

    /// The cells of a tag; none, if it is not in the catalogue.
    pub(crate) fn numbers(&self, tag: &str) -> Numbers<'_> {
        self.positions.get(tag).map_or(Numbers::default(), |i| self.numbers_at(*i as usize))
    }

    /// The cells of the tag at a position.
    pub(crate) fn numbers_at(&self, i: usize) -> Numbers<'_> {
        let width = self.columns.len();
        Numbers { columns: &self.columns, cells: &self.cells[i * width..(i + 1) * width] }
    }

    /// Tags that have a number in a column, in order.
    pub(crate) fn column(&self, name: &str) -> impl Iterator<Item = (&str, f64)> {
        let at = self.columns.iter().position(|column| **column == *name);
        let all = self.tags().enumerate();
        all.filter_map(move |(i, tag)| {
            let x = self.cells[i * self.columns.len() + at?];
            (!x.is_nan()).then_some((tag, x))
        })
    }
}

/// The numbers of one tag.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Numbers<'a> {
    columns: &'a [Box<str>],
    cells: &'a [f64],
}

impl Numbers<'_> {
    /// The number in a column.
    pub(crate) fn get(&self, column: &str) -> Option<f64> {
        let at = self.columns.iter().position(|name| **name == *column)?;
        Some(self.cells[at]).filter(|x| !x.is_nan())
    }
}

/// A catalogue row as detectors see it; a tag without a row has no columns.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Row<'a> {
    pub(crate) tag: &'a str,
    pub(crate) numbers: Numbers<'a>,
    pub(crate) heartbeat: Option<i64>,
}

impl Columns for Row<'_> {
    fn number(&self, column: &str) -> Option<f64> {
        self.numbers.get(column)
    }
    fn tag(&self) -> &str {
        self.tag
    }
    fn heartbeat_ns(&self) -> Option<i64> {
        self.heartbeat
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Given tags out of order, one of them twice, then lookups find its last row, and a column lists its tags in order.
    #[test]
    fn of_two_rows_of_one_tag_the_last_counts() {
        let columns = [("lo", vec![7.0, f64::NAN, 9.0]), ("hi", vec![f64::NAN, 5.0, 6.0])];
        let catalogue = Catalogue::new(&["b", "a", "b"], &columns);
        assert_eq!(catalogue.tags().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(
            [catalogue.numbers("b").get("lo"), catalogue.numbers("b").get("hi")],
            [Some(9.0), Some(6.0)]
        );
        assert_eq!(catalogue.numbers("a").get("lo"), None);
        assert_eq!(catalogue.numbers("c").get("lo"), None);
        assert_eq!(catalogue.column("hi").collect::<Vec<_>>(), [("a", 5.0), ("b", 6.0)]);
        assert_eq!(catalogue.column("middle").count(), 0);
    }
}
