//! One file as the checks want it: Rust code told from comments and literals.

/// Stands in [`Source::code`] for each byte of a string or character.
pub(super) const LITERAL: u8 = 1;

pub(super) struct Source<'a> {
    pub(super) path: &'a str,
    pub(super) text: &'a str,
    /// As long as `text`, with the same lines: comments are blanks, strings and characters are [`LITERAL`]. Equal to `text`
    /// if the file is not Rust.
    pub(super) code: Vec<u8>,
}

impl<'a> Source<'a> {
    pub(super) fn new(path: &'a str, text: &'a str) -> Source<'a> {
        let code = if path.ends_with(".rs") { blank(text.as_bytes()) } else { text.as_bytes().to_vec() };
        Source { path, text, code }
    }

    pub(super) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Lines from 1, each as text and as code.
    pub(super) fn lines(&self) -> impl Iterator<Item = (usize, &'a str, &[u8])> {
        (1..)
            .zip(self.text.split('\n'))
            .zip(self.code.split(|it| *it == b'\n'))
            .map(|((at, text), code)| (at, text, code))
    }

    pub(super) fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }

    /// The code without the tests at its end.
    pub(super) fn product_code(&self) -> &[u8] {
        let code = self.code.as_slice();
        if self.is_test() {
            return &[];
        }
        let tests = b"#[cfg(test)]\nmod tests {";
        &code[..code.windows(tests.len()).position(|it| it == tests).unwrap_or(code.len())]
    }
}

fn blank(text: &[u8]) -> Vec<u8> {
    let mut code = text.to_vec();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let (len, fill) = if rest.starts_with(b"//") {
            (rest.iter().position(|it| *it == b'\n').unwrap_or(rest.len()), b' ')
        } else if rest.starts_with(b"/*") {
            (block_comment(rest), b' ')
        } else if let Some(len) = raw_string(text, at) {
            (len, LITERAL)
        } else if rest[0] == b'"' {
            (quoted(rest, b'"'), LITERAL)
        } else if rest[0] == b'\'' && !is_lifetime(rest) {
            (quoted(rest, b'\''), LITERAL)
        } else {
            at += 1;
            continue;
        };
        code[at..at + len].iter_mut().filter(|it| **it != b'\n').for_each(|it| *it = fill);
        at += len;
    }
    code
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// The length of `r"…"` or `r#"…"#` (`br`, `cr` as well: the letter before is left standing).
fn raw_string(text: &[u8], at: usize) -> Option<usize> {
    let rest = text[at..].strip_prefix(b"r")?;
    let in_word = |it: &u8| it.is_ascii_alphanumeric() || *it == b'_';
    let before = &text[..at];
    let prefixed = matches!(before, [.., other, b'b' | b'c'] if !in_word(other));
    if before.last().is_some_and(in_word) && !prefixed {
        return None;
    }
    let hashes = rest.iter().take_while(|it| **it == b'#').count();
    let body = rest[hashes..].strip_prefix(b"\"")?;
    let end = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    let len = body.windows(end.len()).position(|it| it == end).map_or(body.len(), |it| it + end.len());
    Some(1 + hashes + 1 + len)
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            it if it == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// `'a` in `<'a>`, not `'a'`.
fn is_lifetime(rest: &[u8]) -> bool {
    let name = rest[1..].iter().take_while(|it| it.is_ascii_alphanumeric() || **it == b'_').count();
    name > 0 && rest.get(1 + name) != Some(&b'\'')
}
