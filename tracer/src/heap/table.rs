//! The live blocks of a process by address: the memory that grows with the target's.
//!
//! A block is one 16-byte word, and the table is open: a block lies at the place that its address is hashed to, or a few
//! places behind it. So a look-up costs one cache miss where a table with control bytes costs two. The table is cut into
//! [`SHARDS`] that grow one by one and by an eighth, so that what it takes, also while it grows, is at most
//! 16 · 5/4 · 9/8 = 22.5 bytes a block and one shard more.

use rustc_hash::FxHashMap;

use super::sites::{MAX_SITES, Slot};
use crate::{estimate::Rate, event::POOL_BLOCK};

/// Of a table with more than a few blocks. One of ten million blocks grows by moving 3 MB at a time.
const SHARDS: usize = 64;

/// Up to so many blocks there is one shard, which doubles: 1 MB at most.
const FEW: usize = 1 << 15;

/// Places of a shard that has any block.
const MIN_PLACES: usize = 8;

/// A block that was allocated and not freed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) size_bytes: u64,
    pub(super) site: Slot,
    /// The interval in which it was allocated.
    pub(super) birth: u32,
    /// It lies in a place that a block from before the attach has left.
    pub(super) reused: bool,
    /// At which it was sampled.
    pub(super) rate: Rate,
}

/// What is at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Block(Block),
    /// What an allocator has given to one of the user's own pools: no block that counts, but its free is not unknown.
    Enclosed,
}

/// An address and what is there; 0 where nothing is. From the lowest bit: address 47, mark of a pool 1, size 24, site 22,
/// birth 28, reused 1, shift of the rate at which it was sampled 5: what a block stands for is known from that and its size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Word(u128);

const ADDRESS_BITS: u32 = 47;
const POOL_AT: u32 = ADDRESS_BITS;
const SIZE_AT: u32 = POOL_AT + 1;
const SIZE_BITS: u32 = 24;
const SITE_AT: u32 = SIZE_AT + SIZE_BITS;
const SITE_BITS: u32 = 22;
const BIRTH_AT: u32 = SITE_AT + SITE_BITS;
const BIRTH_BITS: u32 = 28;
const REUSED_AT: u32 = BIRTH_AT + BIRTH_BITS;
const RATE_AT: u32 = REUSED_AT + 1;
const RATE_BITS: u32 = 5;
const _: () = assert!(RATE_AT + RATE_BITS == u128::BITS);

/// In place of a size that has no room: it is among [`Table::large`] then.
const LARGE: u64 = (1 << SIZE_BITS) - 1;

/// In place of a site.
const ENCLOSED: u32 = (1 << SITE_BITS) - 1;
const _: () = assert!(MAX_SITES <= ENCLOSED as usize);

/// There are no births after this: with one interval in ten milliseconds, a month.
pub(super) const LAST_BIRTH: u32 = (1 << BIRTH_BITS) - 1;

impl Word {
    fn new(key: u64, entry: Entry) -> Self {
        let of = |value: u64, at: u32| u128::from(value) << at;
        let key = u128::from(key);
        match entry {
            Entry::Enclosed => Self(key | of(ENCLOSED.into(), SITE_AT)),
            Entry::Block(it) => Self(
                key | of(it.size_bytes.min(LARGE), SIZE_AT)
                    | of(it.site.0.into(), SITE_AT)
                    | of(it.birth.min(LAST_BIRTH).into(), BIRTH_AT)
                    | of(it.reused.into(), REUSED_AT)
                    | of(it.rate.shift().into(), RATE_AT),
            ),
        }
    }

    #[inline]
    fn key(self) -> u64 {
        self.0 as u64 & ((1 << SIZE_AT) - 1)
    }

    #[inline]
    fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[inline]
    fn bits(self, at: u32, count: u32) -> u64 {
        (self.0 >> at) as u64 & ((1 << count) - 1)
    }

    #[inline]
    fn entry(self, large: &FxHashMap<u64, u64>) -> Entry {
        let site = self.bits(SITE_AT, SITE_BITS) as u32;
        if site == ENCLOSED {
            return Entry::Enclosed;
        }
        let size_bytes = match self.bits(SIZE_AT, SIZE_BITS) {
            LARGE => large.get(&self.key()).copied().unwrap_or(LARGE),
            size_bytes => size_bytes,
        };
        Entry::Block(Block {
            size_bytes,
            site: Slot(site),
            birth: self.bits(BIRTH_AT, BIRTH_BITS) as u32,
            reused: self.bits(REUSED_AT, 1) != 0,
            rate: Rate::of_shift(self.bits(RATE_AT, RATE_BITS) as u32),
        })
    }
}

