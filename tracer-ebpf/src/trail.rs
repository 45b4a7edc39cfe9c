//! What a thread remembers of its last stack walk, so that the next one need not do again what has not changed.
//!
//! A walk is a function of the registers it starts from, the tables, and the words of the stack that it reads. So where a
//! new walk comes to a frame of the last one, with the same registers, the rest is the same too if all the words that were
//! read from there on are: comparing a word is much cheaper than finding a rule. Nothing is taken on trust.
//!
//! The frame pointer is a part of that only where the walk makes use of it: most functions keep something else in the
//! register. Whether a frame `depends` on it is known from its callers, so frames are kept outermost first, and what is
//! new is put on top of what is left.
//!
//! Pure: memory and rules come in through closures. One instance is for one thread of one process image as long as its
//! mappings are the same; [`Trail::forget`] is for all others.

mod check;
mod link;
#[cfg(test)]
mod tests;
mod window;

use core::ops::Range;

pub use self::window::{WINDOW_WORDS, Window};
use self::{
    check::Read,
    link::{Link, leave},
};
use crate::{
    record::{MAX_FRAMES, mix},
    unwind::{Regs, Rule, Stop},
};

/// The frames of a record, and one place for the end. A power of two: positions are cut to fit, and so are always inside.
const CAPACITY: usize = MAX_FRAMES + 1;
const _: () = assert!(CAPACITY.is_power_of_two());

/// Calls of [`Trail::advance`] that are enough for any walk: each frame is stepped over once, and once again if its answer was
/// still to come, and moved or checked once.
pub const MAX_STEPS: u32 = 4 * CAPACITY as u32;

/// Frames that are left behind in one call.
const LEFT_AT_ONCE: usize = 4;

/// A frame of the last walk.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct Known {
    ip: u64,
    sp: u64,
    fp: u64,
    /// As records have it.
    frame: u64,
    /// Of this frame and all outer ones.
    hash: u64,
    /// Where the return address was read, and the caller's frame pointer; 0 if it was not.
    ip_at: u64,
    fp_at: u64,
    flags: u64,
}

/// The address is an interrupted instruction.
const EXACT: u64 = 1;
/// The way out of the frame reads something else, or may be another one next time.
const OPAQUE: u64 = 4;
/// The way out of the frame makes use of the frame pointer.
const USES_FP: u64 = 8;
/// The caller has the same frame pointer.
const KEEPS_FP: u64 = 16;
/// From here on the walk makes use of the frame pointer.
const DEPENDS: u64 = 32;
/// The caller depends on the frame pointer, which was read.
const CHECKS_FP: u64 = 64;
/// User space has the stack whose innermost frame this is.
const SENT: u64 = 128;

/// What is known of the code at an address.
pub struct Place {
    pub frame: u64,
    pub rule: Result<Rule, Stop>,
    /// The mapping around the address.
    pub code: Range<u64>,
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Trail {
    /// From 1 to `top` the frames of the last walk, outermost first. What a walk in progress finds new lies at the other end,
    /// innermost last.
    known: [Known; CAPACITY],
    /// The same of each as is cheap to check.
    reads: [Read; CAPACITY],
    top: u32,
    /// The frame that the walk may meet next, as a position in `known`; 0: none.
    level: u32,
    /// The frame where it met the last walk.
    met: u32,
    /// How many frames were new.
    fresh: u32,
    state: u32,
    /// Why the walk ended.
    stop: u32,
    exact: u32,
    ip: u64,
    sp: u64,
    fp: u64,
}

const WALKING: u32 = 0;
const CHECKING: u32 = 1;
const MOVING: u32 = 2;
/// The rest is as it was.
const JOINED: u32 = 3;

impl Trail {
    /// Forgets the last walk.
    #[inline(always)]
    pub fn forget(&mut self) {
        self.top = 0;
    }

    /// Begins a walk.
    #[inline(always)]
    pub fn begin(&mut self, from: Regs) {
        (self.ip, self.sp, self.fp, self.exact) = (from.ip, from.sp, from.fp, from.exact as u32);
        (self.level, self.met, self.fresh) = (self.top, 0, 0);
        self.state = WALKING;
    }

