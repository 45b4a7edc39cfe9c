//! Frames of the traced processes: the rest of a walk that began in the kernel, and where in a process a frame lies.

use tracer_ebpf::{
    mapping::{Mapped, ObjectKey},
    record::{Frame, RawStack},
    unwind::{CFA_FRAME, Rule, Stop},
};

use super::Objects;
use crate::{
    event::{Event, ProcessId, StackKey},
    kernel::{
        PerfMap,
        raw::{self, Mappings},
    },
};

impl Objects {
    /// Where a frame lies in a process; memory without a file is named by its address.
    pub(crate) fn address(&self, process: ProcessId, frame: Frame) -> Option<u64> {
        if frame.object() == 0 || self.perf_maps.contains_key(&frame.object()) {
            return Some(frame.offset());
        }
        let here = |it: &Mapped| {
            let address = frame.offset().wrapping_sub(it.file_delta);
            (it.object == frame.object() && (it.start..it.end).contains(&address)).then_some(address)
        };
        self.images.get(&process)?.mappings.values().find_map(here)
    }

    /// Walks an unfinished stack to its end.
    pub(crate) fn finish(&mut self, raw: &RawStack) -> Event {
        let process = ProcessId(raw.stack.head.process);
        let (mut frames, mut stop) = self.walk(process, raw);
        if stop == Stop::Gone && self.read_mappings(process) {
            (frames, stop) = self.walk(process, raw);
        }
        let frames = self.own(process, frames.into_boxed_slice(), stop);
        let frames = self.trim(frames);
        Event::Stack { key: StackKey(raw.stack.id), stop, frames }
    }

    /// Names the process's own memory as the place of the code that it makes: an address alone says nothing.
    pub(crate) fn own(&mut self, process: ProcessId, mut frames: Box<[Frame]>, stop: Stop) -> Box<[Frame]> {
        let is_lost = matches!(stop, Stop::NoMapping | Stop::Gone);
        let count = frames.len() - usize::from(is_lost && !frames.is_empty());
        if frames[..count].iter().all(|it| it.object() != 0) {
            return frames;
        }
        let number = self.generated(process);
        for frame in frames[..count].iter_mut().filter(|it| it.object() == 0) {
            *frame = Frame::new(number, frame.offset());
        }
        frames
    }

    fn generated(&mut self, process: ProcessId) -> u32 {
        /// No device has this number.
        const MEMORY: u32 = u32::MAX;
        if let Some(number) = self.generated.get(&process) {
            return *number;
        }
        let perf_map = self.images.get(&process).and_then(|it| PerfMap::of(it.tgid));
        let tgid = self.images.get(&process).map_or(0, |it| it.tgid);
        let path = format!("[code made by process {tgid}]");
        let key = ObjectKey { dev: MEMORY, version: 0, ino: process.0.into() };
        let Some(number) = self.insert(key, Err(path)) else { return 0 };
        self.perf_maps.extend(perf_map.map(|it| (number, it)));
        self.generated.insert(process, number);
        number
    }

    fn walk(&self, process: ProcessId, raw: &RawStack) -> (Vec<Frame>, Stop) {
        let none = Mappings::new();
        let mappings = self.images.get(&process).map_or(&none, |it| &it.mappings);
        raw::finish(raw, mappings, |object, offset| self.rule(object, offset))
    }

    fn rule(&self, object: u32, offset: u32) -> Result<Rule, Stop> {
        if object == 0 {
            return Ok(Rule { cfa: CFA_FRAME, ..Rule::default() });
        }
        let sent = self.kernel.as_ref().and_then(|it| it.tables.rule(object, offset));
        let kept = || self.get(object)?.table.as_ref().map(|it| it.lookup(offset));
        sent.or_else(kept).ok_or(Stop::NoTable)
    }

    /// Removes the innermost frames that only make the system call: a mapping's site is who called mmap.
    pub(crate) fn trim(&self, frames: Box<[Frame]>) -> Box<[Frame]> {
        let wrapper =
            |frame: &Frame| self.get(frame.object()).is_some_and(|it| it.is_syscall_wrapper(*frame));
        let wrappers = frames.iter().take_while(|it| wrapper(it)).count();
        if wrappers == 0 || wrappers == frames.len() { frames } else { frames[wrappers..].into() }
    }
}
