//! Which functions are seen at the places where their results are final (see [`crate::elf::whole`]): those of which that is
//! proved, and of which the proof has been tried.
//!
//! The trial takes a tenth of a second, so its verdict is kept, by build id and proof. Of what has not been tried, and cannot
//! be here, the calls are seen at entry and return.

use std::{env, fs, path::PathBuf};

use procfs::process::{MMapPath, Process};

use super::{
    cache_dir::{self, cache_dir},
    object::Object,
    proof,
};
use crate::elf::{
    allocators::Function,
    whole::{VERSION, Whole},
};

/// For measuring and for tests: `off` leaves all functions to entry and return, `untried` believes every proof.
const VARIABLE: &str = "ALLOCTRACE_EXIT_SITES";

/// The file of verdicts; another form of it gets another name.
const FILE: &str = "exit-sites-1";

/// Verdicts that are kept. A machine has a few C libraries, and each update brings one.
const MAX_VERDICTS: usize = 200;

/// A file of so many verdicts has less; one that has more is not ours.
const MAX_BYTES: u64 = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Off,
    Untried,
    Tried,
}

/// The outcome of a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Verdict {
    build_id: String,
    function: String,
    /// What was tried: another version may prove something else.
    proof: String,
    holds: bool,
}

/// Why a function that has a proof is not seen by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is.
    Holds,
    /// A trial has shown something else.
    Refuted,
    /// It was not tried, and cannot be with a library that is not ours.
    Untried,
    SwitchedOff,
}

impl Standing {
    /// For people, behind what was proved.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Holds => "",
            Self::Refuted => "a trial has refuted its exit sites",
            Self::Untried => "its exit sites have not been tried on this machine yet",
            Self::SwitchedOff => "exit sites are switched off",
        }
    }
}

pub(crate) struct ExitSites {
    mode: Mode,
    /// Read when they are first asked for.
    verdicts: Option<Vec<Verdict>>,
}

impl ExitSites {
    pub(crate) fn new() -> Self {
        let mode = match env::var(VARIABLE).as_deref() {
            Ok("off") => Mode::Off,
            Ok("untried") => Mode::Untried,
            _ => Mode::Tried,
        };
        Self { mode, verdicts: None }
    }

    /// The functions of an object that are seen so, by name. What can be tried and was not yet, is.
    pub(crate) fn of(&mut self, object: &Object) -> Vec<String> {
        let proved: Vec<(&Function, &Whole)> = proved(object).collect();
        if self.mode == Mode::Tried
            && proved.iter().any(|(it, whole)| self.standing(object, it, whole) == Standing::Untried)
            && let Some(build_id) = &object.build_id
        {
            self.try_all(object, build_id, &proved);
        }
        let holds = |(it, whole): &(&Function, &Whole)| self.standing(object, it, whole) == Standing::Holds;
        proved.into_iter().filter(holds).map(|(it, _)| it.name.to_string()).collect()
    }

    /// What is known of a proof, without a trial.
    pub(crate) fn standing(&mut self, object: &Object, function: &Function, whole: &Whole) -> Standing {
        match self.mode {
            Mode::Off => return Standing::SwitchedOff,
            Mode::Untried => return Standing::Holds,
            Mode::Tried => {}
        }
        let Some(build_id) = &object.build_id else { return Standing::Untried };
        let proof = text(whole);
        let known = self
            .verdicts
            .get_or_insert_with(read)
            .iter()
            .find(|it| it.build_id == *build_id && it.function == function.name && it.proof == proof);
        match known {
            Some(Verdict { holds: true, .. }) => Standing::Holds,
            Some(_) => Standing::Refuted,
            None => Standing::Untried,
        }
    }

