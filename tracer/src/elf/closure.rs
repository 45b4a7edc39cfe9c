//! Which objects a command will map, told before it runs, so that probes can be there first.
//!
//! A prediction: it follows `ld.so(8)` and musl's loader, but what is missing is left out, and what
//! is asked for at run time (`dlopen`, a script that starts `env`) is not known. Libraries for newer
//! processors count as loaded; a probe in a file that nobody maps costs nothing. Not followed:
//! `$LIB` and `$PLATFORM`, relative library directories, the secure mode of set-user-ID programs.
//!
//! Pure: files are read through a closure.

use std::{
    collections::{HashSet, VecDeque},
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use super::{Image, ld_cache};

/// The kernel follows so many `#!` lines before it answers ELOOP (`exec_binprm` in `fs/exec.c`).
const INTERPRETER_DEPTH: usize = 5;

/// Where glibc's loader looks at last: Debian's directories and everybody else's.
const GLIBC_DIRECTORIES: &str =
    "/lib/x86_64-linux-gnu:/usr/lib/x86_64-linux-gnu:/lib64:/usr/lib64:/lib:/usr/lib";
/// The same for musl, if its path file is missing.
const MUSL_DIRECTORIES: &str = "/lib:/usr/local/lib:/usr/lib";
const MUSL_PATH_FILE: &str = "/etc/ld-musl-x86_64.path";

/// What decides the search apart from the objects themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SearchEnv {
    /// `LD_PRELOAD` of the command.
    pub ld_preload: Option<OsString>,
    /// `LD_LIBRARY_PATH` of the command.
    pub ld_library_path: Option<OsString>,
    /// The root directory of the command as seen from here, such as `/proc/PID/root`; empty for ours.
    pub root: PathBuf,
}

/// The objects that `exe` will map, itself first, as paths that can be opened from here (below
/// `env.root`). Empty if it cannot be run.
///
/// `exe` is an absolute path as the command sees it, with links resolved, because `$ORIGIN` means the
/// directory of the real file. `open` gives a file's bytes, or `None` if there is no such file.
pub fn predict<B: AsRef<[u8]>>(
    exe: &Path,
    env: &SearchEnv,
    open: &dyn Fn(&Path) -> Option<B>,
) -> Vec<PathBuf> {
    let mut exe = exe.to_owned();
    for _ in 0..INTERPRETER_DEPTH {
        let Some(bytes) = open(&below(&env.root, &exe)) else { return Vec::new() };
        match shebang(bytes.as_ref()) {
            Some(interpreter) => exe = interpreter,
            None => return Search::new(env, open).run(exe, bytes.as_ref()),
        }
    }
    Vec::new()
}

/// An object that was found, and what it asks for.
struct Object {
    needed: Vec<String>,
    /// Directories of its own `DT_RPATH` and those of its ancestors; empty if it has a `DT_RUNPATH`.
    rpath: Vec<PathBuf>,
    runpath: Vec<PathBuf>,
    /// What its `DT_RPATH` leaves to the objects that it loads.
    bequeathed: Vec<PathBuf>,
}

struct Search<'a, B> {
    env: &'a SearchEnv,
    open: &'a dyn Fn(&Path) -> Option<B>,
    musl: bool,
    cache: Vec<(String, PathBuf)>,
    defaults: Vec<PathBuf>,
    /// As the command sees them, in load order.
    found: Vec<PathBuf>,
    /// Names that are served: as asked for, and as the objects call themselves.
    names: HashSet<String>,
    queue: VecDeque<Object>,
}

impl<'a, B: AsRef<[u8]>> Search<'a, B> {
    fn new(env: &'a SearchEnv, open: &'a dyn Fn(&Path) -> Option<B>) -> Self {
        Self {
            env,
            open,
            musl: false,
            cache: Vec::new(),
            defaults: Vec::new(),
            found: Vec::new(),
            names: HashSet::new(),
            queue: VecDeque::new(),
        }
    }

    fn run(mut self, exe: PathBuf, bytes: &[u8]) -> Vec<PathBuf> {
        let Ok(image) = Image::parse(bytes) else { return Vec::new() };
        let interpreter = image.interpreter();
        let Some(interpreter) = interpreter.map(PathBuf::from) else {
            // Static: nobody reads the needs of such a program, nor LD_PRELOAD.
            return vec![below(&self.env.root, &exe)];
        };
        self.prepare(&interpreter);
        self.add(exe, &image, &[]);
        // The loader comes before all else, as it serves its own name.
        self.load(&interpreter, &[]);
        for name in self.preloads() {
            self.find(&name, &[], &[], &[]);
        }
        while let Some(object) = self.queue.pop_front() {
            for name in &object.needed {
                self.find(name, &object.rpath, &object.runpath, &object.bequeathed);
            }
        }
        self.found.iter().map(|it| below(&self.env.root, it)).collect()
    }

