//! Blocks for which the tables have no room.

use super::{Block, Process};
use crate::{event::Loss, interval::Losses};

impl Process {
    /// There is no room for a block that was allocated just now. When it is freed cannot be known, so it counts as freed at
    /// once: live figures are too low by what is counted here, at most.
    #[cold]
    pub(super) fn leave_untracked(&mut self, block: Block, losses: &mut Losses) {
        let live_bytes = self.live.bytes;
        self.close(block);
        self.untracked += 1;
        losses.add(Loss::UntrackedBlocks, 1);
        // If it was sampled it stands for others too.
        losses.add(Loss::UntrackedBytes, (live_bytes - self.live.bytes) as u64);
    }
}
