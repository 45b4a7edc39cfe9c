//! The measured program of the tight loop, which is also our canary for other tracers on this machine.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use super::{afterwards::bound, lab::Lab, stats::Spread};

/// Runs malloc+free pairs when asked. See `xtask/bench/pair.c`.
pub(super) struct Pair {
    child: Child,
    ask: ChildStdin,
    answer: BufReader<ChildStdout>,
}

/// Nanoseconds of one pair, in the thread that did it.
#[derive(Clone, Copy, Debug)]
pub(super) struct PairCost {
    pub(super) cpu_ns: f64,
    pub(super) wall_ns: f64,
    /// How many pairs that was found with.
    pub(super) pairs: u64,
}

/// More than a pair can cost if nothing traces it, less than the cheapest trap.
const UNTRACED_NS: f64 = 200.0;
const OTHERS: &str = "something else on this machine traces the C library of every process";
const BATCHES: u64 = 5;
const PATIENCE: Duration = Duration::from_secs(300);

impl Pair {
    pub(super) fn start(lab: &Lab) -> anyhow::Result<Self> {
        Self::start_with(lab, &[])
    }

    /// With more in its environment, as `NAME=VALUE`.
    pub(super) fn start_with(lab: &Lab, environment: &[String]) -> anyhow::Result<Self> {
        let program = lab.compile("pair")?;
        // What is for it alone must not come to the one that starts it.
        let mut child = bound("env", "KILL")
            .args(environment)
            .arg(&program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let ask = child.stdin.take().context("the pipe to pair")?;
        let answer = BufReader::new(child.stdout.take().context("the pipe from pair")?);
        let mut pair = Self { child, ask, answer };
        // Until it answers, the process is still one of those that have started it.
        pair.hold(0)?;
        Ok(pair)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn run(&mut self, frames: u32, pairs: u64) -> anyhow::Result<PairCost> {
        self.ask(&format!("{frames} {pairs}"), pairs)
    }

    /// Makes so many blocks live, instead of those that were. Returns what one cost.
    pub(super) fn hold(&mut self, blocks: u64) -> anyhow::Result<PairCost> {
        self.ask(&format!("hold {blocks}"), blocks)
    }

    /// Lets it end by itself.
    pub(super) fn end(mut self) -> anyhow::Result<()> {
        writeln!(self.ask, "end").context("tell pair to end")?;
        self.child.wait()?;
        Ok(())
    }

    fn ask(&mut self, question: &str, pairs: u64) -> anyhow::Result<PairCost> {
        writeln!(self.ask, "{question}").context("ask pair")?;
        let mut line = String::new();
        self.answer.read_line(&mut line).context("the answer of pair")?;
        let mut numbers = line.split_whitespace().map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(cpu_ns)), Some(Ok(wall_ns))) => Ok(PairCost { cpu_ns, wall_ns, pairs }),
            _ => bail!("pair ended or answered {line:?}"),
        }
    }

    /// The median of some batches that take about `time` together.
    pub(super) fn measure(&mut self, frames: u32, time: Duration) -> anyhow::Result<PairCost> {
        // Warms the caches up, lets the tracer see the stack for the first time, and says how many fit.
        let first = self.run(frames, 2000)?;
        let first = self.run(frames, ((1e6 / first.cpu_ns) as u64).clamp(100, 100_000))?;
        let pairs = (time.as_secs_f64() * 1e9 / BATCHES as f64 / first.cpu_ns.max(1.0)) as u64;
        let batches: Vec<PairCost> =
            (0..BATCHES).map(|_| self.run(frames, pairs.max(100))).collect::<Result<_, _>>()?;
        let median =
            |of: fn(&PairCost) -> f64| Spread::of(batches.iter().map(of)).map_or(f64::NAN, |it| it.median);
        Ok(PairCost {
            cpu_ns: median(|it| it.cpu_ns),
            wall_ns: median(|it| it.wall_ns),
            pairs: batches.iter().map(|it| it.pairs).sum::<u64>() + 2000 + first.pairs,
        })
    }

    /// Whether somebody traces this process. Tracers that follow children place their probes for every
    /// process of the machine, so one that has nothing to do with us can spoil a measurement.
    pub(super) fn is_traced(&mut self) -> anyhow::Result<bool> {
        Ok(self.run(4, 500)?.cpu_ns > UNTRACED_NS)
    }

    pub(super) fn until_traced(&mut self) -> anyhow::Result<()> {
        self.until(true, "the tracer says that it is ready, but its probes are not there")
    }

    pub(super) fn until_untraced(&mut self) -> anyhow::Result<()> {
        self.until(false, OTHERS)
    }

    fn until(&mut self, traced: bool, otherwise: &str) -> anyhow::Result<()> {
        let start = Instant::now();
        let mut said = false;
        while self.is_traced()? != traced {
            if start.elapsed() > PATIENCE {
                bail!("{otherwise}");
            }
            if !said && start.elapsed() > Duration::from_secs(5) {
                eprint!("\r\x1b[Kbench: waiting: {otherwise}");
                said = true;
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