    /// Learns where the loader of this command looks.
    fn prepare(&mut self, interpreter: &Path) {
        self.musl = interpreter.file_name().is_some_and(|it| it.as_bytes().starts_with(b"ld-musl"));
        if self.musl {
            let text = self.read(Path::new(MUSL_PATH_FILE));
            let text = text.as_ref().map(|it| String::from_utf8_lossy(it.as_ref()).replace('\n', ":"));
            self.defaults = directories(text.as_deref().unwrap_or(MUSL_DIRECTORIES), Path::new("/"));
        } else {
            self.cache = self
                .read(Path::new("/etc/ld.so.cache"))
                .map_or_else(Vec::new, |it| ld_cache::read(it.as_ref()));
            self.defaults = directories(GLIBC_DIRECTORIES, Path::new("/"));
        }
    }

    /// `LD_PRELOAD`, then, for glibc, `/etc/ld.so.preload`; both separated by blanks or colons.
    fn preloads(&self) -> Vec<String> {
        let mut text =
            self.env.ld_preload.as_ref().map_or_else(String::new, |it| it.to_string_lossy().into());
        if let Some(file) = self.read(Path::new("/etc/ld.so.preload")).filter(|_| !self.musl) {
            text.push(' ');
            text.push_str(&String::from_utf8_lossy(file.as_ref()));
        }
        let names = text.split(|it: char| it == ':' || it.is_whitespace());
        names.filter(|it| !it.is_empty()).map(str::to_owned).collect()
    }

    /// Takes the first object that serves `name`; none if there is none.
    fn find(&mut self, name: &str, rpath: &[PathBuf], runpath: &[PathBuf], bequeathed: &[PathBuf]) {
        if self.names.contains(name) || (self.musl && is_musl_itself(name)) {
            return;
        }
        self.names.insert(name.to_owned());
        if name.contains('/') {
            self.load(Path::new(name), bequeathed);
            return;
        }
        let library_path = self.env.ld_library_path.as_deref().unwrap_or_default().to_string_lossy();
        let library_path = directories(&library_path, Path::new("/"));
        let first = [rpath, &library_path, runpath].concat();
        if first.iter().any(|it| self.load(&it.join(name), bequeathed)) {
            return;
        }
        let cached: Vec<_> =
            self.cache.iter().filter(|(it, _)| it == name).map(|(_, path)| path.clone()).collect();
        let mut served = false;
        for path in cached {
            served |= self.load(&path, bequeathed);
        }
        if !served {
            let defaults = self.defaults.clone();
            defaults.iter().any(|it| self.load(&it.join(name), bequeathed));
        }
    }

    /// Adds the object at `path`, and says whether there is one that could be loaded: files of other
    /// architectures are passed over, as the loaders do.
    fn load(&mut self, path: &Path, bequeathed: &[PathBuf]) -> bool {
        if self.found.iter().any(|it| it == path) {
            return true;
        }
        let Some(bytes) = self.read(path) else { return false };
        let Ok(image) = Image::parse(bytes.as_ref()) else { return false };
        self.add(path.to_owned(), &image, bequeathed);
        true
    }

    fn add(&mut self, path: PathBuf, image: &Image<'_>, bequeathed: &[PathBuf]) {
        let origin = path.parent().unwrap_or(Path::new("/"));
        let runpath = image.runpath().map(|it| directories(&it, origin));
        let own = image.rpath().filter(|_| runpath.is_none()).map(|it| directories(&it, origin));
        let chain = [own.unwrap_or_default(), bequeathed.to_vec()].concat();
        self.names.extend(image.soname());
        self.queue.push_back(Object {
            needed: image.needed(),
            rpath: if runpath.is_some() { Vec::new() } else { chain.clone() },
            runpath: runpath.unwrap_or_default(),
            bequeathed: chain,
        });
        self.found.push(path);
    }

    fn read(&self, path: &Path) -> Option<B> {
        (self.open)(&below(&self.env.root, path))
    }
}

/// Whether musl's loader answers for this library itself (`load_library` in `ldso/dynlink.c`).
fn is_musl_itself(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("lib") else { return false };
    ["c.", "pthread.", "rt.", "m.", "dl.", "util.", "xnet."].iter().any(|it| rest.starts_with(it))
}

/// The absolute directories of a list, with `$ORIGIN` replaced.
fn directories(list: &str, origin: &Path) -> Vec<PathBuf> {
    let origin = origin.to_string_lossy();
    list.split([':', ';'])
        .map(|it| it.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin))
        .filter(|it| it.starts_with('/'))
        .map(PathBuf::from)
        .collect()
}

/// The program of a `#!` line, without its argument.
fn shebang(bytes: &[u8]) -> Option<PathBuf> {
    let line = bytes.strip_prefix(b"#!")?.split(|it| *it == b'\n').next()?;
    let program = line.split(|it| matches!(it, b' ' | b'\t')).find(|it| !it.is_empty())?;
    Some(PathBuf::from(OsStr::from_bytes(program)))
}

/// `path` as seen from outside of `root`.
fn below(root: &Path, path: &Path) -> PathBuf {
    match path.strip_prefix("/") {
        Ok(relative) if !root.as_os_str().is_empty() => root.join(relative),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests;
