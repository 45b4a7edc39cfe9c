//! Distribution packages: which are missing, and their installation where we may (Debian's apt, as root).

use std::{cell::Cell, fs, os::unix::fs::PermissionsExt as _, path::Path};

use anyhow::{Context as _, Result, bail};
use xshell::{Shell, cmd};

thread_local! {
    static LISTS_ARE_FRESH: Cell<bool> = const { Cell::new(false) };
}

/// Installs those of `packages` that are missing. Where that is not possible the error says what to do.
pub(crate) fn ensure(sh: &Shell, packages: &[&str]) -> Result<()> {
    if !has_apt(sh) {
        println!("no apt-get here: please see to it that there is what Debian calls {}", packages.join(" "));
        return Ok(());
    }
    let missing: Vec<&str> = packages.iter().copied().filter(|it| !is_installed(sh, it)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !is_root() {
        bail!("missing packages; please run as root: apt-get install {}", missing.join(" "));
    }
    refresh_lists(sh)?;
    let names = missing.join(" ");
    println!("installing {names}");
    let _guard = NoServices::begin()?;
    cmd!(sh, "apt-get install --yes --quiet=2 --no-install-recommends {missing...}")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .quiet()
        .run()
        .with_context(|| format!("install {names}"))
}

/// Whether apt knows a version of `package` that it could install.
pub(crate) fn is_available(sh: &Shell, package: &str) -> bool {
    if !has_apt(sh) {
        return false;
    }
    if is_root() && refresh_lists(sh).is_err() {
        println!("apt-get update did not succeed; going on with the lists there are");
    }
    cmd!(sh, "apt-cache policy {package}")
        .quiet()
        .ignore_stderr()
        .read()
        .is_ok_and(|it| it.lines().any(|it| it.trim().starts_with("Candidate:") && !it.contains("(none)")))
}

pub(crate) fn is_root() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        status.lines().find_map(|it| it.strip_prefix("Uid:")).and_then(|it| it.split_whitespace().nth(1))
            == Some("0")
    })
}

fn has_apt(sh: &Shell) -> bool {
    cmd!(sh, "apt-get --version").quiet().ignore_stdout().ignore_stderr().run().is_ok()
}

fn is_installed(sh: &Shell, package: &str) -> bool {
    let format = "--showformat=${db:Status-Status}";
    cmd!(sh, "dpkg-query --show {format} {package}")
        .quiet()
        .ignore_stderr()
        .read()
        .is_ok_and(|it| it == "installed")
}

/// `apt-get update`, once in a run.
fn refresh_lists(sh: &Shell) -> Result<()> {
    if !LISTS_ARE_FRESH.get() {
        cmd!(sh, "apt-get update --quiet=2").quiet().run().context("apt-get update")?;
        LISTS_ARE_FRESH.set(true);
    }
    Ok(())
}

/// While this lives no package starts a service: the tests start what they need themselves.
struct NoServices {
    ours: bool,
}

impl NoServices {
    const POLICY: &str = "/usr/sbin/policy-rc.d";

    fn begin() -> Result<NoServices> {
        if Path::new(Self::POLICY).exists() {
            return Ok(NoServices { ours: false });
        }
        fs::write(Self::POLICY, "#!/bin/sh\nexit 101\n").context("write policy-rc.d")?;
        fs::set_permissions(Self::POLICY, fs::Permissions::from_mode(0o755))?;
        Ok(NoServices { ours: true })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours {
            let _ = fs::remove_file(Self::POLICY);
        }
    }
}
