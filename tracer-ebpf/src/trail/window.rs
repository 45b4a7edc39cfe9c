//! A copy of the stack, taken at once: reading word by word costs a call each.

/// A copy of a part of the stack.
pub struct Window<'a> {
    pub words: &'a [u64; WINDOW_WORDS],
    /// A multiple of 8.
    pub start: u64,
    /// Likewise; not more than there are words.
    pub bytes: u64,
}

pub const WINDOW_WORDS: usize = 256;

impl Window<'_> {
    #[inline(always)]
    pub fn word(&self, address: u64) -> Option<u64> {
        let at = address.wrapping_sub(self.start);
        // Read first: the verifier wants a value on every way.
        let word = self.at(at);
        (at & 7 == 0 && at < self.bytes).then_some(word)
    }

    /// Cut to fit, so that it is always inside.
    #[inline(always)]
    pub(super) fn at(&self, at: u64) -> u64 {
        self.words[(at >> 3) as usize % WINDOW_WORDS]
    }
}
