//! What frames are called in a line: `function < caller < caller`, without what lies between a function and the allocator.

use std::{collections::HashMap, sync::Arc};

use crate::{
    capture::{FrameRow, Recording, Stack},
    profile::is_library,
    report::escape::printable,
};

/// A name for each frame of a recording, each name once.
#[derive(Default)]
pub(super) struct Names {
    /// By place in [`Recording::frames`].
    of_frames: Vec<u32>,
    names: Vec<Name>,
    ids: HashMap<Arc<str>, u32>,
}

struct Name {
    /// As it may be shown.
    text: Arc<str>,
    is_plumbing: bool,
}

/// Callers that a line names. More would not fit, and the stack has them all.
const CALLERS: usize = 8;

impl Names {
    /// Takes in the frames that are new.
    pub(super) fn learn(&mut self, recording: &Recording) {
        for frame in &recording.frames[self.of_frames.len()..] {
            let text: Arc<str> = label(recording, frame).into();
            let id = *self.ids.entry(Arc::clone(&text)).or_insert_with(|| {
                let is_plumbing = frame.function.as_deref().is_some_and(is_plumbing);
                self.names.push(Name { text, is_plumbing });
                self.names.len() as u32 - 1
            });
            self.of_frames.push(id);
        }
    }

    pub(super) fn count(&self) -> usize {
        self.names.len()
    }

    pub(super) fn text(&self, id: u32) -> &str {
        &self.names[id as usize].text
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|it| &*it.text)
    }

    fn is_plumbing(&self, id: u32) -> bool {
        self.names[id as usize].is_plumbing
    }

    /// The names along a stack, innermost first.
    pub(super) fn along<'a>(&'a self, stack: &'a Stack) -> impl Iterator<Item = u32> + 'a {
        stack.frames.iter().map(|it| self.of_frames[*it as usize])
    }

    /// Those that say something: without plumbing, if anything is left then, and without what calls `main`.
    pub(super) fn shown<'a>(&'a self, stack: &'a Stack) -> impl Iterator<Item = u32> + 'a {
        let is_all_plumbing = self.along(stack).all(|it| self.is_plumbing(it));
        let mut is_main = false;
        let until_main = self.along(stack).take_while(move |it| {
            let is_below = is_main;
            is_main = self.text(*it) == "main";
            !is_below
        });
        until_main.filter(move |it| is_all_plumbing || !self.is_plumbing(*it))
    }

    /// `function < caller < caller`
    pub(super) fn line(&self, stack: &Stack) -> String {
        let mut shown: Vec<u32> = self.shown(stack).collect();
        // Recursion says nothing in a line.
        shown.dedup();
        shown.truncate(CALLERS);
        let [first, callers @ ..] = &shown[..] else { return "(no stack)".to_owned() };
        callers.iter().fold(self.text(*first).to_owned(), |line, it| line + " < " + short(self.text(*it)))
    }
}

/// The last two parts of a path: callers are there to tell lines apart.
fn short(name: &str) -> &str {
    if name.contains(['<', '(', ' ']) {
        return name;
    }
    let parts: Vec<usize> = name.match_indices("::").map(|(at, _)| at + 2).collect();
    parts.len().checked_sub(2).map_or(name, |it| &name[parts[it]..])
}

/// The function, or where it would be.
fn label(recording: &Recording, frame: &FrameRow) -> String {
    match &frame.function {
        Some(function) => printable(function).into_owned(),
        None => {
            let path = recording.modules.get(&frame.module).map_or("", |it| &it.path);
            let name = match path.rsplit('/').next() {
                None | Some("") => "[anonymous]",
                Some(name) => name,
            };
            format!("{}+{:#x}", printable(name), frame.offset)
        }
    }
}

/// How a program and a thread begin.
const BEGINNINGS: [&str; 7] =
    ["_start", "__libc_start_main", "__libc_start_call_main", "start_thread", "clone", "clone3", "__clone3"];

/// Whether a function only passes on what others want: a library's container, a wrapper of the allocator, the
/// beginning of the program.
fn is_plumbing(function: &str) -> bool {
    let is_wrapper = || {
        let name = function.to_ascii_lowercase();
        let is_c = !name.contains("::");
        let allocates = ["malloc", "calloc", "realloc", "memalign"].iter().any(|it| name.contains(it));
        is_c && allocates || ["__rdl_", "__rg_", "__rustc"].iter().any(|it| name.contains(it))
    };
    is_library(function) || BEGINNINGS.contains(&function) || is_wrapper()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::{ModuleRow, Row, StackRow};

    fn check(functions: &[Option<&str>], line: &str, own: &str) {
        let mut recording = Recording::default();
        let path = "/lib/lib\x1b[2J.so".to_owned();
        recording.add(Row::Module(ModuleRow { id: 1, path, build_id: None }));
        let frame = |(offset, function): (u64, &Option<&str>)| FrameRow {
            module: 1,
            offset,
            function: function.map(Arc::from),
        };
        let frames = (16..).zip(functions).map(frame).collect();
        recording.add(Row::Stack(StackRow { id: 0, stop: "complete".to_owned(), frames }));
        let mut names = Names::default();
        names.learn(&recording);
        let stack = &recording.stacks[&0];
        assert_eq!(names.line(stack), line);
        assert_eq!(names.shown(stack).next().map_or("", |it| names.text(it)), own);
    }

    #[test]
    fn plumbing_is_left_out() {
        check(
            &[
                Some("alloc::raw_vec::finish_grow"),
                Some("<alloc::vec::Vec<T> as core::clone::Clone>::clone"),
                Some("app::Cache::put"),
                Some("app::server::Request::answer"),
                Some("app::main"),
                Some("std::rt::lang_start_internal"),
                Some("main"),
                Some("__libc_start_call_main"),
                Some("_start"),
            ],
            "app::Cache::put < Request::answer < app::main < main",
            "app::Cache::put",
        );
        check(&[Some("zmalloc"), Some("sdsnew"), Some("main")], "sdsnew < main", "sdsnew");
        check(
            &[Some("operator new(unsigned long)"), Some("std::vector<int>::grow"), Some("f()")],
            "f()",
            "f()",
        );
    }

    #[test]
    fn without_names_there_are_places() {
        check(&[None, Some("main")], "lib\\u{1b}[2J.so+0x10 < main", "lib\\u{1b}[2J.so+0x10");
        check(&[], "(no stack)", "");
    }

    #[test]
    fn recursion_is_said_once() {
        check(&[Some("walk"), Some("walk"), Some("walk"), Some("main")], "walk < main", "walk");
    }

    #[test]
    fn plumbing_is_better_than_nothing() {
        check(&[Some("xmalloc"), Some("_start")], "xmalloc < _start", "xmalloc");
    }
}
