//! Names as they were written in the source.

use std::borrow::Cow;

/// The Rust or C++ name behind a linker name. Anything that does not begin as those do is C and stays:
/// in the C++ scheme the bare letter `w` would be the type `wchar_t`.
pub fn demangle(name: &str) -> Cow<'_, str> {
    if !["_Z", "__Z", "_R", "__R"].iter().any(|it| name.starts_with(it)) {
        return name.into();
    }
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        // Without the hash.
        return format!("{rust:#}").into();
    }
    let cpp = cpp_demangle::Symbol::new(name).ok().and_then(|it| it.demangle().ok());
    cpp.map_or(name.into(), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expected: &str) {
        assert_eq!(demangle(name), expected);
    }

    #[test]
    fn rust() {
        check("_ZN5alloc7raw_vec11finish_grow17h0123456789abcdefE", "alloc::raw_vec::finish_grow");
        check("_RNvCs1234_7mycrate3foo", "mycrate::foo");
    }

    #[test]
    fn cpp() {
        check("_Znwm", "operator new(unsigned long)");
        check(
            "_ZNSt6vectorIiSaIiEE9push_backEOi",
            "std::vector<int, std::allocator<int> >::push_back(int&&)",
        );
        check("_Z4growv.cold", "grow() [clone .cold]");
    }

    #[test]
    fn c() {
        for name in ["w", "v", "main", "_start", "Z3foo", "_Zwrong"] {
            check(name, name);
        }
    }
}
