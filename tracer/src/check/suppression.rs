//! Suppressions in the syntax of LeakSanitizer, so that one file serves both.
//!
//! ```text
//! # why it does not matter
//! leak:libfontconfig.so
//! leak:^my::registry::*intern
//! ```
//!
//! A pattern is looked for in the function, the source file and the module of every frame of a stack. `*` stands
//! for anything, `^` for the beginning and `$` for the end.

use crate::profile::{Frame, Profile, Site};

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppression {
    pub pattern: String,
    pub is_built_in: bool,
}

/// In the order of the files; the first that matches a stack takes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suppressions(Vec<Suppression>);

/// A line that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct SyntaxError {
    /// From 1.
    pub line: usize,
    pub why: String,
}

/// What every program of its language keeps to its end and can still reach: LeakSanitizer does not report it either.
const BUILT_IN: [&str; 5] = [
    // Buffers of stdin, stdout and stderr.
    "^_IO_file_doallocate$",
    // A thread's vector of its variables; glibc keeps the stacks of threads that have ended, and this with them.
    "^_dl_allocate_tls$",
    // What libraries set up while they are loaded: among it libstdc++'s reserve for exceptions, 71 KiB.
    "^_dl_init$",
    // Rust's note of where the main thread's stack ends.
    "^std::sys::*stack_overflow*thread_info",
    // Rust's handle of the main thread.
    "^std::rt::init",
];

impl Suppressions {
    /// Adds what runtimes are known to keep. It counts as leaked by nobody, but as live.
    pub fn add_built_in(&mut self) {
        let suppression = |it: &str| Suppression { pattern: it.to_owned(), is_built_in: true };
        self.0.extend(BUILT_IN.map(suppression));
    }

    /// Adds the lines of a file.
    ///
    /// # Errors
    /// The first line that is neither empty nor a comment nor `leak:PATTERN`.
    pub fn add(&mut self, text: &str) -> Result<(), SyntaxError> {
        for (number, line) in (1..).zip(text.lines()) {
            let error = |why: String| Err(SyntaxError { line: number, why });
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line.split_once(':') {
                Some(("leak", pattern)) if pattern.trim_matches(['^', '$', '*']).trim().is_empty() => {
                    return error("a pattern is missing behind \"leak:\"".to_owned());
                }
                Some(("leak", pattern)) => {
                    self.0.push(Suppression { pattern: pattern.trim().to_owned(), is_built_in: false });
                }
                Some((other, _)) => {
                    return error(format!("{other:?} is no type of suppression; write leak:PATTERN"));
                }
                None => return error(format!("{line:?} is no suppression; write leak:PATTERN")),
            }
        }
        Ok(())
    }

    pub fn iter(&self) -> impl Iterator<Item = &Suppression> {
        self.0.iter()
    }

    /// For each site the place of the first that matches one of its frames.
    pub(super) fn find(&self, profile: &Profile) -> Vec<Option<usize>> {
        // Each frame is in many stacks.
        let first = |frame: &Frame| self.0.iter().position(|it| it.matches(frame));
        let of_frames: Vec<Option<usize>> = profile.stacks.frames().iter().map(first).collect();
        let of_site = |site: &Site| site.frames.iter().filter_map(|it| of_frames[it.0 as usize]).min();
        profile.sites.iter().map(of_site).collect()
    }
}

impl Suppression {
    fn matches(&self, frame: &Frame) -> bool {
        let texts = [frame.function.as_deref(), frame.file.as_deref(), Some(&*frame.module)];
        texts.into_iter().flatten().any(|it| matches(&self.pattern, it))
    }
}

/// Whether `pattern` is somewhere in `text`.
fn matches(pattern: &str, text: &str) -> bool {
    let (from_start, pattern) = pattern.strip_prefix('^').map_or((false, pattern), |it| (true, it));
    let (to_end, pattern) = pattern.strip_suffix('$').map_or((false, pattern), |it| (true, it));
    let parts: Vec<&str> = pattern.split('*').collect();
    let mut rest = text;
    for (at, part) in parts.iter().enumerate() {
        let (is_first, is_last) = (at == 0, at + 1 == parts.len());
        if is_last && to_end {
            let fits = rest.ends_with(part) && (!(is_first && from_start) || rest.len() == part.len());
            return fits;
        }
        let found =
            if is_first && from_start { rest.starts_with(part).then_some(0) } else { rest.find(part) };
        let Some(found) = found else { return false };
        rest = &rest[found + part.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let check = |pattern: &str, text: &str, expected: bool| {
            assert_eq!(matches(pattern, text), expected, "{pattern} in {text}");
        };
        check("cache", "app::cache::fill", true);
        check("cache", "app::stash::fill", false);
        check("^cache", "app::cache::fill", false);
        check("^app", "app::cache::fill", true);
        check("fill$", "app::cache::fill", true);
        check("cache$", "app::cache::fill", false);
        check("^app$", "app", true);
        check("^app$", "app::app", false);
        check("app*fill", "app::cache::fill", true);
        check("fill*app", "app::cache::fill", false);
        check("^a*c*l$", "app::cache::fill", true);
        check("^a*c*x$", "app::cache::fill", false);
        // The parts may not overlap.
        check("^ab*ba$", "aba", false);
        check("^ab*ba$", "abba", true);
        check("a*", "a", true);
        check("*", "", true);
        check("größe*", "die größe", true);
    }

    #[test]
    fn files() {
        let parse = |text: &str| {
            let mut found = Suppressions::default();
            found.add(text).map(|()| found.0.into_iter().map(|it| it.pattern).collect::<Vec<_>>())
        };
        let found = parse("# known\n\n  leak:libfoo.so \r\nleak:my::Type<a, b>::new\n#leak:no\n");
        assert_eq!(found, Ok(vec!["libfoo.so".to_owned(), "my::Type<a, b>::new".to_owned()]));
        assert_eq!(parse(""), Ok(vec![]));
        let check = |text: &str, expected: &str| {
            assert_eq!(parse(text).map_err(|it| it.to_string()), Err(expected.to_owned()));
        };
        check("leak:a\nrace:b", "line 2: \"race\" is no type of suppression; write leak:PATTERN");
        check("\nlibfoo", "line 2: \"libfoo\" is no suppression; write leak:PATTERN");
        check("leak:", "line 1: a pattern is missing behind \"leak:\"");
        check("leak: *", "line 1: a pattern is missing behind \"leak:\"");
    }
}
