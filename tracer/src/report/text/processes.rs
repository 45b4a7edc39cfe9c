//! Who the traced processes are: one in full; several as a tree, summed up by command and by control group.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
};

use crate::{
    profile::{Account, By, Expense, Outlook, Process, Profile, Summary},
    report::{
        escape::printable,
        paper::{Look, Paper},
        units, words,
    },
};

/// Processes that a tree shows all; of more, it shows those that matter, so that the sites stay on the first screen.
const MAX_TREE: usize = 12;

/// Groups that a table shows. JSON has all of them.
const MAX_GROUPS: usize = 6;

/// With fewer processes the tree says all that a table by command would.
const GROUPED_FROM: usize = 6;

/// Processes that are described in full beside a tree; of more, the tree says what they look like in a word.
const MAX_FULL: usize = 3;

/// Deeper ones stand as if they were here: a shell script that calls another and so on.
const MAX_DEPTH: usize = 8;

const NAME_CHARS: usize = 28;

/// The only process.
pub(super) fn one(profile: &Profile, out: &mut Paper<'_>) -> io::Result<()> {
    for it in &profile.processes {
        process(it, out)?;
        if let Some(expense) = it.expense {
            writeln!(out, "         {}", overhead(profile, expense))?;
        }
    }
    for it in &profile.tiers {
        let [tier, reason] = [&it.tier, &it.reason].map(|it| printable(it));
        writeln!(out, "         {tier} since {}: {reason}", units::seconds(it.t_s))?;
    }
    for it in &profile.controls {
        let [last, most, limit] = [it.last_bytes(), it.most_bytes(), it.limit_bytes()].map(size);
        let path = printable(&it.path);
        writeln!(out, "cgroup   {path}   {last} accounted by the kernel, at most {most}, limit {limit}")?;
    }
    Ok(())
}

/// What tracing cost.
fn overhead(profile: &Profile, expense: Expense) -> String {
    let header = &profile.header;
    let by = if header.is_calibrated {
        "by what calls cost here"
    } else {
        "by what calls cost on another machine; --max-overhead measures it here"
    };
    let limit =
        header.max_overhead.map_or_else(String::new, |it| format!(" of {} allowed", words::share(it)));
    format!("tracing added {}{limit} to its CPU time, as estimated {by}", words::share(expense.share()))
}

/// Several of them.
pub(super) fn several(profile: &Profile, out: &mut Paper<'_>) -> io::Result<()> {
    let all = profile.processes.len();
    let ended = profile.processes.iter().filter(|it| it.row.ended.is_some()).count();
    writeln!(out)?;
    out.put(Look::Head, format!("Processes: {}", units::count(all as i64)))?;
    let ended =
        if ended > 0 { format!(", {} of them ended", units::count(ended as i64)) } else { String::new() };
    writeln!(out, "{ended}")?;
    let tree = Tree::of(&profile.processes);
    let shown = if all <= MAX_TREE { None } else { Some(tree.that_matter()) };
    writeln!(
        out,
        "{:>9} {:<NAME_CHARS$} {:>10} {:>10} {:>10} {:>13}",
        "PID", "NAME", "LIVE", "RSS", "RSS MOST", "GROWTH"
    )?;
    for (depth, process) in tree.in_order(shown.as_ref()) {
        row(profile, depth, process, out)?;
    }
    if let Some(shown) = &shown
        && shown.len() < all
    {
        writeln!(out, "        … and {} more, in the table below", units::count((all - shown.len()) as i64))?;
    }
    if all <= MAX_FULL {
        profile.processes.iter().try_for_each(|it| process(it, out))?;
    }
    commands(profile, out)?;
    controls(profile, out)
}

/// A size, if it is known.
fn size(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "–".to_owned(), |it| units::bytes(it as i64))
}

