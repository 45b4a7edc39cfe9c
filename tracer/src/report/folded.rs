//! Folded stacks: `name;outermost;…;innermost bytes`, the input of every flamegraph tool.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use super::Options;
use crate::profile::{Profile, Site};

pub(super) fn write(profile: &Profile, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    let mut lines: BTreeMap<String, i64> = BTreeMap::new();
    for site in profile.sites.iter().take(options.top.unwrap_or(usize::MAX)) {
        *lines.entry(line(profile, site)).or_default() += site.live.bytes;
    }
    for (stack, bytes) in lines.iter().filter(|(_, bytes)| **bytes > 0) {
        writeln!(out, "{stack} {bytes}")?;
    }
    Ok(())
}

fn line(profile: &Profile, site: &Site) -> String {
    let process = profile.processes.iter().find(|it| it.row.id == site.process);
    let mut line = process.map_or_else(|| "?".to_owned(), |it| escape(&it.row.name));
    if !site.is_complete() {
        line.push_str(";[stack ends early]");
    }
    for frame in profile.stack(site).rev() {
        line.push(';');
        line.push_str(&escape(&frame.label()));
    }
    if &*site.kind == "mmap" {
        line.push_str(&format!(";[{}]", site.via));
    }
    line
}

/// A semicolon separates frames and a line break lines; a blank before the number is found from the right,
/// so blanks in names may stay.
fn escape(name: &str) -> String {
    name.replace(';', ":").replace(['\n', '\r'], " ")
}
