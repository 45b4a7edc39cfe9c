//! Who is watched: one process of each shape, started again when it ends, and brief ones, each of a file that nobody has
//! seen before.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

pub(super) struct Shape {
    /// Of the program.
    pub(super) name: &'static str,
    /// What the program calls it.
    letter: &'static str,
    /// The function that leaks, if one does.
    pub(super) leaks: Option<&'static str>,
}

pub(super) const SHAPES: [Shape; 6] = [
    Shape { name: "soak-steady", letter: "l", leaks: Some("leak_steadily") },
    Shape { name: "soak-steps", letter: "s", leaks: Some("leak_in_steps") },
    Shape { name: "soak-cache", letter: "c", leaks: None },
    Shape { name: "soak-batches", letter: "b", leaks: None },
    Shape { name: "soak-startup", letter: "u", leaks: None },
    Shape { name: "soak-idle", letter: "i", leaks: None },
];

/// A file of its own, deleted as soon as it runs, as those of replaced programs and removed containers are.
pub(super) const BRIEF: &str = "soak-brief";

/// How long one runs, in seconds.
const BRIEF_LIFE: &str = "3";

/// One process that has been.
pub(super) struct Life {
    pub(super) shape: &'static Shape,
    pub(super) pid: u32,
    pub(super) lived: Duration,
    /// It was ended by its shape, and not since the soak was over.
    pub(super) is_whole: bool,
}

struct Member {
    shape: &'static Shape,
    process: Child,
    born: Instant,
}

/// All of them.
pub(super) struct Crew {
    directory: PathBuf,
    /// How long each lives.
    life: Duration,
    members: Vec<Member>,
    briefs: Vec<Child>,
    pub(super) lives: Vec<Life>,
}

impl Crew {
    /// Each shape has a program of its name, since that is what a watch goes by.
    pub(super) fn start(program: &Path, directory: &Path, life: Duration) -> Result<Self> {
        let directory = directory.to_owned();
        let mut crew = Self { directory, life, members: Vec::new(), briefs: Vec::new(), lives: Vec::new() };
        for shape in &SHAPES {
            let path = crew.directory.join(shape.name);
            fs::copy(program, &path).with_context(|| format!("copy to {}", path.display()))?;
            let member = crew.begin(shape)?;
            crew.members.push(member);
        }
        Ok(crew)
    }

    fn begin(&self, shape: &'static Shape) -> Result<Member> {
        let process = Command::new(self.directory.join(shape.name))
            .args([shape.letter, &self.life.as_secs().to_string()])
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("start {}", shape.name))?;
        Ok(Member { shape, process, born: Instant::now() })
    }

    /// Starts those again that have ended, and one more brief one.
    pub(super) fn renew(&mut self) -> Result<()> {
        for at in 0..self.members.len() {
            let member = &mut self.members[at];
            if member.process.try_wait()?.is_some() {
                let shape = member.shape;
                self.lives.push(member.life(true));
                self.members[at] = self.begin(shape)?;
            }
        }
        self.briefs.retain_mut(|it| matches!(it.try_wait(), Ok(None)));
        let path = self.directory.join(BRIEF);
        fs::copy(self.directory.join(SHAPES[0].name), &path)
            .with_context(|| format!("copy to {}", path.display()))?;
        let brief = Command::new(&path).args(["i", BRIEF_LIFE]).stdin(Stdio::null()).spawn();
        self.briefs.push(brief.with_context(|| format!("start {}", path.display()))?);
        fs::remove_file(&path)?;
        Ok(())
    }

    /// Ends all of them.
    pub(super) fn leave(&mut self) -> Result<()> {
        for mut brief in std::mem::take(&mut self.briefs) {
            brief.kill()?;
            brief.wait()?;
        }
        for mut member in std::mem::take(&mut self.members) {
            self.lives.push(member.life(false));
            member.process.kill()?;
            member.process.wait()?;
        }
        Ok(())
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        let _ = self.leave();
    }
}

impl Member {
    fn life(&self, is_whole: bool) -> Life {
        Life { shape: self.shape, pid: self.process.id(), lived: self.born.elapsed(), is_whole }
    }
}
