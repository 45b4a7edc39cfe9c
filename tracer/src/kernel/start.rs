//! How a trace begins: what must be known is read, all probes are placed, and then they are switched on together.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use aya::maps::{PerCpuArray, RingBuf};
use tracer_ebpf::{
    loss::Loss,
    mapping::{PROCESS_AWAITS_EXEC, PROCESS_TRACED},
};

use super::{
    Kernel, Settings, StartError, State, Target, Tier, Traps,
    arrivals::Arrivals,
    calibrate,
    children::Children,
    growth::Growth,
    limits,
    load::{self, Calls, Links, Needs},
    members::Members,
    memory::Memory,
    multi,
    objects::Objects,
    probes::{self, Probes, Scope},
    sampling::Sampling,
    sys, tracefs,
    withdraw::Absent,
};
use crate::interval::Losses;

/// A process that has just been started has not mapped its C library yet: it gets half a second.
const STARTUP_TRIES: u32 = 10;
const STARTUP_PAUSE: Duration = Duration::from_millis(50);

impl Kernel {
    /// Places every probe and begins to trace; all of them begin at the same moment.
    ///
    /// # Errors
    /// If the target cannot be traced, or the kernel refuses.
    pub fn start(settings: &Settings) -> Result<Self, StartError> {
        limits::raise_file_limit();
        let mut objects = Objects::of(&settings.target, &settings.pools)?;
        for _ in 0..STARTUP_TRIES {
            if settings.tier != Tier::Exact
                || objects.check_targets().and(objects.check_pools()).is_ok()
                || matches!(settings.target, Target::Launched { .. })
            {
                break;
            }
            std::thread::sleep(STARTUP_PAUSE);
            objects = Objects::of(&settings.target, &settings.pools)?;
        }
        if settings.tier == Tier::Exact {
            objects.check_targets()?;
            objects.check_pools()?;
        }
        Self::attach(settings, objects).map_err(StartError::from_kernel)
    }

    fn attach(settings: &Settings, mut objects: Objects) -> anyhow::Result<Self> {
        tracefs::ensure_mounted()?;
        let mut ebpf = load::load(
            objects.sizes(settings.ring_bytes, settings.memory),
            settings.follow,
            settings.tier,
            settings.target.hierarchy(),
        )?;
        let scopes = settings.scopes();
        let everyone = scopes == [Scope::Everyone];
        let links = if everyone || multi::sees_one_process() { Links::Multi } else { Links::Single };
        let with_faults = settings.tier != Tier::Exact && load::announces_pages();
        let can_watch_pages = with_faults || settings.is_governed && load::announces_pages();
        let calls = match settings.tier {
            Tier::Exact => {
                Calls::These(probes::programs_of(settings.programs, objects.iter().map(|(_, it)| it)))
            }
            Tier::Growth => Calls::None,
            // Of processes that nobody knows yet.
            Tier::Auto => Calls::All,
        };
        let needs = Needs { links, calls, pools: !settings.pools.is_empty(), faults: can_watch_pages };
        let multi = load::load_programs(&mut ebpf, &needs)?;
        let log = aya_log::EbpfLogger::init(&mut ebpf).ok();
        let ring = RingBuf::try_from(ebpf.take_map("RING").context("map RING")?)?;
        let ring = sys::register(ring).context("watch the ring buffer")?;
        let losses = PerCpuArray::try_from(ebpf.take_map("LOSSES").context("map LOSSES")?)?;
        let seen = aya::maps::HashMap::try_from(ebpf.take_map("SEEN").context("map SEEN")?)?;
        let mut counted = Losses::default();
        objects.connect(&mut ebpf, &mut counted)?;

        let sampling = Sampling::new(&mut ebpf)?;
        let mut members = Members::new(&mut ebpf)?;
        members.sample(settings.sample_shift)?;

        let by_many = multi.as_ref().filter(|_| multi::sees_one_process());
        let traps = if settings.is_governed {
            calibrate::traps(&mut ebpf, by_many, &objects)
        } else {
            Traps::default()
        };
        let mut probes = Probes::new(settings.programs, multi.map(Arc::new));
        for scope in &scopes {
            for (number, object) in objects.iter() {
                let failed = probes.attach_object(&mut ebpf, number, object, *scope);
                counted.add(Loss::FailedProbes, failed);
            }
        }
        let unprobed = objects.iter().map(|(_, it)| it.unprobed.len() as u64).sum();
        counted.add(Loss::UnprobedFunctions, unprobed);
        if settings.tier != Tier::Exact && !with_faults {
            log::warn!(
                "this kernel does not announce resident pages (Linux 6.2 does): only mappings are traced"
            );
        }
        probes.attach_tracepoints(&mut ebpf, with_faults)?;
        let (arrivals, ended) = (Arrivals::default(), Vec::new());
        let growth = Growth::new(settings.tier);
        let children = Children::new(&mut ebpf)?;
        let mut state = State {
            ebpf,
            objects,
            probes,
            members,
            sampling,
            arrivals,
            children,
            everyone,
            growth,
            absent: Absent::default(),
            can_watch_pages,
            traps,
            ended,
            counted,
        };
        state.switch_on(&settings.target)?;
        let memory = Memory::new(settings.memory, settings.ring_bytes);
        Ok(Self { ring, losses, seen, log, counting: None, state, memory, heir: None })
    }
}

impl State {
    /// Only now do the probes report anything, so that no free is seen without its allocation.
    fn switch_on(&mut self, target: &Target) -> anyhow::Result<()> {
        let (tgids, state) = match target {
            Target::Processes(tgids) => (&tgids[..], PROCESS_TRACED),
            Target::Launched { tgid, .. } => (std::slice::from_ref(tgid), PROCESS_AWAITS_EXEC),
            Target::Selected(selection) => return self.select(selection),
        };
        for tgid in tgids {
            if let Some(process) = self.members.add(*tgid, state)? {
                self.arrivals.begin(process, *tgid);
                self.objects.begin_process(process, *tgid);
            }
        }
        Ok(())
    }
}
