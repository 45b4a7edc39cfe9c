//! Stacks: what events call them, and the frames behind that.
//!
//! Several keys can lead to one stack: a stack that was finished in user space comes under a number
//! that is used once, perhaps before and after the hash by which the probes know the same frames.
//! A [`StackId`] stands for the frames and the stop, whatever the key.
//!
//! The first key of a stack is kept for good, so there are as many of them as stacks. A later key of
//! a known stack is kept for good when it is used a second time; until then it waits in a bounded
//! place, because numbers used once would otherwise pile up.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    event::{Frame, Loss, StackKey, Stop},
    interval::{Losses, StackFrames, StackId},
};

/// Distinct stacks of a run: some 300 bytes each, so about 150 MiB. Those beyond it are unknown.
const MAX_STACKS: usize = 1 << 19;

/// Keys that wait for their first or second use, twice: the younger half is kept when it is full.
const MAX_WAITING: usize = 1 << 15;

#[derive(Clone, Copy)]
struct Waiting {
    stack: StackId,
    used: bool,
}

/// The stack behind a key. `lasting` says that the key will lead there again.
#[derive(Clone, Copy)]
pub(super) struct Resolved {
    pub(super) stack: StackId,
    pub(super) lasting: bool,
}

/// In a run that goes on for weeks, so many stacks are looked through for those that are not needed any more.
const MANY_STACKS: usize = 1 << 16;

#[derive(Default)]
pub(super) struct Stacks {
    keys: FxHashMap<StackKey, StackId>,
    waiting: [FxHashMap<StackKey, Waiting>; 2],
    ids: FxHashMap<(Stop, Arc<[Frame]>), StackId>,
    /// Those that no interval has named yet.
    fresh: Vec<StackFrames>,
    /// The stack of events whose own never arrived.
    unknown: Option<StackId>,
    gone_is_counted: bool,
    next_id: u32,
    lean: Option<Lean>,
}

/// What a run without an end needs besides.
struct Lean {
    frames: FxHashMap<StackId, (Stop, Arc<[Frame]>)>,
    /// So many are worth a look.
    many: usize,
}

impl Stacks {
    /// From now on stacks can be forgotten. To be called before the first one comes.
    pub(super) fn keep_lean(&mut self) {
        self.lean = Some(Lean { frames: FxHashMap::default(), many: MANY_STACKS });
    }

    /// There are more stacks than may be needed.
    pub(super) fn are_many(&self) -> bool {
        self.lean.as_ref().is_some_and(|it| self.ids.len() > it.many)
    }

    /// A site has come into being. In a run in which stacks are forgotten nobody has to remember those without a site: the
    /// stack is told once more.
    pub(super) fn tell_of(&mut self, stack: StackId) {
        let told = self.lean.as_ref().and_then(|it| it.frames.get(&stack));
        if let Some((stop, frames)) = told {
            self.fresh.push(StackFrames { id: stack, stop: *stop, frames: Arc::clone(frames) });
        }
    }

    /// Forgets all but those `in_use`, and returns the keys that lead nowhere now.
    pub(super) fn forget(&mut self, in_use: &FxHashSet<StackId>) -> Vec<StackKey> {
        let Some(lean) = &mut self.lean else { return Vec::new() };
        let unknown = self.unknown;
        let stays = |it: &StackId| in_use.contains(it) || Some(*it) == unknown;
        lean.frames.retain(|id, _| stays(id));
        self.ids.retain(|_, id| stays(id));
        lean.many = MANY_STACKS.max(2 * self.ids.len());
        let mut gone = Vec::new();
        self.keys.retain(|key, id| {
            let stays = stays(id);
            if !stays {
                gone.push(*key);
            }
            stays
        });
        for waiting in &mut self.waiting {
            gone.extend(waiting.drain().map(|(key, _)| key));
        }
        gone
    }

