//! The edge to the kernel.
mod btf;
mod load;
mod sys;
mod tracefs;

pub fn try_load() -> anyhow::Result<()> {
    tracefs::ensure_mounted()?;
    let mut e = load::load(load::Sizes { ring_bytes: 1 << 24, rows: 1 << 20, blocks: 1 << 20 }, true)?;
    load::load_programs(&mut e)?;
    for (n, p) in e.programs() { println!("{n} {:?}", p.info().map(|i| i.verified_instruction_count())); }
    Ok(())
}
