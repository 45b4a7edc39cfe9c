//! What seeing one call of an allocator costs the process that makes it, without our programs: the traps.

use std::collections::BTreeMap;

use super::{Kernel, State, object::Object};
use crate::{
    elf::{
        allocators::{End, Function, Role},
        site::Site,
    },
    event::Via,
};

/// CPU time of one trap.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Traps {
    /// A probe at an instruction that the kernel emulates.
    pub entry_ns: f64,
    /// A return probe, in addition.
    pub return_ns: f64,
    /// A probe at any other instruction.
    pub step_ns: f64,
    /// Measured when this run began, and not on another machine.
    pub is_calibrated: bool,
}

impl Default for Traps {
    /// As measured on one virtual machine with Linux 6.18.
    fn default() -> Self {
        Self { entry_ns: 500.0, return_ns: 350.0, step_ns: 5000.0, is_calibrated: false }
    }
}

impl Traps {
    fn at(self, site: &Site) -> f64 {
        if site.is_single_step() { self.step_ns } else { self.entry_ns }
    }

    fn of(self, function: &Function) -> f64 {
        let end_ns = match &function.end {
            End::Unseen => 0.0,
            End::Return => self.return_ns,
            // A call comes by one of them.
            End::At(_) => self.step_ns,
        };
        self.at(&function.site) + end_ns
    }
}

/// By function: the dearest of those that share a name, if several objects define it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prices {
    pub traps: Traps,
    allocs_ns: BTreeMap<Via, f64>,
    frees_ns: f64,
}

impl Prices {
    /// The calls of those functions that `is_whole` names meet one probe, of the cheap kind.
    fn of<'a>(
        traps: Traps,
        objects: impl Iterator<Item = &'a Object>,
        is_whole: impl Fn(&str) -> bool,
    ) -> Self {
        let mut prices = Self { traps, allocs_ns: BTreeMap::new(), frees_ns: traps.entry_ns };
        for function in objects.flat_map(|it| &it.functions) {
            let price_ns = if is_whole(&function.name) { traps.entry_ns } else { traps.of(function) };
            match function.role {
                Role::Alloc => {
                    let known_ns = prices.allocs_ns.entry(function.via).or_insert(price_ns);
                    *known_ns = known_ns.max(price_ns);
                }
                Role::Free if is_usual(&function.name) => prices.frees_ns = prices.frees_ns.max(price_ns),
                _ => {}
            }
        }
        prices
    }

    /// The traps of a call that allocates.
    pub fn alloc_ns(&self, via: Via) -> f64 {
        let usual_ns = self.traps.entry_ns + self.traps.return_ns;
        self.allocs_ns.get(&via).copied().unwrap_or(usual_ns)
    }

    /// The traps of a call that frees.
    pub fn free_ns(&self) -> f64 {
        self.frees_ns
    }
}

/// The functions by which almost everything is freed. A rare one that is dear must not make all dear.
fn is_usual(name: &str) -> bool {
    name.ends_with("free") || name.starts_with("_Zdl")
}

impl Kernel {
    pub fn prices(&self) -> Prices {
        let State { traps, objects, probes, .. } = &self.state;
        Prices::of(*traps, objects.iter().map(|(_, it)| it), |name| probes.sees_whole(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_costs_as_much_as_malloc_mostly_does() {
        let traps = Traps::default();
        let prices = Prices::of(traps, std::iter::empty(), |_| false);
        assert_eq!(prices.alloc_ns(Via::Malloc), traps.entry_ns + traps.return_ns);
        assert_eq!(prices.free_ns(), traps.entry_ns);
    }
}
