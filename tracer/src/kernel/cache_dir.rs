//! Where things are kept that would have to be found out again: a directory of ours, which nobody else can write to.

use std::{
    env,
    ffi::OsString,
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// Ours within a directory of caches.
const NAME: &str = "alloctrace";

/// The directory, which is made if need be. What is in it is believed, so it must belong to us and to nobody else; `None`
/// if there is no such place, and then nothing is kept.
pub(crate) fn cache_dir() -> Option<PathBuf> {
    let is_root = rustix::process::geteuid().is_root();
    let directory = chosen(env::var_os("XDG_CACHE_HOME"), is_root, env::var_os("HOME"))?;
    match prepare(&directory) {
        Ok(true) => Some(directory),
        Ok(false) => {
            log::info!("{}: others can write there, so nothing is kept", directory.display());
            None
        }
        Err(error) => {
            log::info!("{}: nothing is kept: {error}", directory.display());
            None
        }
    }
}

/// As the XDG Base Directory Specification 0.8 has it; for root, whose home need not be there at boot, `/var/cache` (FHS 3.0,
/// 5.5).
fn chosen(xdg: Option<OsString>, is_root: bool, home: Option<OsString>) -> Option<PathBuf> {
    let absolute = |it: OsString| Some(PathBuf::from(it)).filter(|it| it.is_absolute());
    let parent = xdg.and_then(absolute).or_else(|| {
        if is_root {
            Some(PathBuf::from("/var/cache"))
        } else {
            home.and_then(absolute).map(|it| it.join(".cache"))
        }
    })?;
    Some(parent.join(NAME))
}

/// Makes the directory. False if somebody else can write there.
fn prepare(directory: &Path) -> io::Result<bool> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let metadata = fs::symlink_metadata(directory)?;
    let is_ours = metadata.uid() == rustix::process::geteuid().as_raw();
    Ok(metadata.is_dir() && is_ours && metadata.mode() & 0o022 == 0)
}

/// Puts a file in its place at once, so that nobody ever reads half of it.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension(format!("{}.new", std::process::id()));
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(bytes)?;
        fs::rename(&fresh, path)
    };
    write().inspect_err(|_| _ = fs::remove_file(&fresh))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_user_says_where_else_it_depends_on_who_asks() {
        let check = |xdg: Option<&str>, is_root, home: Option<&str>, expected: Option<&str>| {
            let found = chosen(xdg.map(OsString::from), is_root, home.map(OsString::from));
            assert_eq!(found, expected.map(PathBuf::from));
        };
        check(Some("/x"), true, Some("/root"), Some("/x/alloctrace"));
        check(Some("relative"), true, Some("/root"), Some("/var/cache/alloctrace"));
        check(None, false, Some("/home/a"), Some("/home/a/.cache/alloctrace"));
        check(None, false, None, None);
    }

    #[test]
    fn a_place_that_others_can_write_to_is_none() {
        let directory = env::temp_dir().join(format!("alloctrace-cache-{}", std::process::id()));
        assert!(prepare(&directory).unwrap());
        replace(&directory.join("a"), b"text").unwrap();
        replace(&directory.join("a"), b"other").unwrap();
        assert_eq!(fs::read(directory.join("a")).unwrap(), b"other");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "nothing is left over");
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(!prepare(&directory).unwrap());
        fs::remove_dir_all(&directory).unwrap();
    }
}
