//! Incident: a server holds 64 MiB in a cache whose entries are replaced all the time, and loses 20 KiB a second
//! beside it.

mod traffic;

use std::hint::black_box;

struct Cache {
    entries: Vec<Box<[u8]>>,
    random: u64,
}

impl Cache {
    const ENTRIES: usize = 4096;
    /// On average, so that all are 64 MiB.
    const ENTRY_BYTES: u64 = 16 << 10;

    /// Numbers that look random and are the same in every run.
    fn below(&mut self, limit: u64) -> u64 {
        self.random = self.random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (self.random >> 33) % limit
    }

    #[inline(never)]
    fn load_entry(&mut self) -> Box<[u8]> {
        let bytes = Self::ENTRY_BYTES / 2 + self.below(Self::ENTRY_BYTES);
        black_box(vec![3; bytes as usize].into_boxed_slice())
    }

    #[inline(never)]
    fn replace_any(&mut self) {
        let entry = self.load_entry();
        let at = self.below(Self::ENTRIES as u64) as usize;
        self.entries[at] = entry;
    }
}

/// The leak: a note for each request, to be read by nobody.
#[inline(never)]
fn write_audit_note(notes: &mut Vec<Box<[u8]>>, request: u64) {
    notes.push(black_box(vec![request as u8; 1024].into_boxed_slice()));
}

fn main() {
    let is_fixed = traffic::is_fixed();
    let mut cache = Cache { entries: Vec::new(), random: 1 };
    cache.entries = (0..Cache::ENTRIES).map(|_| cache.load_entry()).collect();
    let mut notes = Vec::with_capacity(1 << 20);
    traffic::run("slow_leak::write_audit_note", |round| {
        cache.replace_any();
        cache.replace_any();
        // Rounds are of 1.5 ms on average: twenty notes a second.
        if round % 33 == 0 {
            write_audit_note(&mut notes, round);
            if is_fixed {
                notes.clear();
            }
        }
    });
}
