//! `cargo xtask vendor`: the files of others in `tracer/src/report/html/vendor`, as npm publishes them.
//!
//! `MANIFEST` there has a line for each: package, version, path in the package, SHA-256.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use xshell::{Shell, cmd};

use crate::root;

/// Fetch the JavaScript libraries of the HTML report by `npm pack`, in the versions of their manifest, and write its sums anew
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write nothing: compare the files with the manifest, and with what npm publishes
    #[arg(long)]
    check: bool,
    /// With --check: compare with the manifest only
    #[arg(long, requires = "check")]
    offline: bool,
}

const FOLDER: &str = "tracer/src/report/html/vendor";

/// A line of the manifest.
struct Entry {
    package: String,
    version: String,
    path: String,
    sha256: String,
}

impl Entry {
    fn read(line: &str) -> Result<Entry> {
        let [package, version, path, sha256] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            bail!("not `package version path sha256`: {line}");
        };
        let [package, version, path, sha256] = [package, version, path, sha256].map(str::to_owned);
        Ok(Entry { package, version, path, sha256 })
    }

    /// Where the file is here: in a folder of the package's name.
    fn file(&self) -> PathBuf {
        let name = Path::new(&self.path).file_name().unwrap_or_default();
        root().join(FOLDER).join(&self.package).join(name)
    }
}

pub(crate) fn run(sh: &Shell, args: &Args) -> Result<()> {
    let manifest = root().join(FOLDER).join("MANIFEST");
    let text = fs::read_to_string(&manifest).context("read the manifest")?;
    let is_entry = |it: &&str| !it.is_empty() && !it.starts_with('#');
    let mut entries: Vec<Entry> = text.lines().filter(is_entry).map(Entry::read).collect::<Result<_>>()?;
    if !args.offline {
        let folder = sh.create_temp_dir()?;
        for entry in &mut entries {
            let published = published(sh, folder.path(), entry)?;
            if args.check {
                compare(entry, &published)?;
            } else {
                fs::create_dir_all(entry.file().parent().unwrap_or(Path::new(".")))?;
                fs::copy(&published, entry.file()).with_context(|| format!("copy {}", entry.path))?;
                entry.sha256 = sha256(sh, &published)?;
            }
        }
    }
    if !args.check {
        let remarks = text.lines().filter(|it| !is_entry(it)).map(str::to_owned);
        let line = |it: &Entry| format!("{} {} {} {}", it.package, it.version, it.path, it.sha256);
        let lines: Vec<String> = remarks.chain(entries.iter().map(line)).collect();
        fs::write(&manifest, lines.join("\n") + "\n")?;
    }
    check_sums(sh, &entries)?;
    println!("vendor: {} files are what their manifest says", entries.len());
    Ok(())
}

/// A file as npm has it.
fn published(sh: &Shell, folder: &Path, entry: &Entry) -> Result<PathBuf> {
    let _here = sh.push_dir(folder);
    let package = format!("{}@{}", entry.package, entry.version);
    let archive =
        cmd!(sh, "npm pack --silent {package}").read().with_context(|| format!("npm pack {package}"))?;
    cmd!(sh, "tar --extract --gzip --file {archive}").run()?;
    Ok(folder.join("package").join(&entry.path))
}

fn compare(entry: &Entry, published: &Path) -> Result<()> {
    let here = fs::read(entry.file()).with_context(|| format!("read {}", entry.file().display()))?;
    if here != fs::read(published).with_context(|| format!("read the published {}", entry.path))? {
        bail!("{} is not that of {} {}", entry.file().display(), entry.package, entry.version);
    }
    Ok(())
}

fn check_sums(sh: &Shell, entries: &[Entry]) -> Result<()> {
    let mut known = BTreeSet::new();
    for entry in entries {
        let file = entry.file();
        let found = sha256(sh, &file)?;
        if found != entry.sha256 {
            bail!("{} has the sum {found}; the manifest says {}", file.display(), entry.sha256);
        }
        known.insert(file);
    }
    for folder in fs::read_dir(root().join(FOLDER))?.collect::<Result<Vec<_>, _>>()? {
        if !folder.path().is_dir() {
            continue;
        }
        for file in fs::read_dir(folder.path())?.collect::<Result<Vec<_>, _>>()? {
            if !known.contains(&file.path()) {
                bail!("{} is not in the manifest", file.path().display());
            }
        }
    }
    Ok(())
}

fn sha256(sh: &Shell, file: &Path) -> Result<String> {
    let line = cmd!(sh, "sha256sum {file}").quiet().read()?;
    Ok(line.split_whitespace().next().unwrap_or_default().to_owned())
}
