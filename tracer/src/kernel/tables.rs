//! The unwinding tables in the kernel: room is given out from the front and never taken back, so that a
//! table, once announced, never changes under a probe.

use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf,
    maps::{Array, Map, MapData},
};
use tracer_ebpf::{
    mapping::{TABLE_NONE, TABLE_READY, Table},
    unwind::Rule,
};

use super::sys::MappedWords;
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
}

/// A mapped array of which the first `used` words are given out.
struct Words {
    words: MappedWords,
    used: usize,
    len: usize,
}

impl Words {
    fn take(ebpf: &mut Ebpf, name: &str) -> Result<Self> {
        let map = ebpf.take_map(name).with_context(|| format!("map {name}"))?;
        let Map::Array(data) = &map else { bail!("map {name} is not an array") };
        let len = data.info().context("size of the map")?.max_entries() as usize * 2;
        let words =
            MappedWords::new(data.fd().as_fd(), len).with_context(|| format!("mmap the map {name}"))?;
        Ok(Self { words, used: 0, len })
    }

    fn free(&self) -> usize {
        self.len - self.used
    }

    fn push(&mut self, words: &[u32]) -> usize {
        let at = self.used;
        self.words.write(at, words);
        self.used += words.len();
        at
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
        })
    }

    /// Gives `object` a table, or tells the probes that it has none. False if it does not fit.
    ///
    /// # Errors
    /// Those of `bpf(2)`.
    pub(crate) fn set(&mut self, object: u32, table: Option<&unwind::Table>) -> Result<bool> {
        let ready = match table {
            Some(table) => self.upload(table)?,
            None => None,
        };
        let fits = ready.is_some() || table.is_none();
        // Last, since it is what the probes look at first.
        self.tables.set(object, ready.unwrap_or(Table { state: TABLE_NONE, ..Table::default() }), 0)?;
        Ok(fits)
    }

    fn upload(&mut self, table: &unwind::Table) -> Result<Option<Table>> {
        let Some(packed) = table.pack(&mut self.known_rules, self.rows.used as u32) else { return Ok(None) };
        if packed.rows.len() > self.rows.free() || packed.blocks.len() > self.blocks.free() {
            return Ok(None);
        }
        for (id, rule) in self.known_rules.iter().enumerate().skip(self.sent_rules) {
            self.rules.set(id as u32, rule, 0)?;
            self.sent_rules = id + 1;
        }
        self.rows.push(&packed.rows);
        let first_block = self.blocks.push(&packed.blocks) as u32;
        let blocks = packed.blocks.len() as u32 - 1;
        Ok(Some(Table { state: TABLE_READY, start: packed.start, first_block, blocks }))
    }
}
