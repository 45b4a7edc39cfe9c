//! What one malloc+free pair costs in a tight loop: below short and long call stacks, on several threads, beside many
//! live blocks.

use std::{cell::Cell, thread, time::Duration};

use serde_json::{Value, json};

use super::{
    grid::{self, Sample, Samples},
    lab::Lab,
    pair::Pair,
    rounds::Rounds,
    spin::Spin,
    stats,
    tool::{self, Tool},
    tracer::Running,
};

/// Callers of malloc.
const DEPTHS: [u64; 3] = [5, 27, 100];
const THREADS: [u64; 3] = [1, 2, 4];
/// Live blocks.
const BLOCKS: [u64; 3] = [0, 1_000_000, 10_000_000];
/// More than these do the tables of the bpftrace script not hold, and with traps at the symbols they take too long.
const MOST_BLOCKS: u64 = 1_000_000;
const BLOCKS_ROUNDS: u32 = 3;

pub(super) fn run(lab: &Lab, rounds: u32) -> anyhow::Result<Value> {
    let mut canary = Pair::start(lab)?;
    let lost = Cell::new(0);
    let depths = by_depth(lab, rounds, &mut canary, &lost)?;
    let threads = by_threads(lab, rounds, &mut canary, &lost)?;
    let blocks = by_blocks(lab, rounds.min(BLOCKS_ROUNDS), &mut canary, &lost)?;
    println!("  events lost by alloctrace: {}", lost.get());
    Ok(json!({
        "rounds": rounds,
        "by_frames": depths,
        "by_threads": threads,
        "by_live_blocks": blocks,
        "lost_events": lost.get(),
    }))
}

fn title(of: &str, rounds: u32) {
    println!(
        "\nOne malloc+free pair in a tight loop {of}, {}: median (least..greatest); ratios are of added time",
        stats::rounds(rounds.into())
    );
}

fn by_depth(lab: &Lab, rounds: u32, canary: &mut Pair, lost: &Cell<u64>) -> anyhow::Result<Value> {
    title("by the depth of the stack", rounds);
    let time = Duration::from_millis(if lab.quick { 150 } else { 500 });
    let measured = Rounds::measure(lab, "depth", rounds, &Tool::ALL, canary, |tool| {
        if tool == Tool::Heaptrack {
            let (reader, environment) = tool::heaptrack(lab)?;
            let mut pair = Pair::start_with(lab, &environment)?;
            let samples = DEPTHS.iter().map(|&it| depth(&mut pair, None, it, time)).collect();
            pair.end()?;
            reader.wait()?;
            return samples;
        }
        let mut pair = Pair::start(lab)?;
        let running = attach(lab, tool, &mut pair)?;
        let samples =
            DEPTHS.iter().map(|&it| depth(&mut pair, running.as_ref(), it, time)).collect::<Result<_, _>>();
        end(lab, tool, running, lost)?;
        samples
    })?;
    Ok(grid::print(&measured, "frames", &DEPTHS, &[grid::TRACER_NS]))
}

fn depth(
    pair: &mut Pair,
    running: Option<&Running>,
    frames: u64,
    time: Duration,
) -> anyhow::Result<Option<Sample>> {
    let before = running.map(Running::cpu_s);
    let cost = pair.measure(frames as u32, time)?;
    if running.is_some() {
        // What is still on its way to the tracer belongs to these pairs.
        thread::sleep(Duration::from_millis(200));
    }
    let used = running.zip(before).map(|(it, before)| (it.cpu_s() - before).max(0.0));
    let tracer_ns = used.map(|seconds| seconds * 1e9 / cost.pairs as f64);
    Ok(Some(Sample { cpu_ns: cost.cpu_ns, tracer_ns, ..Sample::default() }))
}

