//! Finds a compiler for the BPF target, its linker and its objcopy, and installs what is missing where it may.
//!
//! Two are known: Debian's `rustc-web` with a prebuilt `core` for BPF, and rustup's nightly, which builds
//! `core` itself. The linker must have the compiler's version of LLVM.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::{
    apt,
    command::{self, command, output, root},
};

/// What builds the object.
pub(super) struct Toolchain {
    /// Name and version of each part, a line each.
    pub(super) description: String,
    pub(super) cargo_arguments: &'static [&'static str],
    pub(super) environment: Vec<(&'static str, String)>,
    pub(super) linker: PathBuf,
    pub(super) objcopy: PathBuf,
    sysroot: String,
}

const TARGET: &str = "bpfel-unknown-none";
const LINKER_VERSION: &str = "0.13.0";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_PACKAGES: [&str; 2] = ["rustc-web", "libstd-rust-web-dev-bpf"];

impl Toolchain {
    /// Path prefixes that must not show in the object, with what stands for them.
    pub(super) fn remapped(&self, root: &Path) -> Vec<(String, &'static str)> {
        let home = |name: &str, below: &str| {
            let set = std::env::var_os(name).map(PathBuf::from);
            set.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(below)))
        };
        let mut prefixes = vec![(root.display().to_string(), "."), (self.sysroot.clone(), "/rust")];
        prefixes.extend(home("CARGO_HOME", ".cargo").map(|it| (it.display().to_string(), "/cargo")));
        prefixes
    }
}

/// # Errors
/// What is missing, and how to get it.
pub(super) fn find_or_install() -> Result<Toolchain> {
    if let Some(version) = debian_version() {
        return debian(&version);
    }
    if let Some(version) = nightly_version() {
        return nightly(&version);
    }
    if apt::is_possible() {
        command::run(&mut command("apt-get", &["update", "-qq"]))?;
        if DEBIAN_PACKAGES.iter().all(|it| apt::knows(it)) {
            apt::install(&DEBIAN_PACKAGES)?;
            return debian(&debian_version().context("rustc-web was installed, but cannot compile for BPF")?);
        }
    }
    if output(&mut command("rustup", &["--version"])).is_some() {
        let wanted = [
            "toolchain",
            "install",
            "nightly",
            "--profile",
            "minimal",
            "--component",
            "rust-src",
            "llvm-tools",
        ];
        command::run(&mut command("rustup", &wanted))?;
        return nightly(&nightly_version().context("the nightly toolchain was installed, but does not run")?);
    }
    bail!(
        "no compiler for {TARGET}: on Debian install {}; elsewhere install rustup, and with it the nightly \
         toolchain with the components rust-src and llvm-tools",
        DEBIAN_PACKAGES.join(" and ")
    )
}

/// `rustc -vV`, if Debian's compiler is there and has `core` for BPF.
fn debian_version() -> Option<String> {
    let mut ask = command(DEBIAN_RUSTC, &["--print", "target-libdir", "--target", TARGET]);
    let libraries = output(ask.env("RUSTC_BOOTSTRAP", "1"))?;
    Path::new(&libraries).exists().then(|| output(&mut command(DEBIAN_RUSTC, &["-vV"])))?
}

fn debian(version: &str) -> Result<Toolchain> {
    let llvm = llvm_major(version)?;
    let prefix = PathBuf::from(format!("/usr/lib/llvm-{llvm}"));
    let packages = [format!("llvm-{llvm}-dev"), format!("libpolly-{llvm}-dev")];
    let packages: Vec<&str> =
        packages.iter().map(String::as_str).chain(["g++", "zlib1g-dev", "libzstd-dev"]).collect();
    apt::install(&packages)?;
    let linker =
        linker(&["--no-default-features", "--features", &format!("llvm-{llvm}")], Some(&prefix), llvm)?;
    Ok(Toolchain {
        description: describe(version, &linker)?,
        cargo_arguments: &[],
        // aya-ebpf enables a feature of the assembler that is not stable yet.
        environment: vec![("RUSTC", DEBIAN_RUSTC.to_owned()), ("RUSTC_BOOTSTRAP", "1".to_owned())],
        linker,
        objcopy: prefix.join("bin/llvm-objcopy"),
        sysroot: output(&mut command(DEBIAN_RUSTC, &["--print", "sysroot"]))
            .context("rustc --print sysroot")?,
    })
}

/// `rustc -vV` of the nightly toolchain.
fn nightly_version() -> Option<String> {
    output(&mut command("rustup", &["run", "nightly", "rustc", "-vV"]))
}

fn nightly(version: &str) -> Result<Toolchain> {
    let components = ["component", "add", "--toolchain", "nightly", "rust-src", "llvm-tools"];
    command::run(&mut command("rustup", &components))?;
    let sysroot = output(&mut command("rustup", &["run", "nightly", "rustc", "--print", "sysroot"]))
        .context("rustc --print sysroot")?;
    let llvm = llvm_major(version)?;
    let prefix = PathBuf::from(format!("/usr/lib/llvm-{llvm}"));
    let linker = if prefix.join("bin/llvm-config").exists() {
        linker(&["--no-default-features", "--features", &format!("llvm-{llvm}")], Some(&prefix), llvm)?
    } else {
        // Linked with the compiler's own LLVM.
        linker(&[], None, llvm)?
    };
    Ok(Toolchain {
        description: describe(version, &linker)?,
        cargo_arguments: &["-Z", "build-std=core"],
        environment: vec![("RUSTUP_TOOLCHAIN", "nightly".to_owned())],
        linker,
        objcopy: Path::new(&sysroot).join("lib/rustlib/x86_64-unknown-linux-gnu/bin/llvm-objcopy"),
        sysroot,
    })
}

/// bpf-linker in `target/tools`, built once for each LLVM.
fn linker(features: &[&str], llvm_prefix: Option<&Path>, llvm: u32) -> Result<PathBuf> {
    let tools = root().join(format!("target/tools/llvm-{llvm}"));
    let linker = tools.join("bin/bpf-linker");
    if output(&mut command(&linker, &["--version"])).is_some_and(|it| it.contains(LINKER_VERSION)) {
        return Ok(linker);
    }
    let mut install = command("cargo", &["install", "bpf-linker", "--version", LINKER_VERSION, "--locked"]);
    install.args(features).arg("--root").arg(&tools);
    if let Some(prefix) = llvm_prefix {
        install.env("LLVM_PREFIX", prefix);
    }
    command::run(&mut install).context("build bpf-linker")?;
    Ok(linker)
}

fn describe(rustc: &str, linker: &Path) -> Result<String> {
    let rustc: Vec<&str> =
        rustc.lines().filter(|it| it.starts_with("rustc ") || it.starts_with("LLVM version")).collect();
    let linker = output(&mut command(linker, &["--version"])).context("bpf-linker --version")?;
    Ok(format!("{}\n{linker}\n", rustc.join("\n")))
}

/// From the line `LLVM version: 22.1.4`.
fn llvm_major(version: &str) -> Result<u32> {
    let line = version.lines().find_map(|it| it.strip_prefix("LLVM version: "));
    let major = line.and_then(|it| it.split('.').next()?.parse().ok());
    major.with_context(|| format!("no LLVM version in what rustc says of itself:\n{version}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_of_llvm() {
        assert_eq!(llvm_major("rustc 1.96.0\nLLVM version: 22.1.4").ok(), Some(22));
        assert!(llvm_major("rustc 1.96.0").is_err());
    }
}