    /// Where the walk stands.
    #[inline(always)]
    pub fn regs(&self) -> Regs {
        Regs { ip: self.ip, sp: self.sp, fp: self.fp, exact: self.exact != 0 }
    }

    /// How many bytes of stack there are from `sp` to what the last walk read last; 0 if there was none.
    #[inline(always)]
    pub fn extent_bytes(&self, sp: u64) -> u64 {
        let Known { sp: end, ip_at, .. } = self.known[1];
        let end = if ip_at == 0 { end } else { ip_at.wrapping_add(8) };
        if self.top == 0 { 0 } else { end.saturating_sub(sp) }
    }

    /// The lowest address that the next step may read.
    #[inline(always)]
    pub fn next_read(&self) -> u64 {
        let here = self.known(self.level);
        match self.state {
            CHECKING if here.ip_at != 0 => here.ip_at.wrapping_sub(8),
            _ => self.sp,
        }
    }

    #[inline(always)]
    fn known(&self, at: u32) -> Known {
        self.known[at as usize % CAPACITY]
    }

    #[inline(always)]
    fn set(&mut self, at: u32, known: Known) {
        self.known[at as usize % CAPACITY] = known;
    }

    /// Where the next new frame is put.
    #[inline(always)]
    fn room(&self) -> u32 {
        (CAPACITY as u32 - 1).wrapping_sub(self.fresh)
    }

    /// Goes on for a little; false when the walk has ended. `lookup` fails only if the answer is still to come; once it is there
    /// the walk may go on, but meets the last one no more. `window` is best where [`Trail::next_read`] is; `word` reads any.
    #[inline(always)]
    pub fn advance(
        &mut self,
        lookup: impl FnMut(Regs) -> Result<Place, Stop>,
        word: impl FnMut(u64) -> Option<u64>,
        window: &Window<'_>,
    ) -> bool {
        if self.state == MOVING {
            return self.shift(word);
        }
        if self.state == WALKING {
            self.leave_behind();
            if self.level != 0 && self.known(self.level).sp < self.sp {
                return true;
            }
            if !self.meets() {
                return self.walk(lookup, word);
            }
        }
        self.check(word, window)
    }

    /// Goes past some frames of the last walk that lie inside of where this one stands.
    #[inline(always)]
    fn leave_behind(&mut self) {
        for _ in 0..LEFT_AT_ONCE {
            if self.level == 0 || self.known(self.level).sp >= self.sp {
                break;
            }
            self.level = self.level.wrapping_sub(1);
        }
    }

    /// Whether the walk stands at a frame of the last one.
    #[inline(always)]
    fn meets(&mut self) -> bool {
        let Known { ip, sp, fp, flags, .. } = self.known(self.level);
        let is_met = self.level != 0
            && sp == self.sp
            && ip == self.ip
            && flags & EXACT == self.exact as u64
            && (flags & DEPENDS == 0 || fp == self.fp)
            // The frames that were met may yet have to be moved to the others.
            && self.level <= self.room()
            && self.fresh + self.level <= MAX_FRAMES as u32;
        if is_met {
            (self.met, self.state) = (self.level, CHECKING);
        }
        is_met
    }

    /// One frame that is not known.
    #[inline(always)]
    fn walk(
        &mut self,
        mut lookup: impl FnMut(Regs) -> Result<Place, Stop>,
        word: impl FnMut(u64) -> Option<u64>,
    ) -> bool {
        if self.fresh >= MAX_FRAMES as u32 {
            return self.end(Stop::Truncated);
        }
        let regs = self.regs();
        let Place { frame, rule, code } = match lookup(regs) {
            Ok(place) => place,
            Err(stop) => return self.end(stop),
        };
        let (outcome, link) = leave(regs, rule, code, word);
        let at = self.room();
        if at <= self.level {
            self.level = 0;
        }
        let Link { ip_at, fp_at, flags } = link;
        self.set(
            at,
            Known {
                ip: regs.ip,
                sp: regs.sp,
                fp: regs.fp,
                frame,
                hash: 0,
                ip_at,
                fp_at,
                flags: flags | self.exact as u64,
            },
        );
        self.fresh += 1;
        match outcome {
            Ok(next) => {
                (self.ip, self.sp, self.fp, self.exact) = (next.ip, next.sp, next.fp, next.exact as u32);
                true
            }
            Err(stop) => self.end(stop),
        }
    }

