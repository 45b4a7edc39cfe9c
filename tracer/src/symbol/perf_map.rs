//! Names of code that was made at run time, from the file that its compiler writes: `START SIZE NAME`, in hexadecimal.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::PathBuf,
    sync::Arc,
};

use crate::elf::demangle::demangle;

/// More than any compiler has to say; such a file is left alone.
const MAX_BYTES: u64 = 256 << 20;

/// What a file says, as of the last look at it.
pub struct PerfMapNames {
    path: PathBuf,
    owner: u32,
    /// Inode, length and time of the last change.
    seen: Option<(u64, u64, i64, i64)>,
    functions: Functions,
}

impl PerfMapNames {
    /// The file at `path`, if it is `owner`'s or root's; it need not be there yet.
    pub fn new(path: PathBuf, owner: u32) -> Self {
        Self { path, owner, seen: None, functions: Functions::default() }
    }

    /// Looks at the file again; false if it says nothing new.
    pub fn refresh(&mut self) -> bool {
        let Some((seen, text)) = self.read() else { return false };
        self.seen = Some(seen);
        self.functions = Functions::parse(&text);
        true
    }

    pub fn function(&self, address: u64) -> Option<Arc<str>> {
        self.functions.at(address)
    }

    fn read(&self) -> Option<((u64, u64, i64, i64), String)> {
        // Whoever can put something in its place must not have us wait for it, or lead us elsewhere.
        let flags = (rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW).bits() as i32;
        let mut file = File::options().read(true).custom_flags(flags).open(&self.path).ok()?;
        let facts = file.metadata().ok()?;
        let seen = (facts.ino(), facts.len(), facts.mtime(), facts.mtime_nsec());
        let is_theirs = facts.uid() == self.owner || facts.uid() == 0;
        if !facts.is_file() || !is_theirs || facts.len() > MAX_BYTES || self.seen == Some(seen) {
            return None;
        }
        let mut bytes = Vec::with_capacity(facts.len() as usize);
        file.by_ref().take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
        Some((seen, String::from_utf8_lossy(&bytes).into_owned()))
    }
}

/// End and name by start; they do not overlap.
#[derive(Default)]
struct Functions(BTreeMap<u64, (u64, Arc<str>)>);

impl Functions {
    fn parse(text: &str) -> Self {
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

    fn at(&self, address: u64) -> Option<Arc<str>> {
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
        assert_eq!(Functions::parse(text).at(address).as_deref(), expected, "{address:#x} in {text:?}");
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