    pub(super) fn insert(&mut self, key: StackKey, stop: Stop, frames: &[Frame], losses: &mut Losses) {
        if self.keys.contains_key(&key) || self.waiting.iter().any(|it| it.contains_key(&key)) {
            return;
        }
        // A walk that is still to be finished in user space ends there, and not here.
        let stop = if stop == Stop::Pending { Stop::Gone } else { stop };
        let known = self.ids.len();
        let Some(stack) = self.intern(stop, frames) else { return };
        let is_new = self.ids.len() > known;
        let is_first_gone = Some(stack) == self.unknown && !self.gone_is_counted;
        if is_new || is_first_gone {
            count(stop, losses);
            self.gone_is_counted |= stop == Stop::Gone && frames.is_empty();
            self.keys.insert(key, stack);
        } else {
            self.wait(key, Waiting { stack, used: false });
        }
    }

    /// `None` if the frames have not arrived.
    pub(super) fn resolve(&mut self, key: StackKey) -> Option<Resolved> {
        if let Some(&stack) = self.keys.get(&key) {
            return Some(Resolved { stack, lasting: true });
        }
        let found = self.waiting.iter_mut().find_map(|it| it.get_mut(&key))?;
        let (stack, lasting) = (found.stack, found.used);
        found.used = true;
        if lasting {
            self.keys.insert(key, stack);
            for waiting in &mut self.waiting {
                waiting.remove(&key);
            }
        }
        Some(Resolved { stack, lasting })
    }

    /// The stack of an event whose own never arrived: no frames, and gone.
    pub(super) fn unknown(&mut self) -> StackId {
        // `intern` never refuses this one.
        let id = self.unknown.or_else(|| self.intern(Stop::Gone, &[])).unwrap_or(StackId(u32::MAX));
        self.unknown = Some(id);
        id
    }

    /// The stacks that this has not returned before.
    pub(super) fn take_fresh(&mut self) -> Vec<StackFrames> {
        let mut fresh = std::mem::take(&mut self.fresh);
        if self.lean.is_some() {
            fresh.sort_unstable_by_key(|it| it.id);
            fresh.dedup_by_key(|it| it.id);
        }
        fresh
    }

    #[cfg(test)]
    pub(super) fn key_count(&self) -> usize {
        self.keys.len() + self.waiting.iter().map(FxHashMap::len).sum::<usize>()
    }

    fn intern(&mut self, stop: Stop, frames: &[Frame]) -> Option<StackId> {
        let frames: Arc<[Frame]> = frames.into();
        if let Some(&id) = self.ids.get(&(stop, Arc::clone(&frames))) {
            return Some(id);
        }
        let is_unknown = stop == Stop::Gone && frames.is_empty();
        if self.ids.len() >= MAX_STACKS && !is_unknown {
            return None;
        }
        let id = StackId(self.next_id);
        self.next_id += 1;
        self.ids.insert((stop, Arc::clone(&frames)), id);
        if let Some(lean) = &mut self.lean {
            lean.frames.insert(id, (stop, Arc::clone(&frames)));
        }
        self.fresh.push(StackFrames { id, stop, frames });
        Some(id)
    }

    fn wait(&mut self, key: StackKey, waiting: Waiting) {
        if self.waiting[0].len() >= MAX_WAITING {
            self.waiting.swap(0, 1);
            self.waiting[0].clear();
        }
        self.waiting[0].insert(key, waiting);
    }
}

/// What a stack that ends early costs in trust; once per distinct stack.
fn count(stop: Stop, losses: &mut Losses) {
    let reason = match stop {
        Stop::Complete => return,
        Stop::Truncated => return losses.add(Loss::TruncatedStacks, 1),
        Stop::NoMapping => Loss::UnmappedFrames,
        Stop::NoTable | Stop::NoFramePointer => Loss::NoTableFrames,
        Stop::Unsupported => Loss::UnsupportedFrames,
        Stop::Unreadable => Loss::UnreadableStacks,
        Stop::Pending | Stop::Gone => Loss::GoneStacks,
    };
    losses.add(Loss::IncompleteStacks, 1);
    losses.add(reason, 1);
}