fn by_threads(lab: &Lab, rounds: u32, canary: &mut Pair, lost: &Cell<u64>) -> anyhow::Result<Value> {
    title("on several threads", rounds);
    let time = Duration::from_millis(if lab.quick { 200 } else { 1000 });
    let measured = Rounds::measure(lab, "threads", rounds, &Tool::ATTACHED, canary, |tool| {
        let mut spin = Spin::start(lab)?;
        let running = tool::attach(tool, lab, spin.pid(), &capture(lab))?;
        let mut one = |threads: u64| {
            // Lets the tracer see the stacks for the first time.
            spin.run(threads as u32, time / 10)?;
            let before = running.as_ref().map(Running::cpu_s);
            let turn = spin.run(threads as u32, time)?;
            if running.is_some() {
                thread::sleep(Duration::from_millis(200));
            }
            let used = running.as_ref().zip(before).map(|(it, before)| (it.cpu_s() - before).max(0.0));
            anyhow::Ok(Some(Sample {
                cpu_ns: turn.pair_cpu_ns,
                tracer_ns: used.map(|seconds| seconds * 1e9 / turn.pairs as f64),
                pairs_per_s: Some(turn.pairs as f64 / turn.wall_s),
                ..Sample::default()
            }))
        };
        let samples = THREADS.iter().map(|&it| one(it)).collect::<Result<Samples, _>>();
        end(lab, tool, running, lost)?;
        samples
    })?;
    let throughput: grid::Figure =
        ("M pairs/s", "million_pairs_per_s", 2, |it| it.pairs_per_s.map(|it| it / 1e6));
    Ok(grid::print(&measured, "threads", &THREADS, &[throughput, grid::TRACER_NS]))
}

fn by_blocks(lab: &Lab, rounds: u32, canary: &mut Pair, lost: &Cell<u64>) -> anyhow::Result<Value> {
    title("that replaces any one of many live blocks", rounds);
    let time = Duration::from_millis(if lab.quick { 200 } else { 1000 });
    let cases = if lab.quick { &BLOCKS[..2] } else { &BLOCKS[..] };
    let tools = [Tool::Untraced, Tool::NaiveFloor, Tool::Floor, Tool::Alloctrace, Tool::Bpftrace];
    let measured = Rounds::measure(lab, "live blocks", rounds, &tools, canary, |tool| {
        let mut pair = Pair::start(lab)?;
        let running = attach(lab, tool, &mut pair)?;
        let before_mib = running.as_ref().and_then(Running::own_mib);
        let mut samples = Samples::new();
        for &count in cases {
            if count > MOST_BLOCKS && matches!(tool, Tool::NaiveFloor | Tool::Bpftrace) {
                samples.push(None);
                continue;
            }
            pair.hold(count)?;
            if let Some(running) = &running {
                running.until_idle();
            }
            let cost = pair.measure(4, time)?;
            let tracer_mib = running.as_ref().and_then(Running::own_mib);
            let more =
                tracer_mib.zip(before_mib).map(|(after, before)| (after - before) * f64::from(1 << 20));
            // The others keep them in the kernel. Of fewer a part finds room in what our start has left.
            let is_ours = tool == Tool::Alloctrace && count > MOST_BLOCKS;
            let bytes_per_block = more.filter(|_| is_ours).map(|bytes| bytes / count as f64);
            samples.push(Some(Sample {
                cpu_ns: cost.cpu_ns,
                tracer_mib,
                bytes_per_block,
                ..Sample::default()
            }));
        }
        end(lab, tool, running, lost)?;
        Ok(samples)
    })?;
    let figures: [grid::Figure; 2] = [
        ("tracer MiB", "tracer_mib", 0, |it| it.tracer_mib),
        ("bytes/live block", "tracer_bytes_per_live_block", 0, |it| it.bytes_per_block),
    ];
    let result = grid::print(&measured, "live blocks", cases, &figures);
    if lab.quick {
        println!("  --quick leaves out {} live blocks", stats::grouped(BLOCKS[2]));
    }
    Ok(result)
}

fn capture(lab: &Lab) -> std::path::PathBuf {
    lab.work.join("micro.jsonl.zst")
}

fn attach(lab: &Lab, tool: Tool, pair: &mut Pair) -> anyhow::Result<Option<Running>> {
    let running = tool::attach(tool, lab, pair.pid(), &capture(lab))?;
    if running.is_some() {
        pair.until_traced()?;
    }
    Ok(running)
}

fn end(lab: &Lab, tool: Tool, running: Option<Running>, lost: &Cell<u64>) -> anyhow::Result<()> {
    if let Some(running) = running {
        tool::detach(tool, running)?;
    }
    if tool == Tool::Alloctrace {
        let report = lab.report(&capture(lab))?;
        lost.set(lost.get() + report["loss"]["lost_events"].as_u64().unwrap_or(0));
    }
    Ok(())
}
