//! bcc's memleak, in whichever form there is: a program given by `--memleak` (that of libbpf-tools, which Debian 12 does not
//! package), or `memleak-bpfcc`, which compiles its kernel half when it starts.
//!
//! That half needs no more of the kernel's headers than the registers, so that those of another version do.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;
use xshell::Shell;

use super::{
    afterwards::bound,
    lab::{self, Lab},
};

const PROGRAM: &str = "/usr/sbin/memleak-bpfcc";
/// Its Python, which has the modules of the package.
const PYTHON: &str = "/usr/bin/python3";
/// Longer than any measurement: no report before its end.
const INTERVAL_S: &str = "100000";

/// bcc 0.26 leaves the last argument of the function that attaches to chance, and the kernel then refuses
/// (`ref_ctr_offset`; the library takes seven, its Python declares six).
const SHIM: &str = "import ctypes, runpy, sys
from bcc import libbcc
attach = libbcc.lib.bpf_attach_uprobe
if len(attach.argtypes) == 6:
    attach.argtypes = attach.argtypes + [ctypes.c_uint32]
    libbcc.lib.bpf_attach_uprobe = lambda *words: attach(*words, 0)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
";

/// Why it cannot run here.
pub(super) fn missing(lab: &Lab) -> Option<String> {
    if let Some(path) = &lab.memleak {
        return (!path.is_file()).then(|| format!("there is no {}", path.display()));
    }
    lab::need(PROGRAM, &["bpfcc-tools"])
        .map_err(|error| format!("{error}; `--memleak PATH` names one of libbpf-tools"))
        .and_then(|()| headers(lab).map(drop).map_err(|error| format!("memleak-bpfcc: {error:#}")))
        .err()
}

/// Which one it is, for people.
pub(super) fn which(lab: &Lab) -> String {
    match &lab.memleak {
        Some(path) => format!("memleak is {}", path.display()),
        None => format!("memleak is {PROGRAM} of bcc"),
    }
}

pub(super) fn command(lab: &Lab, pid: u32, allocator: &str) -> anyhow::Result<Command> {
    let mut command = match &lab.memleak {
        Some(path) => bound(path, "KILL"),
        None => {
            let shim = lab.work.join("memleak.py");
            fs::write(&shim, SHIM).with_context(|| format!("write {}", shim.display()))?;
            let mut command = bound(PYTHON, "KILL");
            if let Some(headers) = headers(lab)? {
                command.env("BCC_KERNEL_SOURCE", headers);
            }
            command.arg("-u").arg(shim).arg(PROGRAM);
            command
        }
    };
    command.args(["-p", &pid.to_string(), "-O", allocator, INTERVAL_S]);
    Ok(command)
}

/// Where the headers are, if not where bcc looks itself. Debian splits them into two folders, and bcc takes one.
fn headers(lab: &Lab) -> anyhow::Result<Option<PathBuf>> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    if Path::new("/lib/modules").join(release.trim()).join("build").exists() {
        return Ok(None);
    }
    let (common, own) = match debian_headers() {
        Some(both) => both,
        None => {
            crate::packages::ensure(&Shell::new()?, &["linux-headers-amd64"])?;
            debian_headers().context("no kernel headers in /usr/src")?
        }
    };
    let farm = lab.work.join("kernel-headers");
    if farm.exists() {
        return Ok(Some(farm));
    }
    let unfinished = farm.with_extension("new");
    let _ = fs::remove_dir_all(&unfinished);
    for folder in ["include", "arch/x86/include"] {
        let target = unfinished.join(folder);
        fs::create_dir_all(&target).with_context(|| format!("create {}", target.display()))?;
        let files =
            fs::read_dir(common.join(folder)).with_context(|| format!("read {}", common.display()))?;
        for file in files.flatten() {
            symlink(file.path(), target.join(file.file_name()))?;
        }
        symlink(own.join(folder).join("generated"), target.join("generated"))?;
    }
    fs::rename(&unfinished, &farm)?;
    Ok(Some(farm))
}

/// `linux-headers-VERSION-common`, and that of the architecture.
fn debian_headers() -> Option<(PathBuf, PathBuf)> {
    let names = fs::read_dir("/usr/src").ok()?.flatten().filter_map(|it| it.file_name().into_string().ok());
    let common = names.filter(|it| it.ends_with("-common")).max()?;
    let own = Path::new("/usr/src").join(common.strip_suffix("-common")?.to_owned() + "-amd64");
    own.is_dir().then(|| (Path::new("/usr/src").join(common), own))
}
