//! Names that the target gave itself, made fit for a terminal and for other programs.

use std::borrow::Cow;

/// Whether a terminal would act on it or show the text around it in another order, instead of showing it; or whether
/// XML cannot hold it (XML 1.0, section 2.2).
fn acts(it: char) -> bool {
    it.is_control()
        || matches!(it, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}')
}

/// `text` with `\u{1b}` in place of the character, and so on. A process, a command or a function may be called
/// anything, and whoever reads a report has not asked for that to be done.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(acts) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for it in text.chars() {
        if acts(it) { shown.extend(it.escape_default()) } else { shown.push(it) }
    }
    shown.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_is_spelt() {
        for (text, expected) in [
            ("std::vec<int>::grow(ü)", "std::vec<int>::grow(ü)"),
            ("\x1b[2Jgone", "\\u{1b}[2Jgone"),
            ("a\r\n\tb", "a\\r\\n\\tb"),
            ("\u{9b}31m\u{7f}", "\\u{9b}31m\\u{7f}"),
            ("evil\u{202e}txt", "evil\\u{202e}txt"),
        ] {
            assert_eq!(printable(text), expected);
        }
    }
}
