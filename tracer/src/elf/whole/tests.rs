//! What is proved of small functions, and of the allocators of this machine.

use std::fs;

use super::*;
use crate::elf::{Image, tests::libc_path};

#[test]
fn the_libc_here() {
    for (path, names) in [
        (libc_path().to_str().unwrap().to_owned(), vec!["malloc", "calloc", "memalign", "aligned_alloc"]),
        (
            "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2".to_owned(),
            vec!["malloc", "calloc", "memalign", "_Znwm", "mallocx"],
        ),
        (
            "/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4".to_owned(),
            vec!["malloc", "calloc", "memalign", "_Znwm", "tc_malloc"],
        ),
        (
            "/usr/lib/x86_64-linux-gnu/libmimalloc.so.2.0".to_owned(),
            vec!["malloc", "calloc", "mi_malloc", "mi_calloc", "_Znwm", "mi_zalloc"],
        ),
        ("/usr/lib/x86_64-linux-musl/libc.so".to_owned(), vec!["malloc", "calloc", "__libc_malloc"]),
    ] {
        let bytes = fs::read(&path).unwrap();
        let image = Image::parse(&bytes).unwrap();
        let code = Code::of(&image);
        for name in names {
            let Some(it) = image.functions().into_iter().find(|it| it.name == name.as_bytes()) else {
                continue;
            };
            let roles = if name.contains("calloc") {
                Roles { count: 1, size: 2, ..Roles::default() }
            } else if name.contains("alig") {
                Roles { size: 2, ..Roles::default() }
            } else {
                Roles { size: 1, ..Roles::default() }
            };
            let start = std::time::Instant::now();
            let found = find(&code, Question { entry: it.address, size: it.size, roles });
            println!("{path} {name} {:#x}+{}: {:?}", it.address, it.size, start.elapsed());
            match found {
                Ok(it) => {
                    for place in it.begins {
                        println!("  begin {place:x?}");
                    }
                    for place in it.ends {
                        println!("  end {place:x?}");
                    }
                }
                Err(e) => println!("  {e}"),
            }
        }
    }
}

#[test]
fn callees_here() {
    let bytes = fs::read(libc_path()).unwrap();
    let image = Image::parse(&bytes).unwrap();
    let code = Code::of(&image);
    for address in [0x7f1d0, 0x94850, 0x952f0, 0x98210, 0x3f180, 0xcf420] {
        let callee = callees::Callees::new(&code).of(crate::elf::code::Target::Inside(address));
        println!("{address:x} {callee:?}");
    }
    println!("{:?}", code.is_named(crate::elf::code::Target::Inside(0x3f180), &["getrandom"]));
}
