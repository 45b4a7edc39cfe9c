//! Events as readable text, so that a test says what happens and a case from the field becomes one
//! by copying. For tests only: a line that cannot be read is a panic that names it.
//!
//! ```text
//! begin   10 app 0x5000              process, name, end of the heap segment (may be left out)
//! stack   #1 main > parse > grow     outermost first; "(truncated)" or another stop at the end
//! alloc   10 0x1000 64B #1 calloc    malloc if no function is named
//! alloc   10 0x1000 64B #1 rate 19   one in 2^19 bytes is sampled, and one of these was
//! realloc 10 0x1000 0x2000 1KiB #1 since 1.5s
//! free    10 0x2000 thread 1         0 if no thread is named
//! enclosed 10 0x0 0x1000             given to a pool of the user's: what was resized or 0, and what was given
//! cache   10 thread 1 since 1.5s     the thread's frees since then were of its cache
//! map     10 0x10000 8KiB #1         "nested" at the end: by an allocator, for itself
//! unmap   10 0x10000 4KiB
//! remap   10 0x11000 4KiB 0x20000 8KiB #1
//! brk     10 0x6000 #1
//! fork    10 11
//! spawn   10 12                      a child that has nothing of its parent
//! exec    11 other
//! unfollow 10                        its allocator is not seen any more
//! relax 10                           likewise, and nobody wants to
//! leave   11                         it became a program that is not to be traced
//! oom     11
//! exit    10 0                       the code, or "signal 9"
//! at      1.5s                       the time of the next event
//! // a comment
//! ```
//!
//! Time starts at 0; each event is a millisecond after the one before. A process id is its tgid too.

use std::{collections::BTreeMap, str::SplitWhitespace, time::Duration};

use crate::{
    estimate::Rate,
    event::{Event, Frame, ProcessId, StackKey, Stop, Via},
    interval::How,
};

const STEP_NS: u64 = 1_000_000;

/// Stops as they stand at the end of a stack.
const STOPS: [(Stop, &str); 8] = [
    (Stop::Truncated, "(truncated)"),
    (Stop::NoMapping, "(no-mapping)"),
    (Stop::NoTable, "(no-table)"),
    (Stop::Unsupported, "(unsupported)"),
    (Stop::Unreadable, "(unreadable)"),
    (Stop::Pending, "(pending)"),
    (Stop::Gone, "(gone)"),
    (Stop::NoFramePointer, "(no-frame-pointer)"),
];

/// The events of a script.
///
/// # Panics
/// At a line that cannot be read, with its number.
pub fn parse(text: &str) -> Vec<Event> {
    let mut time_ns = 0;
    let mut events = Vec::new();
    for (number, text) in text.lines().enumerate() {
        let mut line = Line { number: number + 1, text, words: text.split_whitespace() };
        match line.words.next() {
            None | Some("//") => continue,
            Some("at") => time_ns = line.time(),
            Some("stack") => events.push(line.stack()),
            Some(verb) => {
                events.push(line.event(verb, time_ns));
                time_ns += STEP_NS;
            }
        }
        if line.words.next().is_some() {
            line.fail("nothing more");
        }
    }
    events
}

/// The made-up frame of a function: the same for the same name, in object 1.
pub fn frame(name: &str) -> Frame {
    let hash = name.bytes().fold(0, |hash, byte| tracer_ebpf::record::mix(hash, u64::from(byte) + 1));
    Frame::new(1, hash >> 17)
}

/// The functions that a script names, by their frames.
pub fn names(text: &str) -> BTreeMap<Frame, String> {
    let stacks = text.lines().filter_map(|it| it.trim().strip_prefix("stack "));
    let words = stacks.flat_map(str::split_whitespace).filter(|it| !it.starts_with(['#', '>', '(']));
    words.map(|it| (frame(it), it.to_owned())).collect()
}

struct Line<'a> {
    number: usize,
    text: &'a str,
    words: SplitWhitespace<'a>,
}

impl<'a> Line<'a> {
    fn event(&mut self, verb: &str, time_ns: u64) -> Event {
        let process = ProcessId(self.number());
        match verb {
            "begin" => Event::Begin {
                process,
                time_ns,
                tgid: process.0,
                name: self.word("a name").into(),
                break_end: self.peek().map(|_| self.address()),
            },
            "alloc" => Event::Alloc {
                process,
                time_ns,
                address: self.address(),
                size_bytes: self.size(),
                stack: self.key(),
                rate: self.rate(),
                via: self.via(),
            },
            "realloc" => Event::Realloc {
                process,
                time_ns,
                via: Via::Realloc,
                old_address: self.address(),
                address: self.address(),
                size_bytes: self.size(),
                stack: self.key(),
                started_ns: if self.has("since") { self.time() } else { time_ns },
                rate: self.rate(),
            },
            "free" => Event::Free { process, time_ns, address: self.address(), thread: self.thread() },
            "enclosed" => {
                Event::Enclosed { process, time_ns, old_address: self.address(), address: self.address() }
            }
            "cache" => {
                let thread = self.thread();
                let since_ns = if self.has("since") { self.time() } else { time_ns };
                Event::EmptyCache { process, time_ns, thread, since_ns }
            }
            "map" => Event::Map {
                process,
                time_ns,
                address: self.address(),
                size_bytes: self.size(),
                stack: self.key(),
                nested: self.has("nested"),
            },
            "unmap" => Event::Unmap {
                process,
                time_ns,
                address: self.address(),
                size_bytes: self.size(),
                nested: self.has("nested"),
            },
            "remap" => Event::Remap {
                process,
                time_ns,
                old_address: self.address(),
                old_size_bytes: self.size(),
                address: self.address(),
                size_bytes: self.size(),
                stack: self.key(),
                nested: self.has("nested"),
            },
            "brk" => Event::Break {
                process,
                time_ns,
                end: self.address(),
                stack: self.key(),
                nested: self.has("nested"),
            },
            "exec" => Event::Exec { process, time_ns, name: self.word("a name").into() },
            "fork" => {
                let child = self.number();
                Event::Fork { process, time_ns, child: ProcessId(child), child_tgid: child }
            }
            "spawn" => {
                let child = self.number();
                Event::Spawn { process, time_ns, child: ProcessId(child), child_tgid: child }
            }
            "relax" => Event::Relax { process, time_ns },
            "unfollow" => Event::Unfollow { process, time_ns },
            "leave" => Event::Leave { process, time_ns, how: How::Exec },
            "exit" => {
                let status = if self.has("signal") { self.number() } else { self.number() << 8 };
                Event::Exit { process, time_ns, status }
            }
            "oom" => Event::Oom { process, time_ns, choice: Box::default() },
            _ => self.fail("an event"),
        }
    }

