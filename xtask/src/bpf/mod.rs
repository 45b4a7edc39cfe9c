//! `cargo xtask bpf`: build the kernel object that the tracer carries.
//!
//! The object is committed as `tracer/bpf/probes.o`, with the names of the tools that made it in
//! `tracer/bpf/TOOLCHAIN`, so that everyone else needs stable Rust only. The same tools give the same bytes in every
//! folder: paths are replaced by fixed names, and DWARF, which names more of them, is removed.

mod linker;
mod strip;
mod toolchain;

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use xshell::{Shell, cmd};

use self::toolchain::Toolchain;
use crate::{cargo, root, target_dir};

const OBJECT: &str = "tracer/bpf/probes.o";
const TOOLCHAIN: &str = "tracer/bpf/TOOLCHAIN";
const TARGET: &str = "bpfel-unknown-none";

/// Build the kernel object, tracer/bpf/probes.o, with Debian's rustc-web or rustup's nightly
///
/// What is missing is installed: packages by apt-get (as root), rust-src by rustup, bpf-linker by cargo into target/.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Compare with the committed object instead of replacing it
    ///
    /// With the tools named in tracer/bpf/TOOLCHAIN the two must be equal byte for byte. Other tools give
    /// another object, which is as good if it passes the tests; so then the tests are run with it, in a copy of the tree.
    #[arg(long)]
    check: bool,
    /// Use this kind of toolchain; the first that is there if not given
    #[arg(long)]
    toolchain: Option<toolchain::Kind>,
}

/// What `--check` has found.
pub(crate) enum Verdict {
    Same,
    /// Built by other tools, and the tests pass with it.
    AsGood,
}

pub(crate) fn run(sh: &Shell, args: &Args) -> Result<()> {
    if args.check { check(sh, args.toolchain).map(drop) } else { update(sh, args.toolchain) }
}

fn update(sh: &Shell, kind: Option<toolchain::Kind>) -> Result<()> {
    let built = build(sh, kind)?;
    for (path, bytes) in [(OBJECT, &built.object), (TOOLCHAIN, &built.tools.as_bytes().to_vec())] {
        let changed = fs::read(root().join(path)).ok().as_ref() != Some(bytes);
        if changed {
            write(&root().join(path), bytes)?;
        }
        println!("{path}: {} bytes, {}", bytes.len(), if changed { "replaced" } else { "as it was" });
    }
    Ok(())
}

/// Finds the tools, or installs them.
///
/// # Errors
/// What is missing, and how to get it.
pub(crate) fn prepare(sh: &Shell) -> Result<()> {
    let toolchain = Toolchain::find_or_install(sh, None)?;
    linker::find_or_install(sh, toolchain.llvm_major).map(drop)
}

/// Rebuilds the object and compares it with the committed one.
///
/// # Errors
/// It differs though the tools are the same; or they are others and the tests do not pass with it.
pub(crate) fn check(sh: &Shell, kind: Option<toolchain::Kind>) -> Result<Verdict> {
    let committed = fs::read(root().join(OBJECT)).with_context(|| format!("read {OBJECT}"))?;
    let recorded = fs::read_to_string(root().join(TOOLCHAIN)).with_context(|| format!("read {TOOLCHAIN}"))?;
    let built = build(sh, kind)?;
    let rebuilt = target_dir().join("bpf/probes.o");
    write(&rebuilt, &built.object)?;
    if built.object == committed {
        println!("{OBJECT} is what the sources give: {} bytes, equal", committed.len());
        return Ok(Verdict::Same);
    }
    if built.tools == recorded {
        bail!(
            "{OBJECT} is not what the sources give ({} bytes committed, {} rebuilt in {}); run `cargo xtask bpf` and commit",
            committed.len(),
            built.object.len(),
            rebuilt.display()
        );
    }
    println!("the committed object was built by other tools, so it cannot be compared:");
    for (then, now) in recorded.lines().zip(built.tools.lines()).filter(|(then, now)| then != now) {
        println!("  {then}\n    here: {now}");
    }
    println!("running the tests with the one rebuilt here, {}", rebuilt.display());
    test_with(sh, &rebuilt)?;
    Ok(Verdict::AsGood)
}

struct Built {
    object: Vec<u8>,
    /// The contents of the file TOOLCHAIN.
    tools: String,
}

