//! Bytes from the ring to [`Event`]s, and the few records that the kernel room handles itself.

use std::sync::Arc;

use tracer_ebpf::record::{
    self, Alloc, Break, Discard, EmptyCache, Exec, Exit, Fork, Free, Head, Kind, MAYBE_LARGE, Map, Mapping,
    NESTED, NOT_TOLD, NOTHING_INHERITED, Oom, RawStack, Realloc, Remap, Stack, Touch, Unmap,
};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::{
    estimate::Rate,
    event::{Choice, Event, Frame, ProcessId, StackKey, Stop, Via},
    interval::How,
};

/// What a record says.
pub enum Decoded<'bytes> {
    Event(Event),
    Stack {
        process: ProcessId,
        key: StackKey,
        stop: Stop,
        frames: &'bytes [u64],
    },
    RawStack(&'bytes RawStack),
    Mapping(&'bytes Mapping),
    /// A touch of a page that may be larger than the event says.
    LargeTouch(Event),
    Path(&'bytes record::Path),
    /// `parent` is not if nobody knows it.
    Fork {
        parent: Option<ProcessId>,
        time_ns: u64,
        child: ProcessId,
        child_tgid: u32,
        copied: bool,
    },
    Exec {
        event: Event,
        record: &'bytes Exec,
    },
}

/// `None` for bytes that are no record.
pub fn decode(bytes: &[u8]) -> Option<Decoded<'_>> {
    let (head, _) = Head::ref_from_prefix(bytes).ok()?;
    let (process, time_ns, nested) = (ProcessId(head.process), head.time_ns, head.flags & NESTED != 0);
    let via = Via::from_code(head.via)?;
    let event = match kind(head.kind)? {
        Kind::Alloc => {
            let Alloc { address, size_bytes, stack, .. } = *record(bytes)?;
            if nested {
                return Some(Decoded::Event(Event::Enclosed { process, time_ns, old_address: 0, address }));
            }
            let (stack, rate) = (StackKey(stack), Rate::of_flags(head.flags));
            Event::Alloc { process, time_ns, via, address, size_bytes, stack, rate }
        }
        Kind::Free => {
            let Free { address, .. } = *record(bytes)?;
            Event::Free { process, time_ns, address, thread: head.flags }
        }
        Kind::EmptyCache => {
            let EmptyCache { since_ns, .. } = *record(bytes)?;
            Event::EmptyCache { process, time_ns, thread: head.flags, since_ns }
        }
        Kind::Realloc => {
            let Realloc { old_address, address, size_bytes, stack, started_ns, .. } = *record(bytes)?;
            let (stack, rate) = (StackKey(stack), Rate::of_flags(head.flags));
            if nested {
                return Some(Decoded::Event(Event::Enclosed { process, time_ns, old_address, address }));
            }
            Event::Realloc {
                process,
                time_ns,
                via,
                old_address,
                address,
                size_bytes,
                stack,
                started_ns,
                rate,
            }
        }
        Kind::Map => {
            let Map { address, size_bytes, stack, .. } = *record(bytes)?;
            Event::Map { process, time_ns, address, size_bytes, stack: StackKey(stack), nested }
        }
        Kind::Unmap => {
            let Unmap { address, size_bytes, .. } = *record(bytes)?;
            Event::Unmap { process, time_ns, address, size_bytes, nested }
        }
        Kind::Remap => {
            let Remap { old_address, old_size_bytes, address, size_bytes, stack, .. } = *record(bytes)?;
            let stack = StackKey(stack);
            Event::Remap { process, time_ns, old_address, old_size_bytes, address, size_bytes, stack, nested }
        }
        Kind::Touch => {
            let Touch { address, every, stack, .. } = *record(bytes)?;
            let page_bytes = super::pages::PAGE_BYTES;
            let stack = StackKey(stack);
            let event = Event::Touch { process, time_ns, address, page_bytes, every, stack };
            if head.flags & MAYBE_LARGE != 0 {
                return Some(Decoded::LargeTouch(event));
            }
            event
        }
        Kind::Discard => {
            let Discard { address, size_bytes, .. } = *record(bytes)?;
            Event::Discard { process, time_ns, address, size_bytes }
        }
        Kind::Break => {
            let Break { end, stack, .. } = *record(bytes)?;
            Event::Break { process, time_ns, end, stack: StackKey(stack), nested }
        }
        Kind::Exit => {
            let Exit { code, .. } = *record(bytes)?;
            Event::Exit { process, time_ns, status: code }
        }
        Kind::Oom => Event::Oom { process, time_ns, choice: Box::new(choice(record(bytes)?)) },
        Kind::Stack => {
            // Only the frames that there are have been sent.
            let (words, _) = <[u64]>::ref_from_prefix_with_elems(bytes, bytes.len() / 8).ok()?;
            let header = std::mem::offset_of!(Stack, frames) / 8;
            let (&id, &counts) = (words.get(2)?, words.get(3)?);
            let (count, stop) = (counts as u32 as usize, (counts >> 32) as u32);
            let frames = words.get(header..header + count)?;
            return Some(Decoded::Stack { process, key: StackKey(id), stop: Stop::from_code(stop)?, frames });
        }
        Kind::RawStack => return Some(Decoded::RawStack(record(bytes)?)),
        Kind::Mapping => return Some(Decoded::Mapping(record(bytes)?)),
        Kind::Path => return Some(Decoded::Path(record(bytes)?)),
        Kind::Leave => Event::Leave { process, time_ns, how: How::Exec },
        Kind::Fork => {
            let Fork { child, child_tgid, .. } = *record(bytes)?;
            let parent = (process != ProcessId(0)).then_some(process);
            let copied = head.flags & NOTHING_INHERITED == 0;
            return Some(Decoded::Fork { parent, time_ns, child: ProcessId(child), child_tgid, copied });
        }
        Kind::Exec => {
            let record: &Exec = record(bytes)?;
            let name = name(&record.command);
            return Some(Decoded::Exec { event: Event::Exec { process, time_ns, name }, record });
        }
    };
    Some(Decoded::Event(event))
}

fn choice(record: &Oom) -> Choice {
    let told = |value: u64| (value != NOT_TOLD).then_some(value);
    let bytes = |kib: u64| told(kib).map(|it| it << 10);
    Choice {
        trigger: Some((record.trigger_tgid, name(&record.trigger))),
        total_vm_bytes: bytes(record.total_vm_kib),
        anon_bytes: bytes(record.anon_rss_kib),
        file_bytes: bytes(record.file_rss_kib),
        shmem_bytes: bytes(record.shmem_rss_kib),
        page_table_bytes: bytes(record.page_tables_kib),
        uid: told(record.uid).map(|it| it as u32),
        oom_score_adj: told(record.oom_score_adj).map(|it| it as i32),
    }
}

/// The kernel's name of a program.
fn name(bytes: &[u8]) -> Arc<str> {
    let end = bytes.iter().position(|it| *it == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into()
}

fn record<T: FromBytes + Immutable + KnownLayout>(bytes: &[u8]) -> Option<&T> {
    T::ref_from_prefix(bytes).ok().map(|(record, _)| record)
}

/// By its place: a code is one more.
fn kind(code: u16) -> Option<Kind> {
    KINDS.get(usize::from(code).checked_sub(1)?).copied()
}

const KINDS: [Kind; 19] = [
    Kind::Stack,
    Kind::RawStack,
    Kind::Alloc,
    Kind::Realloc,
    Kind::Free,
    Kind::Map,
    Kind::Unmap,
    Kind::Remap,
    Kind::Break,
    Kind::Mapping,
    Kind::Exec,
    Kind::Fork,
    Kind::Exit,
    Kind::Oom,
    Kind::EmptyCache,
    Kind::Path,
    Kind::Leave,
    Kind::Touch,
    Kind::Discard,
];

/// Frames as the ring has them.
pub(crate) fn frames(words: &[u64]) -> Box<[Frame]> {
    words.iter().map(|it| Frame(*it)).collect()
}

#[cfg(test)]
mod tests {
    use tracer_ebpf::sampling::SHIFT_BIT;
    use zerocopy::IntoBytes as _;

    use super::*;

    fn head(kind: Kind) -> Head {
        Head { kind: kind as u16, via: Via::Malloc.code(), flags: 0, process: 7, time_ns: 9 }
    }

    #[test]
    fn an_allocation() {
        let head = Head { flags: 19 << SHIFT_BIT, ..head(Kind::Alloc) };
        let record = Alloc { head, address: 0x10, size_bytes: 64, stack: 5 };
        let Some(Decoded::Event(event)) = decode(record.as_bytes()) else { panic!("an event") };
        let (process, stack, rate) = (ProcessId(7), StackKey(5), Rate::of_shift(19));
        let (via, address) = (Via::Malloc, 0x10);
        let expected = Event::Alloc { process, time_ns: 9, via, address, size_bytes: 64, stack, rate };
        assert_eq!(event, expected);
    }

    #[test]
    fn what_an_old_kernel_does_not_tell_is_absent() {
        let mut trigger = [0; 16];
        trigger[..3].copy_from_slice(b"app");
        let all = Oom {
            head: head(Kind::Oom),
            trigger_tgid: 5,
            trigger,
            total_vm_kib: NOT_TOLD,
            anon_rss_kib: 2,
            file_rss_kib: 0,
            shmem_rss_kib: NOT_TOLD,
            page_tables_kib: NOT_TOLD,
            uid: NOT_TOLD,
            oom_score_adj: -1000_i64 as u64,
            ..Oom::default()
        };
        let Some(Decoded::Event(Event::Oom { choice, .. })) = decode(all.as_bytes()) else {
            panic!("an event")
        };
        let expected = Choice {
            trigger: Some((5, "app".into())),
            anon_bytes: Some(2048),
            file_bytes: Some(0),
            oom_score_adj: Some(-1000),
            ..Choice::default()
        };
        assert_eq!(*choice, expected);
    }

    #[test]
    fn a_stack_has_only_the_frames_that_were_sent() {
        let mut record = Stack { head: head(Kind::Stack), id: 3, count: 2, stop: 0, frames: [0; 127] };
        record.frames[..2].copy_from_slice(&[8, 9]);
        let sent = &record.as_bytes()[..32 + 16];
        let Some(Decoded::Stack { key, stop, frames, .. }) = decode(sent) else { panic!("a stack") };
        assert_eq!((key, stop, frames), (StackKey(3), Stop::Complete, &[8, 9][..]));
        assert!(decode(&sent[..32 + 8]).is_none(), "a frame is missing");
    }

    #[test]
    fn a_code_is_one_more_than_the_place() {
        for (code, kind) in (1..).zip(KINDS) {
            assert_eq!(kind as u16, code);
        }
        assert_eq!((kind(0), kind(20)), (None, None));
    }

    #[test]
    fn other_bytes_are_no_record() {
        let record = Free { head: Head { kind: 99, ..head(Kind::Free) }, address: 1 };
        assert!(decode(record.as_bytes()).is_none());
        assert!(decode(&Free { head: head(Kind::Free), address: 1 }.as_bytes()[..20]).is_none());
    }
}