    fn try_all(&mut self, object: &Object, build_id: &str, proved: &[(&Function, &Whole)]) {
        let outcomes = match proof::run(object, proved) {
            Ok(Some(outcomes)) => outcomes,
            Ok(None) => return,
            Err(error) => {
                log::info!("{}: its exit sites could not be tried: {error:#}", object.path);
                return;
            }
        };
        let verdicts = self.verdicts.get_or_insert_with(read);
        for ((function, whole), holds) in proved.iter().zip(outcomes) {
            let Some(holds) = holds else { continue };
            if !holds {
                log::warn!("{} in {} does not do what its code seems to say", function.name, object.path);
            }
            let (function, proof) = (function.name.to_string(), text(whole));
            verdicts.retain(|it| it.build_id != build_id || it.function != function);
            verdicts.insert(0, Verdict { build_id: build_id.to_owned(), function, proof, holds });
        }
        verdicts.truncate(MAX_VERDICTS);
        write(verdicts);
    }
}

/// The functions of which it is proved.
fn proved(object: &Object) -> impl Iterator<Item = (&Function, &Whole)> {
    object.functions.iter().filter_map(|it| Some((it, it.whole.as_ref()?.as_ref().ok()?)))
}

/// For the doctor: what comes of it with the C library here, which is tried if it was not yet.
///
/// # Errors
/// Why its calls are seen by entry and return.
pub(crate) fn examine() -> Result<String, String> {
    let maps = Process::myself().and_then(|it| it.maps()).map_err(|it| it.to_string())?;
    let object = maps.iter().find_map(|it| match &it.pathname {
        MMapPath::Path(path) if path.file_name()?.to_str()?.starts_with("libc") => Object::of_path(path).ok(),
        _ => None,
    });
    let (_, object) = object.ok_or("this program has its C library built in")?;
    let mut exit_sites = ExitSites::new();
    let names = exit_sites.of(&object);
    let why = |(it, whole): (&Function, &Whole)| exit_sites.standing(&object, it, whole).words();
    match (names.is_empty(), proved(&object).map(why).next()) {
        (false, _) => Ok(format!("of {}: {}", object.path, names.join(", "))),
        (true, Some(why)) => Err(format!("{}: {why}", object.path)),
        (true, None) => Err(format!("{}: nothing could be proved", object.path)),
    }
}

/// All that a verdict depends on.
fn text(whole: &Whole) -> String {
    format!("{VERSION} {whole:?}")
}

fn path() -> Option<PathBuf> {
    Some(cache_dir()?.join(FILE))
}

/// What cannot be read is as if it were not there.
fn read() -> Vec<Verdict> {
    let read = || {
        let path = path()?;
        let is_sane = fs::metadata(&path).ok()?.len() <= MAX_BYTES;
        parse(&fs::read(path).ok().filter(|_| is_sane)?)
    };
    read().unwrap_or_default()
}

/// Each line: build id, function, whether it holds, proof.
fn parse(bytes: &[u8]) -> Option<Vec<Verdict>> {
    let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let verdict = |line: &str| {
        let mut words = line.splitn(4, ' ').map(str::to_owned);
        let (build_id, function) = (words.next()?, words.next()?);
        let holds = match words.next()?.as_str() {
            HOLDS => true,
            REFUTED => false,
            _ => return None,
        };
        Some(Verdict { build_id, function, holds, proof: words.next()? })
    };
    text.lines().map(verdict).collect()
}

const HOLDS: &str = "holds";
const REFUTED: &str = "refuted";

fn print(verdicts: &[Verdict]) -> String {
    let line = |it: &Verdict| {
        let holds = if it.holds { HOLDS } else { REFUTED };
        format!("{} {} {holds} {}\n", it.build_id, it.function, it.proof)
    };
    verdicts.iter().map(line).collect()
}

fn write(verdicts: &[Verdict]) {
    let Some(path) = path() else { return };
    if let Err(error) = cache_dir::replace(&path, print(verdicts).as_bytes()) {
        log::info!("{}: {error}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_ours_is_as_if_it_were_not_there() {
        let verdict =
            Verdict {
                build_id: "0123".into(), function: "malloc".into(), proof: "1 …".into(), holds: true
            };
        let text = print(std::slice::from_ref(&verdict));
        assert_eq!(parse(text.as_bytes()), Some(vec![verdict]));
        for broken in [&text[..text.len() - 1], "", "{}", "a b holds\n", "a b perhaps c\n"] {
            assert_eq!(parse(broken.as_bytes()), None, "{broken}");
        }
    }
}
