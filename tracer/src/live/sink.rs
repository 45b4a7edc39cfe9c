//! Where the rows of a run go: into a capture, or to whoever looks on.

use std::{
    fs::File,
    io,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
};

use crate::capture::{Row, Writer};

/// Takes rows, in order.
pub trait Sink: Send + 'static {
    /// # Errors
    /// Those of what lies behind; the run then ends.
    fn row(&mut self, row: Row) -> io::Result<()>;

    /// The rows until here belong together.
    ///
    /// # Errors
    /// As [`Sink::row`].
    fn flush(&mut self) -> io::Result<()>;
}

impl Sink for Writer<File> {
    fn row(&mut self, row: Row) -> io::Result<()> {
        Writer::row(self, &row)
    }

    fn flush(&mut self) -> io::Result<()> {
        Writer::flush(self)
    }
}

/// Hands rows to another thread, a flush at a time.
pub(super) struct RowSender<T> {
    rows: Vec<Row>,
    out: SyncSender<T>,
}

/// Flushes that may wait to be taken in. Whoever looks on takes them in before it does anything else, so this
/// many wait only if one redraw takes as long as that many intervals.
const QUEUE: usize = 64;

/// Rows that a [`RowSender`] sends come out at the other end, among other messages.
pub(super) fn row_channel<T: From<Vec<Row>>>() -> (RowSender<T>, SyncSender<T>, Receiver<T>) {
    let (out, inbox) = sync_channel(QUEUE);
    (RowSender { rows: Vec::new(), out: out.clone() }, out, inbox)
}

impl<T: From<Vec<Row>> + Send + 'static> Sink for RowSender<T> {
    fn row(&mut self, row: Row) -> io::Result<()> {
        self.rows.push(row);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        // Whoever has stopped looking misses nothing.
        let _ = self.out.send(T::from(std::mem::take(&mut self.rows)));
        Ok(())
    }
}
