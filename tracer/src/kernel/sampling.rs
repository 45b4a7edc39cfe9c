//! Tells the probes which processes are sampled, and how closely; see [`tracer_ebpf::sampling`].

use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result, bail};
use aya::{Ebpf, maps::Map};
use tracer_ebpf::{
    mapping::{PROCESS_SLOTS, Process, process_slot},
    sampling::{BINS, MAX_SHIFT, ONE},
};

use super::{Kernel, Settings, sys::MappedWords};
use crate::{estimate::Rate, event::ProcessId};

impl Settings {
    /// Of so many allocated bytes one is sampled; 0: every block is reported.
    pub fn sample_bytes(&self) -> i64 {
        if self.sample_shift == 0 { 0 } else { 1 << self.sample_shift }
    }
}

impl Kernel {
    /// From now on one in 2^`shift` of the bytes that a process allocates is sampled, 31 at most; 0: every block is
    /// reported. Its children begin with the same. What has been reported stays as it is.
    pub fn set_sampling(&mut self, process: ProcessId, shift: u32) {
        self.state.sampling.set(process, shift);
    }

    /// At which rate the allocations of processes are sampled that begin now, unless their parents are traced.
    pub fn newcomers_rate(&self) -> Rate {
        Rate::of_shift(self.state.members.sample_shift())
    }

    /// Changes it.
    pub fn sample_newcomers(&mut self, rate: Rate) {
        if let Err(error) = self.state.members.sample(rate.shift()) {
            log::warn!("sample processes that begin: {error:#}");
        }
    }
}

pub(super) struct Sampling {
    /// The words of all [`Process`]es, of which this side changes one each.
    processes: MappedWords,
}

impl Sampling {
    /// # Errors
    /// If the maps are not as expected.
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self> {
        let words = |name: &str, len: usize| {
            let map = ebpf.map(name).with_context(|| format!("map {name}"))?;
            let Map::Array(data) = map else { bail!("map {name} is not an array") };
            MappedWords::new(data.fd().as_fd(), len).with_context(|| format!("mmap the map {name}"))
        };
        let quantiles: Vec<u32> = quantiles().flat_map(|it| [it as u32, (it >> 32) as u32]).collect();
        words("QUANTILES", quantiles.len())?.write(0, &quantiles);
        let processes = words("PROCESSES", PROCESS_SLOTS as usize * size_of::<Process>() / 4)?;
        Ok(Self { processes })
    }

    /// Each record says at which rate it was taken, so nothing waits for the change.
    pub(super) fn set(&mut self, process: ProcessId, shift: u32) {
        let place = process_slot(process.0) as usize * size_of::<Process>();
        let at = (place + std::mem::offset_of!(Process, sample_shift)) / 4;
        self.processes.put(at, shift.min(MAX_SHIFT));
    }
}

fn quantiles() -> impl Iterator<Item = u64> {
    let bins = f64::from(BINS);
    (0..BINS).map(move |it| (-(-f64::from(it) / bins).ln_1p() * ONE as f64).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracer_ebpf::sampling::gap_bytes;

    /// Even numbers that are the same each time: splitmix64 (Steele, Lea and Flood 2014).
    fn random(state: &mut u64) -> u32 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 32) as u32
    }

    #[test]
    fn gaps_are_exponential() {
        const DRAWS: u32 = 1_000_000;
        let table: Vec<u64> = quantiles().collect();
        let mut state = 7;
        for shift in [1, 9, 19, 31] {
            let mean_bytes = f64::from(1_u32 << shift);
            let mut beyond = [0; 4];
            let bounds_bytes = [0.01, 0.5, 2.0, 9.0].map(|it: f64| (it * mean_bytes).ceil());
            for _ in 0..DRAWS {
                let quantile = |at: u32| table.get(at as usize).copied();
                let gap = gap_bytes(shift, quantile, || random(&mut state)).unwrap() as f64;
                for (count, bound) in beyond.iter_mut().zip(bounds_bytes) {
                    *count += i32::from(gap >= bound);
                }
            }
            for (count, bound) in beyond.into_iter().zip(bounds_bytes) {
                let expected = (-bound / mean_bytes).exp();
                let share = f64::from(count) / f64::from(DRAWS);
                let error = (expected * (1.0 - expected) / f64::from(DRAWS)).sqrt();
                assert!((share - expected).abs() < 5.0 * error, "{shift}: {share} instead of {expected}");
            }
        }
    }
}
