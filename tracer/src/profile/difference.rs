//! Two recordings of one program, before and after: sites matched by names, costs subtracted.
//!
//! Addresses differ from build to build, so a site is recognised by the name of its process or group, kind, allocating function and
//! the names along its stack. Inlined functions take no part: they are known only as long as the build is there.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{By, Frame, Group, Profile, Range, Site, bars::Samples};
use crate::{cost::Cost, symbol::Places};

/// What changed from `before` to `after`.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    pub before: Profile,
    pub after: Profile,
    /// Whether the costs of `before` are what they would have been after the duration of `after`.
    pub is_even: bool,
    /// The largest changes first.
    pub pairs: Vec<Pair>,
}

/// The same stack in both recordings, or in one of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// The name of its process, or of the group of processes.
    pub owner: Arc<str>,
    pub before: Side,
    pub after: Side,
    /// It moves by as much within one recording, without growing; or where blocks were sampled, by no more than chance makes
    /// of that.
    pub is_noise: bool,
}

/// What one recording says of a stack.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Side {
    /// Places in [`Profile::sites`]: a stack can occur in several processes of one name.
    pub sites: Vec<usize>,
    pub live: Cost,
    pub allocated: Cost,
    pub freed: Cost,
    pub growth_bytes_per_s: f64,
    pub is_growing: bool,
    swing_bytes: i64,
    /// How much more or less may be live.
    pub live_error_bytes: i64,
    births_error_bytes: i64,
    samples: Samples,
}

impl Pair {
    pub fn live_change(&self) -> Cost {
        self.after.live - self.before.live
    }

    /// How much larger or smaller the change may be: two recordings err independently of each other.
    pub fn live_change_error_bytes(&self) -> i64 {
        let [before, after] = [&self.before, &self.after].map(|it| it.live_error_bytes as f64);
        before.hypot(after).ceil() as i64
    }

    pub fn allocated_change(&self) -> Cost {
        self.after.allocated - self.before.allocated
    }

    pub fn freed_change(&self) -> Cost {
        self.after.freed - self.before.freed
    }

    pub fn growth_change_bytes_per_s(&self) -> f64 {
        self.after.growth_bytes_per_s - self.before.growth_bytes_per_s
    }
}

impl Difference {
    /// Both profiles must have the frames of all their sites, and no places yet. `is_even`: the costs of `before`
    /// become what they would have been after the duration of `after`: what was allocated goes on at its rate, and
    /// what is live goes on growing if it grew.
    pub fn new(before: Profile, after: Profile, is_even: bool) -> Self {
        let (before_s, after_s) = (before.to_s - before.from_s, after.to_s - after.from_s);
        let stretch = (is_even && before_s > 0.0).then_some((before_s, after_s));
        let mut pairs: BTreeMap<Key, (Side, Side)> = BTreeMap::new();
        let mut names = Names::default();
        let owners = owners(&before);
        for (place, site) in before.sites.iter().enumerate() {
            pairs.entry(names.key(&before, &owners, site)).or_default().0.add(place, site);
        }
        let owners = self::owners(&after);
        for (place, site) in after.sites.iter().enumerate() {
            pairs.entry(names.key(&after, &owners, site)).or_default().1.add(place, site);
        }
        let mut pairs: Vec<Pair> = pairs
            .into_iter()
            .map(|(key, (before, after))| Pair::new(key.0, before, after, stretch))
            .collect();
        pairs.sort_by_key(|it| {
            let change = it.live_change();
            (it.is_noise, -change.bytes.abs(), -change.blocks.abs())
        });
        Self { before, after, is_even, pairs }
    }

    /// Adds source lines and inlined functions, of builds that are still there.
    pub fn add_places(&mut self, places: &mut dyn Places) {
        self.before.add_places(places);
        self.after.add_places(places);
    }

    /// The frames of a pair, innermost first: as they are after, or were before.
    pub fn stack<'a>(&'a self, pair: &Pair) -> Vec<&'a Frame> {
        let (profile, site) = self.site(pair);
        site.map_or_else(Vec::new, |it| profile.stack(it).collect())
    }

    /// One of the sites of a pair, and whose it is.
    pub fn site(&self, pair: &Pair) -> (&Profile, Option<&Site>) {
        match (pair.after.sites.first(), pair.before.sites.first()) {
            (Some(place), _) => (&self.after, self.after.sites.get(*place)),
            (None, place) => (&self.before, place.and_then(|it| self.before.sites.get(*it))),
        }
    }

    /// Live bytes and blocks of all pairs.
    pub fn totals(&self) -> (Cost, Cost) {
        (self.pairs.iter().map(|it| it.before.live).sum(), self.pairs.iter().map(|it| it.after.live).sum())
    }
}

impl Pair {
    fn new(owner: Arc<str>, before: Side, after: Side, stretch: Option<(f64, f64)>) -> Self {
        let swing_bytes = before.swing_bytes + after.swing_bytes;
        let before = match stretch {
            Some((before_s, after_s)) => before.stretched(before_s, after_s),
            None => before,
        };
        let is_growing = before.is_growing || after.is_growing;
        let mut pair = Self { owner, before, after, is_noise: false };
        let change_bytes = pair.live_change().bytes.abs();
        let is_sampled = pair.before.is_sampled() || pair.after.is_sampled();
        pair.is_noise = !is_growing && change_bytes <= swing_bytes
            || is_sampled && change_bytes <= pair.live_change_error_bytes();
        pair
    }
}