    fn stack(&mut self) -> Event {
        let key = self.key();
        let (mut frames, mut stop) = (Vec::new(), Stop::Complete);
        for word in self.words.by_ref().filter(|it| *it != ">") {
            match STOPS.iter().find(|(_, name)| *name == word) {
                Some(named) => stop = named.0,
                None => frames.push(frame(word)),
            }
        }
        frames.reverse();
        Event::Stack { key, stop, frames: frames.into() }
    }

    fn word(&mut self, what: &str) -> &'a str {
        self.words.next().unwrap_or_else(|| self.fail(what))
    }

    fn peek(&self) -> Option<&'a str> {
        self.words.clone().next()
    }

    /// Takes the next word if it is `word`.
    fn has(&mut self, word: &str) -> bool {
        let is_next = self.peek() == Some(word);
        if is_next {
            self.words.next();
        }
        is_next
    }

    fn number(&mut self) -> u32 {
        self.word("a number").parse().unwrap_or_else(|_| self.fail("a number"))
    }

    fn address(&mut self) -> u64 {
        let digits = self.word("an address").strip_prefix("0x");
        digits.and_then(|it| u64::from_str_radix(it, 16).ok()).unwrap_or_else(|| self.fail("an address"))
    }

    fn size(&mut self) -> u64 {
        let word = self.word("a size");
        let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1)];
        let number = |(unit, factor)| Some(word.strip_suffix(unit)?.parse::<u64>().ok()? * factor);
        units.into_iter().find_map(number).unwrap_or_else(|| self.fail("a size"))
    }

    fn key(&mut self) -> StackKey {
        let digits = self.word("a stack").strip_prefix('#');
        StackKey(digits.and_then(|it| it.parse().ok()).unwrap_or_else(|| self.fail("a stack")))
    }

    fn rate(&mut self) -> Rate {
        if self.has("rate") { Rate::of_shift(self.number()) } else { Rate::EXACT }
    }

    fn via(&mut self) -> Via {
        let Some(name) = self.words.next() else { return Via::Malloc };
        Via::ALL.into_iter().find(|it| it.name() == name).unwrap_or_else(|| self.fail("a function"))
    }

    fn thread(&mut self) -> u8 {
        if self.has("thread") { self.number() as u8 } else { 0 }
    }

    fn time(&mut self) -> u64 {
        let seconds = self.word("a time").strip_suffix('s').and_then(|it| it.parse().ok());
        let time = seconds.and_then(|it| Duration::try_from_secs_f64(it).ok());
        time.unwrap_or_else(|| self.fail("a time")).as_nanos() as u64
    }

    fn fail(&self, expected: &str) -> ! {
        panic!("line {}: expected {expected}: {}", self.number, self.text.trim())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_an_event_a_millisecond_after_the_one_before() {
        let process = ProcessId(10);
        let events = parse(
            "
            // a comment
            begin 10 app 0x5000
            stack #1 main > f (no-table)
            realloc 10 0x1000 0x2000 1KiB #1 since 0.5s
            at 1.5s
            map 10 0x10000 3MiB #1 nested
            exit 10 3
            ",
        );
        let expected = [
            Event::Begin { process, time_ns: 0, tgid: 10, name: "app".into(), break_end: Some(0x5000) },
            Event::Stack {
                key: StackKey(1),
                stop: Stop::NoTable,
                frames: vec![frame("f"), frame("main")].into(),
            },
            Event::Realloc {
                process,
                time_ns: 1_000_000,
                via: Via::Realloc,
                old_address: 0x1000,
                address: 0x2000,
                size_bytes: 1024,
                stack: StackKey(1),
                started_ns: 500_000_000,
                rate: Rate::EXACT,
            },
            Event::Map {
                process,
                time_ns: 1_500_000_000,
                address: 0x10000,
                size_bytes: 3 << 20,
                stack: StackKey(1),
                nested: true,
            },
            Event::Exit { process, time_ns: 1_501_000_000, status: 3 << 8 },
        ];
        assert_eq!(events, expected);
    }

    #[test]
    fn frames_have_the_names_of_the_script() {
        let names = names("begin 10 app\n stack #1 main > f (gone)");
        assert_eq!(names.len(), 2);
        assert_eq!(names[&frame("main")], "main");
    }

    #[test]
    #[should_panic(expected = "line 2: expected an address: free 10 1000")]
    fn a_line_that_cannot_be_read_is_named() {
        parse("begin 10 app\n free 10 1000");
    }

    #[test]
    #[should_panic(expected = "line 1: expected nothing more: oom 10 now")]
    fn words_too_many_are_an_error() {
        parse("oom 10 now");
    }
}
