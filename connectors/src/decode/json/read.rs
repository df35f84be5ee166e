//! The general reader: a record front to back with serde, without a tree of values.

use super::*;

/// The part of a visitor for whatever is neither an object nor an array.
macro_rules! scalars_are_not_an_object {
    () => {
        fn visit_unit<E>(self) -> Result<(), E> {
            self.not_an_object()
        }

        fn visit_bool<E>(self, _: bool) -> Result<(), E> {
            self.not_an_object()
        }

        fn visit_i64<E>(self, _: i64) -> Result<(), E> {
            self.not_an_object()
        }

        fn visit_u64<E>(self, _: u64) -> Result<(), E> {
            self.not_an_object()
        }

        fn visit_f64<E>(self, _: f64) -> Result<(), E> {
            self.not_an_object()
        }

        fn visit_str<E>(self, _: &str) -> Result<(), E> {
            self.not_an_object()
        }
    };
}

/// The record: an object or an array of objects.
pub(super) struct RecordSeed<'r, 'a, 'c> {
    pub(super) record: &'r mut Record<'a, 'c>,
}

impl<'de> DeserializeSeed<'de> for RecordSeed<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl RecordSeed<'_, '_, '_> {
    fn not_an_object<E>(self) -> Result<(), E> {
        if self.record.scratch.many {
            self.record.start_row(false);
            self.record.emit();
        } else {
            let fault = Fault::new("wrong_type", "a record must be an object or an array");
            self.record.fault = Some(fault);
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for RecordSeed<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let plan = self.record.plan;
        match &plan.record {
            None => {
                let base = self.record.start_row(true);
                read_map(map, self.record, Target::Row(base), 0)?;
                self.record.end_row();
            }
            Some(tree) => {
                self.record.scratch.record_cells.resize(tree.slots, Cell::Absent);
                let before = self.record.scratch.rows.len();
                let seen = read_map(map, self.record, Target::Record, 0)?;
                if self.record.scratch.rows.len() == before && !seen {
                    self.record.fault = Some(Fault::new(
                        "missing_field",
                        format!("no rows at `{}`", plan.rows_path.join(".")),
                    ));
                }
            }
        }
        self.record.emit();
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if self.record.scratch.many {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            return self.not_an_object();
        }
        self.record.scratch.many = true;
        while seq.next_element_seed(RecordSeed { record: self.record })?.is_some() {}
        Ok(())
    }

    scalars_are_not_an_object!();
}

/// Whose slots are being filled.
#[derive(Clone, Copy)]
enum Target {
    /// A row, whose cells begin here.
    Row(usize),
    /// The record around the rows.
    Record,
}

impl Target {
    fn tree(self, plan: &Plan) -> &Tree {
        match self {
            Target::Row(_) => &plan.row,
            Target::Record => plan.record.as_ref().unwrap_or(&plan.row),
        }
    }
}

/// Reads an object at a node; tells whether the array of rows was in it.
fn read_map<'de, A: MapAccess<'de>>(
    mut map: A,
    record: &mut Record<'_, '_>,
    target: Target,
    node: usize,
) -> Result<bool, A::Error> {
    let plan = record.plan;
    let children = &target.tree(plan).nodes[node].children;
    let mut rows_seen = false;
    while let Some(child) = map.next_key_seed(KeySeed { children })? {
        match child {
            Some(child) => {
                rows_seen |= map.next_value_seed(NodeSeed { record, target, node: child })?;
            }
            None => {
                map.next_value::<IgnoredAny>()?;
            }
        }
    }
    Ok(rows_seen)
}

struct KeySeed<'p> {
    children: &'p [(String, usize)],
}

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.children.iter().find(|(k, _)| k == key).map(|(_, child)| *child))
    }
}

/// A value at a node of the plan. Its outcome tells whether the array of rows was in it.
struct NodeSeed<'r, 'a, 'c> {
    record: &'r mut Record<'a, 'c>,
    target: Target,
    node: usize,
}

