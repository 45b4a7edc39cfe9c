//! How a process begins, is copied, becomes another program and ends.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use rustc_hash::FxHashMap;

use super::{Context, Mappings, Process, Residents, Table};
use crate::{
    cost::Cost,
    event::{Loss, ProcessId},
    interval::{Ended, How, Losses},
};

impl Process {
    /// The image is gone and the process lives on: everything counts as freed.
    pub(in crate::heap) fn exec(&mut self, name: Arc<str>, losses: &mut Losses) {
        self.name = name;
        self.release(losses);
        self.sites.close();
        self.live = Cost::default();
        self.arena_bytes = 0;
        self.break_end = None;
    }

    /// What a process held when it ended stays in its counters: that is what a report on its leaks
    /// shows. Only the tables behind them are released.
    pub(in crate::heap) fn exit(&mut self, time_ns: u64, status: u32, losses: &mut Losses) {
        let signal = status & 0x7f;
        let (how, code) = match signal {
            _ if self.oom => (How::OomKill, if signal == 0 { status >> 8 & 0xff } else { signal }),
            0 => (How::Exit, status >> 8 & 0xff),
            _ => (How::Signal, signal),
        };
        self.ended = Some(Ended { time_ns, how, code });
        self.release(losses);
        self.sites.end();
    }

    /// What a process held that is a program now which nobody asked for is gone, as after any exec. Of one whose end was
    /// not seen nothing more is known.
    pub(in crate::heap) fn leave(&mut self, time_ns: u64, how: How, losses: &mut Losses) {
        if how == How::Exec {
            self.exec(Arc::clone(&self.name), losses);
        }
        self.ended = Some(Ended { time_ns, how, code: 0 });
        self.release(losses);
        self.sites.end();
    }

    /// The calls of its allocator are not seen any more: its blocks leave, and what is mapped stays.
    pub(in crate::heap) fn unfollow(&mut self, losses: &mut Losses) {
        losses.add(Loss::UnfollowedProcesses, 1);
        self.relax();
    }

    /// The same, where nobody wants to see them.
    pub(in crate::heap) fn relax(&mut self) {
        let blocks = std::mem::take(&mut self.blocks);
        blocks.blocks().for_each(|(_, it)| self.close(it));
        self.displaced = FxHashMap::default();
        // What was freed in a place since is not known either.
        self.vacated = BTreeSet::new();
    }

    /// A child that has nothing of its parent.
    pub(in crate::heap) fn spawn(&self, child: ProcessId, tgid: u32, time_ns: u64) -> Self {
        Self {
            parent: Some(self.id),
            is_sampled: self.is_sampled,
            ..Self::new(child, tgid, Arc::clone(&self.name), time_ns, None)
        }
    }

    pub(in crate::heap) fn choose_for_oom(&mut self) {
        self.oom = true;
    }

    /// A `realloc` under way is not inherited: only the thread that forked lives in the child.
    pub(in crate::heap) fn fork(&self, child: ProcessId, tgid: u32, cx: &mut Context) -> Self {
        let time_ns = cx.time_ns;
        let (blocks, has_room) = match cx.room.checked_sub(self.blocks.bytes()) {
            Some(left) => {
                *cx.room = left;
                (self.blocks.clone(), true)
            }
            None => (Table::default(), false),
        };
        let mut child = Self {
            id: child,
            tgid,
            parent: Some(self.id),
            name: Arc::clone(&self.name),
            began_ns: time_ns,
            live: self.live,
            unknown_frees: 0,
            unsampled_frees: 0,
            is_sampled: self.is_sampled,
            untracked: self.untracked,
            vacated: self.vacated.clone(),
            latest_unknown: VecDeque::new(),
            arena_bytes: self.arena_bytes,
            break_end: self.break_end,
            oom: false,
            ended: None,
            sites: self.sites.inherit(),
            blocks,
            displaced: FxHashMap::default(),
            mappings: self.mappings.clone(),
            residents: self.residents.clone(),
        };
        if !has_room {
            for (_, block) in self.blocks.blocks() {
                child.leave_untracked(block, cx.losses);
            }
        }
        child
    }

    fn release(&mut self, losses: &mut Losses) {
        losses.add(Loss::LostFrees, self.displaced.len() as u64);
        self.displaced = FxHashMap::default();
        self.blocks = Table::default();
        self.untracked = 0;
        self.vacated = BTreeSet::new();
        self.mappings = Mappings::default();
        self.residents = Residents::default();
    }
}
