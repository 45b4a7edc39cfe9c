//! The thread on which questions over HTTP are answered, with a runtime of its own: nothing that happens there keeps the run
//! waiting.

use std::{
    fs::{self, File},
    io,
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
};

use tokio::{runtime::Builder, sync::oneshot};

use super::{Asker, Place};
use crate::{
    capture::{self, Recording},
    kernel,
    serve::{self, Incident, Limits, Own, Question, Source},
};

/// Threads for pages that take work.
const WORKERS: usize = 2;

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
        let thread = thread::Builder::new().name("http".to_owned()).spawn(move || {
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
        incidents(&self.state_dir)
    }

    fn incident(&self, name: &str) -> io::Result<Recording> {
        let file = File::open(self.state_dir.join(name))?;
        capture::read(file, None).map_err(io::Error::other)
    }
}

/// The incidents in a directory, newest first. None if it is not there: nothing has happened yet.
fn incidents(directory: &std::path::Path) -> io::Result<Vec<Incident>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if !name.starts_with("incident.") || !name.ends_with(".jsonl.zst") {
            continue;
        }
        // It may be gone by now, or be no file.
        let Ok(about) = entry.metadata() else { continue };
        if about.is_file() {
            let written = jiff::Timestamp::try_from(about.modified()?).map_err(io::Error::other)?;
            found.push((written, Incident { name, bytes: about.len(), written: written.to_string() }));
        }
    }
    found.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.name.cmp(&b.1.name)));
    Ok(found.into_iter().map(|it| it.1).collect())
}
