//! What this machine allows, what is missing, and how to get it.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use aya::{programs::ProgramType, sys::is_helper_supported};
use aya_obj::generated::bpf_func_id;

use super::{
    MemoryBound, Tier, exit_sites,
    load::{self, Links, Needs},
    tracefs,
};

/// The outcome of one examination.
#[derive(Clone, Debug)]
pub struct Finding {
    pub name: &'static str,
    /// What is there, or why it is not.
    pub detail: String,
    /// `None`: all right. Otherwise what to do.
    pub remedy: Option<&'static str>,
    /// Without it nothing works.
    pub required: bool,
}

impl Finding {
    pub fn is_fine(&self) -> bool {
        self.remedy.is_none()
    }
}

/// `bpf_loop`, `bpf_find_vma`: Linux 5.17.
const OLDEST_KERNEL: (u32, u32) = (5, 17);

/// Looks at everything. Loads the programs to see what the verifier says, and takes them out again.
pub fn examine() -> Vec<Finding> {
    let mut findings = vec![
        architecture(),
        kernel_version(),
        capabilities(),
        present(
            "kernel type information",
            load::has_btf(),
            load::BTF_PATH,
            "use a kernel built with CONFIG_DEBUG_INFO_BTF=y",
        ),
        present(
            "uprobes",
            Path::new("/sys/bus/event_source/devices/uprobe/type").exists(),
            "/sys/bus/event_source/devices/uprobe",
            "use a kernel built with CONFIG_UPROBE_EVENTS=y",
        ),
        tracepoints(),
        lockdown(),
    ];
    for (name, id) in [
        ("BPF helper bpf_loop", bpf_func_id::BPF_FUNC_loop),
        ("BPF helper bpf_find_vma", bpf_func_id::BPF_FUNC_find_vma),
        ("BPF helper bpf_task_pt_regs", bpf_func_id::BPF_FUNC_task_pt_regs),
        ("BPF helper bpf_get_attach_cookie", bpf_func_id::BPF_FUNC_get_attach_cookie),
        ("BPF helper bpf_probe_read_kernel", bpf_func_id::BPF_FUNC_probe_read_kernel),
    ] {
        findings.push(helper(name, id));
    }
    findings.push(programs());
    findings.push(links());
    findings.push(without_returns());
    findings
}

fn finding(name: &'static str, result: Result<String, String>, remedy: &'static str) -> Finding {
    let (detail, remedy) = match result {
        Ok(detail) => (detail, None),
        Err(detail) => (detail, Some(remedy)),
    };
    Finding { name, detail, remedy, required: true }
}

fn present(name: &'static str, there: bool, what: &str, remedy: &'static str) -> Finding {
    finding(name, if there { Ok(what.to_owned()) } else { Err(format!("{what} is missing")) }, remedy)
}

fn architecture() -> Finding {
    let machine = rustix::system::uname().machine().to_string_lossy().into_owned();
    let result = if machine == "x86_64" { Ok(machine) } else { Err(machine) };
    finding("architecture", result, "only x86-64 is supported")
}

fn kernel_version() -> Finding {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map(|it| it.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let result = if version >= OLDEST_KERNEL { Ok(release) } else { Err(release) };
    finding("kernel", result, "Linux 5.17 or newer is needed")
}

fn capabilities() -> Finding {
    use rustix::thread::{CapabilitySet, capabilities};
    let wanted = [
        ("CAP_SYS_ADMIN", CapabilitySet::SYS_ADMIN),
        ("CAP_SYS_PTRACE", CapabilitySet::SYS_PTRACE),
        ("CAP_DAC_READ_SEARCH", CapabilitySet::DAC_READ_SEARCH),
    ];
    let held = capabilities(None).map(|it| it.effective).unwrap_or(CapabilitySet::empty());
    let missing: Vec<&str> =
        wanted.iter().filter(|(_, it)| !held.contains(*it)).map(|(name, _)| *name).collect();
    let result = if missing.is_empty() {
        Ok("CAP_SYS_ADMIN (uprobes and BPF), CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH".to_owned())
    } else {
        Err(format!("{} missing", missing.join(", ")))
    };
    finding("privilege", result, "run as root, for example with sudo")
}

/// Which capabilities are missing, if any are.
pub fn missing_privilege() -> Option<String> {
    let found = capabilities();
    (!found.is_fine()).then_some(found.detail)
}

fn tracepoints() -> Finding {
    let read = || -> Result<String> {
        tracefs::ensure_mounted()?;
        for (category, name) in [
            ("syscalls", "sys_enter_mmap"),
            ("syscalls", "sys_exit_mremap"),
            ("task", "task_newtask"),
            ("oom", "mark_victim"),
        ] {
            tracefs::Format::read(category, name)?;
        }
        Ok("system calls, processes, OOM killer".to_owned())
    };
    let remedy = "run as root; the kernel needs CONFIG_FTRACE_SYSCALLS=y";
    finding("tracepoints", read().map_err(|it| format!("{it:#}")), remedy)
}

fn lockdown() -> Finding {
    // Only "confidentiality" forbids what the probes do; the chosen mode stands in brackets.
    let text = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_else(|_| "none".to_owned());
    let result = if text.contains("[confidentiality]") { Err(text) } else { Ok(text.trim().to_owned()) };
    finding("kernel lockdown", result, "boot without lockdown=confidentiality")
}

fn helper(name: &'static str, id: bpf_func_id) -> Finding {
    let result = match is_helper_supported(ProgramType::KProbe, id) {
        Ok(true) => Ok("available".to_owned()),
        Ok(false) => Err("not in this kernel".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    finding(name, result, "Linux 5.17 or newer is needed, and root to ask it")
}

/// Enough for a load that nothing is written to.
const SIZES: load::Sizes = load::Sizes { ring_bytes: 4096, rows: 1024, blocks: 1024, memory: MemoryBound(0) };

fn programs() -> Finding {
    let try_load = || -> Result<String> {
        let mut ebpf = load::load(SIZES, true, Tier::Growth, None)?;
        load::load_programs(&mut ebpf, &Needs::all(Links::Single))?;
        let largest =
            ebpf.programs().filter_map(|(_, it)| it.info().ok()?.verified_instruction_count()).max();
        Ok(format!("accepted; the largest has {} verified instructions", largest.unwrap_or(0)))
    };
    let remedy = "see the kernel's answer; report it if the lines above are all right";
    finding("BPF programs", try_load().map_err(|it| format!("{it:#}")), remedy)
}

/// How the probes of more than one process are linked: the programs are loaded as they are then.
fn links() -> Finding {
    let try_load = || -> Result<String> {
        let mut ebpf = load::load(SIZES, true, Tier::Exact, None)?;
        load::load_programs(&mut ebpf, &Needs::all(Links::Multi))?.context("not in this kernel")?;
        Ok("one link for all probes of a file, where more than single processes are traced".to_owned())
    };
    let remedy = "Linux 6.6 or newer is needed; without them each probe has a link of its own, and taking those out takes \
                  about a tenth of a second each";
    Finding {
        required: false,
        ..finding("uprobe_multi links", try_load().map_err(|it| format!("{it:#}")), remedy)
    }
}

/// Functions that cost one trap and no return probe: which ones depends on the build of the library.
fn without_returns() -> Finding {
    let remedy = "nothing: calls are seen at entry and return, which costs about a fifth more";
    Finding { required: false, ..finding("calls without return probes", exit_sites::examine(), remedy) }
}
