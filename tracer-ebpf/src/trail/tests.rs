//! A walk with a memory against one without, over stacks of a small machine.

extern crate std;

use std::{vec, vec::Vec};

use super::*;
use crate::unwind::{CFA_DEREF_SP, CFA_END, CFA_FP, CFA_FRAME, CFA_SP, FP_AT_CFA, FP_AT_FP, FP_SAME, step};

const STACK_END: u64 = 0x7fff_0000;
const STACK_BYTES: u64 = 0x1_0000;

/// A frame of a function, by the rule for the place of its call.
const RULES: [Rule; 7] = [
    // Keeps nothing in rbp.
    Rule { cfa: CFA_SP, cfa_offset: 48, fp_offset: 0, addend: 0, fp: FP_SAME },
    // Uses rbp for something else, and restores it.
    Rule { cfa: CFA_SP, cfa_offset: 64, fp_offset: -16, addend: 0, fp: FP_AT_CFA },
    // Keeps a frame pointer.
    Rule { cfa: CFA_FP, cfa_offset: 16, fp_offset: -16, addend: 0, fp: FP_AT_CFA },
    // Code made at run time.
    Rule { cfa: CFA_FRAME, cfa_offset: 0, fp_offset: 0, addend: 0, fp: 0 },
    // A realigned frame.
    Rule { cfa: CFA_DEREF_SP, cfa_offset: 8, fp_offset: -16, addend: 0, fp: FP_AT_CFA },
    Rule { cfa: CFA_FP, cfa_offset: 16, fp_offset: 0, addend: 0, fp: FP_AT_FP },
    // Where the thread began.
    Rule { cfa: CFA_END, cfa_offset: 0, fp_offset: 0, addend: 0, fp: 0 },
];
const END: usize = 6;

/// Any two places of one function have the same rule.
const PLACES: u64 = 4;

fn address(function: usize, place: u64) -> u64 {
    0x1000 * (function as u64 + 1) + 0x10 + place
}

fn place_of(regs: Regs) -> Result<Place, Stop> {
    let address = regs.lookup();
    let function = (address / 0x1000).wrapping_sub(1) as usize;
    let rule = RULES.get(function).copied().ok_or(Stop::NoMapping);
    Ok(Place { frame: address, rule, code: 0x1000..0x9000 })
}

/// Small, and the same on every machine (xorshift, Marsaglia 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// A thread that calls and returns.
struct Machine {
    words: Vec<u64>,
    regs: Regs,
    /// The registers to which each call in progress returns.
    callers: Vec<Regs>,
}

impl Machine {
    fn new() -> Self {
        let regs = Regs { ip: address(END, 1), sp: STACK_END - 64, fp: 0, exact: false };
        Self { words: vec![0; (STACK_BYTES / 8) as usize], regs, callers: Vec::new() }
    }

    fn word(&self, at: u64) -> Option<u64> {
        let at = at.checked_sub(STACK_END - STACK_BYTES)?;
        self.words.get((at / 8) as usize).copied()
    }

    /// A copy of so many bytes, or of none if they are not all there.
    fn window(&self, start: u64, bytes: u64) -> ([u64; WINDOW_WORDS], u64) {
        let mut words = [0; WINDOW_WORDS];
        for (number, to) in words.iter_mut().enumerate().take((bytes / 8) as usize) {
            match self.word(start + number as u64 * 8) {
                Some(word) => *to = word,
                None => return (words, 0),
            }
        }
        (words, bytes)
    }

    fn write(&mut self, at: u64, word: u64) {
        let at = at - (STACK_END - STACK_BYTES);
        self.words[(at / 8) as usize] = word;
    }

    /// Calls `function`, which then stands at `place` of its code.
    fn call(&mut self, function: usize, place: u64, random: &mut Random) {
        let rule = RULES[function];
        let caller = self.regs;
        let cfa = caller.sp;
        let mut regs = Regs { ip: address(function, place), sp: cfa - 48, fp: caller.fp, exact: false };
        self.write(cfa - 8, caller.ip);
        match rule.cfa {
            CFA_SP => {
                regs.sp = cfa - rule.cfa_offset as u64;
                if rule.fp == FP_AT_CFA {
                    self.write(cfa - 16, caller.fp);
                    regs.fp = random.below(1 << 40);
                }
            }
            CFA_DEREF_SP => {
                self.write(cfa - 16, caller.fp);
                self.write(regs.sp + 8, cfa);
                regs.fp = random.below(1 << 40);
            }
            _ => {
                self.write(cfa - 16, caller.fp);
                regs.fp = cfa - 16;
            }
        }
        self.callers.push(caller);
        self.regs = regs;
    }

    fn give_back(&mut self) {
        if let Some(caller) = self.callers.pop() {
            self.regs = caller;
        }
    }

    /// Without a memory: frames, innermost first, and why they end.
    fn walk(&self) -> (Vec<u64>, Stop) {
        let (mut regs, mut frames) = (self.regs, Vec::new());
        loop {
            if frames.len() == MAX_FRAMES {
                return (frames, Stop::Truncated);
            }
            let place = place_of(regs).expect("an answer");
            frames.push(place.frame);
            match place.rule.and_then(|rule| step(regs, rule, |at| self.word(at))) {
                Ok(caller) => regs = caller,
                Err(stop) => return (frames, stop),
            }
        }
    }
}

