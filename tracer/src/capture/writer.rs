//! Writes a capture.

use std::io::{self, Write};

use super::{Header, Row};

/// zstd's own default: further levels gain little on rows that are mostly numbers.
const LEVEL: i32 = 3;

/// Rows that wait, in bytes: enough for zstd to see what they have in common.
const MAX_PENDING_BYTES: usize = 4 << 20;

/// Collects rows and writes them as one zstd frame per [`Writer::flush`].
pub struct Writer<W> {
    out: W,
    rows: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// # Errors
    /// Those of the output.
    pub fn new(out: W, header: Header) -> io::Result<Self> {
        let mut writer = Self { out, rows: Vec::new() };
        writer.row(&Row::Header(header))?;
        writer.flush()?;
        Ok(writer)
    }

    pub fn out(&self) -> &W {
        &self.out
    }

    /// Adds a row to the next flush, or flushes if many are waiting.
    ///
    /// # Errors
    /// As [`Writer::flush`].
    pub fn row(&mut self, row: &Row) -> io::Result<()> {
        serde_json::to_writer(&mut self.rows, row)?;
        self.rows.push(b'\n');
        // A large compiler has ten thousand new stacks of a hundred frames in one interval.
        if self.rows.len() >= MAX_PENDING_BYTES { self.flush() } else { Ok(()) }
    }

    /// Writes what was collected, such that everything up to here survives us.
    ///
    /// # Errors
    /// Those of the output. The rows are then gone; what was flushed before stays readable.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let frame = zstd::encode_all(&self.rows[..], LEVEL)?;
        self.rows.clear();
        self.out.write_all(&frame)?;
        self.out.flush()
    }
}
