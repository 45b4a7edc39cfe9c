//! The thread on which questions over HTTP are answered, with a runtime of its own: nothing that happens there keeps the run
//! waiting.

use std::{
    fs::File,
    io,
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
};

use tokio::{runtime::Builder, sync::oneshot};

use super::{Asker, Kept, Place, state_dir};
use crate::{
    capture::{self, Recording},
    kernel,
    serve::{self, Incident, Limits, Own, Question, Source},
};

/// Threads for pages that take work.
const WORKERS: usize = 2;

/// For what waits and copies only; memory may be locked, so that it is not to be had for nothing.
const STACK_BYTES: usize = 1 << 20;

/// The near end of the thread.
pub struct Reception {
    thread: JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

impl Reception {
    /// # Errors
    /// If no thread or no runtime can be made.
    pub fn open(place: Place, asker: Asker, state_dir: PathBuf, limits: Limits) -> io::Result<Self> {
        let source = Arc::new(Office { asker, state_dir });
        let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(WORKERS).build()?;
        let (stop, stopped) = oneshot::channel();
        let builder = thread::Builder::new().name("http".to_owned()).stack_size(STACK_BYTES);
        let thread = builder.spawn(move || {
            kernel::run_last();
            if let Err(error) = runtime.block_on(serve::serve(&place.listener, source, limits, stopped)) {
                log::error!("nobody answers over HTTP: {error}");
            }
            // A page that is being made is of no use any more.
            runtime.shutdown_background();
        })?;
        Ok(Self { thread, stop })
    }

    /// Closes all connections.
    pub fn close(self) {
        let _ = self.stop.send(());
        if self.thread.join().is_err() {
            log::error!("the thread for HTTP panicked");
        }
    }
}

/// What the answers are made of.
struct Office {
    asker: Asker,
    state_dir: PathBuf,
}

impl Source for Office {
    fn put(&self, question: Question) -> bool {
        self.asker.put(question)
    }

    fn own(&self) -> Own {
        let tgid = std::process::id();
        Own {
            resident_bytes: kernel::process::rss_bytes(tgid),
            cpu_s: kernel::cpu_ns(tgid).map_or(0.0, |it| it as f64 / 1e9),
        }
    }

    fn incidents(&self) -> io::Result<Vec<Incident>> {
        // What cannot be read is told by the command; here it is left out.
        let kept = state_dir::incidents(&self.state_dir)?.kept;
        let incident = |Kept { path, incident: row }: Kept| {
            // Of another name it could not be asked for.
            let name = path.file_name()?.to_str()?.to_owned();
            Some(Incident { name, row })
        };
        Ok(kept.into_iter().filter_map(incident).collect())
    }

    fn incident(&self, name: &str) -> io::Result<Recording> {
        let file = File::open(self.state_dir.join(name))?;
        capture::read(file, None).map_err(io::Error::other)
    }
}