fn build(sh: &Shell, kind: Option<toolchain::Kind>) -> Result<Built> {
    let toolchain = Toolchain::find_or_install(sh, kind)?;
    let linker = linker::find_or_install(sh, toolchain.llvm_major)?;
    println!("building with {}, {}", toolchain.version, linker.version);

    // Downloads, and unpacks to where the names below are taken from.
    toolchain.cargo(sh, &["fetch", "--locked"]).quiet().run().context("fetch the crates")?;
    let flags = flags(sh, &toolchain)?.join("\x1f");
    let build_std: &[&str] = if toolchain.build_std { &["-Zbuild-std=core"] } else { &[] };
    let out = target_dir().join("bpf");
    let path = join_path(linker.path.parent().context("the linker's folder")?)?;
    toolchain
        .cargo(sh, &["build", "--locked", "--package=tracer-ebpf", "--bin=probes", "--features=probes"])
        .args(["--profile=bpf", "--target", TARGET, "--target-dir"])
        .arg(&out)
        .args(build_std)
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        .env("PATH", path)
        .run()
        .context("build the kernel object")?;

    let linked = out.join(TARGET).join("bpf/probes");
    let object =
        strip::strip_dwarf(&fs::read(&linked).with_context(|| format!("read {}", linked.display()))?)?;
    Ok(Built { object, tools: format!("{}\n{}\n{}\n", toolchain.version, linker.llvm, linker.version) })
}

fn flags(sh: &Shell, toolchain: &Toolchain) -> Result<Vec<String>> {
    let mut flags: Vec<String> =
        ["-Clink-arg=--btf", "-Ctarget-cpu=v3", "--cfg=bpf_target_arch=\"x86_64\""].map(str::to_owned).into();
    let mut rename =
        |from: &Path, to: &str| flags.push(format!("--remap-path-prefix={}={to}", from.display()));
    // From here the linker still finds our sources, and puts the lines that the verifier quotes into BTF.
    rename(&root(), ".");
    rename(&toolchain.sysroot, "/rust");
    // One folder for each registry, with a hash in its name that depends on the version of cargo.
    for registry in
        sh.read_dir(cargo_home()?.join("registry/src")).context("list the sources of the crates")?
    {
        rename(&registry, "/crates");
    }
    Ok(flags)
}

fn cargo_home() -> Result<PathBuf> {
    match std::env::var_os("CARGO_HOME") {
        Some(it) => Ok(it.into()),
        None => Ok(std::env::home_dir().context("where is the home directory?")?.join(".cargo")),
    }
}

/// `$PATH` with `first` before all else; rustc looks for `bpf-linker` there. (Naming the linker by a flag would put its
/// path into the hashes in symbol names.)
fn join_path(first: &Path) -> Result<std::ffi::OsString> {
    let rest = std::env::var_os("PATH").unwrap_or_default();
    Ok(std::env::join_paths(std::iter::once(first.to_owned()).chain(std::env::split_paths(&rest)))?)
}

/// Runs the tracer's tests in a copy of the tree that has `object` in the place of the committed one.
fn test_with(sh: &Shell, object: &Path) -> Result<()> {
    let copy = target_dir().join("bpf/tree");
    sh.remove_path(&copy)?;
    for file in cmd!(sh, "git ls-files").quiet().read().context("list the files of the project")?.lines() {
        let to = copy.join(file);
        sh.create_dir(to.parent().unwrap_or(&copy))?;
        sh.copy_file(root().join(file), to)?;
    }
    sh.copy_file(object, copy.join(OBJECT))?;
    let _in_copy = sh.push_dir(&copy);
    // Cargo cannot tell the copy's crates from ours; with a shared folder ours would carry this object from now on.
    let out = target_dir().join("bpf/tested");
    let cargo = cargo();
    cmd!(sh, "{cargo} test --locked --release --package=tracer").env("CARGO_TARGET_DIR", out).run()?;
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    // Never half of a file under this name: it is compiled in.
    let part = path.with_extension("part");
    fs::write(&part, bytes)
        .and_then(|()| fs::rename(&part, path))
        .with_context(|| format!("write {}", path.display()))
}

/// What `command` prints, or nothing if there is no such command.
fn answer(sh: &Shell, command: impl AsRef<OsStr>, args: &[&str]) -> Option<String> {
    let command = command.as_ref();
    cmd!(sh, "{command} {args...}").quiet().ignore_stderr().read().ok()
}

/// The part of `text` behind `name` on the line that begins with it.
fn field<'a>(text: &'a str, name: &str) -> Result<&'a str> {
    let value = text.lines().find_map(|it| it.strip_prefix(name));
    value.map(str::trim).with_context(|| format!("no line `{name}` in {text:?}"))
}

fn major(version: &str) -> Result<u32> {
    let major = version.split('.').next().and_then(|it| it.parse().ok());
    ensure!(major.is_some(), "no version: {version:?}");
    major.context("checked above")
}
