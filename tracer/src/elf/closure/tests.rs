//! Predictions over files that are named here, with the bytes of real objects.

use std::{collections::HashMap, fs};

use super::*;
use crate::elf::tests::libc_path;

/// What is to be read where, as the root sees it.
struct Disk(HashMap<PathBuf, Vec<u8>>);

impl Disk {
    fn of(files: &[(&str, &[u8])]) -> Self {
        Self(files.iter().map(|(path, bytes)| (path.into(), bytes.to_vec())).collect())
    }

    fn check(&self, exe: &str, env: &SearchEnv, expected: &[&str]) {
        let found = predict(Path::new(exe), env, &|path| self.0.get(path).cloned());
        let found: Vec<_> = found.iter().map(|it| it.to_str().unwrap()).collect();
        assert_eq!(found, expected);
    }
}

fn read(path: &Path) -> Option<Vec<u8>> {
    fs::read(path).ok()
}

fn this_exe() -> PathBuf {
    std::env::current_exe().unwrap().canonicalize().unwrap()
}

fn env(library_path: &str, root: &str) -> SearchEnv {
    SearchEnv { ld_preload: None, ld_library_path: Some(library_path.into()), root: root.into() }
}

#[test]
fn this_program_loads_a_libc() {
    let found = predict(&this_exe(), &SearchEnv::default(), &read);
    assert_eq!(found[0], this_exe());
    let real: Vec<_> = found.iter().filter_map(|it| it.canonicalize().ok()).collect();
    assert!(real.contains(&libc_path().canonicalize().unwrap()), "{found:?}");
    let distinct: HashSet<_> = real.iter().collect();
    assert_eq!(distinct.len(), real.len(), "{found:?}");
}

#[test]
fn a_script_is_its_interpreter() {
    let exe = fs::read("/proc/self/exe").unwrap();
    let disk = Disk::of(&[("/a", b"#!/b -x\n"), ("/b", b"#! /c\n"), ("/c", &exe), ("/loop", b"#!/loop")]);
    disk.check("/a", &SearchEnv::default(), &["/c"]);
    disk.check("/loop", &SearchEnv::default(), &[]);
    disk.check("/absent", &SearchEnv::default(), &[]);
}

#[test]
fn the_library_path_wins_and_roots_apply() {
    let exe = fs::read("/proc/self/exe").unwrap();
    let libc = fs::read(libc_path()).unwrap();
    let foreign = b"\x7fELF\x01".to_vec();
    let name = crate::elf::Image::parse(&libc).unwrap().soname().unwrap();
    let at = |directory: &str| format!("{directory}/{name}");
    let disk = Disk::of(&[
        ("/r/exe", &exe),
        (&at("/r/old"), &foreign),
        (&at("/r/new"), &libc),
        (&at("/r/lib"), &libc),
    ]);
    disk.check("/exe", &env("/old:/new", "/r"), &["/r/exe", &at("/r/new")]);
    disk.check("/exe", &env("", "/r"), &["/r/exe", &at("/r/lib")]);
    disk.check("/exe", &env("relative", "/r"), &["/r/exe", &at("/r/lib")]);
}

#[test]
fn preloads_come_first() {
    let exe = fs::read("/proc/self/exe").unwrap();
    let libc = fs::read(libc_path()).unwrap();
    let disk = Disk::of(&[("/exe", &exe), ("/x/one.so", &libc), ("/lib/two.so", &exe)]);
    let env = SearchEnv { ld_preload: Some("/x/one.so two.so:absent.so".into()), ..SearchEnv::default() };
    disk.check("/exe", &env, &["/exe", "/x/one.so", "/lib/two.so"]);
}

#[test]
fn lists_become_absolute_directories() {
    let split = directories("$ORIGIN/../lib:${ORIGIN}:/a;rel:", Path::new("/opt/bin"));
    assert_eq!(split, ["/opt/bin/../lib", "/opt/bin", "/a"].map(PathBuf::from));
}

#[test]
fn musl_serves_the_names_of_libc() {
    assert!(is_musl_itself("libc.so") && is_musl_itself("libc.musl-x86_64.so.1"));
    assert!(!is_musl_itself("libcrypto.so") && !is_musl_itself("libz.so"));
}
