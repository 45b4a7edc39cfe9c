//! The functions of a user's own pools: what he says of them, and where in an object they are. PURE.

pub mod candidates;
mod names;
mod spec;

use tracer_ebpf::call::{Cookie, MAX_CUSTOM, Via};

pub use self::{names::similar, spec::Spec};
use super::{
    Image, Symbol,
    allocators::{End, Function, Role, Traits},
    exits,
    site::{self, Needs},
};

/// The pools of a run, in the order of their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pools {
    specs: Vec<Spec>,
}

impl Pools {
    /// # Errors
    /// If they are too many, or nothing would be counted.
    pub fn new(allocs: &[Spec], frees: &[Spec]) -> Result<Self, String> {
        let specs = [allocs, frees].concat();
        if specs.len() > MAX_CUSTOM {
            return Err(format!(
                "{} functions are named by --alloc and --free; there is room for {MAX_CUSTOM}",
                specs.len()
            ));
        }
        if allocs.is_empty() && !frees.is_empty() {
            return Err(
                "--free without --alloc: name the function that hands the blocks out, for example --alloc \
                        'pool_get:size=arg1,ptr=ret'"
                    .to_owned(),
            );
        }
        if let Some(it) =
            specs.iter().enumerate().find(|(at, it)| specs[..*at].iter().any(|other| other.is_same(it)))
        {
            return Err(format!("{} is given twice", it.1));
        }
        Ok(Self { specs })
    }

    pub fn is_empty(&self) -> bool {
        self.specs.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Spec> {
        self.specs.iter()
    }

    /// What the sites of [`Via::Custom`] are called, by its number.
    pub fn names(&self) -> Vec<String> {
        self.specs.iter().map(|it| it.function.clone()).collect()
    }
}

impl Spec {
    fn is_same(&self, other: &Self) -> bool {
        (&self.file, &self.function) == (&other.file, &other.function)
    }
}

/// How exceptions begin, in C++, Rust and others (Itanium C++ ABI: Exception Handling, 1.3), and the end of a thread that
/// is cancelled.
const RAISING: [&str; 3] = ["_Unwind_RaiseException", "_Unwind_Resume_or_Rethrow", "_Unwind_ForcedUnwind"];

/// What an object has of the pools.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub functions: Vec<Function>,
    /// Where in the file the functions begin that raise exceptions.
    pub raising: Vec<u64>,
    /// What it has and cannot be probed: the position in [`Pools`], and why.
    pub problems: Vec<(usize, String)>,
}

/// The functions of `pools` that `image`, which was read from `path`, defines.
pub fn find(image: &Image<'_>, path: &str, pools: &Pools) -> Found {
    let symbols = image.functions();
    let mut found = Found {
        raising: image.function_ranges(&RAISING).into_iter().map(|it| it.start).collect(),
        ..Found::default()
    };
    for (number, spec) in pools.specs.iter().enumerate().filter(|(_, it)| it.is_for(path)) {
        let named = match names::resolve(&symbols, &spec.function) {
            Ok(named) => named,
            Err(why) => {
                found.problems.push((number, why));
                continue;
            }
        };
        for symbol in named {
            match function(image, &symbols, symbol, number, spec) {
                Ok(it) => found.functions.push(it),
                Err(why) => found.problems.push((number, why)),
            }
        }
    }
    found
}

fn function(
    image: &Image<'_>,
    symbols: &[Symbol<'_>],
    symbol: Symbol<'_>,
    number: usize,
    spec: &Spec,
) -> Result<Function, String> {
    if image.is_go() {
        return Err(
            "it is in a Go program, whose runtime moves stacks: a return probe would end it".to_owned()
        );
    }
    let code = image.at(symbol.address).zip(image.file_offset(symbol.address));
    let (code, file_offset) = code.ok_or("its code is not in the file")?;
    let code = &code[..code.len().min(symbol.size as usize)];
    let Spec { role, roles, .. } = *spec;
    let first = 1;
    let site = site::choose(code, Needs { roles, non_null: role == Role::Free && roles.old == first });
    let end = match role {
        Role::Alloc => end(exits(image, symbols, symbol, code)?, file_offset),
        Role::Free | Role::Unfollowed => End::Unseen,
    };
    Ok(Function {
        name: spec.function.clone().into(),
        via: Via::Custom(number as u8),
        role,
        family: None,
        file_offset,
        site,
        end,
        whole: None,
        traits: Traits(Cookie(0).with_fixed_size(spec.fixed_size_bytes)),
    })
}

fn end(exits: Vec<u32>, file_offset: u64) -> End {
    if exits.is_empty() {
        End::Return
    } else {
        End::At(exits.into_iter().map(|it| file_offset + u64::from(it)).collect())
    }
}

/// Where to look at the function's end, if not by a return probe: no exception gets past the kernel's trampoline on the
/// stack. C++ and Rust functions may throw unless they call nothing, and C ones where C++ is not far.
fn exits(
    image: &Image<'_>,
    symbols: &[Symbol<'_>],
    symbol: Symbol<'_>,
    code: &[u8],
) -> Result<Vec<u32>, String> {
    let is_mangled = symbol.name.starts_with(b"_Z") || symbol.name.starts_with(b"_R");
    if !is_mangled && !image.handles_exceptions() {
        return Ok(Vec::new());
    }
    let is_cold = |target: i64| {
        let address = symbol.address.wrapping_add_signed(target);
        let is_in = |it: &Symbol<'_>| (it.address..it.address + it.size).contains(&address);
        symbols.iter().any(|it| is_in(it) && it.name.windows(5).any(|it| it == b".cold"))
    };
    let found = exits::find(code, is_cold);
    match found.returns {
        _ if found.is_leaf && !code.is_empty() => Ok(Vec::new()),
        Some(returns) => Ok(returns),
        None if is_mangled => Err(
            "an exception may pass through it, which a return probe would turn into the end of the program, and its \
             code does not show all its exits; name the function that it calls to do the work"
                .to_owned(),
        ),
        None => Ok(Vec::new()),
    }
}
