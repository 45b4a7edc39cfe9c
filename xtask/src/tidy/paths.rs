//! The paths that Rust code names: `a::b::c`, and each branch of `a::{b, c::d}`.

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) line: usize,
    pub(super) segments: Vec<String>,
}

/// All paths of two segments or more in `code`, which has no comments and literals.
pub(super) fn paths(code: &[u8]) -> Vec<Path> {
    let tokens = tokens(code);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if matches!(tokens[at].0, Token::Name(_)) { at = path(&tokens, at, &[], &mut found) } else { at += 1 }
    }
    found.retain(|it| it.segments.len() > 1);
    found
}

enum Token<'a> {
    Name(&'a str),
    /// `::`
    Then,
    Other(u8),
}

/// Reads one path, with all its branches, and returns where the rest begins.
fn path(tokens: &[(Token<'_>, usize)], mut at: usize, before: &[String], found: &mut Vec<Path>) -> usize {
    let mut segments = before.to_vec();
    let Some((_, line)) = tokens.get(at) else { return at };
    while let Some((Token::Name(name), _)) = tokens.get(at) {
        segments.push((*name).to_owned());
        at += 1;
        if !matches!(tokens.get(at), Some((Token::Then, _))) {
            break;
        }
        at += 1;
        if let Some((Token::Other(b'{'), _)) = tokens.get(at) {
            return branches(tokens, at + 1, &segments, found);
        }
    }
    found.push(Path { line: *line, segments });
    at
}

/// The inside of `{b, c::d as e, *}`, from behind its `{` to behind its `}`.
fn branches(tokens: &[(Token<'_>, usize)], mut at: usize, before: &[String], found: &mut Vec<Path>) -> usize {
    while let Some((token, _)) = tokens.get(at) {
        at = match token {
            Token::Other(b'}') => return at + 1,
            Token::Name("as") => at + 2,
            Token::Name(_) => path(tokens, at, before, found),
            Token::Then | Token::Other(_) => at + 1,
        };
    }
    at
}

fn tokens(code: &[u8]) -> Vec<(Token<'_>, usize)> {
    let in_name = |it: &u8| it.is_ascii_alphanumeric() || *it == b'_';
    let (mut tokens, mut at, mut line) = (Vec::new(), 0, 1);
    while at < code.len() {
        let rest = &code[at..];
        let name = rest.iter().take_while(|it| in_name(it)).count();
        if name > 0 {
            tokens.push((Token::Name(std::str::from_utf8(&rest[..name]).unwrap_or_default()), line));
            at += name;
        } else if rest.starts_with(b"::") {
            tokens.push((Token::Then, line));
            at += 2;
        } else {
            line += usize::from(rest[0] == b'\n');
            if !rest[0].is_ascii_whitespace() {
                tokens.push((Token::Other(rest[0]), line));
            }
            at += 1;
        }
    }
    tokens
}
