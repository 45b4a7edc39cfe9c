//! What this process may take of the machine: open files, and its turn on a CPU.

/// Every probe holds a descriptor, and every object too.
pub(super) fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        log::warn!("the limit of open files stays at {:?}: {error}", limit.current);
    }
}

/// Lets the calling thread run before others: whoever drains the ring must not wait its turn behind hundreds
/// of threads that fill it. It works only as long as they make it.
pub fn run_first() {
    if let Err(error) = rustix::process::setpriority_process(None, -20) {
        log::info!("the priority stays as it is: {error}");
    }
}

/// Lets the calling thread run after others: whoever only tells takes what those leave who trace.
pub fn run_last() {
    // Between the usual priority and the lowest, which a busy machine never gets to.
    if let Err(error) = rustix::process::setpriority_process(None, 10) {
        log::info!("the priority stays as it is: {error}");
    }
}
