//! Incident: an address book that learns of every peer and forgets none.

mod traffic;

use std::collections::HashMap;

struct Peer {
    name: String,
    last_seen: u64,
    /// Statistics of the connection.
    counters: Box<[u64; 80]>,
}

#[derive(Default)]
struct AddressBook {
    peers: HashMap<u64, Peer>,
}

impl AddressBook {
    #[inline(never)]
    fn remember_peer(&mut self, address: u64, now: u64) -> u64 {
        let peer = self.peers.entry(address).or_insert_with(|| Peer {
            name: format!("peer-{address:016x}"),
            last_seen: 0,
            counters: Box::new([0; 80]),
        });
        peer.last_seen = now;
        peer.counters[now as usize % 80] += 1;
        peer.counters[0] + peer.name.len() as u64
    }

    /// The fix.
    fn forget_before(&mut self, time: u64) {
        self.peers.retain(|_, peer| peer.last_seen >= time);
    }
}

/// Rounds after which a peer is gone.
const PATIENCE: u64 = 50;

fn main() {
    let is_fixed = traffic::is_fixed();
    let mut book = AddressBook::default();
    traffic::run("peers::AddressBook::remember_peer", |round| {
        for turn in 0..3_u64 {
            // Behind a gateway every connection comes from a fresh port.
            let address = (round * 3 + turn).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            std::hint::black_box(book.remember_peer(address, round));
        }
        if is_fixed {
            book.forget_before(round.saturating_sub(PATIENCE));
        }
    });
}