    /// The frame at `level` is right and its caller is another: what was met inside of it joins the new frames.
    #[inline(always)]
    fn shift(&mut self, mut word: impl FnMut(u64) -> Option<u64>) -> bool {
        let it = self.known(self.met);
        if self.met <= self.level {
            (self.ip, self.sp, self.exact) = (it.ip, it.sp, (it.flags & EXACT) as u32);
            self.level = self.level.wrapping_sub(1);
            self.state = WALKING;
            return true;
        }
        self.set(self.room(), Known { fp: self.fp, ..it });
        self.fresh += 1;
        self.met -= 1;
        if it.fp_at != 0 {
            match word(it.fp_at) {
                Some(fp) => self.fp = fp,
                None => return self.end(Stop::Unreadable),
            }
        }
        true
    }

    #[inline(always)]
    fn end(&mut self, stop: Stop) -> bool {
        self.stop = stop as u32;
        (self.level, self.met, self.state) = (0, 0, WALKING);
        false
    }

    /// Why the walk ended, as the code of a [`Stop`].
    #[inline(always)]
    pub fn stop(&self) -> u32 {
        self.stop
    }

    /// How many calls of [`Trail::settle`] make what was found the last walk.
    #[inline(always)]
    pub fn unsettled(&mut self) -> u32 {
        // Frames that joined the last walk lie on top of it.
        self.top = self.met;
        if self.met == 0 {
            self.set(0, Known::default());
        }
        self.fresh
    }

    /// Puts the outermost of the new frames on top. `owner` tells the code of one process from that of another where a
    /// frame is an address.
    #[inline(always)]
    pub fn settle(&mut self, owner: impl Fn(u64) -> u64) {
        let from = (CAPACITY as u32).wrapping_sub(self.fresh);
        let (mut it, outer) = (self.known(from), self.known(self.top));
        let outer_depends = outer.flags & DEPENDS != 0;
        it.flags &= !(DEPENDS | CHECKS_FP | SENT);
        if it.flags & USES_FP != 0 || outer_depends && it.flags & KEEPS_FP != 0 {
            it.flags |= DEPENDS;
        }
        if outer_depends && it.fp_at != 0 {
            it.flags |= CHECKS_FP;
        }
        it.hash = mix(outer.hash, it.frame ^ owner(it.frame));
        let read = Read::of(&it, &outer);
        self.top += 1;
        self.fresh -= 1;
        self.set(self.top, it);
        self.reads[self.top as usize % CAPACITY] = read;
    }

    /// Identifies the frames of the last walk and the reason for its end.
    #[inline(always)]
    pub fn key(&self) -> u64 {
        mix(self.known(self.top).hash, self.stop as u64) | 1
    }

    /// Whether user space has this stack.
    #[inline(always)]
    pub fn is_sent(&self) -> bool {
        self.known(self.top).flags & SENT != 0
    }

    #[inline(always)]
    pub fn set_sent(&mut self) {
        self.known[self.top as usize % CAPACITY].flags |= SENT;
    }

    /// How many frames there are to report of the last walk.
    #[inline(always)]
    pub fn frames(&self) -> u32 {
        self.top
    }

    /// Frame `number` of the last walk, counted from the innermost.
    #[inline(always)]
    pub fn frame(&self, number: u32) -> u64 {
        self.known(self.top.wrapping_sub(number)).frame
    }

    /// How many frames there are to report of a walk that was not settled.
    #[inline(always)]
    pub fn fresh_frames(&self) -> u32 {
        self.fresh
    }

    /// Frame `number` of a walk that was not settled.
    #[inline(always)]
    pub fn fresh_frame(&self, number: u32) -> u64 {
        self.known((CAPACITY as u32 - 1).wrapping_sub(number)).frame
    }
}
