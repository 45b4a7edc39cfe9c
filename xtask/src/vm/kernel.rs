//! The kernel of the machine: one of Debian's, without being installed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use xshell::{Shell, cmd};

use crate::packages;

/// Where Debian has its kernels, those of two releases and newer ones.
const SOURCES: [(&str, &str); 4] = [
    ("debian", "bookworm"),
    ("debian-security", "bookworm-security"),
    ("debian", "trixie"),
    ("debian", "trixie-backports"),
];

/// The file of the kernel, which is kept in `work` once it is there.
pub(super) fn find_or_download(sh: &Shell, work: &Path, series: &str) -> Result<PathBuf> {
    let kept = work.join(format!("vmlinuz-{series}"));
    if kept.is_file() {
        return Ok(kept);
    }
    download(sh, work, series, &kept).context(
        "there is no kernel for the machine: give one by --kernel FILE, a bzImage with BTF and a serial console",
    )?;
    Ok(kept)
}

fn download(sh: &Shell, work: &Path, series: &str, to: &Path) -> Result<()> {
    packages::ensure(sh, &["debian-archive-keyring"])?;
    // Lists of its own: what is installed on this machine comes from where it came from.
    let apt = work.join("apt");
    for folder in ["lists/partial", "cache/archives/partial"] {
        sh.create_dir(apt.join(folder))?;
    }
    let list = apt.join("sources.list");
    let line = |(archive, suite): &(&str, &str)| {
        format!(
            "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/{archive} {suite} main\n"
        )
    };
    sh.write_file(&list, SOURCES.iter().map(line).collect::<String>())?;
    let options = [
        format!("Dir::Etc::sourcelist={}", list.display()),
        "Dir::Etc::sourceparts=-".to_owned(),
        format!("Dir::State::lists={}", apt.join("lists").display()),
        format!("Dir::Cache={}", apt.join("cache").display()),
        // Downloads are made by a user who may not read our folder.
        "APT::Sandbox::User=root".to_owned(),
    ];
    let options: Vec<&str> = options.iter().flat_map(|it| ["-o", it]).collect();
    let options = &options;
    cmd!(sh, "apt-get {options...} update --quiet=2").quiet().run()?;
    // For virtual machines: without drivers for anything else.
    let pattern = format!("^linux-image-{}\\.[0-9]+[+-].*cloud-amd64$", series.replace('.', "\\."));
    let found = cmd!(sh, "apt-cache {options...} search --names-only {pattern}").quiet().read()?;
    let names = found.lines().filter_map(|it| it.split_whitespace().next());
    let newest =
        names.max_by_key(|it| version(it)).with_context(|| format!("Debian has no Linux {series}"))?;
    println!("downloading {newest}");
    let _in_apt = sh.push_dir(&apt);
    cmd!(sh, "apt-get {options...} download --quiet=2 {newest}").quiet().run()?;
    let is_package = |it: &PathBuf| it.extension().is_some_and(|it| it == "deb");
    let package =
        sh.read_dir(&apt)?.into_iter().find(is_package).context("apt-get has written no package")?;
    let files = apt.join("files");
    cmd!(sh, "dpkg-deb --extract {package} {files}").quiet().run()?;
    let boot = sh.read_dir(files.join("boot"))?;
    let is_kernel =
        |it: &&PathBuf| it.file_name().is_some_and(|it| it.to_string_lossy().starts_with("vmlinuz"));
    let kernel = boot.iter().find(is_kernel).context("no kernel in the package")?;
    fs::copy(kernel, to).with_context(|| format!("keep {}", to.display()))?;
    // A hundred MiB of modules.
    sh.remove_path(&apt)?;
    Ok(())
}

/// The numbers in a name, in order.
fn version(name: &str) -> Vec<u32> {
    name.split(|it: char| !it.is_ascii_digit()).filter_map(|it| it.parse().ok()).collect()
}

/// One that the user has named.
pub(super) fn given(path: &Path) -> Result<PathBuf> {
    ensure!(path.is_file(), "there is no kernel {}", path.display());
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn versions_are_in_order() {
        let (nine, twelve) =
            ("linux-image-6.18.9+deb13-cloud-amd64", "linux-image-6.18.12+deb13-cloud-amd64");
        assert!(version(nine) < version(twelve));
    }
}
