//! Names of code that was made at run time, from the file that its compiler writes: `START SIZE NAME`, in hexadecimal.

use std::{collections::BTreeMap, sync::Arc};

use crate::elf::demangle::demangle;

/// End and name by start; they do not overlap.
#[derive(Default)]
pub struct PerfMapNames(BTreeMap<u64, (u64, Arc<str>)>);

impl PerfMapNames {
    /// What the file's text says.
    pub fn parse(text: &str) -> Self {
        let mut functions = Self::default();
        // The last line may not be whole yet.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for (start, end, name) in whole.lines().filter_map(line) {
            functions.insert(start, end, name);
        }
        functions
    }

    /// Later code takes the place of earlier code.
    fn insert(&mut self, start: u64, end: u64, name: &str) {
        let before = self.0.range(..start).next_back().filter(|(_, it)| it.0 > start).map(|it| *it.0);
        let within = self.0.range(start..end).map(|it| *it.0);
        let gone: Vec<u64> = before.into_iter().chain(within).collect();
        for start in gone {
            self.0.remove(&start);
        }
        self.0.insert(start, (end, demangle(name).as_ref().into()));
    }

    /// The function whose code is at `address`.
    pub fn function(&self, address: u64) -> Option<Arc<str>> {
        let (_, (end, name)) = self.0.range(..=address).next_back()?;
        (address < *end).then(|| Arc::clone(name))
    }
}

fn line(line: &str) -> Option<(u64, u64, &str)> {
    let (start, rest) = line.split_once(' ')?;
    let (size, name) = rest.split_once(' ')?;
    let number = |it: &str| u64::from_str_radix(it.trim_start_matches("0x"), 16).ok();
    let (start, size) = (number(start)?, number(size)?);
    (size > 0 && !name.is_empty()).then_some((start, start.checked_add(size)?, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, address: u64, expected: Option<&str>) {
        assert_eq!(
            PerfMapNames::parse(text).function(address).as_deref(),
            expected,
            "{address:#x} in {text:?}"
        );
    }

    #[test]
    fn the_last_one_there_holds() {
        let text = "1000 100 old code\n2000 10 LazyCompile:*leak /tmp/leak.js:3\n1080 100 new\n3000 10 half";
        check(text, 0x1000, None);
        check(text, 0x1080, Some("new"));
        check(text, 0x117f, Some("new"));
        check(text, 0x1180, None);
        check(text, 0x200f, Some("LazyCompile:*leak /tmp/leak.js:3"));
        check(text, 0x3000, None);
    }

    #[test]
    fn what_is_no_entry_is_passed_over() {
        check("\nfoo\n10 zz name\n0x10 0x10 hex\n20 0 empty\nffffffffffffffff 10 end\n", 0x18, Some("hex"));
        check("", 0, None);
    }
}
