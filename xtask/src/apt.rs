//! Debian packages, where we may install them.

use std::{fs, path::Path};

use anyhow::{Result, bail};

use crate::command::{command, output, run};

/// Whether this process may install packages.
pub(crate) fn is_possible() -> bool {
    is_root() && Path::new("/usr/bin/apt-get").exists()
}

pub(crate) fn is_root() -> bool {
    // Our own /proc entry belongs to the effective user.
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").is_ok_and(|it| it.uid() == 0)
}

/// Installs those of `packages` that are missing.
///
/// # Errors
/// If one is missing and cannot be installed; the message says what to do.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|it| !is_installed(it)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !is_possible() {
        bail!("install these packages, or run this as root on Debian or Ubuntu: {}", missing.join(" "));
    }
    run(&mut command("apt-get", &["update", "-qq"]))?;
    let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
    arguments.extend(&missing);
    // RUNLEVEL: packages of servers must not start them.
    run(command("apt-get", &arguments).env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1"))
}

/// Whether the package lists know `package`.
pub(crate) fn knows(package: &str) -> bool {
    output(&mut command("apt-cache", &["policy", package])).is_some_and(|it| it.contains("Candidate: "))
}

fn is_installed(package: &str) -> bool {
    let asked = ["-W", "-f=${db:Status-Status}", package];
    output(&mut command("dpkg-query", &asked)).is_some_and(|it| it == "installed")
}
