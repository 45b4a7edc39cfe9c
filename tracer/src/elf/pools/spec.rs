//! What a user says of a function of his own pool: `[FILE!]FUNCTION:ROLE=WHERE,…`. PURE.
//!
//! Arguments are counted from 0, as in the source's parameter list; a method's `this` is argument 0.

use std::fmt;

use tracer_ebpf::call::Roles;

use crate::elf::allocators::Role;

/// A function that the user named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Only in files whose path ends so.
    pub file: Option<String>,
    /// As typed.
    pub function: String,
    pub role: Role,
    pub roles: Roles,
    /// What each call allocates, if no argument says it.
    pub fixed_size_bytes: u32,
}

/// The last argument that is passed in a register (System V ABI for x86-64, 3.2.3).
const LAST_ARGUMENT: u8 = 5;

const ALLOC_EXAMPLE: &str = "pool_get:size=arg1,ptr=ret";
const FREE_EXAMPLE: &str = "pool_put:ptr=arg0";

impl Spec {
    /// The value of `--alloc`.
    ///
    /// # Errors
    /// What is wrong, where, and how it could be right.
    pub fn alloc(text: &str) -> Result<Self, String> {
        let example = |why: String| format!("{why}; write for example '{ALLOC_EXAMPLE}'");
        let (file, function, parts) = split(text).map_err(example)?;
        let mut roles = Roles::default();
        let mut fixed_size_bytes = 0;
        let mut given = Vec::new();
        for (role, place) in parts {
            once(&mut given, role).map_err(example)?;
            match role {
                "size" if place.starts_with("arg") => roles.size = argument(role, place).map_err(example)?,
                "size" => fixed_size_bytes = bytes(place).map_err(example)?,
                "count" => roles.count = argument(role, place).map_err(example)?,
                "old" => roles.old = argument(role, place).map_err(example)?,
                "ptr" => roles.out = result(place).map_err(example)?,
                _ => {
                    return Err(example(format!(
                        "'{role}' is no role of an allocating function: they are size, count, ptr and old"
                    )));
                }
            }
        }
        if !given.contains(&"size") {
            return Err(example(
                "the size is missing: size=argN, or size=NUMBER for blocks of one size".to_owned(),
            ));
        }
        if roles.old != 0 && roles.out != 0 {
            return Err(example(
                "'old' goes with ptr=ret only: there is no telling whether a call that stores its result has \
                 released the old block"
                    .to_owned(),
            ));
        }
        Ok(Self { file, function, role: Role::Alloc, roles, fixed_size_bytes })
    }

    /// The value of `--free`.
    ///
    /// # Errors
    /// As of [`Spec::alloc`].
    pub fn free(text: &str) -> Result<Self, String> {
        let example = |why: String| format!("{why}; write for example '{FREE_EXAMPLE}'");
        let (file, function, parts) = split(text).map_err(example)?;
        let mut roles = Roles::default();
        let mut given = Vec::new();
        for (role, place) in parts {
            once(&mut given, role).map_err(example)?;
            match role {
                "ptr" => roles.old = argument(role, place).map_err(example)?,
                _ => {
                    return Err(example(format!("'{role}' is no role of a freeing function: that is ptr")));
                }
            }
        }
        if roles.old == 0 {
            return Err(example("the block is missing: ptr=argN".to_owned()));
        }
        Ok(Self { file, function, role: Role::Free, roles, fixed_size_bytes: 0 })
    }

    /// Whether it may be meant to be in the file at `path`.
    pub fn is_for(&self, path: &str) -> bool {
        let path = path.strip_suffix(" (deleted)").unwrap_or(path);
        self.file.as_ref().is_none_or(|it| path.ends_with(it.as_str()))
    }

    /// The option that it came by.
    pub fn option(&self) -> &'static str {
        match self.role {
            Role::Alloc => "--alloc",
            Role::Free | Role::Unfollowed => "--free",
        }
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ", self.option())?;
        if let Some(file) = &self.file {
            write!(out, "{file}!")?;
        }
        write!(out, "{}", self.function)
    }
}