impl Side {
    fn add(&mut self, place: usize, site: &Site) {
        self.sites.push(place);
        self.live += site.live;
        self.allocated += site.allocated;
        self.freed += site.freed;
        self.growth_bytes_per_s += site.growth_bytes_per_s;
        self.is_growing |= site.is_growing();
        self.swing_bytes += site.swing_bytes;
        self.samples.add(&site.samples);
        self.births_error_bytes += site.births_error.bytes;
        let Range { low_bytes, high_bytes } = self.samples.range(self.live.bytes);
        self.live_error_bytes =
            self.births_error_bytes + (self.live.bytes - low_bytes).max(high_bytes - self.live.bytes);
    }

    fn is_sampled(&self) -> bool {
        self.samples.is_by_bytes()
    }

    /// After `after_s` instead of `before_s`, if it goes on as it did.
    fn stretched(self, before_s: f64, after_s: f64) -> Self {
        let scale = |it: Cost, by: f64| Cost {
            bytes: (it.bytes as f64 * by).round() as i64,
            blocks: (it.blocks as f64 * by).round() as i64,
        };
        let growth_bytes = if self.is_growing { self.growth_bytes_per_s * (after_s - before_s) } else { 0.0 };
        let live = scale(self.live, 1.0 + growth_bytes / self.live.bytes.max(1) as f64);
        let allocated = scale(self.allocated, after_s / before_s);
        Self { live, allocated, freed: allocated - live, ..self }
    }
}

/// Of each group: what it is called in both recordings. Process ids are not the same again; names are.
type Owners = HashMap<u32, Arc<str>>;

fn owners(profile: &Profile) -> Owners {
    let names: HashMap<u32, &str> = profile.processes.iter().map(|it| (it.row.id, &*it.row.name)).collect();
    let name = |it: &Group| match (profile.by, it.processes.first()) {
        (By::Process, Some(process)) => names.get(process).copied().unwrap_or_default().into(),
        _ => Arc::clone(&it.name),
    };
    (0..).zip(profile.groups()).map(|(place, it)| (place, name(it))).collect()
}

/// Name of the process or group, kind, allocating function, and names along the stack.
type Key = (Arc<str>, Arc<str>, Arc<str>, Vec<u32>);

/// Names of frames by number: comparing stacks is then comparing numbers.
#[derive(Default)]
struct Names(HashMap<String, u32>);

impl Names {
    fn key(&mut self, profile: &Profile, owners: &Owners, site: &Site) -> Key {
        let owner = owners.get(&site.group).cloned().unwrap_or_default();
        let stack = profile.stack(site).map(|it| self.number(it)).collect();
        (owner, Arc::clone(&site.kind), Arc::clone(&site.via), stack)
    }

    fn number(&mut self, frame: &Frame) -> u32 {
        let name = match &frame.function {
            Some(function) => source_name(function),
            // Without a name there is nothing but the file that lasts from build to build.
            None => frame.module_name(),
        };
        let next = self.0.len() as u32;
        match self.0.get(name) {
            Some(&number) => number,
            None => {
                self.0.insert(name.to_owned(), next);
                next
            }
        }
    }
}

/// Without what the compiler added: which copy of a function is called changes with every build.
pub(crate) fn source_name(function: &str) -> &str {
    let function = function.split(" [clone").next().unwrap_or(function);
    const SUFFIXES: [&str; 6] = [".cold", ".isra.", ".constprop.", ".part.", ".llvm.", ".lto_priv."];
    let cut = SUFFIXES.iter().filter_map(|it| function.find(it)).min();
    cut.map_or(function, |it| &function[..it])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Query, sample_recording};

    fn profile(query: &Query) -> Profile {
        Profile::new(&sample_recording(), query, usize::MAX)
    }

    /// (first function, change of live bytes, noise) of each pair.
    fn check(before: Profile, after: Profile, is_even: bool, expected: &[(&str, i64, bool)]) {
        let difference = Difference::new(before, after, is_even);
        let pairs = difference.pairs.iter();
        let found: Vec<_> =
            pairs.map(|it| (difference.stack(it)[0].label(), it.live_change().bytes, it.is_noise)).collect();
        let expected: Vec<_> =
            expected.iter().map(|(name, change, noise)| ((*name).to_owned(), *change, *noise)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_fix_is_first_and_negative() {
        let mut fixed = profile(&Query::default());
        fixed.sites.retain(|it| it.id == 1);
        check(profile(&Query::default()), fixed, false, &[("leak", -400, false), ("cache", 0, true)]);
    }

    #[test]
    fn the_same_twice_is_no_difference() {
        let same = || profile(&Query::default());
        check(same(), same(), false, &[("leak", 0, false), ("cache", 0, true)]);
    }

    #[test]
    fn durations_are_made_equal_on_request() {
        let whole = || profile(&Query::default());
        let half = || Profile { to_s: 2.0, ..whole() };
        check(half(), whole(), false, &[("leak", 0, false), ("cache", 0, true)]);
        // As if the same had been reached in half of the time.
        check(half(), whole(), true, &[("leak", -200, false), ("cache", 0, true)]);
    }

    #[test]
    fn names_without_what_the_compiler_added() {
        let same = ["grow", "grow.cold", "grow.isra.0", "grow.part.0.cold", "grow [clone .cold]"];
        assert_eq!(same.map(source_name), ["grow"; 5]);
        assert_eq!(source_name("a::b<c>::{{closure}}"), "a::b<c>::{{closure}}");
    }
}
