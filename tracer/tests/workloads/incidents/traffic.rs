//! What goes on in a healthy program beside its one mistake: iterations of a millisecond or two, blocks that
//! come and go, and a cache with a bound. Shared by the incidents.

use std::{
    collections::VecDeque,
    hint::black_box,
    io::{self, Read as _},
    sync::mpsc::{self, TryRecvError},
    thread,
    time::Duration,
};

/// With `--fixed` a program does the same work and forgets what it no longer needs.
pub fn is_fixed() -> bool {
    std::env::args().any(|it| it == "--fixed")
}

/// Says which function will be found guilty, or would have been, then calls `iteration` until the input ends.
pub fn run(guilty: &str, mut iteration: impl FnMut(u64)) {
    let (alive, ended) = mpsc::channel::<()>();
    thread::spawn(move || {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        drop(alive);
    });
    let mut recent = Recent::new();
    println!("leak {guilty}");
    let mut round = 0;
    while ended.try_recv() != Err(TryRecvError::Disconnected) {
        iteration(round);
        recent.remember(round);
        answer(round);
        thread::sleep(Duration::from_micros(1000 + round % 1000));
        round += 1;
    }
}

/// The last answers: full from the start, and never larger.
struct Recent(VecDeque<Vec<u8>>);

impl Recent {
    const BOUND: usize = 100;

    fn new() -> Self {
        Self((0..Self::BOUND as u64).map(Self::entry).collect())
    }

    #[inline(never)]
    fn entry(round: u64) -> Vec<u8> {
        vec![1; 200 + round as usize % 100]
    }

    #[inline(never)]
    fn remember(&mut self, round: u64) {
        if self.0.len() == Self::BOUND {
            self.0.pop_front();
        }
        self.0.push_back(Self::entry(round));
    }
}

/// Everything it allocates is gone when it returns: more bytes in all than the mistake keeps.
#[inline(never)]
fn answer(round: u64) {
    let body = vec![2_u8; 16_000 + round as usize % 4000];
    let text = format!("{round}: {} bytes", black_box(&body).len());
    black_box(text);
}