fn row(profile: &Profile, depth: usize, process: &Process, out: &mut Paper<'_>) -> io::Result<()> {
    let row = &process.row;
    let rss = if row.ended.is_some() { None } else { process.rss_last_bytes };
    let name = words::shorten(&row.name, NAME_CHARS - 2 * depth.min(MAX_DEPTH));
    let name = format!("{}{name}", "  ".repeat(depth.min(MAX_DEPTH)));
    write!(
        out,
        "{:>9} {name:<NAME_CHARS$} {:>10} {:>10} {:>10} ",
        row.pid,
        units::bytes(process.live.bytes),
        size(rss),
        size(process.rss_max_bytes),
    )?;
    let growth = format!("{:>13}", units::rate(process.growth_bytes_per_s));
    if process.growing_sites > 0 {
        out.put(Look::Alarm, growth)?
    } else {
        write!(out, "{growth}")?
    }
    let mut notes: Vec<String> = Vec::new();
    if profile.processes.iter().any(|it| it.row.pid == row.pid && it.row.id != row.id) {
        notes.push(format!("from {}", units::seconds(row.began_s)));
    }
    notes.extend(row.allocators.iter().map(|it| it.split(" (").next().unwrap_or(it).to_owned()));
    notes.extend(process.expense.map(|it| format!("overhead {}", words::share(it.share()))));
    let tier = profile.tiers.iter().rfind(|it| it.process == row.id);
    notes.extend(tier.map(|it| format!("{} since {}: {}", it.tier, units::seconds(it.t_s), it.reason)));
    if let Some(limit) = row.limit_bytes {
        notes.push(format!("limit {}", units::bytes(limit as i64)));
    }
    let is_quiet = matches!(process.outlook, Outlook::TooShort | Outlook::Steady | Outlook::Settled { .. });
    if profile.processes.len() > MAX_FULL && !is_quiet {
        notes.push(process.outlook.name().to_owned());
    }
    for note in &notes {
        write!(out, "  {}", printable(note))?;
    }
    match (words::ended(process), &row.ended) {
        (Some(state), Some(ended)) if ended.how != "exit" => {
            write!(out, "  ")?;
            out.put(Look::Alarm, state)?;
        }
        (Some(state), _) => write!(out, "  {state}")?,
        _ => {}
    }
    writeln!(out)
}

fn commands(profile: &Profile, out: &mut Paper<'_>) -> io::Result<()> {
    if profile.processes.len() < GROUPED_FROM {
        return Ok(());
    }
    let groups = Summary::of(&profile.processes, By::Command);
    writeln!(
        out,
        "\n{:<30} {:>10} {:>10} {:>10} {:>13} {:>10}  ENDED",
        "COMMAND", "LIVE", "RSS", "MOST EACH", "GROWTH", "ALLOCATED"
    )?;
    for it in groups.iter().take(MAX_GROUPS) {
        let name = format!("{} ×{}", words::shorten(&it.name, 22), it.processes);
        writeln!(
            out,
            "{name:<30} {:>10} {:>10} {:>10} {:>13} {:>10}  {}",
            units::bytes(it.live.bytes),
            units::bytes(it.rss_bytes as i64),
            size(Some(it.rss_max_bytes).filter(|it| *it > 0)),
            units::rate(it.growth_bytes_per_s),
            units::bytes(it.allocated.bytes),
            units::count(it.ended as i64),
        )?;
    }
    let others = &groups[MAX_GROUPS.min(groups.len())..];
    if !others.is_empty() {
        let processes: usize = others.iter().map(|it| it.processes).sum();
        let (commands, processes) = (units::count(others.len() as i64), units::count(processes as i64));
        writeln!(out, "… and {commands} more commands with {processes} processes (--by command)")?;
    }
    Ok(())
}

/// Beside what was traced in a control group, what the kernel accounts to it: files in memory included.
fn controls(profile: &Profile, out: &mut Paper<'_>) -> io::Result<()> {
    if profile.controls.is_empty() && profile.processes.len() < GROUPED_FROM {
        return Ok(());
    }
    let groups = Summary::of(&profile.processes, By::Cgroup);
    if groups.len() < 2 && profile.controls.is_empty() {
        return Ok(());
    }
    let heads = ["PROCESSES", "LIVE", "KERNEL", "MOST", "LIMIT"];
    write!(out, "\n{:<40}", "CONTROL GROUP")?;
    heads.iter().try_for_each(|it| write!(out, " {it:>10}"))?;
    writeln!(out)?;
    for it in groups.iter().take(MAX_GROUPS) {
        let control = profile.controls.iter().find(|control| control.path == it.name);
        let name = words::shorten(&it.name, 39);
        write!(out, "{name:<40} {:>10} {:>10}", it.processes, units::bytes(it.live.bytes))?;
        let figures = control.map(|it| [it.last_bytes(), it.most_bytes(), it.limit_bytes()]);
        figures.unwrap_or_default().into_iter().try_for_each(|it| write!(out, " {:>10}", size(it)))?;
        writeln!(out)?;
    }
    if groups.len() > MAX_GROUPS {
        let more = units::count((groups.len() - MAX_GROUPS) as i64);
        writeln!(out, "… and {more} more control groups (--by cgroup)")?;
    }
    Ok(())
}

/// Processes below those that made them.
struct Tree<'a> {
    processes: BTreeMap<u32, &'a Process>,
    parents: BTreeMap<u32, u32>,
    /// Of each process, and of none; the one that holds most first.
    children: BTreeMap<Option<u32>, Vec<&'a Process>>,
}

