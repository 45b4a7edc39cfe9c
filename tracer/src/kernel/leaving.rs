//! Leaves the kernel: a child of ours removes the probes, so that nobody waits for that.
//!
//! Closing a link, the kernel waits until no program can be running any more, many links of the older kind one after the
//! other. The child gets the descriptors by inheritance, tells nobody and holds nothing else; whatever ends it early, the kernel
//! closes them instead.

use std::{
    fs,
    io::{self, Read as _},
    os::{
        fd::{AsRawFd as _, OwnedFd, RawFd},
        unix::process::CommandExt as _,
    },
    process::{ChildStdin, Command, Stdio},
    sync::Mutex,
    thread,
};

use anyhow::{Context as _, Result};

use super::sys;

/// What the child is called, for whoever looks at the processes of a machine; and how it knows what it is.
pub const CHILD_NAME: &str = "alloctrace: removing probes";

/// Threads that remove probes at the same time.
const THREADS: usize = 64;

/// The child waits until this is dropped, which is to happen when our own descriptors are closed: the last to close one is who
/// waits.
#[must_use = "the child waits for it to be dropped"]
pub(super) struct HandedOver {
    _until: ChildStdin,
}

/// Gives all links to a child. `None`, if there are none or no child can be made: then who closes them waits.
pub(super) fn hand_over() -> Option<HandedOver> {
    let start = || -> Result<Option<HandedOver>> {
        let open = open_files().context("list our descriptors")?;
        if !open.iter().any(|it| is_link(*it)) {
            return Ok(None);
        }
        // Not even for a moment what we ourselves were started with: a pipe that is open holds up who reads from it.
        for fd in open {
            match sys::keep_at_exec(fd, is_link(fd)) {
                Err(error) if is_link(fd) => return Err(error).context("keep a link"),
                // What is closed already, as the list of them itself.
                _ => {}
            }
        }
        let child = Command::new("/proc/self/exe")
            .arg0(CHILD_NAME)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let until = child.context("start a child")?.stdin.context("a pipe to the child")?;
        Ok(Some(HandedOver { _until: until }))
    };
    start().unwrap_or_else(|error| {
        log::info!("the probes are removed by ourselves: {error:#}");
        None
    })
}

/// Our own descriptors, but for the three streams, which a child gets anew.
fn open_files() -> io::Result<Vec<RawFd>> {
    let names = fs::read_dir("/proc/self/fd")?;
    let numbers = names.filter_map(|it| it.ok()?.file_name().to_str()?.parse().ok());
    Ok(numbers.filter(|it| *it > 2).collect())
}

/// Whether closing a descriptor removes probes: a BPF link or, on older kernels, a perf event (kernel/bpf/syscall.c,
/// kernel/events/core.c).
fn is_link(fd: RawFd) -> bool {
    let name = fs::read_link(format!("/proc/self/fd/{fd}")).unwrap_or_default();
    let name = name.to_string_lossy();
    name.starts_with("anon_inode:") && (name.contains("bpf_link") || name.contains("[perf_event]"))
}

/// The child: to be called before anything else, if it has the child's name.
pub fn remove_probes() {
    // Not with the terminal that we came from, nor in the haste of those that fill a ring.
    let _ = rustix::process::setsid();
    let _ = rustix::thread::set_name(c"alloctrace");
    let _ = rustix::process::setpriority_process(None, 0);
    let links: Vec<OwnedFd> =
        sys::take_inherited().unwrap_or_default().into_iter().filter(|it| is_link(it.as_raw_fd())).collect();
    // Ends when the parent has closed its own descriptors, or has ended.
    let _ = io::stdin().read_to_end(&mut Vec::new());
    if let Ok(nothing) = fs::File::open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(nothing);
    }
    close(links);
}

/// Closes links, as many as can be at the same time: the kernel's waits overlap.
pub(super) fn close<T: Send>(links: Vec<T>) {
    let threads = THREADS.min(links.len());
    let links = Mutex::new(links);
    let next = || links.lock().ok()?.pop();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| while next().is_some() {});
        }
    });
}
