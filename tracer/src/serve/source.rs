//! What the server must be given: it neither knows where anybody stands nor where files lie.

use std::io;

use super::Question;
use crate::capture::{IncidentRow, Recording};

pub trait Source: Send + Sync + 'static {
    /// Puts a question; false if too many are waiting, or nobody is there any more.
    fn put(&self, question: Question) -> bool;

    /// What this process takes of the machine.
    fn own(&self) -> Own;

    /// What was kept, newest first. May wait for a disk.
    ///
    /// # Errors
    /// Those of the directory.
    fn incidents(&self) -> io::Result<Vec<Incident>>;

    /// One of them. May wait for a disk.
    ///
    /// # Errors
    /// If it cannot be read.
    fn incident(&self, name: &str) -> io::Result<Recording>;
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Own {
    pub resident_bytes: Option<u64>,
    /// Since it was started.
    pub cpu_s: f64,
}

/// A file that was kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Incident {
    /// Of the file.
    pub name: String,
    pub row: IncidentRow,
}
