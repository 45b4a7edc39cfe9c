//! What it costs to read a large capture, in every format, beside merely unpacking it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};
use serde_json::{Map, Value, json};

use super::{
    lab::{self, Lab},
    stats::{self, Spread, Table},
};

/// One run of one command.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Usage {
    wall_s: f64,
    cpu_s: f64,
    max_rss_kib: u64,
}

/// What every reader has to do at least, and does here in another process.
const BASELINE: &str = "zstdcat | wc -c";

pub(super) fn run(lab: &Lab, rounds: u32) -> anyhow::Result<Value> {
    let (sites, intervals) = if lab.quick { (5_000, 100) } else { (50_000, 1_000) };
    lab::need("zstdcat", &["zstd"]).map_err(anyhow::Error::msg)?;
    let capture = lab.work.join("large.jsonl.zst");
    lab::run(
        Command::new(lab.example("large_capture")?)
            .arg(&capture)
            .args([sites.to_string(), intervals.to_string()]),
    )?;
    let baseline = format!("zstdcat '{}' | wc -c", capture.display());
    let unpacked: u64 = lab::output(Command::new("sh").args(["-c", &baseline]))?.trim().parse()?;
    println!(
        "\nReports of a capture of {sites} sites and {intervals} intervals ({:.1} MiB, {:.0} MiB unpacked), {rounds} rounds: median (least..greatest)",
        mib(file_bytes(&capture)?),
        mib(unpacked)
    );

    let formats = formats(lab)?;
    let mut names = vec![BASELINE.to_owned()];
    names.extend(formats.iter().map(|it| format!("--format {it}")));
    let mut usages: Vec<Vec<Usage>> = vec![Vec::new(); names.len()];
    let mut out_bytes = vec![0; names.len()];
    let stopwatch = lab.compile("usage")?;
    for round in 0..rounds {
        for (at, name) in names.iter().enumerate() {
            eprint!("\r\x1b[Kbench: reports, round {} of {rounds}: {name}", round + 1);
            let report = lab.work.join("report.out");
            let mut command = measured(lab, &stopwatch);
            match at.checked_sub(1) {
                None => command.args(["sh", "-c", &baseline]),
                Some(format) => command
                    .arg(&lab.alloctrace)
                    .arg("report")
                    .arg(&capture)
                    .args(["--format", &formats[format], "-o"])
                    .arg(&report),
            };
            lab::output(&mut command)?;
            usages[at].push(read_usage(&usage_file(lab))?);
            if at > 0 {
                out_bytes[at] = file_bytes(&report)?;
                fs::remove_file(&report).with_context(|| format!("remove {}", report.display()))?;
            }
        }
    }
    eprint!("\r\x1b[K");
    Ok(print(&names, &usages, &out_bytes))
}

fn print(names: &[String], usages: &[Vec<Usage>], out_bytes: &[u64]) -> Value {
    let mut table = Table::new(&["", "wall s", "x zstdcat", "CPU s", "x zstdcat", "max RSS", "output"]);
    let mut rows = Map::new();
    let of = |at: usize, part: fn(&Usage) -> f64| -> Vec<Option<f64>> {
        usages[at].iter().map(|it| Some(part(it))).collect()
    };
    let spread = |at, part| Spread::of(of(at, part).into_iter().flatten());
    let ratio = |at, part| if at == 0 { None } else { Spread::ratio(&of(at, part), &of(0, part)) };
    for (at, name) in names.iter().enumerate() {
        let (wall, cpu) = (spread(at, |it| it.wall_s), spread(at, |it| it.cpu_s));
        let (slower, dearer) = (ratio(at, |it| it.wall_s), ratio(at, |it| it.cpu_s));
        let max_rss_kib = usages[at].iter().map(|it| it.max_rss_kib).max().unwrap_or(0);
        table.row(vec![
            name.clone(),
            stats::cell(wall, 2, ""),
            stats::cell(slower, 1, ""),
            stats::cell(cpu, 2, ""),
            stats::cell(dearer, 1, ""),
            format!("{:.0} MiB", max_rss_kib as f64 / 1024.0),
            if at == 0 { "-".to_owned() } else { format!("{:.1} MiB", mib(out_bytes[at])) },
        ]);
        rows.insert(
            name.clone(),
            json!({
                "wall_s": stats::json_or_null(wall),
                "wall_of_zstdcat": stats::json_or_null(slower),
                "cpu_s": stats::json_or_null(cpu),
                "cpu_of_zstdcat": stats::json_or_null(dearer),
                "max_rss_kib": max_rss_kib,
                "output_bytes": out_bytes[at],
            }),
        );
    }
    println!("{table}");
    Value::Object(rows)
}

fn usage_file(lab: &Lab) -> PathBuf {
    lab.work.join("usage.out")
}

/// The beginning of a command whose usage will be in [`usage_file`].
fn measured(lab: &Lab, stopwatch: &Path) -> Command {
    let mut command = Command::new(stopwatch);
    command.arg(usage_file(lab));
    command
}

fn read_usage(path: &Path) -> anyhow::Result<Usage> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    parse_usage(&text).with_context(|| format!("{} holds {text:?}", path.display()))
}

fn parse_usage(text: &str) -> Option<Usage> {
    let mut words = text.split_whitespace();
    let mut next = || words.next();
    let (wall_s, cpu_s) = (next()?.parse().ok()?, next()?.parse().ok()?);
    Some(Usage { wall_s, cpu_s, max_rss_kib: next()?.parse().ok()? })
}

/// Those that this build knows: a wrong one is answered with the list.
fn formats(lab: &Lab) -> anyhow::Result<Vec<String>> {
    let answer =
        Command::new(&lab.alloctrace).args(["report", "-", "--format", "no-such-format"]).output()?;
    let formats = possible_values(&String::from_utf8_lossy(&answer.stderr));
    ensure!(!formats.is_empty(), "alloctrace report does not list its formats: {answer:?}");
    Ok(formats)
}

fn possible_values(answer: &str) -> Vec<String> {
    let list = answer.split_once("[possible values: ").and_then(|(_, rest)| rest.split_once(']'));
    let Some((list, _)) = list else { return Vec::new() };
    list.split(',').map(|it| it.trim().to_owned()).collect()
}

fn file_bytes(path: &Path) -> anyhow::Result<u64> {
    Ok(fs::metadata(path).with_context(|| format!("look at {}", path.display()))?.len())
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_formats_are_those_of_the_answer() {
        let answer = "error: invalid value\n  [possible values: text, json,\n  folded]\n\nFor more";
        assert_eq!(possible_values(answer), ["text", "json", "folded"]);
        assert!(possible_values("error: no such option").is_empty());
    }

    #[test]
    fn a_usage_is_three_numbers() {
        let usage = Usage { wall_s: 1.5, cpu_s: 1.25, max_rss_kib: 2048 };
        assert_eq!(parse_usage("1.500000 1.250000 2048\n"), Some(usage));
        assert_eq!(parse_usage("1.5\n"), None);
    }
}
