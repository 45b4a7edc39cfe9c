//! The unwinding tables in the kernel. What a table had is given to another only long after it was withdrawn, so that a
//! table never changes under a probe.

use std::{collections::HashMap, ops::Range, os::fd::AsFd as _};

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf,
    maps::{Array, Map, MapData},
};
use tracer_ebpf::{
    mapping::{TABLE_NONE, TABLE_READY, Table},
    unwind::{BLOCK_SHIFT, Rule, find_row, rule_of},
};

use super::{extents::Extents, sys::MappedWords};
use crate::unwind::{self, Rules};

/// The three arrays that hold rows, and the one that says which object has which part of them.
pub(crate) struct Tables {
    rows: Words,
    blocks: Words,
    rules: Array<MapData, Rule>,
    known_rules: Rules,
    /// How many of `known_rules` the kernel has.
    sent_rules: usize,
    tables: Array<MapData, Table>,
    /// What each object's table has.
    places: HashMap<u32, Place>,
    /// Of tables that were withdrawn: a probe may be reading them still.
    withdrawn: Vec<Place>,
}

/// A mapped array, parts of which are given out.
struct Words {
    words: MappedWords,
    extents: Extents,
    len: usize,
}

/// Where a table lies.
struct Place {
    /// File offset of its first block.
    start: u32,
    rows: Range<usize>,
    blocks: Range<usize>,
}

impl Words {
    fn take(ebpf: &mut Ebpf, name: &str) -> Result<Self> {
        let map = ebpf.take_map(name).with_context(|| format!("map {name}"))?;
        let Map::Array(data) = &map else { bail!("map {name} is not an array") };
        let len = data.info().context("size of the map")?.max_entries() as usize * 2;
        let words =
            MappedWords::new(data.fd().as_fd(), len).with_context(|| format!("mmap the map {name}"))?;
        Ok(Self { words, extents: Extents::new(len), len })
    }

    fn is_half_full(&self) -> bool {
        self.extents.free_len() < self.len / 2
    }
}

impl Tables {
    /// # Errors
    /// If the maps are not as expected.
    pub(crate) fn new(ebpf: &mut Ebpf) -> Result<Self> {
        let mut array = |name: &str| ebpf.take_map(name).with_context(|| format!("map {name}"));
        let (rules, tables) = (Array::try_from(array("RULES")?)?, Array::try_from(array("TABLES")?)?);
        Ok(Self {
            rows: Words::take(ebpf, "ROWS")?,
            blocks: Words::take(ebpf, "BLOCKS")?,
            rules,
            known_rules: Rules::default(),
            sent_rules: 0,
            tables,
            places: HashMap::new(),
            withdrawn: Vec::new(),
        })
    }

    /// Gives `object` a table, or tells the probes that it has none. False if it does not fit.
    ///
    /// # Errors
    /// Those of `bpf(2)`.
    pub(crate) fn set(&mut self, object: u32, table: Option<&unwind::Table>) -> Result<bool> {
        let ready = match table {
            Some(table) => self.upload(object, table)?,
            None => {
                self.withdrawn.extend(self.places.remove(&object));
                None
            }
        };
        let fits = ready.is_some() || table.is_none();
        // Last, since it is what the probes look at first.
        self.tables.set(object, ready.unwrap_or(Table { state: TABLE_NONE, ..Table::default() }), 0)?;
        Ok(fits)
    }

    fn upload(&mut self, object: u32, table: &unwind::Table) -> Result<Option<Table>> {
        let Some(place) = self.place(table) else { return Ok(None) };
        let Some(packed) = table.pack(&mut self.known_rules, place.rows.start as u32) else {
            self.give_back(place);
            return Ok(None);
        };
        for (id, rule) in self.known_rules.iter().enumerate().skip(self.sent_rules) {
            self.rules.set(id as u32, rule, 0)?;
            self.sent_rules = id + 1;
        }
        self.rows.words.write(place.rows.start, &packed.rows);
        self.blocks.words.write(place.blocks.start, &packed.blocks);
        let (first_block, blocks) = (place.blocks.start as u32, packed.blocks.len() as u32 - 1);
        self.withdrawn.extend(self.places.insert(object, place));
        Ok(Some(Table { state: TABLE_READY, start: packed.start, first_block, blocks }))
    }

    fn place(&mut self, table: &unwind::Table) -> Option<Place> {
        let rows = self.rows.extents.take(table.packed_rows())?;
        let Some(blocks) = self.blocks.extents.take(table.packed_blocks()) else {
            self.rows.extents.give_back(rows);
            return None;
        };
        Some(Place { start: table.start(), rows, blocks })
    }

    fn give_back(&mut self, place: Place) {
        self.rows.extents.give_back(place.rows);
        self.blocks.extents.give_back(place.blocks);
    }

    /// The rule at a file offset, exactly as a probe finds it.
    pub(crate) fn rule(&self, object: u32, offset: u32) -> Option<Rule> {
        let place = self.places.get(&object)?;
        let block = (offset.checked_sub(place.start)? >> BLOCK_SHIFT) as usize;
        let edge = |block: usize| {
            let at = place.blocks.start + block;
            place.blocks.contains(&at).then(|| self.blocks.words.get(at)).flatten()
        };
        let row = |at: u32| self.rows.words.get(at as usize);
        let row = find_row(edge(block)?, edge(block + 1)?, offset, row)?;
        self.known_rules.get(rule_of(row))
    }

    /// There may soon be tables that find no room.
    pub(crate) fn are_many(&self) -> bool {
        self.rows.is_half_full() || self.blocks.is_half_full()
    }

    /// From now on nothing is known of `object`. Its room is given to others after [`Tables::settle`].
    ///
    /// # Errors
    /// Those of `bpf(2)`.
    pub(crate) fn release(&mut self, object: u32) -> Result<()> {
        self.withdrawn.extend(self.places.remove(&object));
        self.tables.set(object, Table::default(), 0).context("withdraw an unwinding table")
    }

    /// No probe reads any more what was withdrawn before: to be called seconds later. False if that is nothing.
    pub(crate) fn settle(&mut self) -> bool {
        let withdrawn = std::mem::take(&mut self.withdrawn);
        let has_room = !withdrawn.is_empty();
        withdrawn.into_iter().for_each(|it| self.give_back(it));
        has_room
    }
}
