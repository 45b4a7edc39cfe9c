//! Keeps the heap to what is left of the tracer's own memory.

use super::progress::say;
use crate::{event::Loss, heap::Heap, kernel::Kernel};

/// What a run says of it.
#[derive(Default)]
pub(super) struct Room {
    is_full: bool,
}

impl Room {
    /// To be called now and then. Says once that there is none left, unless it is to be silent.
    pub(super) fn share(&mut self, kernel: &mut Kernel, heap: &mut Heap, is_silent: bool) {
        heap.bound(kernel.table_room(heap.table_bytes()));
        let is_full = heap.losses().get(Loss::UntrackedBlocks) > 0;
        if is_full && !self.is_full && !is_silent {
            say(
                "there is no room for more live blocks within --max-memory: those that find none count as freed at once",
            );
        }
        self.is_full |= is_full;
    }
}
