//! The text of bcc's memleak, for people and scripts that know it.
//!
//! There are two tools of that name. `memleak.py` lists the largest stack last, `memleak` of libbpf-tools first, and
//! they differ in nearly every blank. What both print goes through here, and nothing of our own is added to it.

#[cfg(test)]
mod tests;

use std::io::{self, Write};

use super::escape::printable;

/// Whose text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `memleak.py`, packaged as `memleak-bpfcc`.
    Python,
    /// `memleak` of libbpf-tools.
    Libbpf,
}

/// What is outstanding at one time.
#[derive(Clone, Debug, Default)]
pub struct Outstanding {
    /// Hours, minutes and seconds of the day.
    pub time: [i8; 3],
    /// Largest first.
    pub holders: Vec<Holder>,
}

/// A stack and the blocks that were allocated there.
#[derive(Clone, Debug, Default)]
pub struct Holder {
    pub bytes: u64,
    pub blocks: u64,
    /// Innermost first.
    pub frames: Vec<Line>,
    /// Address and size of each, where that was asked for.
    pub listed: Vec<(u64, u64)>,
}

/// A frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Where the call returns to, in the process.
    pub address: u64,
    /// The function, and how far into it that is.
    pub function: Option<(String, u64)>,
    /// The path of the file.
    pub module: Option<String>,
}

/// What may be asked for.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub layout: Layout,
    /// Stacks that are shown.
    pub top: usize,
    /// The totals of each stack, whatever the age of its blocks. `memleak.py` then leaves out the addresses of frames.
    pub combined_only: bool,
}

/// Writes one report.
///
/// # Errors
/// Those of `out`.
pub fn write(outstanding: &Outstanding, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    match options.layout {
        Layout::Python => python(outstanding, options, out),
        Layout::Libbpf => libbpf(outstanding, options, out),
    }
}

fn python(outstanding: &Outstanding, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    let [hours, minutes, seconds] = outstanding.time;
    // It says how many it would show, and not how many there are.
    let top = options.top;
    writeln!(out, "[{hours:02}:{minutes:02}:{seconds:02}] Top {top} stacks with outstanding allocations:")?;
    let mut listed: Vec<_> = outstanding.holders.iter().flat_map(|it| &it.listed).collect();
    listed.sort_unstable_by_key(|(address, bytes)| (*bytes, *address));
    for (address, bytes) in listed {
        writeln!(out, "\taddr = {address:x} size = {bytes}")?;
    }
    let shown = &outstanding.holders[..top.min(outstanding.holders.len())];
    for holder in shown.iter().rev() {
        writeln!(out, "\t{} bytes in {} allocations from stack", holder.bytes, holder.blocks)?;
        if holder.frames.is_empty() {
            writeln!(out, "\t\t[unknown]")?;
        }
        for line in &holder.frames {
            write!(out, "\t\t")?;
            if !options.combined_only {
                write!(out, "0x{:016x}\t", line.address)?;
            }
            match &line.function {
                Some((name, offset)) => write!(out, "{}+{offset:#x}", printable(name))?,
                None => write!(out, "[unknown]")?,
            }
            match &line.module {
                Some(path) => writeln!(out, " [{}]", printable(path.rsplit('/').next().unwrap_or(path)))?,
                None => writeln!(out)?,
            }
        }
    }
    Ok(())
}

fn libbpf(outstanding: &Outstanding, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    let [hours, minutes, seconds] = outstanding.time;
    let shown = &outstanding.holders[..options.top.min(outstanding.holders.len())];
    writeln!(out, "[{hours}:{minutes}:{seconds}] Top {} stacks with outstanding allocations:", shown.len())?;
    for holder in shown {
        writeln!(out, "{} bytes in {} allocations from stack", holder.bytes, holder.blocks)?;
        for (address, bytes) in &holder.listed {
            writeln!(out, "\taddr = {address:#x} size = {bytes}")?;
        }
        for (number, line) in holder.frames.iter().enumerate() {
            write!(out, "\t{number} [<{:016x}>]", line.address)?;
            let Some(path) = &line.module else {
                writeln!(out, " <null sym>")?;
                continue;
            };
            if let Some((name, offset)) = &line.function {
                write!(out, " {}+{offset:#x}", printable(name))?;
            }
            writeln!(out, " [{}]", printable(path))?;
        }
    }
    Ok(())
}

/// A call of an allocator function, for `-t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Alloc { bytes: u64, address: u64 },
    Free { address: u64, bytes: u64 },
}

/// Who called, and when.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    pub name: &'a str,
    pub tgid: u32,
    pub time_ns: u64,
}

/// Writes what the tools trace of one call. Both have it from the kernel's trace buffer, where a line also says
/// on which CPU and in which context it was written: that is not known here, and is left open.
///
/// # Errors
/// Those of `out`.
pub fn trace(layout: Layout, caller: Caller<'_>, call: Call, out: &mut dyn Write) -> io::Result<()> {
    let mut line = |message: std::fmt::Arguments<'_>| {
        let (tgid, time_us) = (caller.tgid, caller.time_ns / 1000);
        match layout {
            Layout::Python => {
                let (name, time_s) = (quoted(caller.name), time_us as f64 / 1e6);
                writeln!(out, "(b'{name}', {tgid}, None, b'', {time_s}, b'{message}')")
            }
            Layout::Libbpf => {
                let (name, time_s) = (printable(caller.name), time_us / 1_000_000);
                let time_us = time_us % 1_000_000;
                writeln!(
                    out,
                    "{name:>16}-{tgid:<7} [---] ..... {time_s:>5}.{time_us:06}: bpf_trace_printk: {message}"
                )
            }
        }
    };
    match call {
        Call::Alloc { bytes, address } => {
            line(format_args!("alloc entered, size = {bytes}"))?;
            line(format_args!("alloc exited, size = {bytes}, result = {address:x}"))
        }
        Call::Free { address, bytes } => {
            line(format_args!("free entered, address = {address:x}, size = {bytes}"))
        }
    }
}

/// As it stands between the quotes of a Python bytes literal.
fn quoted(name: &str) -> String {
    name.bytes().flat_map(std::ascii::escape_default).map(char::from).collect()
}
