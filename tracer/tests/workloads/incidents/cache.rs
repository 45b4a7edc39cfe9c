//! Incident: a cache without a bound, whose key holds something that is new in each request.

mod traffic;

use std::collections::BTreeMap;

#[derive(Default)]
struct Cache {
    pages: BTreeMap<String, Vec<u8>>,
    /// The fix.
    bound: Option<usize>,
}

impl Cache {
    #[inline(never)]
    fn fetch_cached(&mut self, key: String) -> usize {
        let length = self.pages.entry(key).or_insert_with(|| vec![7; 1500]).len();
        if self.bound.is_some_and(|bound| self.pages.len() > bound) {
            self.pages.pop_first();
        }
        length
    }
}

fn main() {
    let mut cache = Cache { bound: traffic::is_fixed().then_some(100), ..Cache::default() };
    traffic::run("cache::Cache::fetch_cached", |round| {
        std::hint::black_box(cache.fetch_cached(format!("/index?page={}", round % 20)));
        std::hint::black_box(cache.fetch_cached(format!("/search?session={round}")));
    });
}
