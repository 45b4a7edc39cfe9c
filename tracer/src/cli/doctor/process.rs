//! `alloctrace doctor -p PID`: one process, for people and for programs.

use std::io::{self, Write};

use serde_json::json;

use crate::{
    kernel::examination::{Examination, ExaminedFile},
    report::{escape::printable, units},
};

/// Whether it can be traced, and how.
pub(super) struct Verdict {
    pub(super) traceable: bool,
    why: String,
    command: String,
}

/// `privilege` says what is missing to trace anything.
pub(super) fn judge(it: &Examination, privilege: Option<&str>) -> Verdict {
    let pid = it.pid;
    let (traceable, why, command) = match (&it.hindrance, privilege) {
        (Some(why), _) => (false, why.clone(), format!("alloctrace record --tier growth -p {pid} -d 60s")),
        (None, Some(missing)) => {
            (false, format!("{missing}: run as root"), format!("sudo alloctrace record -p {pid} -d 60s"))
        }
        (None, None) if !it.pool_problems.is_empty() => {
            (false, it.pool_problems.join("\n"), format!("alloctrace record -p {pid} -d 60s"))
        }
        (None, None) => (true, String::new(), format!("alloctrace record -p {pid} -d 60s")),
    };
    Verdict { traceable, why, command }
}

/// Lines; what matters most comes first.
pub(super) fn text(it: &Examination, verdict: &Verdict, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "process {}: {}", it.pid, printable(&it.about.name))?;
    fact(out, "command", &it.about.command)?;
    fact(out, "program", &it.about.exe)?;
    if let Some(bytes) = it.rss_bytes {
        fact(out, "resident", &units::bytes(bytes as i64))?;
    }
    let limit = it.about.limit_bytes.map_or("no limit".to_owned(), |it| units::bytes(it as i64));
    fact(out, "memory limit", &limit)?;
    fact(out, "control group", it.about.cgroup.as_deref().unwrap_or(""))?;
    fact(out, "lives in", &place(it))?;
    if let Some(runtime) = it.runtime {
        fact(out, "runtime", &format!("{}: {}", runtime.name, runtime.advice))?;
    }

    if verdict.traceable {
        writeln!(out, "\nIt can be traced:")?;
    } else {
        writeln!(out, "\nIts allocations cannot be followed:")?;
        for line in verdict.why.lines() {
            writeln!(out, "  {}", printable(line))?;
        }
        writeln!(out, "\nTry:")?;
    }
    writeln!(out, "  {}", verdict.command)?;

    writeln!(out, "\nAllocators")?;
    let mut files: Vec<&ExaminedFile> = it.files.iter().filter(|it| !it.probes.is_empty()).collect();
    files.sort_by_key(|it| (!it.serves, it.allocator.is_none()));
    if files.is_empty() {
        writeln!(out, "  none")?;
    }
    for file in files {
        allocator(file, out)?;
    }
    if it.hindrance.is_none() && !it.suggestions.is_empty() {
        writeln!(
            out,
            "\nThe program has functions that look like an allocator of its own; to trace them, try"
        )?;
        for suggestion in &it.suggestions {
            writeln!(out, "  {}", printable(suggestion))?;
        }
    }

    unwinding(it, out)?;
    if it.unnamed_code_mappings > 0 {
        writeln!(
            out,
            "\nCode without a file (of a JIT compiler, for example): {} in {} mappings\n  Its functions have no names, \
             and stacks end there.",
            units::bytes(it.unnamed_code_bytes as i64),
            it.unnamed_code_mappings
        )?;
    }
    Ok(())
}

fn fact(out: &mut dyn Write, name: &str, value: &str) -> io::Result<()> {
    if value.is_empty() { Ok(()) } else { writeln!(out, "  {name:<14} {}", printable(value)) }
}

fn place(it: &Examination) -> String {
    match (&it.foreign_namespaces[..], it.has_own_root) {
        ([], false) => "the root directory and the namespaces of this shell".to_owned(),
        ([], true) => "a root directory of its own".to_owned(),
        (kinds, own_root) => format!(
            "a container: namespaces of its own ({}){}",
            kinds.join(", "),
            if own_root { ", and a root directory of its own" } else { "" }
        ),
    }
}

