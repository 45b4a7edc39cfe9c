//! Writes to standard output on a thread of its own: a terminal that does not take what it is given, since somebody has
//! stopped it or the line is dead, must not hold up the tracing.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

/// The near end. What is written goes out with the next flush.
pub(super) struct Printer {
    text: Vec<u8>,
    out: Sender<Vec<u8>>,
    waiting: Arc<AtomicUsize>,
}

/// What has become of what was written.
pub(super) struct Printed {
    /// Pieces that have not gone out; [`FAILED`] and more if nobody takes them any more.
    waiting: Arc<AtomicUsize>,
    ended: Receiver<io::Error>,
}

/// More pieces than there will ever be.
const FAILED: usize = usize::MAX / 2;

impl Printer {
    pub(super) fn start() -> io::Result<(Self, Printed)> {
        let (out, pieces) = channel::<Vec<u8>>();
        let (end, ended) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let left = Arc::clone(&waiting);
        thread::Builder::new().name("printer".to_owned()).spawn(move || {
            for piece in pieces {
                let mut stdout = io::stdout().lock();
                if let Err(error) = stdout.write_all(&piece).and_then(|()| stdout.flush()) {
                    left.fetch_add(FAILED, Ordering::Relaxed);
                    let _ = end.send(error);
                    return;
                }
                left.fetch_sub(1, Ordering::Relaxed);
            }
        })?;
        let printed = Printed { waiting: Arc::clone(&waiting), ended };
        Ok((Self { text: Vec::new(), out, waiting }, printed))
    }
}

impl Printed {
    /// Everything has gone out.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) == 0
    }

    /// Nothing more will go out.
    pub(super) fn has_failed(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) >= FAILED
    }

    /// Waits until everything has gone out, for `patience` at most; there must be no [`Printer`] any more.
    ///
    /// # Errors
    /// Why it cannot go out.
    pub(super) fn finish(self, patience: Duration) -> io::Result<()> {
        match self.ended.recv_timeout(patience) {
            Ok(error) => Err(error),
            Err(_) => Ok(()),
        }
    }
}

impl Write for Printer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.text.is_empty() {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            // It fails only if the thread has ended, and then `Printed` says why.
            let _ = self.out.send(std::mem::take(&mut self.text));
        }
        Ok(())
    }
}
