//! Which program goes where in an object.

use std::collections::BTreeSet;

use super::super::object::Object;
use crate::{
    elf::{
        allocators::{End, Function, Role},
        whole::{Place, Whole},
    },
    event::Via,
};

/// Which programs: the tracer's own, or the empty ones that show what the trap alone costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Programs {
    Trace,
    Floor,
    /// Empty ones where other tools place theirs: at the symbols of the classic functions, and at their returns.
    NaiveFloor,
}

/// Which side of a call a probe sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Placement {
    Begin,
    End,
}

/// A program at a place in a file.
pub(super) struct Probe {
    pub(super) program: &'static str,
    pub(super) offset: u64,
    pub(super) cookie: u64,
}

/// Sees a function end without a return probe.
pub(super) const EXIT: &str = "leave_at_exit";
pub(super) const POOL_EXIT: &str = "pool_exit";
pub(super) const WHOLE: &str = "whole";

/// The probes of a function. Its end comes first: an entry without a return would look like a call that never ends.
/// A return probe goes to the same instruction, where the return address is still on top of the stack, so that one trap
/// serves both.
///
/// Of functions in `exit_sites` the calls are seen where their results are final.
pub(super) fn probes_of(programs: Programs, function: &Function, exit_sites: &[String]) -> Vec<Probe> {
    if programs == Programs::NaiveFloor {
        return naive_probes_of(function);
    }
    let is_trace = programs == Programs::Trace;
    let cookie = function.cookie().0;
    let is_pool = matches!(function.via, Via::Custom(_));
    let begin = match function.role {
        _ if !is_trace => "floor_enter",
        Role::Alloc if is_pool => "pool_enter",
        Role::Free if is_pool => "pool_free",
        Role::Alloc => "enter",
        Role::Free => "free",
        Role::Unfollowed => "unfollowed",
    };
    let exit = match is_trace {
        false => begin,
        true if is_pool => POOL_EXIT,
        true => EXIT,
    };
    let leave = match is_trace {
        false => "floor_leave",
        true if is_pool => "pool_leave",
        true => "leave",
    };
    if let Some(whole) = whole(function, exit_sites) {
        let name = |name| if is_trace { name } else { "floor_enter" };
        let probe = |program| {
            move |it: &Place| Probe {
                program,
                offset: function.file_offset.wrapping_add_signed(it.offset),
                cookie: it.cookie(function.cookie()).0,
            }
        };
        let (ends, begins) =
            (whole.ends.iter().map(probe(name(WHOLE))), whole.begins.iter().map(probe(name("begin"))));
        return ends.chain(begins).collect();
    }
    let site = function.site_offset();
    let ends: Vec<(&str, u64)> = match &function.end {
        End::Unseen => Vec::new(),
        End::Return => vec![(leave, site)],
        End::At(offsets) => offsets.iter().map(|it| (exit, *it)).collect(),
    };
    ends.into_iter()
        .chain([(begin, site)])
        .map(|(program, offset)| Probe { program, offset, cookie })
        .collect()
}

/// Where the function's calls are seen, if not at entry and return.
pub(super) fn whole<'it>(function: &'it Function, exit_sites: &[String]) -> Option<&'it Whole> {
    let whole = function.whole.as_ref()?.as_ref().ok()?;
    exit_sites.iter().any(|it| *it == function.name).then_some(whole)
}

/// The programs that the probes of these objects may need, wherever calls will be seen.
pub(crate) fn programs_of<'a>(
    programs: Programs,
    objects: impl Iterator<Item = &'a Object>,
) -> BTreeSet<&'static str> {
    let mut names = BTreeSet::new();
    for object in objects {
        let entries = object.functions.iter().flat_map(|it| probes_of(programs, it, &[]));
        let exits = object.functions.iter().flat_map(|it| probes_of(programs, it, &[it.name.to_string()]));
        names.extend(raising(object).chain(entries).chain(exits).map(|it| it.program));
    }
    names
}

/// Those that bcc's memleak probes, and of which none throws: a return probe would be fatal there.
const CLASSIC_ALLOCATIONS: [&str; 8] =
    ["malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc", "memalign", "valloc", "pvalloc"];

fn naive_probes_of(function: &Function) -> Vec<Probe> {
    let programs: &[&str] = match &*function.name {
        "free" => &["floor_enter"],
        name if CLASSIC_ALLOCATIONS.contains(&name) => &["floor_leave", "floor_enter"],
        _ => &[],
    };
    let cookie = function.cookie().0;
    programs.iter().map(|&program| Probe { program, offset: function.file_offset, cookie }).collect()
}

pub(super) fn placement(program: &str) -> Placement {
    match program {
        "leave" | "pool_leave" | "floor_leave" | EXIT | POOL_EXIT | WHOLE => Placement::End,
        _ => Placement::Begin,
    }
}

/// Where the object makes and raises exceptions.
pub(super) fn raising(object: &Object) -> impl Iterator<Item = Probe> {
    let probe = |program| move |offset: &u64| Probe { program, offset: *offset, cookie: 0 };
    object.throwing.iter().map(probe("throw")).chain(object.raising.iter().map(probe("raise")))
}
