//! No incident: a program fills a table at its start and holds it to its end.

mod traffic;

use std::hint::black_box;

const ROWS: u64 = 1000;

#[inline(never)]
fn load_table_row(table: &mut Vec<Box<[u8]>>, row: u64) {
    table.push(black_box(vec![row as u8; 1024].into_boxed_slice()));
}

fn main() {
    let mut table = Vec::with_capacity(ROWS as usize);
    (0..ROWS).for_each(|row| load_table_row(&mut table, row));
    traffic::run("nothing", |_| {});
    // The process ends: why tidy up?
    std::mem::forget(table);
}