/// An address in 48 bits; `None` for 0 and for what no program gets that has not asked for it (five levels of page tables).
#[inline]
fn key(address: u64) -> Option<u64> {
    let pool = u64::from(address & POOL_BLOCK != 0) << POOL_AT;
    let address = address & !POOL_BLOCK;
    (address != 0 && address >> ADDRESS_BITS == 0).then_some(address | pool)
}

fn address(key: u64) -> u64 {
    let address = key & ((1 << ADDRESS_BITS) - 1);
    if key >> POOL_AT != 0 { address | POOL_BLOCK } else { address }
}

/// Blocks lie at regular distances, and all bits of a hash are used.
#[inline]
fn hash(key: u64) -> u64 {
    let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (hash ^ hash >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93)
}

/// `fraction` / 2⁶⁴ of `whole`, and what is left of the fraction.
#[inline]
fn part(fraction: u64, whole: usize) -> (usize, u64) {
    let wide = u128::from(fraction) * whole as u128;
    ((wide >> 64) as usize, wide as u64)
}

/// There is always an empty place.
#[derive(Clone, Debug, Default)]
struct Shard {
    places: Vec<Word>,
    used: usize,
}

impl Shard {
    /// The place of `key`, or the empty one where it would be. There must be places.
    #[inline]
    fn find(&self, key: u64, rest: u64) -> usize {
        let (mut at, _) = part(rest, self.places.len());
        loop {
            let word = self.places[at];
            if word.is_empty() || word.key() == key {
                return at;
            }
            at = self.after(at);
        }
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        if at + 1 == self.places.len() { 0 } else { at + 1 }
    }

    #[inline]
    fn is_full(&self) -> bool {
        self.used * 5 >= self.places.len() * 4
    }

    /// Empties a place: what lies behind it and belongs before it moves up.
    #[inline]
    fn remove(&mut self, at: usize, home: impl Fn(u64, usize) -> usize) {
        self.used -= 1;
        let count = self.places.len();
        let (mut empty, mut at) = (at, self.after(at));
        while !self.places[at].is_empty() {
            let home = home(self.places[at].key(), count);
            // Is it as far from its home to the empty place as to where it lies, or nearer?
            let distance = |from: usize, to: usize| if to >= from { to - from } else { to + count - from };
            if distance(home, empty) <= distance(home, at) {
                self.places[empty] = self.places[at];
                empty = at;
            }
            at = self.after(at);
        }
        self.places[empty] = Word::default();
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    shards: Vec<Shard>,
    /// By key: sizes from [`LARGE`] on. There are few, since memory ends.
    large: FxHashMap<u64, u64>,
    used: usize,
}

impl Table {
    /// Returns what was there. Tables may grow by `room` bytes, which is brought up to date.
    ///
    /// # Errors
    /// If there is no place; then nothing has changed.
    #[inline]
    pub(super) fn insert(
        &mut self,
        address: u64,
        entry: Entry,
        room: &mut usize,
    ) -> Result<Option<Entry>, Refused> {
        let key = key(address).ok_or(Refused::NoAddress)?;
        let word = Word::new(key, entry);
        let hash = hash(key);
        let has_room = self.make_room(hash, room);
        let (shard, rest) = part(hash, self.shards.len());
        let shard = self.shards.get_mut(shard).ok_or(Refused::NoRoom)?;
        let at = shard.find(key, rest);
        if !has_room && shard.places[at].is_empty() {
            return Err(Refused::NoRoom);
        }
        let old = std::mem::replace(&mut shard.places[at], word);
        let old = if old.is_empty() {
            shard.used += 1;
            self.used += 1;
            None
        } else {
            Some(take(old, &mut self.large))
        };
        if let Entry::Block(block) = entry
            && block.size_bytes >= LARGE
        {
            self.large.insert(key, block.size_bytes);
        }
        Ok(old)
    }

    #[inline]
    pub(super) fn remove(&mut self, address: u64) -> Option<Entry> {
        let key = key(address)?;
        let shards = self.shards.len();
        let (shard, rest) = part(hash(key), shards);
        let shard = self.shards.get_mut(shard).filter(|it| it.used > 0)?;
        let at = shard.find(key, rest);
        let old = shard.places[at];
        if old.is_empty() {
            return None;
        }
        shard.remove(at, |key, places| part(part(hash(key), shards).1, places).0);
        self.used -= 1;
        Some(take(old, &mut self.large))
    }

