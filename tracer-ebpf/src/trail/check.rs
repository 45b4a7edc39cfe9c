//! Whether the rest of the stack is as it was.

use super::{CAPACITY, CHECKS_FP, JOINED, Known, MOVING, OPAQUE, Trail, Window};

/// Frames that are checked in one call.
const CHECKED_AT_ONCE: usize = 32;

/// What was read on the way out of a frame: the return address, and below of it the caller's frame pointer, if the walk makes
/// use of that. All is zero if it was something else.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct Read {
    /// Of the return address; a multiple of 8, and [`WITH_FP`].
    at: u64,
    ip: u64,
    fp: u64,
    pad: u64,
}

const WITH_FP: u64 = 1;

impl Read {
    /// Of what leads from a frame to its caller.
    #[inline(always)]
    pub(super) fn of(it: &Known, outer: &Known) -> Self {
        let checks_fp = it.flags & CHECKS_FP != 0;
        let is_cheap = it.flags & OPAQUE == 0
            && it.ip_at != 0
            && it.ip_at & 7 == 0
            && (!checks_fp || it.fp_at == it.ip_at.wrapping_sub(8));
        match (is_cheap, checks_fp) {
            (false, _) => Self::default(),
            (true, false) => Self { at: it.ip_at, ip: outer.ip, ..Self::default() },
            (true, true) => Self { at: it.ip_at | WITH_FP, ip: outer.ip, fp: outer.fp, pad: 0 },
        }
    }
}

impl Trail {
    /// Some of the frames that were met: is what was read the same?
    #[inline(always)]
    pub(super) fn check(&mut self, word: impl FnMut(u64) -> Option<u64>, window: &Window<'_>) -> bool {
        let mut level = self.level;
        for done in 0..CHECKED_AT_ONCE {
            let read = &self.reads[level as usize % CAPACITY];
            let at = read.at.wrapping_sub(window.start);
            if at >= window.bytes {
                self.level = level;
                // Next time the window is where this is.
                return if done == 0 { self.check_one(word) } else { true };
            }
            let is_same = window.at(at) == read.ip
                && (at & WITH_FP == 0 || at >= 8 && window.at(at.wrapping_sub(8)) == read.fp);
            if !is_same {
                (self.level, self.state) = (level, MOVING);
                return true;
            }
            level = level.wrapping_sub(1);
            if level == 0 {
                (self.level, self.state) = (0, JOINED);
                return false;
            }
        }
        self.level = level;
        true
    }

    #[inline(always)]
    fn check_one(&mut self, mut word: impl FnMut(u64) -> Option<u64>) -> bool {
        let here = self.known(self.level);
        let caller = self.known(self.level.wrapping_sub(1));
        let is_same = here.flags & OPAQUE == 0
            && (here.ip_at == 0 || word(here.ip_at) == Some(caller.ip))
            && (here.flags & CHECKS_FP == 0 || word(here.fp_at) == Some(caller.fp));
        if is_same {
            return self.pass();
        }
        self.state = MOVING;
        true
    }

    /// The frame at `level` is as it was; false if it is the outermost.
    #[inline(always)]
    fn pass(&mut self) -> bool {
        self.level = self.level.wrapping_sub(1);
        if self.level == 0 {
            self.state = JOINED;
        }
        self.level != 0
    }
}
