//! The programs that our formats are for, from the registries that have them, beside the build's other output.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use xshell::{Shell, cmd};

use crate::{packages, target_dir};

/// Viewers: speedscope's schema, and the Firefox Profiler's own code behind a command.
const NPM: [&str; 2] = ["speedscope@1.25.0", "@firefox-devtools/profiler-cli@0.10.0"];

/// What reads captures, and what checks a file against a schema.
const PYTHON: [&str; 4] = ["duckdb-cli==1.5.6", "pandas==3.1.1", "zstandard==0.25.0", "jsonschema==4.26.0"];

/// Programs, and the packages they are in. By program, since some come from elsewhere than the distribution.
const PROGRAMS: [(&str, &str); 4] =
    [("go", "golang-go"), ("node", "nodejs"), ("npm", "npm"), ("python3", "python3")];

/// Installs what is missing.
pub(crate) fn ensure(sh: &Shell) -> Result<()> {
    let is_missing = |program: &str| which(program).is_none();
    let missing: Vec<&str> = PROGRAMS.iter().filter(|it| is_missing(it.0)).map(|it| it.1).collect();
    if !missing.is_empty() {
        packages::ensure(sh, &missing)?;
    }
    // Debian has the half of Python that makes such folders in a package of its own.
    if cmd!(sh, "python3 -c 'import ensurepip'").quiet().ignore_stderr().run().is_err() {
        packages::ensure(sh, &["python3-venv"])?;
    }
    let root = target_dir().join("consumers");
    fs::create_dir_all(&root).with_context(|| format!("make {}", root.display()))?;
    let installed = root.join("installed");
    let wanted = [NPM.join("\n"), PYTHON.join("\n")].join("\n");
    if fs::read_to_string(&installed).is_ok_and(|it| it == wanted) {
        return Ok(());
    }
    println!("installing {}", wanted.replace('\n', " "));
    // Nothing of them runs while they are installed.
    cmd!(sh, "npm install --prefix {root} --ignore-scripts --no-audit --no-fund --no-save")
        .args(NPM)
        .quiet()
        .ignore_stdout()
        .run()
        .context("install viewers by npm")?;
    let python = root.join("python");
    cmd!(sh, "python3 -m venv {python}").quiet().run().context("make a folder for Python packages")?;
    let pip = python.join("bin/pip");
    cmd!(sh, "{pip} install --quiet --disable-pip-version-check")
        .args(PYTHON)
        .quiet()
        .run()
        .context("install readers by pip")?;
    fs::write(&installed, wanted).with_context(|| format!("write {}", installed.display()))
}

fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|it| it.join(program)).find(|it| it.is_file())
}