fn blank() -> Trail {
    Trail {
        known: [Known::default(); CAPACITY],
        reads: [Read::default(); CAPACITY],
        top: 0,
        level: 0,
        met: 0,
        fresh: 0,
        state: 0,
        stop: 0,
        exact: 0,
        ip: 0,
        sp: 0,
        fp: 0,
    }
}

/// As the probes do it. Also how many frames had to be looked up.
fn walk(trail: &mut Trail, machine: &Machine) -> ((Vec<u64>, Stop), u64, u32) {
    trail.begin(machine.regs);
    let mut looked_up = 0;
    let mut random = Random(machine.regs.sp | 1);
    let mut lookup = |regs| {
        looked_up += 1;
        place_of(regs)
    };
    let mut goes_on = true;
    for _ in 0..MAX_STEPS {
        if !goes_on {
            break;
        }
        let from = trail.next_read();
        // Two windows of three are at another place.
        let start = (from & !7).wrapping_add(random.below(3) * 4096);
        let window = machine.window(start, 8 * random.below(WINDOW_WORDS as u64 + 1));
        let window = Window { words: &window.0, start, bytes: window.1 };
        goes_on = trail.advance(&mut lookup, |at| machine.word(at), &window);
    }
    assert!(!goes_on, "{MAX_STEPS} steps are enough");
    for _ in 0..trail.unsettled() {
        trail.settle(|_| 0);
    }
    let frames = (0..trail.frames()).map(|it| trail.frame(it)).collect();
    let stop = Stop::from_code(trail.stop()).expect("a reason");
    let key = trail.key();
    if stop == Stop::Truncated {
        trail.forget();
    }
    ((frames, stop), key, looked_up)
}

#[test]
fn a_walk_with_a_memory_finds_what_one_without_finds() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut keys = std::collections::HashMap::new();
    let (mut looked_up, mut walked) = (0, 0);
    for _ in 0..40 {
        let mut machine = Machine::new();
        let mut trail = blank();
        for _ in 0..400 {
            for _ in 0..random.below(4) {
                machine.give_back();
            }
            for _ in 0..random.below(5) {
                let function = random.below(END as u64) as usize;
                machine.call(function, 1 + random.below(PLACES), &mut random);
            }
            if random.below(20) == 0 {
                let at = machine.regs.sp + random.below(64) * 8;
                if at < STACK_END - 64 {
                    machine.write(at, random.below(0x8000));
                }
            }
            let expected = machine.walk();
            let (found, key, count) = walk(&mut trail, &machine);
            assert_eq!(found, expected);
            assert_eq!(*keys.entry(found).or_insert(key), key, "one stack has one key");
            looked_up += count;
            walked += expected.0.len();
        }
    }
    assert!((looked_up as usize) < walked / 2, "{looked_up} of {walked} frames were looked up");
}

#[test]
fn a_repeated_stack_is_looked_up_once_and_stays_sent() {
    let mut random = Random(7);
    let mut machine = Machine::new();
    for _ in 0..20 {
        machine.call(1, 2, &mut random);
    }
    let mut trail = blank();
    assert_eq!(walk(&mut trail, &machine).2, 21);
    assert!(!trail.is_sent());
    trail.set_sent();
    assert_eq!(walk(&mut trail, &machine).2, 0);
    assert!(trail.is_sent());
    // Another innermost frame, and back.
    machine.call(0, 1, &mut random);
    assert_eq!(walk(&mut trail, &machine).2, 1);
    assert!(!trail.is_sent());
    machine.give_back();
    assert_eq!(walk(&mut trail, &machine).2, 0);
    assert!(trail.is_sent());
}

#[test]
fn a_deep_stack_is_cut_and_nothing_of_it_is_trusted() {
    let mut random = Random(9);
    let mut machine = Machine::new();
    for _ in 0..MAX_FRAMES + 20 {
        machine.call(0, 1, &mut random);
    }
    let mut trail = blank();
    for _ in 0..3 {
        let (found, _, _) = walk(&mut trail, &machine);
        assert_eq!(found, machine.walk());
        assert_eq!(found.1, Stop::Truncated);
    }
    for _ in 0..40 {
        machine.give_back();
        assert_eq!(walk(&mut trail, &machine).0, machine.walk());
    }
}

#[test]
fn an_answer_that_is_still_to_come_leaves_what_was_found() {
    let mut random = Random(3);
    let mut machine = Machine::new();
    machine.call(0, 1, &mut random);
    machine.call(0, 2, &mut random);
    let mut trail = blank();
    trail.begin(machine.regs);
    let lookup = |regs: Regs| {
        if regs.lookup() == address(END, 0) { Err(Stop::Pending) } else { place_of(regs) }
    };
    let window = Window { words: &[0; WINDOW_WORDS], start: 0, bytes: 0 };
    while trail.advance(lookup, |at| machine.word(at), &window) {}
    assert_eq!(trail.stop(), Stop::Pending as u32);
    assert_eq!((trail.fresh_frames(), trail.fresh_frame(0)), (2, address(0, 1)));
    assert_eq!(trail.regs().ip, address(END, 1));
    // It has come.
    while trail.advance(place_of, |at| machine.word(at), &window) {}
    for _ in 0..trail.unsettled() {
        trail.settle(|_| 0);
    }
    let frames: Vec<u64> = (0..trail.frames()).map(|it| trail.frame(it)).collect();
    assert_eq!((frames, Stop::from_code(trail.stop()).expect("a reason")), machine.walk());
}
