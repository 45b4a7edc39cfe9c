//! Several checks in a row: all are run, and the end says what became of each.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// What has been run so far.
#[derive(Default)]
pub(crate) struct Steps {
    done: Vec<(&'static str, Outcome)>,
}

enum Outcome {
    Passed(Duration),
    Failed(Duration, anyhow::Error),
    /// And why.
    LeftOut(String),
}

impl Steps {
    pub(crate) fn run(&mut self, name: &'static str, step: impl FnOnce() -> Result<()>) {
        println!("\n== {name}");
        let start = Instant::now();
        let outcome = match step() {
            Ok(()) => Outcome::Passed(start.elapsed()),
            Err(error) => {
                eprintln!("error: {error:#}");
                Outcome::Failed(start.elapsed(), error)
            }
        };
        self.done.push((name, outcome));
    }

    pub(crate) fn leave_out(&mut self, name: &'static str, why: impl Into<String>) {
        self.done.push((name, Outcome::LeftOut(why.into())));
    }

    /// Prints the summary.
    ///
    /// # Errors
    /// One of the steps has failed.
    pub(crate) fn finish(self) -> Result<()> {
        println!();
        for (name, outcome) in &self.done {
            match outcome {
                Outcome::Passed(time) => println!("passed    {name:<12} {:.1} s", time.as_secs_f64()),
                Outcome::Failed(time, error) => {
                    println!("FAILED    {name:<12} {:.1} s: {error:#}", time.as_secs_f64())
                }
                Outcome::LeftOut(why) => println!("left out  {name:<12} {why}"),
            }
        }
        let failed = self.done.iter().filter(|(_, it)| matches!(it, Outcome::Failed(..))).count();
        if failed > 0 {
            bail!("{failed} of {} steps failed", self.done.len());
        }
        Ok(())
    }
}
