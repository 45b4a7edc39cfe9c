//! The recording file.
//!
//! JSON Lines, in one zstd frame per flush, so that a file that was cut off, by SIGKILL or a full disk,
//! is readable up to its last interval. Each row is an object with a `type`:
//!
//! | type | when | what |
//! |---|---|---|
//! | `header` | first | format, version, host, target, interval |
//! | `module` | before its first stack | an executable file: path, build id |
//! | `stack` | before its first site | frames, innermost first: module, offset, function |
//! | `process` | when something of it changed | the last one holds |
//! | `interval` | each interval | counters of the sites that changed, RSS, losses |
//! | `mark`, `oom`, `tier` | when it happened | |
//! | `incident` | second, in a file that was kept because of one | what happened to whom |
//! | `end` | last | why the recording ended; without it the file was cut |
//!
//! Counters are totals since tracing began. Times are seconds since then. The size depends on the number
//! of distinct stacks and of intervals, never on the number of events. A `stack` belongs to whichever
//! sites name it; frames are repeated as often as they occur, which zstd takes care of.

mod epoch;
mod excerpt;
mod incident;
mod part;
mod prune;
mod reader;
mod recording;
mod rewrite;
mod rows;
mod thin;
mod writer;

#[cfg(test)]
mod tests;

pub use self::{
    epoch::Epoch,
    excerpt::Part,
    incident::*,
    reader::{Error, read, read_incident, read_times},
    recording::{Point, PointSamples, Recording, Sample, SiteHistory, Stack},
    rows::*,
    writer::Writer,
};

/// The `schema` of the header; the number rises when an older reader would misunderstand.
pub const SCHEMA: &str = "alloctrace.capture/1";
