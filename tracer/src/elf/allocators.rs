//! The allocator functions of an object: which there are, and where their probes go.
//!
//! An object has an allocator if it defines functions of one family that allocate and that free, under the same
//! prefix; without a prefix it must be `malloc` and `free`. An object that only wraps one of the two is left alone.

mod table;

use std::{borrow::Cow, collections::BTreeMap};

use tracer_ebpf::call::{Cookie, Via};

pub use self::table::Family;
use self::table::{Effect, Families, Known};
use super::{
    Image, Symbol,
    code::{Code, Target, Ways},
    site::{self, Needs, Site},
    whole::{self, Question, Refusal, Whole},
};

/// What the probes of a function are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    Alloc,
    Free,
    /// It allocates or frees, nobody knows what.
    Unfollowed,
}

/// How the end of a call is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    Unseen,
    /// By a return probe at the function's site.
    Return,
    /// At these offsets in the file lie the instructions by which the function returns. An exception may leave it,
    /// and no exception finds its handler through a return probe.
    At(Vec<u64>),
}

/// An allocator function in an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// As the object names it.
    pub name: Cow<'static, str>,
    pub via: Via,
    pub role: Role,
    /// `None` for those that the user names.
    pub family: Option<Family>,
    /// Of its first instruction.
    pub file_offset: u64,
    pub site: Site,
    pub end: End,
    /// Where its calls are seen without a return probe, or why they are not. `None` for those whose ends are not to be
    /// seen, or not by a return probe.
    pub whole: Option<Result<Whole, Refusal>>,
    /// What its probes are told beyond the function and its arguments.
    pub(super) traits: Traits,
}

impl Function {
    /// Where in the file its probes go.
    pub fn site_offset(&self) -> u64 {
        self.file_offset + u64::from(self.site.offset)
    }

    /// What its probes are told. It belongs to the site, where arguments may lie elsewhere than at
    /// the entry.
    pub fn cookie(&self) -> Cookie {
        let Traits(traits) = self.traits;
        Cookie(Cookie::new(self.via, self.site.roles).0 | traits.0)
    }
}

/// The flags and the fixed size of a [`Cookie`] that is otherwise empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Traits(pub(super) Cookie);

impl Traits {
    fn of(family: Family, effect: Effect, end: &End) -> Self {
        let mut flags = Cookie(0);
        if family == Family::Glibc {
            // It frees a thread's cache when the thread ends.
            flags = flags.with_thread_cache();
        }
        if family == Family::Interposer {
            flags = flags.enclosing();
        }
        Self(match effect {
            Effect::AllocatesOrThrows => flags.throwing(),
            Effect::ReallocatesOrFrees => flags.freeing_on_failure(),
            Effect::ResizesInPlace => flags.with_size_result(),
            Effect::Frees if *end == End::Return => flags.taking_back(),
            _ => flags,
        })
    }
}

/// What is found in an object.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// One per distinct address, in the order of the table.
    pub functions: Vec<Function>,
    /// Names of functions that should be probed and cannot be.
    pub unprobed: Vec<String>,
    /// Where in the file the function begins that makes C++ exceptions. It is no allocator's, but ends calls of
    /// `operator new`.
    pub throwing: Option<u64>,
}

impl Found {
    /// The families whose functions serve requests, each once.
    pub fn families(&self) -> Vec<Family> {
        let mut families: Vec<Family> =
            self.functions.iter().filter(|it| it.role == Role::Alloc).filter_map(|it| it.family).collect();
        families.sort_unstable();
        families.dedup();
        families
    }
}

/// Bytes that are looked at of a function that does not state its size.
const UNKNOWN_SIZE_BYTES: u64 = 64;

/// Makes room for a C++ exception (Itanium C++ ABI, 2.4.2): the first thing that `throw` does.
const THROWS: &str = "__cxa_allocate_exception";

/// A function that may be probed.
struct Candidate<'data> {
    index: usize,
    family: Family,
    prefix: &'data str,
    known: Known,
    symbol: Symbol<'data>,
    name: &'data str,
}

/// The allocator functions that `image` defines.
pub fn find(image: &Image<'_>) -> Found {
    let symbols = image.functions();
    let mut found = Found::default();
    let throws = symbols.iter().find(|it| it.name == THROWS.as_bytes());
    found.throwing = throws.and_then(|it| image.file_offset(it.address));
    let names = || symbols.iter().filter_map(|it| std::str::from_utf8(it.name).ok());
    let imports = image.imports().filter_map(|it| std::str::from_utf8(it).ok());
    let families = Families::of(names(), imports);
    let mut candidates: Vec<Candidate<'_>> = symbols
        .iter()
        .filter_map(|symbol| {
            let name = std::str::from_utf8(symbol.name).ok()?;
            let (index, family, prefix, known) = families.known(name)?;
            let prefix = name.get(..prefix.len())?;
            Some(Candidate { index, family, prefix, known, symbol: *symbol, name })
        })
        .collect();
    let has = |prefix: &str, wanted: &dyn Fn(&Candidate<'_>) -> bool| {
        candidates.iter().any(|it| it.prefix == prefix && wanted(it))
    };
    let is_allocator = |prefix: &str| match prefix {
        "" => has("", &|it| it.name == "malloc") && has("", &|it| it.name == "free"),
        _ => {
            has(prefix, &|it| it.known.effect == Effect::Allocates)
                && has(prefix, &|it| it.known.effect == Effect::Frees)
        }
    };
    let prefixes: Vec<&str> = candidates.iter().map(|it| it.prefix).filter(|it| is_allocator(it)).collect();
    // Operators of a program with an allocator of its own under a prefix are that allocator's, or lead to it.
    candidates.retain(|it| {
        prefixes.contains(&it.prefix) || !prefixes.is_empty() && it.known.name.starts_with("operator ")
    });
    candidates.sort_by_key(|it| (it.symbol.address, it.index));
    candidates.dedup_by_key(|it| it.symbol.address);
    if candidates.is_empty() {
        return found;
    }
    candidates.sort_by_key(|it| it.index);
    choose(image, &families, &candidates, &mut found);
    found
}

