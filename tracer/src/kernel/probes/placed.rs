//! Probe sites in words.

use std::fmt;

use super::{super::object::Object, plan::whole};
use crate::elf::{
    allocators::{End, Function},
    whole::Whole,
};

/// A probe site, for the user.
pub(super) struct Placed {
    path: String,
    function: String,
    offset: u64,
    instruction: String,
    single_step: bool,
    end: End,
    /// Instead of all others.
    whole: Option<Whole>,
}

impl Placed {
    pub(super) fn new(object: &Object, function: &Function, exit_sites: &[String]) -> Self {
        Self {
            path: object.path.clone(),
            function: function.name.to_string(),
            offset: function.site_offset(),
            instruction: function.site.instruction.clone(),
            single_step: function.site.is_single_step(),
            end: function.end.clone(),
            whole: whole(function, exit_sites).cloned(),
        }
    }
}

impl fmt::Display for Placed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = if self.single_step { "single-stepped: about ten times as dear" } else { "emulated" };
        let Self { path, function, offset, instruction, .. } = self;
        if let Some(whole) = &self.whole {
            return write!(out, "{function} in {path} without a return probe, at its {whole}");
        }
        write!(out, "{function} in {path} at {offset:#x}: {instruction} ({class})")?;
        match &self.end {
            End::Unseen => Ok(()),
            End::Return => write!(out, ", and its return"),
            End::At(offsets) => {
                let offsets: Vec<String> = offsets.iter().map(|it| format!("{it:#x}")).collect();
                write!(out, ", and its exits at {} (single-stepped)", offsets.join(" "))
            }
        }
    }
}
