//! What the targets have mapped when the tracing begins, or what a command will map.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use tracer_ebpf::mapping::VDSO;

use super::{Object, Objects, StartError, TargetFacts, launch, missing, process};
use crate::{
    elf::{closure, pools::Pools},
    kernel::{Selection, Target, contents},
};

impl Objects {
    /// What the target has mapped, or will map.
    ///
    /// # Errors
    /// If there is no such process or command, or it is closed to us.
    pub(crate) fn of(target: &Target, pools: &Pools) -> Result<Self, StartError> {
        let mut objects = Self { pools: pools.clone(), ..Self::default() };
        match target {
            Target::Processes(tgids) => {
                for tgid in tgids {
                    process::check(*tgid)?;
                    objects.add_process(*tgid)?;
                }
            }
            Target::Launched { command, .. } => objects.add_predicted(command)?,
            Target::Selected(selection) => {
                // What most programs of this machine will map: our own libraries.
                let _ = objects.add_process(std::process::id());
                for tgid in selection.running() {
                    // It may have ended since, and a kernel thread maps nothing.
                    let _ = objects.add_process(tgid);
                }
                if let Selection::Names(names) = selection {
                    for name in names {
                        // It need not be a program that is found by its name.
                        let _ = objects.add_predicted(&[name.into()]);
                    }
                }
                objects.targets.clear();
            }
        }
        Ok(objects)
    }

    /// Reads what a running process has mapped.
    fn add_process(&mut self, tgid: u32) -> Result<(), StartError> {
        let mappings = process::code_mappings(tgid)
            .map_err(|_| StartError::TargetGone(format!("process {tgid} ended before tracing began")))?;
        let mut facts = TargetFacts {
            label: format!("process {tgid} ({})", process::describe(tgid).name),
            objects: Vec::new(),
            problem: None,
        };
        for mapping in mappings {
            let (number, problem) = self.add_code(tgid, &mapping);
            facts.objects.extend(number);
            facts.problem = facts.problem.or(problem);
        }
        self.targets.push(facts);
        Ok(())
    }

    /// Reads what a command will probably load.
    fn add_predicted(&mut self, command: &[OsString]) -> Result<(), StartError> {
        let Some(name) = command.first() else {
            return Err(StartError::TargetGone("no command given".to_owned()));
        };
        let Some(program) = launch::resolve_command(name, std::env::var_os("PATH").as_deref()) else {
            return Err(StartError::TargetGone(format!("command not found: {}", name.to_string_lossy())));
        };
        let mut facts =
            TargetFacts { label: name.to_string_lossy().into_owned(), objects: Vec::new(), problem: None };
        for path in predicted(&program) {
            match Object::of_path(&path) {
                Ok((key, object)) => facts.objects.extend(self.insert(key, Ok(object))),
                Err(error) => {
                    facts.problem.get_or_insert(format!("{}: {error}", path.display()));
                }
            }
        }
        if let Ok(vdso) = Object::vdso() {
            self.insert(VDSO, Ok(vdso));
        }
        self.targets.push(facts);
        Ok(())
    }

    /// Refuses targets that have nothing to trace.
    ///
    /// # Errors
    /// `UnsupportedTarget`, with what was looked at.
    pub(crate) fn check_targets(&self) -> Result<(), StartError> {
        for target in &self.targets {
            let objects = || target.objects.iter().filter_map(|it| self.get(*it));
            if objects().any(|it| !it.functions.is_empty()) {
                continue;
            }
            let why = match &target.problem {
                Some(problem) => format!("{} cannot be traced: {problem}", target.label),
                None => missing::allocator(&target.label, &objects().collect::<Vec<_>>()),
            };
            return Err(StartError::UnsupportedTarget(why));
        }
        Ok(())
    }
}

fn predicted(program: &Path) -> Vec<PathBuf> {
    let environment = closure::SearchEnv {
        ld_preload: std::env::var_os("LD_PRELOAD"),
        ld_library_path: std::env::var_os("LD_LIBRARY_PATH"),
        root: PathBuf::new(),
    };
    let program = std::fs::canonicalize(program).unwrap_or_else(|_| program.to_owned());
    closure::predict(&program, &environment, &contents::read_path)
}
