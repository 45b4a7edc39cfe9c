//! What can be seen of one process before it is traced: who serves its memory, where the probes would go, what stands in
//! the way of complete stacks.

use std::{collections::BTreeSet, fs, io};

use procfs::process::{MMPermissions, MMapPath, Process};

use super::{
    StartError, Target,
    exit_sites::{ExitSites, Standing},
    missing,
    object::Object,
    objects::Objects,
    process::{self, Description},
};
use crate::{
    elf::{allocators::Function, pools::Pools},
    event::Via,
};

/// Everything about one process.
#[derive(Clone, Debug)]
pub struct Examination {
    pub pid: u32,
    pub about: Description,
    pub rss_bytes: Option<u64>,
    /// Kinds of namespaces in which it does not live with us, such as `mnt` and `pid`.
    pub foreign_namespaces: Vec<String>,
    /// Its root directory is not ours.
    pub has_own_root: bool,
    pub runtime: Option<Runtime>,
    pub files: Vec<ExaminedFile>,
    /// Executable memory that belongs to no file.
    pub unnamed_code_mappings: u64,
    pub unnamed_code_bytes: u64,
    /// Of the user's own pools.
    pub pool_problems: Vec<String>,
    /// Options that are worth a try where no allocator is known.
    pub suggestions: Vec<String>,
    /// Why its allocators cannot be followed, if that is so.
    pub hindrance: Option<String>,
}

/// An executable file that it has mapped.
#[derive(Clone, Debug)]
pub struct ExaminedFile {
    pub path: String,
    pub build_id: Option<String>,
    pub is_deleted: bool,
    /// Why it cannot be read.
    pub problem: Option<String>,
    /// Where to find callers in its code; 0 if it has no such data.
    pub unwind_rows: u64,
    /// Functions whose data cannot be used.
    pub skipped_functions: u64,
    /// Whose functions these are.
    pub allocator: Option<String>,
    /// The dynamic linker finds them first, so that they serve what the program and its libraries ask for.
    pub serves: bool,
    pub probes: Vec<ProbeSite>,
}

/// Where a probe would go.
#[derive(Clone, Debug)]
pub struct ProbeSite {
    pub function: String,
    pub file_offset: u64,
    pub instruction: String,
    pub is_single_step: bool,
    /// The user named it.
    pub is_own: bool,
    /// The places at which it is seen instead, without a return probe.
    pub exit_sites: Option<String>,
    /// Why not, of a function of which that was considered.
    pub no_exit_sites: Option<String>,
}

/// What manages memory above the allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runtime {
    pub name: &'static str,
    pub advice: &'static str,
    mark: &'static str,
}

const HEAP_OF_ITS_OWN: &str =
    "its own objects lie in memory that it maps itself; see how that grows by --tier growth";

/// By a part of the name of a file that only it has.
const RUNTIMES: [Runtime; 5] = [
    Runtime { name: "Java", advice: HEAP_OF_ITS_OWN, mark: "libjvm.so" },
    Runtime { name: ".NET", advice: HEAP_OF_ITS_OWN, mark: "libcoreclr.so" },
    Runtime { name: "Node.js", advice: HEAP_OF_ITS_OWN, mark: "/node" },
    Runtime {
        name: "Python",
        advice: "objects below 512 bytes lie in arenas that it maps itself; PYTHONMALLOC=malloc makes each one a block",
        mark: "/python3",
    },
    Runtime {
        name: "Python",
        advice: "objects below 512 bytes lie in arenas that it maps itself; PYTHONMALLOC=malloc makes each one a block",
        mark: "libpython3",
    },
];

