//! The user's own pools in the objects of a run: which functions are there, which are waited for, which must not be probed.

use super::{Object, Objects, StartError, missing};
use crate::{
    elf::{
        allocators::{Function, Role},
        pools::Spec,
    },
    event::Via,
};

impl Objects {
    /// Refuses functions of the user's pools that are not there, or that must not be probed.
    ///
    /// # Errors
    /// With the function, the files that were looked at, and names that are similar.
    pub(crate) fn check_pools(&self) -> Result<(), StartError> {
        for (number, spec) in self.pools.iter().enumerate() {
            if let Some((_, path, why)) = self.pool_problems.iter().find(|(it, ..)| *it == number) {
                return Err(StartError::UnsupportedTarget(format!("{spec} in {path}: {why}")));
            }
            if !self.defines(number) && !self.is_awaited(spec) {
                let label = self.targets.iter().map(|it| it.label.as_str()).collect::<Vec<_>>().join(" and ");
                let mut objects: Vec<(u32, &Object)> = self.iter().collect();
                objects.sort_unstable_by_key(|(number, _)| *number);
                let objects: Vec<&Object> = objects.into_iter().map(|(_, it)| it).collect();
                return Err(StartError::UnsupportedTarget(missing::function(&label, spec, &objects)));
            }
        }
        Ok(())
    }

    /// What is said of the user's pools when tracing begins.
    pub(crate) fn pool_notes(&self) -> Vec<String> {
        let awaited = self
            .pools
            .iter()
            .enumerate()
            .filter(|(number, it)| !self.defines(*number) && self.is_awaited(it));
        let mut notes: Vec<String> = awaited
            .map(|(_, it)| {
                format!("{it}: no file that is loaded has it; it is traced as soon as one is that does")
            })
            .collect();
        if !self.pools.is_empty() && self.pools.iter().all(|it| it.role == Role::Alloc) {
            notes.push(
                "--alloc without --free: what is given back is not seen, and everything looks live"
                    .to_owned(),
            );
        }
        notes
    }

    fn defines(&self, pool: usize) -> bool {
        let is_it = |it: &Function| it.via == Via::Custom(pool as u8);
        self.iter().any(|(_, object)| object.functions.iter().any(is_it))
    }

    /// A file that is named and not there yet may come, as a plugin does.
    fn is_awaited(&self, spec: &Spec) -> bool {
        // Of a selection, processes may come that nobody knows yet.
        self.targets.is_empty() || spec.file.is_some() && !self.iter().any(|(_, it)| spec.is_for(&it.path))
    }

    /// To be called once for each object, when it is new.
    pub(super) fn add_pools(&mut self, object: &mut Result<Object, String>) {
        let Ok(object) = object else { return };
        if self.pools.is_empty() {
            return;
        }
        match object.add_pools(&self.pools) {
            Ok(problems) => {
                for (number, why) in problems {
                    log::warn!("{}: {why}", object.path);
                    self.pool_problems.push((number, object.path.clone(), why));
                }
            }
            Err(error) => log::warn!("{}: {error}", object.path),
        }
    }

    /// Why functions of the user's pools cannot be probed.
    pub(crate) fn pool_problems(&self) -> impl Iterator<Item = String> {
        let problems = self.pool_problems.iter();
        problems
            .filter_map(|(at, path, why)| Some(format!("{} in {path}: {why}", self.pools.iter().nth(*at)?)))
    }
}
