//! Which functions a user means by a name, and which he may have meant.

use std::borrow::Cow;

use crate::elf::{Symbol, demangle::demangle};

/// The functions that are called `wanted`: by their linker name, or as reports show them, with or without parameters.
///
/// # Errors
/// If the name is that of several functions.
pub(super) fn resolve<'data>(symbols: &[Symbol<'data>], wanted: &str) -> Result<Vec<Symbol<'data>>, String> {
    let exact = distinct(symbols.iter().filter(|it| it.name == wanted.as_bytes()));
    if !exact.is_empty() {
        return Ok(exact);
    }
    let hint = identifier(wanted);
    let is_meant = |it: &&Symbol<'_>| {
        let Ok(name) = std::str::from_utf8(it.name) else { return false };
        // Parts and copies that the compiler has made (`.cold`, `.part.0`, `.isra.0`) have other arguments.
        if !name.contains(hint) || name.contains('.') {
            return false;
        }
        match demangle(name) {
            Cow::Borrowed(_) => false,
            Cow::Owned(full) => {
                full == wanted || without_parameters(&full) == wanted || bare(&full) == wanted
            }
        }
    };
    let meant = distinct(symbols.iter().filter(is_meant));
    if meant.len() > 1 {
        let shown: Vec<String> = meant
            .iter()
            .take(MOST_SHOWN)
            .map(|it| {
                let name = String::from_utf8_lossy(it.name);
                format!("\n  {name}  {}", demangle(&name))
            })
            .collect();
        let more = meant.len().saturating_sub(MOST_SHOWN);
        let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
        return Err(format!(
            "{} functions are called so; give one of these names:{}{more}",
            meant.len(),
            shown.concat()
        ));
    }
    Ok(meant)
}

/// Lines of a message; more would hide the rest of it.
const MOST_SHOWN: usize = 6;

/// One for each address: aliases share their code.
fn distinct<'data, 'a>(symbols: impl Iterator<Item = &'a Symbol<'data>>) -> Vec<Symbol<'data>>
where
    'data: 'a,
{
    let mut symbols: Vec<Symbol<'data>> = symbols.copied().collect();
    symbols.sort_by_key(|it| it.address);
    symbols.dedup_by_key(|it| it.address);
    symbols
}

/// A part of `name` that is in the linker name as it is: to demangle a hundred thousand names takes half a second.
fn identifier(name: &str) -> &str {
    let end = name.find(['(', '<']).unwrap_or(name.len());
    let last = name[..end].rsplit("::").next().unwrap_or_default();
    let last = last.rsplit(' ').next().unwrap_or_default();
    if last.starts_with("operator") || last.starts_with('~') { "" } else { last }
}

/// `int* ns::get<int>(unsigned long) const` without what is behind the name.
fn without_parameters(full: &str) -> &str {
    let Some(end) = full.rfind(')') else { return full };
    let mut depth = 0;
    for (at, byte) in full.bytes().enumerate().take(end + 1).collect::<Vec<_>>().into_iter().rev() {
        match byte {
            b')' => depth += 1,
            b'(' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &full[..at];
        }
    }
    full
}

/// … and without the type that a template's name begins with.
fn bare(full: &str) -> &str {
    let name = without_parameters(full);
    let (mut depth, mut start) = (0, 0);
    for (at, byte) in name.bytes().enumerate() {
        match byte {
            b'<' | b'(' => depth += 1,
            b'>' | b')' => depth -= 1,
            b' ' if depth == 0 => start = at + 1,
            _ => {}
        }
    }
    &name[start..]
}

/// Of `names`, those that `wanted` may have been meant to be, the most likely first.
pub fn similar<'a>(names: impl Iterator<Item = &'a str>, wanted: &str) -> Vec<&'a str> {
    /// Beyond that a list is of no help.
    const MOST: usize = 3;
    let wanted = wanted.to_lowercase();
    let mut rated: Vec<(usize, &str)> = names
        .filter_map(|name| {
            let lower = name.to_lowercase();
            let distance = strsim::damerau_levenshtein(&lower, &wanted);
            // A third of the letters may be wrong, or the name is a part of another.
            let is_near = distance * 3 <= wanted.len();
            let is_part =
                wanted.len() >= 3 && (lower.contains(&wanted) || lower.len() >= 4 && wanted.contains(&lower));
            (is_near || is_part).then_some((distance, name))
        })
        .collect();
    rated.sort_unstable();
    rated.dedup_by_key(|(_, name)| *name);
    rated.into_iter().take(MOST).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYMBOLS: [&str; 9] = [
        "_ZN2ns4Pool3getEm.cold",
        "pool_get",
        "pool_put",
        "_ZN2ns4Pool3getEm",
        "_ZN2ns4Pool3putEPv",
        "_ZN2ns4Pool3putEPvm",
        "_ZN2ns4makeIiEEPT_m",
        "_ZN4demo4Pool3get17h0123456789abcdefE",
        "_ZN2ns4PoolclEv",
    ];

    /// `expected` are the functions found, or the first line of the reason.
    fn check(wanted: &str, expected: &str) {
        let symbols: Vec<Symbol<'_>> = (1..)
            .zip(SYMBOLS)
            .map(|(number, name)| Symbol { name: name.as_bytes(), address: number, size: 1 })
            .collect();
        let found = match resolve(&symbols, wanted) {
            Ok(found) => {
                found.iter().map(|it| String::from_utf8_lossy(it.name)).collect::<Vec<_>>().join(" ")
            }
            Err(why) => why.lines().next().unwrap_or_default().to_owned(),
        };
        assert_eq!(found, expected, "{wanted}");
    }

    #[test]
    fn names_as_linkers_and_as_people_write_them() {
        check("pool_get", "pool_get");
        check("_ZN2ns4Pool3getEm", "_ZN2ns4Pool3getEm");
        check("ns::Pool::get", "_ZN2ns4Pool3getEm");
        check("ns::Pool::get(unsigned long)", "_ZN2ns4Pool3getEm");
        check("ns::make<int>", "_ZN2ns4makeIiEEPT_m");
        check("demo::Pool::get", "_ZN4demo4Pool3get17h0123456789abcdefE");
        check("ns::Pool::operator()", "_ZN2ns4PoolclEv");
        check("ns::Pool::put(void*, unsigned long)", "_ZN2ns4Pool3putEPvm");
    }

    #[test]
    fn what_is_not_there_or_not_clear() {
        check("pool", "");
        check("Pool::get", "");
        check("ns::Pool::get(int)", "");
        check("ns::Pool::put", "2 functions are called so; give one of these names:");
    }

    #[test]
    fn what_may_have_been_meant() {
        let similar = |wanted| similar(SYMBOLS.into_iter(), wanted).join(" ");
        assert_eq!(similar("pool_gte"), "pool_get");
        assert_eq!(similar("PoolGet"), "pool_get");
        assert_eq!(similar("pool_g"), "pool_get");
        assert_eq!(similar("nothing_like_it"), "");
    }
}