type Parts<'text> = Vec<(&'text str, &'text str)>;

/// File, function, and the roles with their places. A C++ name has colons and commas of its own.
fn split(text: &str) -> Result<(Option<String>, String, Parts<'_>), String> {
    let (name, roles) = match text.rsplit_once(':') {
        Some((name, roles)) if roles.contains('=') && !name.ends_with(':') => (name, roles),
        _ => return Err(format!("'{text}' does not say what the arguments are")),
    };
    let (file, function) = match name.split_once('!') {
        Some((file, function)) if !file.contains("operator") => (Some(file), function),
        _ => (None, name),
    };
    if file == Some("") {
        return Err("there is no file before the '!'".to_owned());
    }
    if function.trim().is_empty() {
        return Err(format!("'{text}' names no function"));
    }
    let part = |it| match str::split_once(it, '=') {
        Some((role, place)) if !place.is_empty() => Ok((role.trim(), place.trim())),
        Some((role, _)) => Err(format!("'{role}=' says nothing")),
        None => Err(format!("'{it}' is not of the form ROLE=WHERE")),
    };
    let parts = roles.split(',').map(part).collect::<Result<_, _>>()?;
    Ok((file.map(str::to_owned), function.trim().to_owned(), parts))
}

fn once<'text>(given: &mut Vec<&'text str>, role: &'text str) -> Result<(), String> {
    if given.contains(&role) {
        return Err(format!("'{role}' is given twice"));
    }
    given.push(role);
    Ok(())
}

/// `arg0` to `arg5`, as a position counted from 1.
fn argument(role: &str, place: &str) -> Result<u8, String> {
    let number = place.strip_prefix("arg").and_then(|it| it.parse::<u8>().ok());
    match number {
        Some(number) if number <= LAST_ARGUMENT => Ok(number + 1),
        Some(number) => Err(format!(
            "{role}=arg{number} cannot be read: only arg0 to arg{LAST_ARGUMENT} are passed in registers"
        )),
        None => Err(format!("{role}={place} names no argument: they are arg0 to arg{LAST_ARGUMENT}")),
    }
}

/// Where the block is found: 0 for the function's result, otherwise the argument that points to the place for it.
fn result(place: &str) -> Result<u8, String> {
    match place.strip_prefix('*') {
        None if place == "ret" => Ok(0),
        Some(pointer) => argument("ptr", pointer),
        None => Err(format!(
            "ptr={place} is no place for a new block: that is ptr=ret, or ptr=*argN for a function that stores it \
             and returns 0"
        )),
    }
}

