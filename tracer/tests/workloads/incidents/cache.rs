//! Incident: a cache without a bound, whose key holds something that is new in each request.

mod traffic;

use std::collections::BTreeMap;

#[derive(Default)]
struct Cache {
    pages: BTreeMap<String, Vec<u8>>,
}

impl Cache {
    #[inline(never)]
    fn fetch_cached(&mut self, key: String) -> usize {
        self.pages.entry(key).or_insert_with(|| vec![7; 1500]).len()
    }
}

fn main() {
    let mut cache = Cache::default();
    traffic::run("cache::Cache::fetch_cached", |round| {
        std::hint::black_box(cache.fetch_cached(format!("/index?page={}", round % 20)));
        std::hint::black_box(cache.fetch_cached(format!("/search?session={round}")));
    });
}
