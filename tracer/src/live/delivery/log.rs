//! Alerts as lines: on standard error, or at the end of a file.

use std::{
    fs::OpenOptions,
    io::{Write as _, stderr},
    os::unix::fs::OpenOptionsExt as _,
};

use super::say;
use crate::watch::{Alert, Log};

/// Names of programs and functions are nobody's business but the owner's.
const MODE: u32 = 0o640;

pub(super) fn write(alert: &Alert, log: &Log) -> Result<(), String> {
    let line = || format!("{}\n", alert.json());
    match log {
        Log::Words => say(&alert.line()),
        // Standard error may be closed; that must not end a watch.
        Log::StandardError => stderr().lock().write_all(line().as_bytes()).map_err(|it| it.to_string())?,
        // Opened each time: somebody may have moved it away since.
        Log::File(path) => OpenOptions::new()
            .append(true)
            .create(true)
            .mode(MODE)
            .open(path)
            .and_then(|mut file| file.write_all(line().as_bytes()))
            .map_err(|it| format!("{}: {it}", path.display()))?,
    }
    Ok(())
}
