//! Where a report goes: standard output, or a file that is none of those it was made from.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::Path,
};

use anyhow::Context as _;

use super::exit::Failure;

/// Has `write` fill `output`, or standard output. `inputs` are the captures that the report is of.
pub(super) fn fill(
    output: Option<&Path>,
    inputs: &[&Path],
    write: impl Fn(&mut dyn Write) -> io::Result<()>,
) -> Result<(), Failure> {
    let write_all = |out: &mut dyn Write| {
        let mut out = BufWriter::new(out);
        write(&mut out)?;
        out.flush()
    };
    let Some(path) = output else { return Ok(write_all(&mut io::stdout().lock())?) };
    if inputs.iter().any(|it| is_same(it, path)) {
        let path = path.display();
        return Err(Failure::usage(format!("-o {path} is the capture itself: give the report another name")));
    }
    let mut file = File::create(path).with_context(|| format!("create the report {}", path.display()))?;
    write_all(&mut file).with_context(|| format!("write the report {}", path.display()))?;
    Ok(())
}

/// However the two are spelt.
fn is_same(a: &Path, b: &Path) -> bool {
    fs::canonicalize(a).ok().zip(fs::canonicalize(b).ok()).is_some_and(|(a, b)| a == b)
}
