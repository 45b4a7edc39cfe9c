//! What a command will load: a prediction, so that probes and unwinding tables are in place before it
//! runs. What it misses is found when it is mapped.

use std::{
    ffi::{OsStr, OsString},
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::{Path, PathBuf},
};

use object::elf;

use super::Image;

/// What the dynamic loader will look at (ld.so(8)).
pub struct SearchEnv {
    pub ld_preload: OsString,
    pub ld_library_path: OsString,
    /// Normally `/`.
    pub root: PathBuf,
}

/// Searched last, in this order.
const DEFAULT_DIRECTORIES: [&str; 6] =
    ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"];

/// Scripts that name scripts: the kernel follows four levels (`exec_binprm`, fs/exec.c).
const MAX_SCRIPTS: usize = 4;

/// The program file that a command name means, by the rules of `execvp(3)`.
pub fn resolve_command(name: &OsStr, path_variable: &OsStr) -> Option<PathBuf> {
    let is_program =
        |it: &PathBuf| it.metadata().is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0);
    if name.as_bytes().contains(&b'/') {
        return Some(PathBuf::from(name)).filter(is_program);
    }
    std::env::split_paths(path_variable).map(|it| it.join(name)).find(is_program)
}

/// The program, its loader, and its libraries with theirs; files that are not there are left out.
pub fn predict(
    program: &Path,
    environment: &SearchEnv,
    read: &dyn Fn(&Path) -> Option<Vec<u8>>,
) -> Vec<PathBuf> {
    let mut search = Search {
        environment,
        read,
        configured: configured_directories(environment, read),
        found: Vec::new(),
    };
    let mut program = program.to_owned();
    for _ in 0..MAX_SCRIPTS {
        match read(&program).as_deref().and_then(script_interpreter) {
            Some(interpreter) => program = interpreter,
            None => break,
        }
    }
    search.add(program);
    let preloaded = environment.ld_preload.as_bytes().split(|it| *it == b':' || *it == b' ');
    for name in preloaded.filter(|it| !it.is_empty()).map(OsStr::from_bytes) {
        search.add_library(name, &[]);
    }
    // Libraries are appended while the list is walked.
    let mut at = 0;
    while let Some(path) = search.found.get(at).cloned() {
        search.add_dependencies(&path);
        at += 1;
    }
    search.found
}

/// The program behind `#!`.
fn script_interpreter(bytes: &[u8]) -> Option<PathBuf> {
    let line = bytes.strip_prefix(b"#!")?.split(|it| *it == b'\n').next()?;
    let word = line.split(u8::is_ascii_whitespace).find(|it| !it.is_empty())?;
    Some(PathBuf::from(OsStr::from_bytes(word)))
}

struct Search<'a> {
    environment: &'a SearchEnv,
    read: &'a dyn Fn(&Path) -> Option<Vec<u8>>,
    configured: Vec<PathBuf>,
    found: Vec<PathBuf>,
}

impl Search<'_> {
    fn add(&mut self, path: PathBuf) {
        if !self.found.contains(&path) {
            self.found.push(path);
        }
    }

    fn add_dependencies(&mut self, path: &Path) {
        let Some(bytes) = (self.read)(path) else { return };
        let Ok(image) = Image::parse(&bytes) else { return };
        if let Some(loader) = image.interpreter() {
            self.add(PathBuf::from(loader));
        }
        let origin = path.parent().unwrap_or(Path::new("/")).to_string_lossy().into_owned();
        let own: Vec<PathBuf> = [elf::DT_RPATH, elf::DT_RUNPATH]
            .into_iter()
            .flat_map(|tag| image.dynamic_strings(tag))
            .flat_map(|list| list.split(':').map(str::to_owned).collect::<Vec<_>>())
            .map(|it| PathBuf::from(it.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin)))
            .collect();
        for name in image.dynamic_strings(elf::DT_NEEDED) {
            self.add_library(OsStr::new(&name), &own);
        }
    }

    fn add_library(&mut self, name: &OsStr, own_directories: &[PathBuf]) {
        let path = if name.as_bytes().contains(&b'/') {
            Some(PathBuf::from(name))
        } else {
            let variable = std::env::split_paths(&self.environment.ld_library_path);
            let defaults = DEFAULT_DIRECTORIES.iter().map(PathBuf::from);
            let all = variable.chain(own_directories.iter().cloned()).chain(self.configured.iter().cloned());
            all.chain(defaults)
                .map(|it| it.join(name))
                .find(|it| self.environment.root.join(relative(it)).is_file())
        };
        if let Some(path) = path {
            self.add(path);
        }
    }
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// The directories of `/etc/ld.so.conf` and of the files that it includes.
fn configured_directories(environment: &SearchEnv, read: &dyn Fn(&Path) -> Option<Vec<u8>>) -> Vec<PathBuf> {
    let text =
        |path: &Path| read(path).map(|it| String::from_utf8_lossy(&it).into_owned()).unwrap_or_default();
    let mut directories = Vec::new();
    let mut files = vec![environment.root.join("etc/ld.so.conf")];
    while let Some(file) = files.pop() {
        for line in text(&file).lines().map(str::trim).filter(|it| !it.is_empty() && !it.starts_with('#')) {
            match line.strip_prefix("include ") {
                // The one form that distributions use.
                Some(pattern) => {
                    let Some(directory) = pattern.trim().strip_suffix("/*.conf") else { continue };
                    let listed = std::fs::read_dir(environment.root.join(relative(Path::new(directory))));
                    let entries = listed.into_iter().flatten().flatten().map(|it| it.path());
                    files.extend(entries.filter(|it| it.extension().is_some_and(|it| it == "conf")));
                }
                None => directories.push(PathBuf::from(line)),
            }
        }
    }
    directories
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closure_of(program: &Path) -> Vec<PathBuf> {
        let (ld_preload, ld_library_path) = (OsString::new(), OsString::new());
        let environment = SearchEnv { ld_preload, ld_library_path, root: PathBuf::from("/") };
        predict(program, &environment, &|path| std::fs::read(path).ok())
    }

    #[test]
    fn a_program_loads_its_loader_and_the_c_library() {
        let own = std::env::current_exe().unwrap();
        let paths = closure_of(&own);
        assert_eq!(paths[0], own);
        for name in ["ld-linux-x86-64.so.2", "libc.so.6"] {
            assert!(paths.iter().any(|it| it.ends_with(name)), "{name} in {paths:?}");
        }
    }

    #[test]
    fn a_script_is_run_by_its_interpreter() {
        assert_eq!(script_interpreter(b"#! /bin/sh -e\necho"), Some(PathBuf::from("/bin/sh")));
        assert_eq!(script_interpreter(b"\x7fELF"), None);
    }

    #[test]
    fn commands_are_found_as_the_shell_finds_them() {
        let path = OsStr::new("/nowhere:/bin:/usr/bin");
        assert_eq!(resolve_command(OsStr::new("sh"), path), Some(PathBuf::from("/bin/sh")));
        assert_eq!(resolve_command(OsStr::new("/bin/sh"), path), Some(PathBuf::from("/bin/sh")));
        assert_eq!(resolve_command(OsStr::new("no-such-command"), path), None);
        assert_eq!(resolve_command(OsStr::new("/etc"), path), None);
    }
}