fn allocator(file: &ExaminedFile, out: &mut dyn Write) -> io::Result<()> {
    let name = file.allocator.as_deref().unwrap_or("your own pool");
    writeln!(out, "  {name} in {}", printable(&file.path))?;
    if let Some(build_id) = &file.build_id {
        writeln!(out, "    build id {build_id}")?;
    }
    if file.allocator.is_some() && !file.serves && file.probes.iter().all(|it| !it.is_own) {
        let count = file.probes.len();
        return writeln!(
            out,
            "    behind the one above for whoever asks the dynamic linker; its {count} functions are traced too"
        );
    }
    let width = file.probes.iter().map(|it| it.function.chars().count()).max().unwrap_or(0).min(40);
    for probe in &file.probes {
        let class = if probe.is_single_step { "single-stepped, ten times as dear" } else { "emulated" };
        let own = if probe.is_own { ", by --alloc or --free" } else { "" };
        writeln!(
            out,
            "    {:<width$}  {:>#10x}  {:<12}  {class}{own}",
            printable(&probe.function),
            probe.file_offset,
            probe.instruction,
        )?;
        if let Some(places) = &probe.exit_sites {
            writeln!(out, "      seen without a return probe, at its {places}")?;
        }
        if let Some(why) = &probe.no_exit_sites {
            writeln!(out, "      with a return probe: {why}")?;
        }
    }
    Ok(())
}

fn unwinding(it: &Examination, out: &mut dyn Write) -> io::Result<()> {
    let rows: u64 = it.files.iter().map(|it| it.unwind_rows).sum();
    writeln!(
        out,
        "\nStacks\n  {} files with code, {} rows of unwinding data",
        it.files.len(),
        units::count(rows as i64)
    )?;
    let mut is_complete = true;
    for file in &it.files {
        let why = match file {
            ExaminedFile { problem: Some(why), .. } => why.clone(),
            ExaminedFile { unwind_rows: 0, .. } => "no unwinding data: stacks end there".to_owned(),
            ExaminedFile { skipped_functions: skipped @ 1.., .. } => {
                format!("the data of {} functions cannot be used", units::count(*skipped as i64))
            }
            ExaminedFile { is_deleted: true, .. } => "deleted; it is read through the process".to_owned(),
            _ => continue,
        };
        is_complete = is_complete && file.is_deleted && file.problem.is_none() && file.unwind_rows > 0;
        writeln!(out, "  {}: {why}", printable(&file.path))?;
    }
    if is_complete {
        writeln!(out, "  complete")?;
    }
    Ok(())
}

/// The same for programs; names are stable.
pub(super) fn json(it: &Examination, verdict: &Verdict) -> serde_json::Value {
    let probe = |it: &crate::kernel::examination::ProbeSite| {
        json!({
            "function": it.function,
            "file_offset": it.file_offset,
            "instruction": it.instruction,
            "class": if it.is_single_step { "single-step" } else { "emulated" },
            "own_pool": it.is_own,
            "exit_sites": it.exit_sites,
            "no_exit_sites": it.no_exit_sites,
        })
    };
    let file = |it: &ExaminedFile| {
        json!({
            "path": it.path,
            "build_id": it.build_id,
            "deleted": it.is_deleted,
            "problem": it.problem,
            "unwind_rows": it.unwind_rows,
            "skipped_functions": it.skipped_functions,
            "allocator": it.allocator,
            "serves": it.serves,
            "probes": it.probes.iter().map(probe).collect::<Vec<_>>(),
        })
    };
    json!({
        "schema": "alloctrace.doctor.process/1",
        "traceable": verdict.traceable,
        "why": (!verdict.why.is_empty()).then_some(&verdict.why),
        "try": verdict.command,
        "pid": it.pid,
        "name": it.about.name,
        "command": it.about.command,
        "exe": it.about.exe,
        "rss_bytes": it.rss_bytes,
        "limit_bytes": it.about.limit_bytes,
        "cgroup": it.about.cgroup,
        "foreign_namespaces": it.foreign_namespaces,
        "own_root": it.has_own_root,
        "runtime": it.runtime.map(|it| it.name),
        "unnamed_code_mappings": it.unnamed_code_mappings,
        "unnamed_code_bytes": it.unnamed_code_bytes,
        "pool_problems": it.pool_problems,
        "suggestions": it.suggestions,
        "files": it.files.iter().map(file).collect::<Vec<_>>(),
    })
}
