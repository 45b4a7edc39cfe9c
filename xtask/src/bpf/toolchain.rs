//! A compiler for BPF: its `core` library is either prebuilt, by Debian, or built from rustup's sources.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use xshell::{Cmd, Shell, cmd};

use super::{TARGET, answer, field, major};
use crate::{cargo, packages};

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Packages rustc-web and libstd-rust-web-dev-bpf: a release, with a `core` library for BPF
    Debian,
    /// A nightly toolchain of rustup, with rust-src
    Nightly,
}

pub(super) struct Toolchain {
    cargo: PathBuf,
    rustc: PathBuf,
    /// The compiler is a release; BPF code needs what only a nightly allows (inline assembly).
    bootstrap: bool,
    pub(super) build_std: bool,
    pub(super) sysroot: PathBuf,
    pub(super) version: String,
    pub(super) llvm_major: u32,
}

const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CORE: &str = "libstd-rust-web-dev-bpf";

impl Toolchain {
    /// The first that is there; else the first that can be installed.
    pub(super) fn find_or_install(sh: &Shell, kind: Option<Kind>) -> Result<Toolchain> {
        let kinds = kind.map_or(vec![Kind::Debian, Kind::Nightly], |it| vec![it]);
        for kind in &kinds {
            if let Some(found) = find(sh, *kind)? {
                return Ok(found);
            }
        }
        for kind in &kinds {
            if install(sh, *kind)? {
                return find(sh, *kind)?.context("installed a toolchain that cannot be used");
            }
        }
        bail!(
            "no compiler for BPF: please install either Debian's packages rustc-web and {DEBIAN_CORE} \
             or, with rustup, `rustup toolchain install nightly --component rust-src`"
        )
    }

    /// Its cargo, asked to do `args`.
    pub(super) fn cargo<'a>(&self, sh: &'a Shell, args: &[&str]) -> Cmd<'a> {
        let cargo = &self.cargo;
        let mut command = cmd!(sh, "{cargo} {args...}").env("RUSTC", &self.rustc).env_remove("RUSTFLAGS");
        if self.bootstrap {
            command = command.env("RUSTC_BOOTSTRAP", "1");
        }
        command
    }

    fn new(sh: &Shell, kind: Kind, cargo: PathBuf, rustc: &Path) -> Result<Toolchain> {
        let about =
            answer(sh, rustc, &["--version", "--verbose"]).context("ask the compiler for its version")?;
        let sysroot = answer(sh, rustc, &["--print=sysroot"]).context("ask the compiler for its folder")?;
        Ok(Toolchain {
            cargo,
            rustc: rustc.to_owned(),
            bootstrap: kind == Kind::Debian,
            build_std: kind == Kind::Nightly,
            sysroot: sysroot.into(),
            version: about.lines().next().unwrap_or_default().to_owned(),
            llvm_major: major(field(&about, "LLVM version:")?)?,
        })
    }
}

fn find(sh: &Shell, kind: Kind) -> Result<Option<Toolchain>> {
    match kind {
        Kind::Debian => {
            let libraries = answer(sh, DEBIAN_RUSTC, &["--print=target-libdir", "--target", TARGET]);
            let has_core = libraries.is_some_and(|it| {
                sh.read_dir(it).is_ok_and(|it| it.iter().any(|it| it.to_string_lossy().contains("/libcore-")))
            });
            if !has_core {
                return Ok(None);
            }
            Toolchain::new(sh, kind, cargo(), DEBIAN_RUSTC.as_ref()).map(Some)
        }
        Kind::Nightly => {
            let Some(nightly) = nightly(sh) else { return Ok(None) };
            let which = |tool| answer(sh, "rustup", &["which", "--toolchain", &nightly, tool]);
            let (Some(cargo), Some(rustc)) = (which("cargo"), which("rustc")) else { return Ok(None) };
            let toolchain = Toolchain::new(sh, kind, cargo.into(), rustc.as_ref())?;
            let has_sources = toolchain.sysroot.join("lib/rustlib/src/rust/library/core").is_dir();
            Ok(has_sources.then_some(toolchain))
        }
    }
}

/// False if it is not to be had here.
fn install(sh: &Shell, kind: Kind) -> Result<bool> {
    match kind {
        Kind::Debian => {
            if !packages::is_available(sh, DEBIAN_CORE) {
                return Ok(false);
            }
            packages::ensure(sh, &["rustc-web", "libstd-rust-web-dev", DEBIAN_CORE])?;
        }
        Kind::Nightly => {
            if answer(sh, "rustup", &["--version"]).is_none() {
                return Ok(false);
            }
            match nightly(sh) {
                // Installing it again would replace it by a newer one.
                Some(it) => cmd!(sh, "rustup component add rust-src --toolchain {it}").run()?,
                None => cmd!(sh, "rustup toolchain install nightly --profile minimal --component rust-src")
                    .run()?,
            }
        }
    }
    Ok(true)
}

/// The name of the first nightly toolchain of rustup.
fn nightly(sh: &Shell) -> Option<String> {
    let toolchains = answer(sh, "rustup", &["toolchain", "list"])?;
    let nightly = toolchains.lines().find(|it| it.starts_with("nightly"))?;
    nightly.split_whitespace().next().map(str::to_owned)
}
