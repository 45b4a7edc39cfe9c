//! Tracepoints as tracefs describes them.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use rustix::mount::{MountFlags, mount};

const ROOT: &str = "/sys/kernel/tracing";

/// Makes tracefs visible. Minimal systems and containers do not mount it.
///
/// # Errors
/// Those of `mount(2)`.
pub(crate) fn ensure_mounted() -> Result<()> {
    if Path::new(ROOT).join("events").exists() {
        return Ok(());
    }
    log::info!("mounting tracefs at {ROOT}");
    mount("tracefs", ROOT, "tracefs", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, None)
        .with_context(|| format!("mount tracefs at {ROOT}"))
}

/// The fields of a tracepoint's record, which differ between kernel builds.
pub(crate) struct Format {
    name: String,
    text: String,
}

impl Format {
    /// # Errors
    /// If the kernel does not have the tracepoint.
    pub(crate) fn read(category: &str, name: &str) -> Result<Self> {
        let path = format!("{ROOT}/events/{category}/{name}/format");
        let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        Ok(Self { name: format!("{category}:{name}"), text })
    }

    /// Bytes from the start of the record to a field.
    ///
    /// # Errors
    /// If the tracepoint has no such field.
    pub(crate) fn offset(&self, field: &str) -> Result<u32> {
        offset_in(&self.text, field).with_context(|| format!("tracepoint {} has no field {field}", self.name))
    }
}

/// A line reads `field:pid_t pid; offset:8; size:4; signed:1;`.
fn offset_in(text: &str, field: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut parts = line.trim().split(';').map(str::trim);
        let declaration = parts.next()?.strip_prefix("field:")?;
        let name =
            declaration.split([' ', '[']).filter(|it| !it.is_empty()).rfind(|it| !it.ends_with(']'))?;
        if name != field {
            return None;
        }
        parts.next()?.strip_prefix("offset:")?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_name() {
        let text = "name: task_newtask\nformat:\n\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
                    \tfield:char comm[16];\toffset:12;\tsize:16;\tsigned:0;\n\
                    \tfield:unsigned long clone_flags;\toffset:32;\tsize:8;\tsigned:0;\n";
        assert_eq!(offset_in(text, "clone_flags"), Some(32));
        assert_eq!(offset_in(text, "comm"), Some(12));
        assert_eq!(offset_in(text, "pid"), None);
    }
}
