//! `cargo xtask bpf`: builds the kernel object, the same bytes in every directory.

mod toolchain;

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};

use self::toolchain::Toolchain;
use crate::command::{self, command, root};

/// Build the kernel object `tracer/bpf/probes.o`, with Debian's compiler or rustup's nightly.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Build it elsewhere and compare.
    #[arg(long)]
    check: bool,
}

const OBJECT: &str = "tracer/bpf/probes.o";

/// Beside the object: what built it. Another compiler makes other bytes from the same source.
const TOOLCHAIN: &str = "tracer/bpf/TOOLCHAIN";

fn build(toolchain: &Toolchain) -> Result<Vec<u8>> {
    let root = root();
    let target = root.join("target/bpf");
    let linker = toolchain.linker.display();
    let mut flags = format!(
        "-Cdebuginfo=2 -Clinker={linker} -Clink-arg=--btf -Ctarget-cpu=v3 --cfg bpf_target_arch=\"x86_64\""
    );
    for (from, to) in toolchain.remapped(&root) {
        flags.push_str(&format!(" --remap-path-prefix={from}={to}"));
    }
    let target_dir = target.display().to_string();
    let mut cargo =
        command("cargo", &["build", "-p", "tracer-ebpf", "--bin", "probes", "--features", "probes"]);
    cargo.args(["--target", "bpfel-unknown-none", "--profile", "bpf", "--target-dir", &target_dir]);
    cargo.args(toolchain.cargo_arguments).env("RUSTFLAGS", flags);
    for (name, value) in &toolchain.environment {
        cargo.env(name, value);
    }
    command::run(&mut cargo)?;
    let built = target.join("bpfel-unknown-none/bpf/probes");
    let stripped = target.join("probes.o");
    // BTF stays; the debug information it was made from is twenty times as large.
    command::run(command(&toolchain.objcopy, &["--strip-debug"]).arg(&built).arg(&stripped))?;
    fs::read(&stripped).with_context(|| format!("read {}", stripped.display()))
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let toolchain = toolchain::find_or_install()?;
    let built = build(&toolchain)?;
    let (object, note) = (root().join(OBJECT), root().join(TOOLCHAIN));
    if !args.check {
        fs::write(&object, &built).with_context(|| format!("write {}", object.display()))?;
        fs::write(&note, &toolchain.description).with_context(|| format!("write {}", note.display()))?;
        eprintln!("{OBJECT}: {} bytes, by\n{}", built.len(), toolchain.description.trim_end());
        return Ok(());
    }
    let committed = fs::read(&object).with_context(|| format!("read {}", object.display()))?;
    if committed == built {
        eprintln!("{OBJECT} is what its source says: {} bytes", built.len());
        return Ok(());
    }
    let made_by = fs::read_to_string(&note).with_context(|| format!("read {}", note.display()))?;
    if made_by == toolchain.description {
        bail!("{OBJECT} is not what its source says: run `cargo xtask bpf` and commit the result");
    }
    eprintln!(
        "{OBJECT} was built by\n{made_by}but here there is\n{}so it is tested instead",
        toolchain.description
    );
    test_instead(&object, &committed, &built)
}

/// Runs the tests on an object that cannot be compared, and puts the committed one back.
fn test_instead(object: &Path, committed: &[u8], built: &[u8]) -> Result<()> {
    fs::write(object, built)?;
    let tested = command::run(&mut command("cargo", &["test", "-p", "tracer"]));
    fs::write(object, committed)?;
    tested
}
