//! One file that any browser opens, without a server and without the network: the report to look at, and to
//! send to others.
//!
//! The data is a block of JSON that no browser executes; the page computes everything it shows from it, so that
//! any part of the recording can be looked at. A strict Content-Security-Policy names the scripts and styles
//! by their hashes: should a name from the traced program ever get into the page as markup, it stays without
//! effect.
//!
//! `app/` is ours; `vendor/` is what others have published, unchanged (see its `MANIFEST`).

mod comparison;
mod document;
mod histories;
mod stacks;
#[cfg(test)]
mod tests;

use std::io::{self, Write};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use sha2::{Digest as _, Sha256};

use super::{Options, difference::Paths};
use crate::{
    capture::Recording,
    profile::{Difference, Profile},
};

/// Sites with a stack and a history of their own unless the user says otherwise; the others are summed up. As many, with 20
/// frames each, make a file of 4.6 MB if few of them change all the time.
pub(super) const TOP: usize = 20_000;

/// Parts in `@@` are filled in.
const PAGE: &str = include_str!("page.html");

const STYLES: [&str; 2] = [include_str!("vendor/uplot/uPlot.min.css"), include_str!("app/style.css")];

const PLOT: &str = include_str!("vendor/uplot/uPlot.iife.min.js");

/// They travel with what they are the licences of.
const LICENCES: &str = concat!("\nuPlot\n\n", include_str!("vendor/uplot/LICENSE"));

/// One script in one scope, in an order in which each part knows those before it.
const APP: [&str; 15] = [
    include_str!("app/units.js"),
    include_str!("app/data.js"),
    include_str!("app/model.js"),
    include_str!("app/dom.js"),
    include_str!("app/grid.js"),
    include_str!("app/scope.js"),
    include_str!("app/sites.js"),
    include_str!("app/tree.js"),
    include_str!("app/flame.js"),
    include_str!("app/timeline.js"),
    include_str!("app/header.js"),
    include_str!("app/detail.js"),
    include_str!("app/sides.js"),
    include_str!("app/comparison.js"),
    include_str!("app/main.js"),
];

pub(super) fn write(
    recording: &Recording,
    profile: &Profile,
    options: &Options,
    out: &mut dyn Write,
) -> io::Result<()> {
    page(&document::json(recording, profile, options)?, out)
}

/// The same page about what changed between two recordings.
pub(super) fn write_comparison(
    difference: &Difference,
    paths: &Paths,
    options: &Options,
    out: &mut dyn Write,
) -> io::Result<()> {
    page(&comparison::json(difference, paths, options)?, out)
}

fn page(data: &str, out: &mut dyn Write) -> io::Result<()> {
    let app = app();
    let scripts = [PLOT, &app];
    for (place, part) in PAGE.split("@@").enumerate() {
        match part {
            _ if place % 2 == 0 => out.write_all(part.as_bytes())?,
            "licences" => out.write_all(LICENCES.as_bytes())?,
            "policy" => out.write_all(policy(&scripts).as_bytes())?,
            "styles" => STYLES.iter().try_for_each(|it| write!(out, "<style>{it}</style>"))?,
            "scripts" => scripts.iter().try_for_each(|it| write!(out, "<script>{it}</script>"))?,
            "data" => out.write_all(data.as_bytes())?,
            _ => return Err(io::Error::other(format!("page.html has an unknown part {part}"))),
        }
    }
    Ok(())
}

/// Our scripts as one: what they name stays among them.
fn app() -> String {
    format!("(() => {{\n\"use strict\";\n{}}})();\n", APP.concat())
}

/// Nothing is loaded, and nothing runs but these scripts and styles. The icon, which browsers ask for unasked, is
/// in the page.
fn policy(scripts: &[&str]) -> String {
    let hashes = |texts: &[&str]| texts.iter().map(|it| hash(it)).collect::<Vec<_>>().join(" ");
    format!(
        "default-src 'none'; script-src {}; style-src {}; img-src data:; base-uri 'none'; form-action 'none'",
        hashes(scripts),
        hashes(&STYLES)
    )
}

fn hash(text: &str) -> String {
    format!("'sha256-{}'", BASE64.encode(Sha256::digest(text)))
}
