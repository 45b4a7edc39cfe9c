//! What is live, block by block: for views that show single blocks, or ask for their sizes and ages.

use super::{Heap, mappings::Maker, process::Process};
use crate::{
    event::{Kind, ProcessId},
    interval::StackId,
};

/// A live heap block, or what is left of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveBlock {
    /// Of a mapping: where the lowest piece of it begins.
    pub address: u64,
    pub size_bytes: u64,
    pub kind: Kind,
    pub stack: StackId,
    /// It was born after `from_ns` and up to `to_ns`, in one interval of the heap.
    pub from_ns: u64,
    pub to_ns: u64,
}

impl LiveBlock {
    /// How old it is at `time_ns`, at least; it may be older by an interval of the heap.
    pub fn age_ns(&self, time_ns: u64) -> u64 {
        time_ns.saturating_sub(self.to_ns)
    }
}

/// Address and bytes of a block, and who made it when.
pub(super) type Found = (u64, u64, Maker);

impl Heap {
    /// Everything that lives in a process, in no order; there are as many as the process has live blocks.
    pub fn blocks(&self, process: ProcessId) -> impl Iterator<Item = LiveBlock> + '_ {
        self.process(process).into_iter().flat_map(move |process| {
            let blocks = process.blocks.blocks().map(|(address, it)| it.found(address));
            blocks.chain(process.mappings.iter()).map(|it| self.live_block(process, it))
        })
    }

    /// The block that begins at `address`, or the piece of a mapping that does.
    pub fn block(&self, process: ProcessId, address: u64) -> Option<LiveBlock> {
        let process = self.process(process)?;
        let found = process
            .blocks
            .block(address)
            .map(|it| it.found(address))
            .or_else(|| process.mappings.piece(address))?;
        Some(self.live_block(process, found))
    }

    fn process(&self, id: ProcessId) -> Option<&Process> {
        self.processes.get(*self.places.get(&id)?)
    }

    fn live_block(&self, process: &Process, (address, size_bytes, maker): Found) -> LiveBlock {
        let (kind, stack) = process.sites.kind_and_stack(maker.site);
        LiveBlock {
            address,
            size_bytes,
            kind,
            stack,
            from_ns: self.births.start_ns(maker.birth),
            to_ns: self.births.end_ns(maker.birth),
        }
    }
}
