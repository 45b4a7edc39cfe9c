//! Threads that do nothing but malloc and free. See `xtask/bench/spin.c`.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::{afterwards::bound, lab::Lab};

pub(super) struct Spin {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// What all threads did together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Turn {
    pub(super) pairs: u64,
    /// CPU time of one pair.
    pub(super) pair_cpu_ns: f64,
    pub(super) wall_s: f64,
}

impl Spin {
    pub(super) fn start(lab: &Lab) -> anyhow::Result<Self> {
        let mut child = bound(lab.compile("spin")?, "KILL")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start spin")?;
        let ask = child.stdin.take().context("the pipe to spin")?;
        let answers = BufReader::new(child.stdout.take().context("the pipe from spin")?);
        let mut spin = Self { child, ask, answers };
        // Until it answers, the process is still the one that has started it.
        spin.run(1, Duration::from_millis(1))?;
        Ok(spin)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn run(&mut self, threads: u32, time: Duration) -> anyhow::Result<Turn> {
        let start = Instant::now();
        writeln!(self.ask, "{threads} {}", time.as_secs_f64()).context("ask spin")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer).context("the answer of spin")?;
        let wall_s = start.elapsed().as_secs_f64();
        parse(&answer, wall_s).with_context(|| format!("spin answered {answer:?}"))
    }
}

fn parse(answer: &str, wall_s: f64) -> Option<Turn> {
    let (pairs, cpu_ns) = answer.trim().split_once(' ')?;
    Some(Turn { pairs: pairs.parse().ok()?, pair_cpu_ns: cpu_ns.parse().ok()?, wall_s })
}

impl Drop for Spin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_two_numbers() {
        assert_eq!(parse("1000 250.5\n", 2.0), Some(Turn { pairs: 1000, pair_cpu_ns: 250.5, wall_s: 2.0 }));
        assert_eq!(parse("1000\n", 2.0), None);
    }
}
