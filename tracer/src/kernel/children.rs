//! Children that are not followed, of a process that is traced by itself.
//!
//! A fork copies the breakpoints of the parent, and links of many probes leave them in the child: it pays for traps that tell
//! nobody anything. But when a link is closed, the kernel goes through all who map the file and takes out the breakpoints that
//! no other link wants (`register_for_each_vma`, kernel/events/uprobes.c). So a link that does nothing is made in the same
//! places, for the parent too, and closed.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use aya::{
    Ebpf,
    maps::{Array, MapData},
};
use tracer_ebpf::config::UNFOLLOWED_FORKS;

use super::multi::{Multi, Point};

/// Probes of one process in one file.
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub(super) tgid: u32,
    pub(super) path: String,
    pub(super) points: Vec<Point>,
}

pub(super) struct Children {
    counts: Array<MapData, u32>,
    cleared: u32,
    is_clearing: Arc<AtomicBool>,
}

impl Children {
    /// # Errors
    /// If the object has no such map.
    pub(super) fn new(ebpf: &mut Ebpf) -> anyhow::Result<Self> {
        let map = ebpf.take_map("NEXT").ok_or_else(|| anyhow::anyhow!("map NEXT"))?;
        Ok(Self { counts: Array::try_from(map)?, cleared: 0, is_clearing: Arc::default() })
    }

    /// Clears the breakpoints out of the children that were forked since this was called last. It does not wait for that.
    pub(super) fn clear<'a>(&mut self, multi: Option<Arc<Multi>>, places: impl Iterator<Item = &'a Places>) {
        let Some(multi) = multi else { return };
        let forks = self.counts.get(&UNFOLLOWED_FORKS, 0).unwrap_or(self.cleared);
        if forks == self.cleared || self.is_clearing.swap(true, Ordering::AcqRel) {
            return;
        }
        self.cleared = forks;
        let (is_clearing, places) = (Arc::clone(&self.is_clearing), places.cloned().collect::<Vec<_>>());
        std::thread::spawn(move || {
            for Places { tgid, path, points } in places {
                // The parent may have ended, and then its child keeps what it has until the tracing ends.
                if let Err(error) = multi.attach("floor_enter", &path, &points, Some(tgid)) {
                    log::debug!("children of {tgid}: {error:#}");
                }
            }
            is_clearing.store(false, Ordering::Release);
        });
    }
}
