//! What a watcher needs to outlive those it watches when memory runs out: the kernel should not choose it, and it should not
//! have to wait for its own pages.

use std::{fs, io, sync::OnceLock};

use rustix::{
    mm::{MlockAllFlags, mlockall},
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::{CapabilitySet, capabilities},
};

/// Where the kernel is told whom to kill rather, and whom not.
const SCORE: &str = "/proc/self/oom_score_adj";

/// Never, and steps up to as good as always, for whoever may not go so far.
const NEVER: i32 = -1000;
const STEP: usize = 100;

/// Has the kernel kill others first, and keeps what we have in memory. Returns what could not be had, in words. Whoever is
/// started later is as we are, and must be told otherwise.
pub fn endure() -> Vec<String> {
    let mut missing = Vec::new();
    match lower_score() {
        Ok(NEVER) => {}
        Ok(score) => missing.push(format!(
            "when memory runs out the kernel may choose us too (oom_score_adj is {score}): lower than that needs CAP_SYS_RESOURCE"
        )),
        Err(error) => missing.push(format!("when memory runs out the kernel may choose us too: {SCORE}: {error}")),
    }
    if let Err(error) = lock_memory() {
        missing.push(format!("our memory may be paged out: {error}"));
    }
    missing
}

/// Has a program that we have started be as dear to the kernel as it would be without [`endure`].
///
/// # Errors
/// If there is no such process any more.
pub fn like_anybody(pid: u32) -> io::Result<()> {
    let Some(before) = BEFORE.get() else { return Ok(()) };
    fs::write(format!("/proc/{pid}/oom_score_adj"), before.to_string())
}

/// What the score was.
static BEFORE: OnceLock<i32> = OnceLock::new();

/// What it is afterwards.
fn lower_score() -> io::Result<i32> {
    let now = score()?;
    let _ = BEFORE.set(now);
    for wanted in (NEVER..now).step_by(STEP) {
        if fs::write(SCORE, wanted.to_string()).is_ok() {
            break;
        }
    }
    score()
}

fn score() -> io::Result<i32> {
    fs::read_to_string(SCORE)?.trim().parse().map_err(io::Error::other)
}

/// Keeps in memory what is there, as soon as it is: pages that nobody has touched stay away, so that it takes no more than
/// before. The bound is that of our own memory.
fn lock_memory() -> io::Result<()> {
    let limit = getrlimit(Resource::Memlock);
    let unlimited = Rlimit { current: None, maximum: None };
    let may_lock = || capabilities(None).is_ok_and(|it| it.effective.contains(CapabilitySet::IPC_LOCK));
    // Under a limit the kernel would refuse us memory when it is reached.
    if limit.current.is_some() && !may_lock() && setrlimit(Resource::Memlock, unlimited).is_err() {
        return Err(io::Error::other("to lock it needs CAP_IPC_LOCK or an unlimited RLIMIT_MEMLOCK"));
    }
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_score_is_a_number() {
        assert!((NEVER..=1000).contains(&score().unwrap()));
    }
}
