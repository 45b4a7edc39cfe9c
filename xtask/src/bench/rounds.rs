//! Rounds in which every tool has its turn, so that what disturbs the machine disturbs all of them.

use std::collections::BTreeMap;

use super::{lab::Lab, pair::Pair, stats::Spread, tool::Tool};

/// How often a turn is tried that another tracer on this machine has disturbed.
const TRIES: u32 = 5;

/// What each tool had, round by round; `None` where a turn could not be measured.
pub(super) struct Rounds<T> {
    samples: BTreeMap<Tool, Vec<Option<T>>>,
    /// Tools that were left out, and why.
    pub(super) skipped: Vec<(Tool, String)>,
}

impl<T> Rounds<T> {
    /// Tools that fail are left out from then on: the figures of the others are still worth having.
    ///
    /// # Errors
    /// The baseline could not be measured.
    pub(super) fn measure(
        lab: &Lab,
        name: &str,
        rounds: u32,
        tools: &[Tool],
        canary: &mut Pair,
        mut one: impl FnMut(Tool) -> anyhow::Result<T>,
    ) -> anyhow::Result<Self> {
        let missing = |&tool: &Tool| Some((tool, tool.missing(lab)?));
        let mut all = Self { samples: BTreeMap::new(), skipped: tools.iter().filter_map(missing).collect() };
        for round in 0..rounds {
            for &tool in tools {
                if all.skipped.iter().any(|(it, _)| *it == tool) {
                    continue;
                }
                eprint!("\r\x1b[Kbench: {name}, round {} of {rounds}: {tool}", round + 1);
                match undisturbed(canary, || one(tool)) {
                    Ok(sample) => all.samples.entry(tool).or_default().push(sample),
                    Err(error) if tool != Tool::Untraced => {
                        eprintln!("\r\x1b[Kbench: {name} under {tool}: {error:#}");
                        all.skipped.push((tool, format!("{error:#}")));
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        eprint!("\r\x1b[K");
        Ok(all)
    }

    pub(super) fn tools(&self) -> impl Iterator<Item = Tool> {
        self.samples.keys().copied()
    }

    pub(super) fn of(&self, tool: Tool, value: impl Fn(&T) -> Option<f64>) -> Vec<Option<f64>> {
        let samples = self.samples.get(&tool).map(Vec::as_slice).unwrap_or_default();
        samples.iter().map(|it| it.as_ref().and_then(&value)).collect()
    }

    pub(super) fn spread(&self, tool: Tool, value: impl Fn(&T) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.of(tool, value).into_iter().flatten())
    }

    pub(super) fn last(&self, tool: Tool) -> Option<&T> {
        self.samples.get(&tool)?.iter().flatten().next_back()
    }

    pub(super) fn print_skipped(&self) {
        for (tool, reason) in &self.skipped {
            println!("  without {tool}: {}", in_short(reason));
        }
    }
}

/// What happened, and what the tool said last.
pub(super) fn in_short(reason: &str) -> String {
    let mut lines = reason.lines().filter(|it| !it.trim().is_empty());
    let first = lines.next().unwrap_or_default();
    lines.next_back().map_or_else(|| first.to_owned(), |last| format!("{first} {last}"))
}

/// Nothing else may trace the C library before and after; `None` if that did not come about.
fn undisturbed<T>(
    canary: &mut Pair,
    mut one: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<Option<T>> {
    for _ in 0..TRIES {
        canary.until_untraced()?;
        let sample = one()?;
        if !canary.is_traced()? {
            return Ok(Some(sample));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_reason_the_ends_are_told() {
        assert_eq!(in_short("it ended:\nTraceback\n  ...\nNo such file\n\n"), "it ended: No such file");
        assert_eq!(in_short("no such program"), "no such program");
    }
}
