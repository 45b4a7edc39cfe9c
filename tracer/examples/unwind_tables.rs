//! What the unwinding tables of files cost: `cargo run --release --example unwind_tables -- FILE...` prints for each how long it
//! takes to make one (the shortest of several times), and how large it is in the kernel.

use std::time::{Duration, Instant};

use alloctrace::{
    elf::Image,
    unwind::{Rules, Table},
};

const TIMES: usize = 7;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for path in std::env::args().skip(1) {
        let bytes = std::fs::read(&path)?;
        let image = Image::parse(&bytes)?;
        let (made, table) = shortest(|| Table::from_image(&image));
        let Some(table) = table else {
            println!("{path}: no table");
            continue;
        };
        let (packed_in, packed) = shortest(|| table.pack(&mut Rules::default(), 0));
        let packed = packed.ok_or("too many rules")?;
        let identity = Table::identity(&image);
        let stored = table.to_bytes(0).ok_or("too many rules")?;
        let (read_in, read) = shortest(|| Table::from_bytes(&stored, 0));
        assert_eq!(read.map(|it| it.packed_rows()), Some(packed.rows.len()));
        println!(
            "{} bytes of .eh_frame, read back from {} bytes in {:.2} ms (build id: {})",
            image.eh_frame().map_or(0, |it| it.data.len()),
            stored.len(),
            read_in.as_secs_f64() * 1e3,
            identity.is_some(),
        );
        println!(
            "{path}: {} bytes of file, {} rows made in {:.2} ms and packed in {:.2} ms, {} bytes of rows + {} of blocks",
            bytes.len(),
            packed.rows.len(),
            made.as_secs_f64() * 1e3,
            packed_in.as_secs_f64() * 1e3,
            packed.rows.len() * 4,
            packed.blocks.len() * 4,
        );
    }
    Ok(())
}

fn shortest<T>(act: impl Fn() -> T) -> (Duration, T) {
    let once = || {
        let start = Instant::now();
        let made = act();
        (start.elapsed(), made)
    };
    let mut best = once();
    for _ in 1..TIMES {
        let next = once();
        if next.0 < best.0 {
            best = next;
        }
    }
    best
}