    pub(super) fn block(&self, address: u64) -> Option<Block> {
        let key = key(address)?;
        let (shard, rest) = part(hash(key), self.shards.len());
        let shard = self.shards.get(shard).filter(|it| it.used > 0)?;
        let word = shard.places[shard.find(key, rest)];
        match word.entry(&self.large) {
            Entry::Block(block) if !word.is_empty() => Some(block),
            _ => None,
        }
    }

    /// Every block, in no order.
    pub(super) fn blocks(&self) -> impl Iterator<Item = (u64, Block)> + '_ {
        self.words().filter_map(|word| match word.entry(&self.large) {
            Entry::Block(block) => Some((address(word.key()), block)),
            Entry::Enclosed => None,
        })
    }

    /// To be called now and then: gives back the memory of shards that are mostly empty.
    pub(super) fn settle(&mut self) {
        if self.shards.len() > 1 && self.used < FEW / 4 {
            self.cut_into(1);
        }
        let shards = self.shards.len();
        for shard in &mut self.shards {
            if shard.places.len() > MIN_PLACES && shard.used < shard.places.len() / 8 {
                resize(shard, shard.used * 2, shards);
            }
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let places: usize = self.shards.iter().map(|it| it.places.capacity()).sum();
        places * size_of::<Word>() + self.large.capacity() * size_of::<(u64, u64)>()
    }

    fn words(&self) -> impl Iterator<Item = Word> + '_ {
        self.shards.iter().flat_map(|it| &it.places).copied().filter(|it| !it.is_empty())
    }

    /// Sees to it that one more fits where `hash` leads.
    #[inline]
    fn make_room(&mut self, hash: u64, room: &mut usize) -> bool {
        let (shard, _) = part(hash, self.shards.len());
        !self.shards.get(shard).is_none_or(Shard::is_full) || self.grow(shard, room)
    }

    #[cold]
    fn grow(&mut self, shard: usize, room: &mut usize) -> bool {
        let shards = self.shards.len();
        let (places, old_places) = match self.shards.get(shard) {
            None => (MIN_PLACES, 0),
            Some(_) if shards == 1 => (self.used * 2, self.shards[0].places.len()),
            Some(it) => (it.places.len() * 9 / 8, it.places.len()),
        };
        // The old places and the new ones are there at the same time.
        let Some(left) = room.checked_sub(places * size_of::<Word>()) else { return false };
        *room = left + old_places * size_of::<Word>();
        match shards {
            0 => self.cut_into(1),
            1 if self.used >= FEW => self.cut_into(SHARDS),
            _ => resize(&mut self.shards[shard], places, shards),
        }
        true
    }

    fn cut_into(&mut self, shards: usize) {
        let words: Vec<Word> = self.words().collect();
        let places = (words.len() / shards * 2).max(MIN_PLACES);
        self.shards = vec![Shard::default(); shards];
        self.shards.iter_mut().for_each(|it| resize(it, places, shards));
        for word in words {
            let (shard, rest) = part(hash(word.key()), shards);
            let shard = &mut self.shards[shard];
            if shard.is_full() {
                resize(shard, shard.places.len() * 2, shards);
            }
            put(shard, word, rest);
        }
    }
}

/// Why something has no place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It has an address that no program can have.
    NoAddress,
    /// Tables may take no more.
    NoRoom,
}

#[inline]
fn take(word: Word, large: &mut FxHashMap<u64, u64>) -> Entry {
    let entry = word.entry(large);
    if let Entry::Block(block) = entry
        && block.size_bytes >= LARGE
    {
        large.remove(&word.key());
    }
    entry
}

/// Into a shard with room, which does not have it.
fn put(shard: &mut Shard, word: Word, rest: u64) {
    let at = shard.find(word.key(), rest);
    shard.places[at] = word;
    shard.used += 1;
}

/// `places` must be more than what the shard has.
fn resize(shard: &mut Shard, places: usize, shards: usize) {
    let places = vec![Word::default(); places.max(MIN_PLACES)];
    let old = std::mem::replace(shard, Shard { places, used: 0 });
    for word in old.places.into_iter().filter(|it| !it.is_empty()) {
        put(shard, word, part(hash(word.key()), shards).1);
    }
}