/// Looks at a process without touching it.
///
/// # Errors
/// If it is not there, has no memory of its own, or may not be looked at.
pub fn examine(tgid: u32, pools: &Pools) -> Result<Examination, StartError> {
    let objects = Objects::of(&Target::Processes(vec![tgid]), pools)?;
    let gone = || StartError::TargetGone(format!("process {tgid} ended while it was looked at"));
    let process = Process::new(tgid as i32).map_err(|_| gone())?;
    let maps = process.maps().map_err(|_| gone())?;
    let about = process::describe(tgid);

    let mut all: Vec<(u32, &Object)> = objects.iter().collect();
    all.sort_unstable_by_key(|(number, _)| *number);
    let known: Vec<&Object> = all.into_iter().map(|(_, it)| it).collect();
    let serving = serving(tgid, &objects);
    let mut files: Vec<ExaminedFile> = Vec::new();
    for object in &known {
        files.push(ExaminedFile { serves: serving.as_ref() == Some(&object.path), ..file(object) });
    }
    files.extend(objects.unreadable().map(unreadable));

    let is_code = |it: &&procfs::process::MemoryMap| it.perms.contains(MMPermissions::EXECUTE);
    let unnamed: Vec<u64> = maps
        .iter()
        .filter(is_code)
        .filter(|it| matches!(it.pathname, MMapPath::Anonymous | MMapPath::Heap | MMapPath::Other(_)))
        .map(|it| it.address.1 - it.address.0)
        .collect();
    let has_allocator = known.iter().any(|it| !it.functions.is_empty());
    let is_go = known.iter().any(|it| it.is_go);
    let runtime = RUNTIMES.into_iter().find(|it| files.iter().any(|file| file.path.contains(it.mark)));
    let go = Runtime {
        name: "Go",
        advice: "the Go runtime serves Go code itself; see how that grows by --tier growth",
        mark: "",
    };
    let pool_problems: Vec<String> = objects
        .check_pools()
        .err()
        .map(|it| it.to_string())
        .into_iter()
        .chain(objects.pool_problems())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    Ok(Examination {
        pid: tgid,
        rss_bytes: process::rss_bytes(tgid),
        foreign_namespaces: foreign_namespaces(tgid),
        has_own_root: has_own_root(tgid),
        runtime: if is_go { Some(go) } else { runtime },
        unnamed_code_mappings: unnamed.len() as u64,
        unnamed_code_bytes: unnamed.iter().sum(),
        // Libraries have functions for each other; only the program's own would be a surprise.
        suggestions: missing::suggestions(if has_allocator {
            known.get(..1).unwrap_or_default()
        } else {
            &known
        }),
        hindrance: objects.check_targets().err().map(|it| it.to_string()),
        pool_problems,
        about,
        files,
    })
}

/// The path of the allocator that the dynamic linker finds first, in its order of search.
fn serving(tgid: u32, objects: &Objects) -> Option<String> {
    let is_allocator = |it: &&Object| it.functions.iter().any(|it| !matches!(it.via, Via::Custom(_)));
    let mut loaded = process::closure(tgid).into_iter().filter_map(|it| objects.at(&it));
    let only = || objects.iter().map(|(_, it)| it).find(is_allocator);
    loaded.find(is_allocator).or_else(only).map(|it| it.path.clone())
}

fn file(object: &Object) -> ExaminedFile {
    let mut exit_sites = ExitSites::new();
    let mut probe = |it: &Function| {
        let (places, why_none) = match &it.whole {
            None => (None, None),
            Some(Err(refusal)) => (None, Some(refusal.to_string())),
            Some(Ok(whole)) => match exit_sites.standing(object, it, whole) {
                Standing::Holds => (Some(whole.to_string()), None),
                standing => (None, Some(standing.words().to_owned())),
            },
        };
        ProbeSite {
            function: it.name.to_string(),
            file_offset: it.site_offset(),
            instruction: it.site.instruction.clone(),
            is_single_step: it.site.is_single_step(),
            is_own: matches!(it.via, Via::Custom(_)),
            exit_sites: places,
            no_exit_sites: why_none,
        }
    };
    let probes: Vec<ProbeSite> = object.functions.iter().map(&mut probe).collect();
    let path = object.path.strip_suffix(" (deleted)");
    ExaminedFile {
        path: path.unwrap_or(&object.path).to_owned(),
        build_id: object.build_id.clone(),
        is_deleted: path.is_some(),
        problem: None,
        unwind_rows: object.table.as_ref().map_or(0, |it| it.packed_rows() as u64),
        skipped_functions: object.table.as_ref().map_or(0, |it| it.skipped_functions as u64),
        serves: false,
        allocator: (!object.allocators.is_empty()).then(|| object.allocators.join(" and ")),
        probes,
    }
}

fn unreadable(path: &str) -> ExaminedFile {
    ExaminedFile {
        path: path.to_owned(),
        build_id: None,
        is_deleted: path.ends_with(" (deleted)"),
        problem: Some("cannot be read: its functions have no names, and stacks end there".to_owned()),
        unwind_rows: 0,
        skipped_functions: 0,
        allocator: None,
        serves: false,
        probes: Vec::new(),
    }
}

fn foreign_namespaces(tgid: u32) -> Vec<String> {
    let of = |who: &str, kind: &str| fs::read_link(format!("/proc/{who}/ns/{kind}")).ok();
    let is_foreign = |kind: &&str| {
        let theirs = of(&tgid.to_string(), kind);
        theirs.is_some() && theirs != of("self", kind)
    };
    ["mnt", "pid", "user", "net", "ipc", "uts", "cgroup", "time"]
        .into_iter()
        .filter(is_foreign)
        .map(str::to_owned)
        .collect()
}

fn has_own_root(tgid: u32) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let root = |path: &str| -> io::Result<(u64, u64)> {
        let it = fs::metadata(path)?;
        Ok((it.dev(), it.ino()))
    };
    match (root(&format!("/proc/{tgid}/root/")), root("/")) {
        (Ok(theirs), Ok(ours)) => theirs != ours,
        _ => false,
    }
}
