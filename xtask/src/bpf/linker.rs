//! bpf-linker: found in `target/tools` or on `PATH`, or installed there from source.
//!
//! It generates the code, so its LLVM must understand what the compiler's LLVM has written: same major version.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use xshell::{Shell, cmd};

use super::answer;
use crate::{cargo, packages, target_dir};

const VERSION: &str = "0.13.0";
/// The versions of LLVM that it can be built with.
const LLVM: std::ops::RangeInclusive<u32> = 21..=23;

pub(super) struct Linker {
    pub(super) path: PathBuf,
    /// As in the file TOOLCHAIN.
    pub(super) version: String,
    pub(super) llvm: String,
}

pub(super) fn find_or_install(sh: &Shell, llvm_major: u32) -> Result<Linker> {
    let prefix = PathBuf::from(format!("/usr/lib/llvm-{llvm_major}"));
    let root = target_dir().join(format!("tools/llvm-{llvm_major}"));
    let path = match find(sh, &root.join("bin/bpf-linker")) {
        Some(it) => it,
        None => install(sh, llvm_major, &prefix, &root)?,
    };
    let llvm =
        answer(sh, prefix.join("bin/llvm-config"), &["--version"]).unwrap_or_else(|| llvm_major.to_string());
    Ok(Linker { path, version: format!("bpf-linker {VERSION}"), llvm: format!("LLVM {llvm}") })
}

fn find(sh: &Shell, ours: &Path) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|it| it.join("bpf-linker"));
    let works =
        |it: &PathBuf| answer(sh, it, &["--version"]).is_some_and(|it| it == format!("bpf-linker {VERSION}"));
    std::iter::once(ours.to_owned()).chain(on_path).filter(|it| it.is_file()).find(works)
}

fn install(sh: &Shell, llvm_major: u32, prefix: &Path, root: &Path) -> Result<PathBuf> {
    ensure!(
        LLVM.contains(&llvm_major),
        "bpf-linker {VERSION} cannot be built with LLVM {llvm_major}, the compiler's"
    );
    let libraries = [format!("llvm-{llvm_major}-dev"), format!("libpolly-{llvm_major}-dev")];
    let mut needed = vec!["gcc", "g++", "libc6-dev", "zlib1g-dev", "libzstd-dev"];
    needed.extend(libraries.iter().map(String::as_str));
    packages::ensure(sh, &needed)?;
    println!("building bpf-linker {VERSION} with LLVM {llvm_major}: once, some minutes");
    let cargo = cargo();
    let feature = format!("llvm-{llvm_major}");
    cmd!(
        sh,
        "{cargo} install bpf-linker --version {VERSION} --no-default-features --features {feature} --locked"
    )
    .arg("--root")
    .arg(root)
    .env("LLVM_PREFIX", prefix)
    .env_remove("CARGO_TARGET_DIR")
    .run()
    .context("install bpf-linker")?;
    Ok(root.join("bin/bpf-linker"))
}
