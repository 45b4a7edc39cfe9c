//! Reads the text of memleak.py, and nothing that is not in its layout.

use std::collections::BTreeMap;

use crate::program::Ended;

/// One report in the layout of memleak.py.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Address and size of each listed block.
    pub(super) listed: BTreeMap<u64, i64>,
    /// As printed: the largest last.
    pub(super) stacks: Vec<Stack>,
}

#[derive(Debug, Default)]
pub(super) struct Stack {
    pub(super) bytes: i64,
    pub(super) blocks: i64,
    pub(super) functions: Vec<String>,
}

impl Report {
    /// All reports in what was printed; every line in between must be one of the layout.
    pub(super) fn all(text: &str) -> Vec<Self> {
        let mut reports: Vec<Self> = Vec::new();
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let [time, "Top", _, "stacks", "with", "outstanding", "allocations:"] = words[..] {
                let digits: Vec<usize> = time.trim_matches(['[', ']']).split(':').map(str::len).collect();
                assert_eq!(digits, [2, 2, 2], "{line}");
                reports.push(Self::default());
                continue;
            }
            let Some(report) = reports.last_mut() else { continue };
            if let ["addr", "=", address, "size", "=", bytes] = words[..] {
                assert!(line.starts_with("\taddr") && report.stacks.is_empty(), "{line:?} has its place");
                let address = u64::from_str_radix(address, 16).expect("an address");
                let again = report.listed.insert(address, bytes.parse().expect("a size"));
                assert_eq!(again, None, "{line:?} is there twice");
            } else if let [bytes, "bytes", "in", blocks, "allocations", "from", "stack"] = words[..] {
                let (bytes, blocks) = (bytes.parse().expect("bytes"), blocks.parse().expect("a number"));
                report.stacks.push(Stack { bytes, blocks, functions: Vec::new() });
            } else if let Some(frame) = line.strip_prefix("\t\t") {
                let stack = report.stacks.last_mut().expect("a stack before its frames");
                stack.functions.push(function(frame));
            }
        }
        reports
    }

    pub(super) fn last(ended: &Ended) -> Self {
        assert_eq!(ended.code, Some(0), "{ended:?}");
        Self::all(&ended.output).pop().unwrap_or_else(|| panic!("a report: {ended:?}"))
    }
}

/// The address, a tab, and `grow+0x14 [leak]`, or `[unknown]` in place of the name.
fn function(frame: &str) -> String {
    let (address, symbol) = frame.split_once('\t').unwrap_or_else(|| panic!("{frame:?} has an address"));
    let digits = address.strip_prefix("0x").expect("hexadecimal");
    assert!(digits.len() == 16 && u64::from_str_radix(digits, 16).is_ok(), "{frame:?}");
    let name = symbol.rsplit_once(" [").map_or(symbol, |(name, _)| name);
    match name.rsplit_once("+0x") {
        Some((name, offset)) => {
            assert!(u64::from_str_radix(offset, 16).is_ok(), "{frame:?}");
            name.to_owned()
        }
        None => name.to_owned(),
    }
}