impl<'a> Tree<'a> {
    fn of(processes: &'a [Process]) -> Self {
        let processes: BTreeMap<u32, &Process> = processes.iter().map(|it| (it.row.id, it)).collect();
        let known = |it: &u32| processes.contains_key(it);
        let mut parents: BTreeMap<u32, u32> =
            processes.values().filter_map(|it| Some((it.row.id, it.row.parent.filter(known)?))).collect();
        // No kernel makes a circle, but a file can hold one.
        for id in processes.keys() {
            let mut above = std::iter::successors(parents.get(id), |it| parents.get(it)).take(parents.len());
            if above.any(|it| it == id) {
                parents.remove(id);
            }
        }
        let mut children: BTreeMap<Option<u32>, Vec<&Process>> = BTreeMap::new();
        for it in processes.values() {
            children.entry(parents.get(&it.row.id).copied()).or_default().push(it);
        }
        for children in children.values_mut() {
            children.sort_by_key(|it| (-it.live.bytes, it.row.id));
        }
        Self { processes, parents, children }
    }

    /// With its depth, each below its parent; only those in `shown`, if it is given.
    fn in_order(&self, shown: Option<&BTreeSet<u32>>) -> Vec<(usize, &'a Process)> {
        let below = |parent: Option<u32>| self.children.get(&parent).into_iter().flatten().rev();
        let mut order = Vec::new();
        let mut next: Vec<(usize, &Process)> = below(None).map(|it| (0, *it)).collect();
        while let Some((depth, process)) = next.pop() {
            if shown.is_none_or(|it| it.contains(&process.row.id)) {
                order.push((depth, process));
                next.extend(below(Some(process.row.id)).map(|it| (depth + 1, *it)));
            }
        }
        order
    }

    /// As many as there is room for, with those that they descend from: whatever was killed for its memory or is watched more
    /// closely, then what lives and holds most, then what stands at the top.
    fn that_matter(&self) -> BTreeSet<u32> {
        let is_killed = |it: &Process| it.row.ended.as_ref().is_some_and(|it| it.how == "oom-kill");
        let rank = |it: &Process| match &it.row.ended {
            _ if is_killed(it) => 0,
            None => 1,
            Some(_) => 2,
        };
        let is_top = |it: &Process| !self.parents.contains_key(&it.row.id);
        let mut order: Vec<&Process> =
            self.processes.values().copied().filter(|it| rank(it) < 2 || is_top(it)).collect();
        order.sort_by_key(|it| (rank(it), -it.live.bytes, std::cmp::Reverse(it.rss_last_bytes), it.row.id));
        let mut shown = BTreeSet::new();
        for process in order {
            let way: Vec<u32> = self.way(process).take_while(|it| !shown.contains(it)).collect();
            if shown.len() + way.len() <= MAX_TREE {
                shown.extend(way);
            }
        }
        shown
    }

    /// From a process up.
    fn way(&self, process: &Process) -> impl Iterator<Item = u32> {
        std::iter::successors(Some(process.row.id), |it| self.parents.get(it).copied())
    }
}

fn process(process: &Process, out: &mut Paper<'_>) -> io::Result<()> {
    let row = &process.row;
    write!(out, "process  {} {}", row.pid, printable(&row.name))?;
    if let (Some(first), Some(last)) = (process.rss_first_bytes, process.rss_last_bytes) {
        write!(out, "   RSS {} -> {}", units::bytes(first as i64), units::bytes(last as i64))?;
    }
    if let Some(limit) = row.limit_bytes {
        write!(out, "   limit {}", units::bytes(limit as i64))?;
    }
    write!(out, "   ")?;
    match (words::ended(process), &row.ended) {
        (Some(state), Some(ended)) if ended.how == "oom-kill" => out.put(Look::Alarm, state)?,
        (state, _) => write!(out, "{}", state.as_deref().unwrap_or("still running"))?,
    }
    writeln!(out)?;
    write!(out, "         ")?;
    match process.outlook {
        Outlook::Growing { .. } => out.put(Look::Alarm, words::outlook(process.outlook))?,
        outlook => write!(out, "{}", words::outlook(outlook))?,
    }
    writeln!(out)?;
    match process.account {
        Some(account) => self::account(&account, out),
        None => Ok(()),
    }
}

/// Where the resident bytes went: parts that add up.
fn account(account: &Account, out: &mut dyn Write) -> io::Result<()> {
    for (bytes, what) in words::account(account) {
        writeln!(out, "         {:>12}  {what}", units::change(bytes))?;
    }
    if account.before_bytes > 0 {
        writeln!(out, "         {:>12}  from before, not attributed", units::bytes(account.before_bytes))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