impl NodeSeed<'_, '_, '_> {
    fn set(&mut self, cell: Cell) {
        let slots = &self.target.tree(self.record.plan).nodes[self.node].slots;
        for &slot in slots {
            let cells = match self.target {
                Target::Row(base) => self.record.scratch.cells.get_mut(base + slot),
                Target::Record => self.record.scratch.record_cells.get_mut(slot),
            };
            if let Some(place) = cells {
                *place = cell;
            }
        }
    }

    fn scalar<E>(mut self, cell: Cell) -> Result<bool, E> {
        self.set(cell);
        let node = &self.target.tree(self.record.plan).nodes[self.node];
        if node.is_rows && cell != Cell::Null {
            self.record.fault = Some(Fault::new("wrong_type", "the rows must be an array"));
        }
        Ok(node.is_rows && cell != Cell::Null)
    }
}

impl<'de> DeserializeSeed<'de> for NodeSeed<'_, '_, '_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<bool, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NodeSeed<'_, '_, '_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        self.scalar(Cell::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<bool, E> {
        self.scalar(Cell::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<bool, E> {
        self.scalar(Cell::I64(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<bool, E> {
        self.scalar(Cell::U64(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<bool, E> {
        self.scalar(Cell::F64(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<bool, E> {
        let cell = self.record.scratch.keep(value);
        self.scalar(cell)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<bool, A::Error> {
        self.set(Cell::Nested);
        let node = &self.target.tree(self.record.plan).nodes[self.node];
        if node.is_rows {
            self.record.scratch.many = true;
            let base = self.record.start_row(true);
            read_map(map, self.record, Target::Row(base), 0)?;
            self.record.end_row();
            return Ok(true);
        }
        if node.is_fields {
            let from = self.record.scratch.rows.last().map_or(0, |row| row.fields.start);
            self.record.scratch.fields.truncate(from);
            while map.next_key_seed(FieldKeySeed { scratch: self.record.scratch })?.is_some() {
                map.next_value_seed(FieldSeed { scratch: self.record.scratch })?;
            }
            return Ok(false);
        }
        read_map(map, self.record, self.target, self.node)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<bool, A::Error> {
        self.set(Cell::Nested);
        let is_rows = self.target.tree(self.record.plan).nodes[self.node].is_rows;
        if !is_rows {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(false);
        }
        self.record.scratch.many = true;
        while seq.next_element_seed(RowSeed { record: self.record })?.is_some() {}
        Ok(true)
    }
}

/// A row inside the array of rows.
struct RowSeed<'r, 'a, 'c> {
    record: &'r mut Record<'a, 'c>,
}

impl RowSeed<'_, '_, '_> {
    fn not_an_object<E>(self) -> Result<(), E> {
        self.record.start_row(false);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for RowSeed<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for RowSeed<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let base = self.record.start_row(true);
        read_map(map, self.record, Target::Row(base), 0)?;
        self.record.end_row();
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        self.not_an_object()
    }

    scalars_are_not_an_object!();
}

/// A key of the map of fields, kept as text.
struct FieldKeySeed<'s> {
    scratch: &'s mut Scratch,
}

impl<'de> DeserializeSeed<'de> for FieldKeySeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for FieldKeySeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<(), E> {
        let start = self.scratch.text.len();
        self.scratch.text.push_str(key);
        self.scratch.fields.push((start, self.scratch.text.len(), Cell::Absent));
        Ok(())
    }
}

/// A value of the map of fields.
struct FieldSeed<'s> {
    scratch: &'s mut Scratch,
}

impl FieldSeed<'_> {
    fn set<E>(self, cell: Cell) -> Result<(), E> {
        if let Some(field) = self.scratch.fields.last_mut() {
            field.2 = cell;
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for FieldSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FieldSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.set(Cell::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.set(Cell::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.set(Cell::I64(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.set(Cell::U64(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.set(Cell::F64(value))
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        self.set(Cell::Text(0, 0))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        self.set(Cell::Nested)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        self.set(Cell::Nested)
    }
}
