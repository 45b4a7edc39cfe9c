//! Folded stacks: `name;outermost;…;innermost bytes`, the input of every flamegraph tool.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use super::{
    Options,
    level::{Levels, shown},
};
use crate::profile::{Difference, Profile};

/// The stacks that hold something.
pub(super) struct Folded {
    /// In the order of the stacks, each of them once.
    pub(super) lines: Vec<(String, i64)>,
    /// Stacks that hold nothing, or less: more was freed than allocated in this span of time.
    pub(super) left_out: usize,
}

pub(super) fn write_difference(
    difference: &Difference,
    options: &Options,
    out: &mut dyn Write,
) -> io::Result<()> {
    for (stack, before, after) in fold_difference(difference, options) {
        writeln!(out, "{stack} {before} {after}")?;
    }
    Ok(())
}

pub(super) fn write(profile: &Profile, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    for (stack, bytes) in fold(profile, options).lines {
        writeln!(out, "{stack} {bytes}")?;
    }
    Ok(())
}

/// `stack before after` for each pair that holds something, in the order of the stacks: what difffolded.pl makes of
/// two recordings. Inlined functions are left out, since they are known of builds only that are still there.
pub(super) fn fold_difference(difference: &Difference, options: &Options) -> Vec<(String, i64, i64)> {
    let (mut before, mut after) = (Levels::of(&difference.before), Levels::of(&difference.after));
    let pairs = difference.pairs.iter().take(options.top.unwrap_or(usize::MAX));
    let mut lines = BTreeMap::<String, (i64, i64)>::new();
    for pair in pairs {
        let (profile, Some(site)) = difference.site(pair) else { continue };
        let levels = if std::ptr::eq(profile, &difference.after) { &mut after } else { &mut before };
        let names = levels.real_stack(profile, site);
        let mut line = names.iter().map(|it| escape(&it.name())).collect::<Vec<_>>().join(";");
        guard_ends(&mut line);
        let bytes = lines.entry(line).or_default();
        bytes.0 += pair.before.live.bytes;
        bytes.1 += pair.after.live.bytes;
    }
    lines
        .into_iter()
        .map(|(line, (before, after))| (line, before.max(0), after.max(0)))
        .filter(|it| it.1 + it.2 > 0)
        .collect()
}

pub(super) fn fold(profile: &Profile, options: &Options) -> Folded {
    let mut levels = Levels::of(profile);
    let sites = shown(profile, options);
    let stacks: Vec<Vec<u32>> = sites.iter().map(|it| levels.stack(it)).collect();
    let names: Vec<String> = levels.all().iter().map(|it| escape(&it.name())).collect();
    let line = |stack: &Vec<u32>| {
        let mut line = String::new();
        for number in stack {
            if !line.is_empty() {
                line.push(';');
            }
            line.push_str(&names[*number as usize]);
        }
        guard_ends(&mut line);
        line
    };
    let mut lines: Vec<(String, i64)> =
        stacks.iter().map(line).zip(sites.iter().map(|it| it.live.bytes)).collect();
    lines.sort_unstable();
    lines.dedup_by(|next, kept| {
        let is_same = next.0 == kept.0;
        if is_same {
            kept.1 += next.1;
        }
        is_same
    });
    let all = lines.len();
    lines.retain(|it| it.1 > 0);
    let left_out = all - lines.len();
    guard_prefixes(&mut lines);
    Folded { lines, left_out }
}

/// A semicolon separates frames; blanks may stay, since the number is found from the right.
fn escape(name: &str) -> String {
    name.replace(';', ":")
}

/// Two numbers at the end would be a difference, and a `#` before a blank a comment.
fn guard_ends(line: &mut String) {
    if let Some((before, last)) = line.rsplit_once(' ')
        && last.bytes().all(|it| it.is_ascii_digit() || it == b'.')
    {
        let at = before.len();
        line.replace_range(at..=at, "_");
    }
    if line.starts_with("# ") {
        line.replace_range(1..2, "_");
    }
}

/// inferno sorts lines with their numbers and then refuses them if the stacks alone are not in order. A stack that
/// goes on behind another one with a blank, as `f (.cold)` behind `f`, can bring that about; there the blank
/// becomes one that is no separator.
fn guard_prefixes(lines: &mut [(String, i64)]) {
    let mut changed = false;
    for at in 0..lines.len() {
        let (stack, rest) =
            lines[at..].split_first_mut().map_or(("", &mut [][..]), |(it, rest)| (&*it.0, rest));
        let goes_on = |it: &str| it.strip_prefix(stack).is_some_and(|it| it.starts_with(' '));
        for (longer, _) in rest.iter_mut().take_while(|it| goes_on(&it.0)) {
            longer.replace_range(stack.len()..=stack.len(), "\u{a0}");
            changed = true;
        }
    }
    if changed {
        lines.sort_unstable();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tools_would_take_for_a_number_or_a_comment_is_guarded() {
        for (line, guarded) in [
            ("app;f", "app;f"),
            ("worker 3", "worker_3"),
            ("app;f 1.5", "app;f_1.5"),
            ("app;f(int, char)", "app;f(int, char)"),
            ("# app;f", "#_app;f"),
            ("#app;f", "#app;f"),
        ] {
            let mut text = line.to_owned();
            guard_ends(&mut text);
            assert_eq!(text, guarded);
        }
    }

    #[test]
    fn lines_stay_in_order_without_their_numbers() {
        let mut lines: Vec<(String, i64)> =
            ["a;f", "a;f (.cold)", "a;f (.cold);g", "a;f;g"].map(|it| (it.to_owned(), 7)).into();
        guard_prefixes(&mut lines);
        let stacks: Vec<&str> = lines.iter().map(|it| it.0.as_str()).collect();
        assert_eq!(stacks, ["a;f", "a;f;g", "a;f\u{a0}(.cold)", "a;f\u{a0}(.cold);g"]);
    }
}
