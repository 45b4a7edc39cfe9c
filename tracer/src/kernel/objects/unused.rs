//! In a run without an end: files that no process has mapped any more are let go. Held open, a deleted file would keep its
//! room on the disk and a file system its device, and those of half a year would fill the room for tables.

use std::collections::HashSet;

use super::Objects;
use crate::event::ObjectId;

/// What is about to be forgotten.
#[derive(Default)]
pub(super) struct Unused {
    /// No process had them mapped when this was looked at last, or has mapped them since.
    numbers: HashSet<u32>,
}

impl Unused {
    /// A process maps it, or soon will.
    pub(super) fn is_met(&mut self, number: u32) {
        self.numbers.remove(&number);
    }
}

impl Objects {
    /// Forgets the objects that no process has mapped since this was called last, but for those that are to stay; returns
    /// them. Their numbers are never given to others. What was reported of them must have been drained
    /// between two calls.
    pub(crate) fn forget_unused(&mut self, stays: impl Fn(&super::Object) -> bool) -> Vec<ObjectId> {
        let mappings = self.images.values().flat_map(|it| it.mappings.values());
        let used: HashSet<u32> =
            mappings.map(|it| it.object).chain(self.generated.values().copied()).collect();
        let unused: HashSet<u32> = self
            .objects
            .iter()
            .filter(|(number, it)| !used.contains(number) && !it.as_ref().is_ok_and(&stays))
            .map(|(number, _)| *number)
            .collect();
        let before = std::mem::replace(&mut self.unused.numbers, unused);
        let gone: HashSet<u32> = before.intersection(&self.unused.numbers).copied().collect();
        self.settle_tables();
        if gone.is_empty() {
            return Vec::new();
        }
        self.numbers.retain(|key, number| {
            let is_gone = gone.contains(number);
            if is_gone && let Some(kernel) = &mut self.kernel {
                // While the file is open still: afterwards another may have its key. What the kernel half has not met is
                // not there.
                let _ = kernel.numbers.remove(key);
            }
            !is_gone
        });
        for number in &gone {
            if let Some(kernel) = &mut self.kernel
                && let Err(error) = kernel.tables.release(*number)
            {
                log::warn!("unwinding table: {error:#}");
            }
            self.whereabouts.forget(*number);
            self.perf_maps.remove(number);
            self.objects.remove(number);
        }
        gone.into_iter().map(ObjectId).collect()
    }

    /// Gives the room of what was forgotten before to tables that found none.
    fn settle_tables(&mut self) {
        let Some(kernel) = &mut self.kernel else { return };
        if !kernel.tables.settle() {
            return;
        }
        for (number, object) in &mut self.objects {
            if let Ok(object) = object
                && object.table.is_some()
                && kernel.tables.set(*number, object.table.as_ref()).is_ok_and(|fits| fits)
            {
                object.table = None;
            }
        }
    }

    /// There may soon be tables that find no room.
    pub(crate) fn tables_are_many(&self) -> bool {
        self.kernel.as_ref().is_some_and(|it| it.tables.are_many())
    }
}

#[cfg(test)]
mod tests {
    use tracer_ebpf::mapping::{Mapped, ObjectKey};

    use super::*;
    use crate::event::ProcessId;

    fn enter(objects: &mut Objects, ino: u64) -> u32 {
        objects.insert(ObjectKey { dev: 1, version: 0, ino }, Err("/gone".to_owned())).unwrap()
    }

    fn forget(objects: &mut Objects) -> Vec<u32> {
        objects.forget_unused(|_| false).into_iter().map(|it| it.0).collect()
    }

    #[test]
    fn what_nobody_has_mapped_for_a_while_goes() {
        let mut objects = Objects::default();
        let [unused, used] = [1, 2].map(|ino| enter(&mut objects, ino));
        let image = objects.images.entry(ProcessId(1)).or_default();
        image.mappings.insert(0, Mapped { object: used, ..Mapped::default() });
        assert!(forget(&mut objects).is_empty());
        assert_eq!(forget(&mut objects), [unused]);
        objects.end_process(ProcessId(1));
        assert!(forget(&mut objects).is_empty());
        objects.unused.is_met(used);
        assert!(forget(&mut objects).is_empty());
        assert_eq!(forget(&mut objects), [used]);
        assert_eq!(enter(&mut objects, 1), used + 1, "a number stands for one file only");
    }
}