fn bytes(place: &str) -> Result<u32, String> {
    let bytes = place.parse::<bytesize::ByteSize>().map(|it| it.as_u64());
    match bytes.map(u32::try_from) {
        Ok(Ok(bytes)) if bytes > 0 => Ok(bytes),
        Ok(Ok(_)) => Err("size=0: blocks of nothing hold no memory".to_owned()),
        Ok(Err(_)) => Err(format!("size={place} is more than 4 GiB, which no pool's blocks have")),
        Err(_) => Err(format!("size={place} is neither an argument, as arg0, nor a size, as 64 or 4KiB")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(spec: &Result<Spec, String>) -> String {
        match spec {
            Ok(it) => {
                let Roles { size, count, old, out } = it.roles;
                let fixed_bytes = it.fixed_size_bytes;
                format!("{it}: size {size} fixed {fixed_bytes} count {count} old {old} out {out}")
            }
            Err(why) => why.split("; write for example").next().unwrap_or_default().to_owned(),
        }
    }

    fn check_alloc(text: &str, expected: &str) {
        assert_eq!(told(&Spec::alloc(text)), expected, "{text}");
    }

    fn check_free(text: &str, expected: &str) {
        assert_eq!(told(&Spec::free(text)), expected, "{text}");
    }

    #[test]
    fn allocs() {
        check_alloc("pool_get:size=arg1,ptr=ret", "--alloc pool_get: size 2 fixed 0 count 0 old 0 out 0");
        check_alloc("get:size=arg0", "--alloc get: size 1 fixed 0 count 0 old 0 out 0");
        check_alloc("get:size=4KiB", "--alloc get: size 0 fixed 4096 count 0 old 0 out 0");
        check_alloc("get:count=arg5,size=64", "--alloc get: size 0 fixed 64 count 6 old 0 out 0");
        check_alloc("get:ptr=*arg0,size=arg2", "--alloc get: size 3 fixed 0 count 0 old 0 out 1");
        check_alloc("grow:old=arg1,size=arg2", "--alloc grow: size 3 fixed 0 count 0 old 2 out 0");
        check_alloc(
            "libpool.so!ns::Pool::get:size=arg1",
            "--alloc libpool.so!ns::Pool::get: size 2 fixed 0 count 0 old 0 out 0",
        );
        check_alloc(
            "ns::get(int, std::string):size=arg1",
            "--alloc ns::get(int, std::string): size 2 fixed 0 count 0 old 0 out 0",
        );
    }

    #[test]
    fn frees() {
        check_free("pool_put:ptr=arg1", "--free pool_put: size 0 fixed 0 count 0 old 2 out 0");
        check_free("lib.so!put:ptr=arg0", "--free lib.so!put: size 0 fixed 0 count 0 old 1 out 0");
    }

    #[test]
    fn wrong_ones_are_told_what_is_wrong() {
        check_alloc("pool_get", "'pool_get' does not say what the arguments are");
        check_alloc("ns::Pool::get", "'ns::Pool::get' does not say what the arguments are");
        check_alloc("", "'' does not say what the arguments are");
        check_alloc(":size=arg0", "':size=arg0' names no function");
        check_alloc("!get:size=arg0", "there is no file before the '!'");
        check_alloc("get:ptr=ret", "the size is missing: size=argN, or size=NUMBER for blocks of one size");
        check_alloc("get:size=arg0,size=arg1", "'size' is given twice");
        check_alloc("get:size=", "'size=' says nothing");
        check_alloc("get:size=arg0,ret", "'ret' is not of the form ROLE=WHERE");
        check_alloc(
            "get:bytes=arg0",
            "'bytes' is no role of an allocating function: they are size, count, ptr and old",
        );
        check_alloc("get:size=arg6", "size=arg6 cannot be read: only arg0 to arg5 are passed in registers");
        check_alloc("get:size=argx", "size=argx names no argument: they are arg0 to arg5");
        check_alloc("get:size=many", "size=many is neither an argument, as arg0, nor a size, as 64 or 4KiB");
        check_alloc("get:size=0", "size=0: blocks of nothing hold no memory");
        check_alloc("get:size=5GiB", "size=5GiB is more than 4 GiB, which no pool's blocks have");
        check_alloc(
            "get:size=1,ptr=arg0",
            "ptr=arg0 is no place for a new block: that is ptr=ret, or ptr=*argN for a function that stores it and \
             returns 0",
        );
        check_alloc(
            "get:size=1,ptr=*arg0,old=arg1",
            "'old' goes with ptr=ret only: there is no telling whether a call that stores its result has released \
             the old block",
        );
        check_free("put", "'put' does not say what the arguments are");
        check_free("put:size=arg0", "'size' is no role of a freeing function: that is ptr");
        check_free("put:ptr=ret", "ptr=ret names no argument: they are arg0 to arg5");
    }

    #[test]
    fn each_mistake_comes_with_an_example() {
        for why in [Spec::alloc("x").unwrap_err(), Spec::alloc("x:size=y").unwrap_err()] {
            assert!(why.ends_with("write for example 'pool_get:size=arg1,ptr=ret'"), "{why}");
        }
        assert!(Spec::free("x").unwrap_err().ends_with("write for example 'pool_put:ptr=arg0'"));
    }

    #[test]
    fn a_file_limits_by_the_end_of_a_path() {
        let spec = Spec::free("libpool.so!put:ptr=arg0").unwrap();
        assert!(spec.is_for("/opt/lib/libpool.so") && spec.is_for("/opt/libpool.so (deleted)"));
        assert!(!spec.is_for("/opt/lib/libpool.so.1"));
    }
}