/// Decides which are probed, and how their ends are seen.
fn choose(image: &Image<'_>, families: &Families<'_>, candidates: &[Candidate<'_>], found: &mut Found) {
    let code = Code::of(image);
    let by_address: BTreeMap<u64, &Candidate<'_>> =
        candidates.iter().map(|it| (it.symbol.address, it)).collect();
    let effect_of = |target: Target<'_>| match target {
        Target::Inside(address) => by_address.get(&address).map(|it| it.known.effect),
        Target::Outside(name) => {
            families.known(std::str::from_utf8(name).ok()?).map(|(_, _, _, known)| known.effect)
        }
        Target::Unknown => None,
    };
    let allocates = |target: Target<'_>| {
        effect_of(target).is_some_and(|it| !matches!(it, Effect::Frees | Effect::Unfollowed))
    };
    let mut ends_taken = Vec::new();
    for it in candidates {
        let address = it.symbol.address;
        let other = |target: Target<'_>| target != Target::Inside(address);
        let (role, end) = match it.known.effect {
            Effect::Unfollowed => {
                if code.ways(address, &|to| {
                    other(to) && (allocates(to) || effect_of(to) == Some(Effect::Unfollowed))
                }) == Ways::All
                {
                    continue;
                }
                (Role::Unfollowed, End::Unseen)
            }
            Effect::Frees if it.family == Family::Interposer => (Role::Free, End::Return),
            Effect::Frees => {
                let is_free = |to: Target<'_>| other(to) && effect_of(to) == Some(Effect::Frees);
                match code.ways(address, &is_free) {
                    // What it calls tells all there is to tell.
                    Ways::All => continue,
                    Ways::Some => (Role::Free, End::Return),
                    Ways::None | Ways::Never => (Role::Free, End::Unseen),
                }
            }
            Effect::AllocatesOrThrows => {
                if code.ways(address, &|to| other(to) && allocates(to)) == Ways::All {
                    continue;
                }
                // Those have return probes of their own, also after a jump.
                let is_seen = |to: Target<'_>| {
                    other(to) && allocates(to) && effect_of(to) != Some(Effect::AllocatesOrThrows)
                };
                let Some(ends) = code.returns(address, &is_seen) else {
                    found.unprobed.push(it.name.to_owned());
                    continue;
                };
                let mut ends: Vec<u64> = ends.into_iter().filter_map(|it| image.file_offset(it)).collect();
                ends.retain(|it| !ends_taken.contains(it));
                ends_taken.extend(&ends);
                (Role::Alloc, End::At(ends))
            }
            Effect::Allocates | Effect::ReallocatesOrFrees | Effect::ResizesInPlace => {
                let is_same = |to: Target<'_>| match to {
                    Target::Inside(address) => by_address.get(&address).map(|it| it.known.via),
                    _ => None,
                };
                let stub = code.stub_target(address).filter(|to| other(*to));
                // Another return address on the same place of the stack would say nothing more.
                if stub.and_then(is_same) == Some(it.known.via) && it.family != Family::Interposer {
                    continue;
                }
                // It computes the product and leaves the rest to another; if the product overflows, nothing happens.
                if it.known.via == Via::Reallocarray
                    && it.family != Family::Interposer
                    && !matches!(
                        code.ways(address, &|to| other(to) && allocates(to)),
                        Ways::None | Ways::Never
                    )
                {
                    continue;
                }
                (Role::Alloc, End::Return)
            }
        };
        let whole =
            (it.known.effect == Effect::Allocates && role == Role::Alloc && end == End::Return).then(|| {
                whole::find(&code, Question { entry: address, size: it.symbol.size, roles: it.known.roles })
            });
        let function = function(image, role, it.family, &it.known, &it.symbol, end);
        found.functions.extend(function.map(|it| Function { whole, ..it }));
    }
}

fn function(
    image: &Image<'_>,
    role: Role,
    family: Family,
    known: &Known,
    symbol: &Symbol<'_>,
    end: End,
) -> Option<Function> {
    let code = image.at(symbol.address)?;
    let size = if symbol.size == 0 { UNKNOWN_SIZE_BYTES } else { symbol.size };
    let code = &code[..code.len().min(usize::try_from(size).ok()?)];
    let site = site::choose(code, Needs { roles: known.roles, non_null: role == Role::Free });
    Some(Function {
        name: String::from_utf8_lossy(symbol.name).into_owned().into(),
        via: known.via,
        role,
        family: Some(family),
        file_offset: image.file_offset(symbol.address)?,
        site,
        traits: Traits::of(family, known.effect, &end),
        end,
        whole: None,
    })
}

#[cfg(test)]
mod tests;
