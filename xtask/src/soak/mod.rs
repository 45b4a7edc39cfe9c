//! `cargo xtask soak`: a watch of an hour over processes that leak and that do not, which come and go.

mod crew;
mod slope;
mod tracer;

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use xshell::{Shell, cmd};

use self::{
    crew::{Crew, Life, SHAPES},
    slope::slope,
    tracer::{Alert, Moment, Tracer},
};
use crate::{built, packages, target_dir};

/// Watch processes that leak and processes that do not, for an hour: what the watch takes, and whom it names
///
/// Neither the memory of the watch nor the files it holds open may grow, every process that leaks must be named with the function that does, and no other may be.
/// Needs root.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long: 90s, 20m, 1h
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
    duration: Duration,
    /// How long each process lives
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    life: Duration,
    /// Over how long growth is judged
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = duration)]
    over: Duration,
    /// Watch everybody on this machine, and not these processes alone
    #[arg(long)]
    everybody: bool,
    /// Use this build of alloctrace; that of the sources, built first, if not given
    #[arg(long, value_name = "FILE")]
    alloctrace: Option<PathBuf>,
}

/// How much the watch may grow in an hour, beyond what may be chance.
const MAX_MIB_PER_HOUR: f64 = 4.0;

/// The same for files: each brief process brings one.
const MAX_FILES_PER_HOUR: f64 = 60.0;

/// Of the soak: tables and pools that fill once are no growth.
const WARM_UP: f64 = 0.25;

const PAUSE: Duration = Duration::from_secs(2);

const MIB: f64 = 1024.0 * 1024.0;

pub(crate) fn run(sh: &Shell, args: &Args) -> Result<()> {
    ensure!(packages::is_root(), "a watch needs root");
    ensure!(args.life > args.over * 2, "--life must be more than twice --over, or no leak can be named");
    packages::ensure(sh, &["gcc", "libc6-dev"])?;
    let directory = target_dir().join("soak");
    sh.remove_path(&directory)?;
    sh.create_dir(&directory)?;
    let alloctrace = built(sh, args.alloctrace.as_deref())?;
    let program = directory.join("shape");
    cmd!(sh, "gcc -O2 -g -o {program} xtask/soak/shape.c").quiet().run()?;

    let mut tracer = Tracer::start(&alloctrace, &directory, args.over, args.everybody)?;
    let mut crew = Crew::start(&program, &directory, args.life)?;
    let began = Instant::now();
    let mut moments: Vec<(f64, Moment)> = Vec::new();
    let mut told_s = 0.0;
    while began.elapsed() < args.duration {
        crew.renew()?;
        let now_s = began.elapsed().as_secs_f64();
        moments.push((now_s, tracer.moment()?));
        if now_s - told_s >= 60.0 {
            told_s = now_s;
            tell(now_s, &moments, tracer.alerts()?.len());
        }
        thread::sleep(PAUSE);
    }
    crew.leave()?;
    let losses = tracer.counted("alloctrace_losses_total")?;
    let alerts = tracer.alerts()?;
    tracer.leave()?;
    let verdict = Verdict::new(&crew.lives, &alerts, args.over);
    verdict.print();
    for (label, count) in &losses {
        println!("lost       {label} {count}");
    }
    fs::write(directory.join("moments.tsv"), table(&moments)).context("write what was measured")?;
    let is_flat = measures(&moments)?;
    ensure!(is_flat, "the watch grows");
    verdict.outcome()
}

fn tell(now_s: f64, moments: &[(f64, Moment)], alerts: usize) {
    if let [(first_s, first), .., (last_s, last)] = moments {
        let cpu = (last.cpu_s - first.cpu_s) / (last_s - first_s) * 100.0;
        let (mib, files) = (last.rss_bytes / MIB, last.files);
        println!("{now_s:5.0} s: {mib:.1} MiB, {files} files, {cpu:.2} % of a CPU, {alerts} alerts");
    }
}

fn table(moments: &[(f64, Moment)]) -> String {
    let line =
        |(t_s, it): &(f64, Moment)| format!("{t_s:.1}\t{:.0}\t{:.2}\t{}\n", it.rss_bytes, it.cpu_s, it.files);
    moments.iter().map(line).collect()
}

