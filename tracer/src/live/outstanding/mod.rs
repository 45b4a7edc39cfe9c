//! A run that looks at the single blocks of one process: which are outstanding, and each call as it happens.
//! Nothing is written down.

#[cfg(test)]
mod tests;
mod view;

use std::{ops::ControlFlow, time::Duration};

use anyhow::{Context as _, Result, bail};
use tokio::select;

use self::view::View;
pub use self::view::{Call, Holder, Question, Sort};
use super::{BATCH, LIFE, POLL, Signals, room::Room, silence::Silence, ticks};
use crate::{
    event::{Event, ProcessId},
    interval::Losses,
    kernel::{self, Kernel, Launched, Module, process},
};

/// When answers are given.
pub struct Schedule {
    /// `None`: never; only the calls are asked for.
    pub every: Option<Duration>,
    /// How many; `None`: until the target ends or a signal comes, and once more then.
    pub count: Option<u64>,
}

/// What the run has to say.
pub enum News {
    /// Files that later frames refer to.
    Modules(Vec<Module>),
    /// The answer, largest first.
    Outstanding(Vec<Holder>),
    Calls(Vec<Call>),
}

/// A trace of one process.
pub struct Outstanding {
    kernel: Kernel,
    launched: Option<Launched>,
    process: ProcessId,
    tgid: u32,
    view: View,
    /// Of which nothing has been told yet.
    modules: Vec<Module>,
    silence: Silence,
    room: Room,
}

impl Outstanding {
    /// Takes over a kernel that has begun to trace one process.
    ///
    /// # Errors
    /// If it traces more.
    pub fn new(mut kernel: Kernel, launched: Option<Launched>, question: Question) -> Result<Self> {
        kernel::run_first();
        let now_ns = kernel::now_ns();
        let beginnings = kernel.beginnings(now_ns);
        let [ref beginning @ Event::Begin { process, tgid, .. }] = beginnings[..] else {
            bail!("one process is to be traced, and not {}", beginnings.len());
        };
        let mut view = View::new(process, now_ns, question);
        view.apply(beginning);
        let mut this = Self {
            kernel,
            launched,
            process,
            tgid,
            view,
            modules: Vec::new(),
            silence: Silence::default(),
            room: Room::default(),
        };
        this.take_modules();
        this.bound_memory();
        Ok(this)
    }

    fn bound_memory(&mut self) {
        self.room.share(&mut self.kernel, self.view.heap(), false);
    }

    /// Follows the target to the end of the run. `tell` says whether anybody still listens. The probes stay in
    /// place until the returned kernel is dropped.
    ///
    /// # Errors
    /// If a launched command is gone before it began, or the ring cannot be watched.
    pub async fn follow(
        mut self,
        schedule: &Schedule,
        mut signals: Signals,
        mut tell: impl FnMut(News) -> ControlFlow<()>,
    ) -> Result<(Losses, Kernel)> {
        let mut poll = ticks(POLL);
        let mut life = ticks(LIFE);
        let mut answer = ticks(schedule.every.unwrap_or(LIFE));
        let mut answers = 0;
        if let Some(launched) = &mut self.launched {
            launched.open_gate()?;
        }
        loop {
            let (mut due, mut over) = (false, false);
            select! {
                biased;
                _ = signals.interrupt.recv() => over = true,
                _ = signals.terminate.recv() => over = true,
                _ = answer.tick() => due = schedule.every.is_some(),
                // The end may have been lost.
                _ = life.tick() => {
                    over = !process::is_alive(self.tgid);
                    self.silence.complain(std::iter::once(self.tgid));
                    self.bound_memory();
                }
                ready = self.kernel.filling() => ready.context("watch the ring buffer")?,
                _ = poll.tick() => {}
            }
            if over {
                self.kernel.switch_off();
            }
            let mut told = ControlFlow::Continue(());
            // What has happened until now belongs to an answer, however far behind we are. What happens meanwhile does not: it
            // may be more than we can handle, and have no end.
            let now_ns = kernel::now_ns();
            while self.drain() == BATCH && (due || over) && self.view.newest_ns() < now_ns {}
            over |= self.view.at_end().is_some();
            let calls = self.view.take_calls();
            if !calls.is_empty() {
                told = tell(News::Calls(calls));
            }
            if (due || over) && schedule.every.is_some() && told.is_continue() {
                told = self.answer(&mut tell);
                answers += 1;
            }
            if over || told.is_break() || schedule.count == Some(answers) {
                break;
            }
        }
        let mut losses = self.kernel.losses();
        self.view.losses().iter().for_each(|(loss, count)| losses.add(loss, count));
        Ok((losses, self.kernel))
    }

    fn drain(&mut self) -> usize {
        let Self { kernel, view, silence, .. } = self;
        let count = kernel.drain(BATCH, |event| {
            if matches!(event, Event::Alloc { .. } | Event::Free { .. }) {
                silence.end();
            }
            view.apply(&event);
        });
        self.take_modules();
        // Where the code of a process lay is forgotten soon after its end.
        if let Some(holders) = self.view.at_end() {
            place(holders, &self.kernel, self.process);
        }
        if let Some(launched) = &mut self.launched {
            launched.try_wait();
        }
        count
    }

    fn take_modules(&mut self) {
        let modules = self.kernel.new_modules();
        modules.iter().filter(|it| is_loader(&it.path)).for_each(|it| self.view.leave_out_mappings_of(it.id));
        self.modules.extend(modules);
    }

    fn answer(&mut self, tell: &mut impl FnMut(News) -> ControlFlow<()>) -> ControlFlow<()> {
        let holders = match self.view.at_end() {
            Some(holders) => std::mem::take(holders),
            None => {
                let mut holders = self.view.outstanding(kernel::now_ns());
                place(&mut holders, &self.kernel, self.process);
                holders
            }
        };
        tell(News::Modules(std::mem::take(&mut self.modules)))?;
        tell(News::Outstanding(holders))
    }
}

/// Whether a file is the dynamic loader and nothing else: musl's is its C library too.
fn is_loader(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    ["ld-", "ld64.", "ld.so"].iter().any(|it| name.starts_with(it)) && !name.starts_with("ld-musl")
}

/// Notes where the frames lie in the process, unless that is known already.
fn place(holders: &mut [Holder], kernel: &Kernel, process: ProcessId) {
    for (frame, address) in holders.iter_mut().flat_map(|it| &mut it.frames) {
        *address = address.or_else(|| kernel.address(process, *frame));
    }
}
