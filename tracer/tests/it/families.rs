//! A family of processes, from events to what a report says of it: a child begins with what its parent holds, and loses
//! it when it becomes another program.

use alloctrace::{
    capture::{Epoch, Header, Recording, Row},
    estimate::Rate,
    event::{Event, ProcessId, StackKey, Stop, Via},
    heap::Heap,
    profile::{By, Profile, Query},
};

const SECOND_NS: u64 = 1_000_000_000;
const PARENT: ProcessId = ProcessId(1);
const CHILD: ProcessId = ProcessId(2);

/// What has been reported so far.
struct Family {
    heap: Heap,
    recording: Recording,
    seconds: u64,
}

impl Family {
    fn new() -> Self {
        let mut recording = Recording::default();
        recording.add(Row::Header(Header { target: "-p 7".to_owned(), ..Header::default() }));
        Self { heap: Heap::new(0), recording, seconds: 0 }
    }

    /// One interval, at whose end a report is made.
    fn after(&mut self, events: impl IntoIterator<Item = Event>, by: By) -> Profile {
        events.into_iter().for_each(|it| self.heap.apply(&it));
        self.seconds += 1;
        let epoch = Epoch { started_ns: 0, pools: Vec::new() };
        let interval = self.heap.interval(self.seconds * SECOND_NS);
        for state in &interval.processes {
            self.recording.add(Row::Process(epoch.process_row(state)));
        }
        self.recording.add(Row::Interval(epoch.interval_row(&interval, |_| None)));
        Profile::new(&self.recording, &Query { by, ..Query::default() }, 10)
    }

    /// A moment within the next interval.
    fn now(&self) -> u64 {
        self.seconds * SECOND_NS + SECOND_NS / 2
    }

    fn alloc(&self, process: ProcessId, address: u64, size_bytes: u64) -> Event {
        let (time_ns, stack) = (self.now(), StackKey(1));
        Event::Alloc { process, time_ns, via: Via::Malloc, address, size_bytes, stack, rate: Rate::EXACT }
    }
}

/// (pid, live bytes, freed bytes) of each site.
fn sites(profile: &Profile) -> Vec<(Option<u32>, i64, i64)> {
    let mut sites: Vec<_> = profile.sites.iter().map(|it| (it.pid, it.live.bytes, it.freed.bytes)).collect();
    sites.sort_unstable();
    sites
}

#[test]
fn a_child_holds_what_it_inherited_until_it_becomes_another_program() {
    let mut family = Family::new();
    let began = [
        Event::Begin { process: PARENT, time_ns: 0, tgid: 7, name: "app".into(), break_end: None },
        Event::Stack { key: StackKey(1), stop: Stop::Complete, frames: Box::default() },
        family.alloc(PARENT, 0x1000, 64),
    ];
    assert_eq!(sites(&family.after(began, By::Process)), [(Some(7), 64, 0)]);

    let time_ns = family.now();
    let forked = [
        Event::Fork { process: PARENT, time_ns, child: CHILD, child_tgid: 8 },
        family.alloc(CHILD, 0x2000, 8),
        family.alloc(PARENT, 0x2000, 1),
    ];
    let profile = family.after(forked, By::Process);
    assert_eq!(sites(&profile), [(Some(7), 65, 0), (Some(8), 72, 0)]);
    let child = &profile.processes[1];
    assert_eq!((child.row.parent, child.parent_pid, child.live.bytes), (Some(PARENT.0), Some(7), 72));

    let time_ns = family.now();
    let replaced = [Event::Exec { process: CHILD, time_ns, name: "other".into() }];
    let profile = family.after(replaced, By::Process);
    assert_eq!(sites(&profile), [(Some(7), 65, 0), (Some(8), 0, 72)]);
    let child = &profile.processes[1];
    assert_eq!((&*child.row.name, child.parent_pid, child.live.bytes), ("other", Some(7), 0));

    let time_ns = family.now();
    let grown = [family.alloc(CHILD, 0x3000, 5), Event::Exit { process: CHILD, time_ns, status: 0 }];
    assert_eq!(sites(&family.after(grown, By::All)), [(None, 70, 72)], "it ended in this interval");
    let profile = family.after([], By::All);
    assert_eq!((sites(&profile), profile.ended.bytes), (vec![(None, 65, 77)], 5), "and is no more");
    let profile = family.after([], By::Process);
    assert_eq!(
        sites(&profile),
        [(Some(7), 65, 0), (Some(8), 5, 72)],
        "by itself it shows what it ended with"
    );
}
