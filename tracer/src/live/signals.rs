//! What a user may tell a run by signals.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals of the contract. They are caught from the moment this is made.
pub struct Signals {
    pub(super) interrupt: Signal,
    pub(super) terminate: Signal,
    pub(super) snapshot: Signal,
    pub(super) mark: Signal,
}

impl Signals {
    /// # Errors
    /// Those of `sigaction(2)`.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            snapshot: signal(SignalKind::user_defined1())?,
            mark: signal(SignalKind::user_defined2())?,
        })
    }

    /// Waits for one that ends us.
    pub async fn end(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
