//! scratch
use alloctrace::{heap::Heap, kernel::*, event::*};
fn main() {
    env_logger::init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args[0] == "__gate" { let e = launch::wait_at_gate(std::path::Path::new(&args[1]), &args[3..].iter().map(|x| x.into()).collect::<Vec<_>>()); panic!("{e}"); }
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    rt.block_on(async {
        let mut launched = None;
        let target = if args[0] == "-p" { Target::Processes(vec![args[1].parse().unwrap()]) } else {
            let cmd: Vec<std::ffi::OsString> = args.iter().map(|x| x.into()).collect();
            let l = Launched::new(&cmd).unwrap(); let tgid = l.tgid(); launched = Some(l);
            Target::Launched { tgid, command: cmd } };
        let follow = launched.is_some();
        let t = std::time::Instant::now();
        let mut k = Kernel::start(&Settings { target, follow, ring_bytes: 64<<20, programs: Programs::Trace }).unwrap();
        println!("started in {:?}", t.elapsed());
        for p in k.probes() { println!("{p}"); }
        let mut heap = Heap::new(now_ns(), 1_000_000_000);
        for e in k.beginnings(now_ns()) { heap.apply(&e); }
        if let Some(l) = &mut launched { l.open_gate().unwrap(); }
        let until = std::time::Instant::now() + std::time::Duration::from_secs(3);
        let mut done = false;
        while std::time::Instant::now() < until && !done {
            k.drain(1000000, |e| { if matches!(e, Event::Exit{..}|Event::Exec{..}|Event::Fork{..}|Event::Begin{..}) { println!("{e:?}"); } if matches!(e, Event::Exit{..}) { done = launched.is_some(); } heap.apply(&e) });
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        println!("live {:?} events {}", heap.live(), heap.events());
        let i = heap.interval(now_ns());
        for (l, n) in k.losses().iter().chain(i.losses.iter()) { println!("LOSS {} {n}", l.name()); }
        let mods: std::collections::HashMap<_, _> = k.new_modules().into_iter().map(|m| (m.id.0, m.path)).collect();
        let stacks: std::collections::HashMap<_, _> = i.stacks.iter().map(|s| (s.id, s)).collect();
        let mut sites = i.sites.clone(); sites.sort_by_key(|s| -s.live().bytes);
        let a: alloctrace::cost::Cost = sites.iter().filter(|s| s.kind == Kind::Heap).map(|s| s.allocated).sum();
        println!("heap allocated {a:?} sites {}", sites.len());
        for p in &i.processes { println!("{p:?}"); }
        for s in sites.iter().take(8) {
            println!("{:?} {} live {:?} alloc {:?}", s.kind, s.via.name(), s.live(), s.allocated);
            if let Some(st) = stacks.get(&s.stack) { println!("  {:?}", st.stop); for f in st.frames.iter() { println!("    {} {:#x}", mods.get(&f.object()).map_or("?", |m| m.rsplit('/').next().unwrap()), f.offset()); } }
        }
    });
}