/// Prints what the watch took; false if it grows.
fn measures(moments: &[(f64, Moment)]) -> Result<bool> {
    let (first, last) = (moments.first().context("nothing measured")?, moments.last().context("nothing")?);
    let passed_s = last.0 - first.0;
    let cpu_s = last.1.cpu_s - first.1.cpu_s;
    println!("CPU        {cpu_s:.1} s in {passed_s:.0} s: {:.2} % of one", 100.0 * cpu_s / passed_s);
    let begin_s = WARM_UP * last.0;
    let warm = |of: fn(&Moment) -> f64| -> Vec<(f64, f64)> {
        moments.iter().filter(|it| it.0 >= begin_s).map(|it| (it.0, of(&it.1))).collect()
    };
    let (mib, files) = (warm(|it| it.rss_bytes / MIB), warm(|it| it.files));
    let most = moments.iter().map(|it| it.1.rss_bytes / MIB).fold(0.0, f64::max);
    println!("memory     {} once warm, {most:.1} MiB at most", span(&mib, " MiB"));
    println!("files      {} once warm", span(&files, ""));
    let is_flat = [("MiB", &mib, MAX_MIB_PER_HOUR), ("files", &files, MAX_FILES_PER_HOUR)].map(
        |(unit, points, most)| {
            let Some(slope) = slope(points) else {
                println!("slope      too few measurements");
                return true;
            };
            println!(
                "slope      {:+.2} ± {:.2} {unit}/hour (two standard errors)",
                slope.per_hour, slope.spread
            );
            slope.per_hour - slope.spread <= most
        },
    );
    Ok(is_flat.into_iter().all(|it| it))
}

fn span(points: &[(f64, f64)], unit: &str) -> String {
    let least = points.iter().map(|it| it.1).fold(f64::INFINITY, f64::min);
    let most = points.iter().map(|it| it.1).fold(0.0, f64::max);
    format!("{least:.1} to {most:.1}{unit}")
}

/// Who was named, and who should have been.
#[derive(Default)]
struct Verdict {
    /// By shape: lives, those that had to be named, those that were named, those of them by their function, false alarms.
    shapes: BTreeMap<&'static str, [usize; 5]>,
    complaints: Vec<String>,
}

impl Verdict {
    fn new(lives: &[Life], alerts: &[Alert], over: Duration) -> Self {
        let mut verdict = Self::default();
        for life in lives {
            let row = verdict.shapes.entry(life.shape.name).or_default();
            row[0] += 1;
            let mut own =
                alerts.iter().filter(|it| it.is_raised && it.pid == life.pid && it.name == life.shape.name);
            match life.shape.leaks {
                Some(function) => {
                    // The window, a part of it, and the next interval.
                    let is_due = life.is_whole || life.lived >= over * 2;
                    row[1] += usize::from(is_due);
                    let named: Vec<&Alert> = own.collect();
                    row[2] += usize::from(!named.is_empty());
                    let knows = |it: &&Alert| it.functions.iter().any(|it| it.starts_with(function));
                    let is_known = named.iter().any(knows);
                    row[3] += usize::from(is_known);
                    if is_due && !is_known {
                        let said = named.first().map_or("nothing was said", |it| &it.message);
                        verdict.complaints.push(format!("{} ({}): {said}", life.shape.name, life.pid));
                    }
                }
                None => {
                    if let Some(alert) = own.next() {
                        row[4] += 1;
                        let said =
                            format!("false {} of {}: {}", alert.severity, life.shape.name, alert.message);
                        verdict.complaints.push(said);
                    }
                }
            }
        }
        verdict
    }

    fn print(&self) {
        println!("\nshape          lives  due  named  by function  false alarms");
        for shape in &SHAPES {
            let [lives, due, named, known, wrong] = self.shapes.get(shape.name).copied().unwrap_or_default();
            println!("{:<14} {lives:>5} {due:>4} {named:>6} {known:>12} {wrong:>13}", shape.name);
        }
        for complaint in &self.complaints {
            println!("  {complaint}");
        }
    }

    fn outcome(&self) -> Result<()> {
        ensure!(self.complaints.is_empty(), "{} processes were missed or blamed", self.complaints.len());
        Ok(())
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let unit = text.trim_start_matches(|it: char| it.is_ascii_digit());
    let seconds = match unit {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        _ => return Err("a number with s, m or h behind it".to_owned()),
    };
    let number: u64 = text[..text.len() - unit.len()].parse().map_err(|_| "no number".to_owned())?;
    Ok(Duration::from_secs(number * seconds))
}
