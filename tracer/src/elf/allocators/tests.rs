//! What is found in the C library of this very process; the integration tests look at other allocators.

use std::fs;

use super::*;
use crate::elf::{site::Class, tests::libc_path};

#[test]
fn the_libc_has_one_allocator_that_cannot_throw() {
    let bytes = fs::read(libc_path()).unwrap();
    let found = find(&Image::parse(&bytes).unwrap());
    assert!(matches!(found.families()[..], [Family::Glibc | Family::Musl]), "{:?}", found.families());
    assert!(found.unprobed.is_empty() && found.throwing.is_none());
    for it in &found.functions {
        assert_eq!(it.site.class, Class::Emulated, "{} {:?}", it.name, it.site);
        let (end, flags) = (&it.end, it.cookie());
        assert_eq!(flags.has_thread_cache(), it.family == Some(Family::Glibc), "{}", it.name);
        assert!(!flags.may_throw() && !flags.is_enclosing() && !flags.takes_back(), "{}", it.name);
        match it.role {
            Role::Alloc => assert_eq!(*end, End::Return, "{}", it.name),
            Role::Free => assert_eq!(*end, End::Unseen, "{}", it.name),
            Role::Unfollowed => panic!("{}", it.name),
        }
    }
    let named = |name: &str| found.functions.iter().any(|it| it.name == name);
    assert!(named("malloc") && named("free") && named("realloc"));
    // It leads to `realloc`, which tells all there is to tell.
    assert!(!named("reallocarray"));
}

#[test]
fn flags_say_what_a_call_does() {
    let flags = |family, effect, end: End| Traits::of(family, effect, &end).0;
    assert_eq!(flags(Family::Tcmalloc, Effect::Allocates, End::Return), Cookie(0));
    assert!(flags(Family::Jemalloc, Effect::AllocatesOrThrows, End::At(vec![1])).may_throw());
    assert!(flags(Family::Jemalloc, Effect::ResizesInPlace, End::Return).returns_size());
    assert!(flags(Family::Mimalloc, Effect::ReallocatesOrFrees, End::Return).frees_on_failure());
    assert_eq!(flags(Family::Jemalloc, Effect::Frees, End::Unseen), Cookie(0));
    assert!(flags(Family::Jemalloc, Effect::Frees, End::Return).takes_back());
    let wrapped = flags(Family::Interposer, Effect::Frees, End::Return);
    assert!(wrapped.takes_back() && wrapped.is_enclosing());
}
