//! Whose processes are traced without having been named one by one: all, those of a program by its name, or
//! those in a control group.

use aya_ebpf::helpers::bpf_get_current_comm;
use tracer_ebpf::config::{Config, SELECT_ALL, SELECT_GROUPS, SELECT_NAMES};

use crate::{
    maps::{GROUPS, NAMES},
    user,
};

/// Control groups that lie in one another: systemd and Kubernetes make about ten.
const MAX_DEPTH: u32 = 32;

/// Whether the current process belongs to the selection.
#[inline(always)]
pub(crate) fn is_selected(config: &Config, tgid: u32) -> bool {
    if tgid == config.own_tgid {
        return false;
    }
    match config.select {
        SELECT_ALL => true,
        SELECT_NAMES => bpf_get_current_comm().is_ok_and(|it| NAMES.get_ptr(it).is_some()),
        SELECT_GROUPS => is_in_group(config),
        _ => false,
    }
}

/// Whether a fork of a member belongs to the selection too: it has its parent's program and control group.
#[inline(always)]
pub(crate) fn keeps_child(config: &Config) -> bool {
    match config.select {
        // The name of a thread may be another than that of the program.
        SELECT_ALL | SELECT_NAMES => true,
        SELECT_GROUPS => is_in_group(config),
        _ => false,
    }
}

/// Goes from the current process's control group to the root. A group is told by the number of its directory's inode,
/// which is that of its kernfs node (`kernfs_ino`, include/linux/kernfs.h).
#[inline(always)]
fn is_in_group(config: &Config) -> bool {
    let set: u64 = user::kernel(user::current_task(), config.task_cgroups);
    let start: u64 = user::kernel(set, config.css_set_start);
    let mut group = if config.hierarchy_is_v2 == 1 { start } else { user::kernel(start, config.css_cgroup) };
    for _ in 0..MAX_DEPTH {
        if group == 0 {
            return false;
        }
        let node: u64 = user::kernel(group, config.cgroup_kernfs);
        let id: u64 = user::kernel(node, config.kernfs_id);
        if GROUPS.get_ptr(id).is_some() {
            return true;
        }
        let parent: u64 = user::kernel(group, config.cgroup_parent);
        if parent == 0 {
            return false;
        }
        group = user::kernel(parent, config.css_cgroup);
    }
    false
}
