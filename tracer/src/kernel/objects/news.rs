//! What has not been told yet of objects and of who has them.

use std::collections::BTreeSet;

use super::{Object, Objects};
use crate::{
    event::{ObjectId, ProcessId},
    kernel::Module,
};

impl Objects {
    /// The allocators of the processes whose mappings have changed since the last call, as
    /// `jemalloc (/usr/lib/libjemalloc.so.2)`.
    pub(crate) fn take_allocators(&mut self) -> Vec<(ProcessId, Vec<String>)> {
        let mut found = std::mem::take(&mut self.gone_allocators);
        for process in std::mem::take(&mut self.changed) {
            found.push((process, self.allocators(process)));
        }
        found
    }

    pub(super) fn allocators(&self, process: ProcessId) -> Vec<String> {
        let Some(image) = self.images.get(&process) else { return Vec::new() };
        let numbers: BTreeSet<u32> = image.mappings.values().map(|it| it.object).collect();
        numbers.into_iter().filter_map(|it| self.get(it)).flat_map(Object::allocator_names).collect()
    }

    /// Objects that have not been handed out yet.
    pub(crate) fn take_new(&mut self) -> Vec<Module> {
        let news = std::mem::take(&mut self.news);
        let module = |number: u32| {
            let id = ObjectId(number);
            match self.objects.get(&number)? {
                Ok(it) => {
                    let (path, build_id, file) = (it.path.clone(), it.build_id.clone(), it.file.clone());
                    Some(Module { id, path, build_id, file, version: it.version, perf_map: None })
                }
                Err(path) => {
                    let perf_map = self.perf_maps.get(&number).cloned();
                    Some(Module { id, path: path.clone(), build_id: None, file: None, version: 0, perf_map })
                }
            }
        };
        news.into_iter().filter_map(module).collect()
    }
}
