//! The disk of the machine: an archive in memory with the tracer, a program that leaks, and a shell.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use xshell::{Shell, cmd};

/// What the first process does.
const INIT: &str = include_str!("../../vm/init");
const LEAK: &str = include_str!("../../vm/leak.c");

/// The name of the program that leaks, and of its function.
pub(super) const LEAKING: (&str, &str) = ("leak", "remember_session");

/// Writes the archive.
pub(super) fn build(sh: &Shell, work: &Path, alloctrace: &Path) -> Result<PathBuf> {
    let root = work.join("root");
    sh.remove_path(&root)?;
    for folder in ["bin", "dev", "proc", "sys", "tmp", "var/lib"] {
        sh.create_dir(root.join(folder))?;
    }
    let init = root.join("init");
    sh.write_file(&init, INIT)?;
    cmd!(sh, "chmod 755 {init}").quiet().run()?;
    sh.copy_file("/bin/busybox", root.join("bin/busybox"))?;

    // Names are enough; what else there is for debuggers would take more memory than the machine has for it.
    let tracer = root.join("bin/alloctrace");
    cmd!(sh, "strip --strip-debug -o {tracer} {alloctrace}").quiet().run()?;
    let source = work.join("leak.c");
    sh.write_file(&source, LEAK)?;
    let leak = root.join("bin").join(LEAKING.0);
    cmd!(sh, "gcc -O2 -g -o {leak} {source}").quiet().run()?;
    for program in [&tracer, &leak] {
        for library in libraries(sh, program)? {
            let to = root.join(library.strip_prefix("/").unwrap_or(&library));
            if let Some(folder) = to.parent() {
                sh.create_dir(folder)?;
            }
            sh.copy_file(&library, &to)?;
        }
    }
    let archive = work.join("initrd");
    let _in_root = sh.push_dir(&root);
    let files = cmd!(sh, "find .").quiet().read()?;
    let bytes = cmd!(sh, "cpio --create --format=newc --quiet").stdin(files).quiet().output()?.stdout;
    sh.write_file(&archive, bytes)?;
    Ok(archive)
}

/// The libraries of a program, its loader among them, where the program looks for them.
fn libraries(sh: &Shell, program: &Path) -> Result<Vec<PathBuf>> {
    let answer = cmd!(sh, "ldd {program}").quiet().read().context("ask for the libraries of a program")?;
    // `libc.so.6 => /lib/… (0x…)`, and the loader without a name before it.
    let paths = answer.split_whitespace().filter(|it| it.starts_with('/'));
    Ok(paths.map(PathBuf::from).collect())
}
