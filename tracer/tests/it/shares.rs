//! What each function has of a recording, from the JSON report, to compare with what other programs say.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

pub(crate) fn number(value: &Value, field: &str) -> i64 {
    value[field].as_i64().unwrap_or_else(|| panic!("{field} is a number in {value}"))
}

pub(crate) fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// By name: (in the innermost frame, anywhere in the stack). Names without a share are left out.
pub(crate) type Shares = BTreeMap<String, (i64, i64)>;

/// Adds a stack, innermost first.
pub(crate) fn add(shares: &mut Shares, stack: impl IntoIterator<Item = String>, value: i64) {
    let mut seen = HashSet::new();
    for (depth, name) in stack.into_iter().enumerate() {
        let is_first = seen.insert(name.clone());
        let share = shares.entry(name).or_default();
        share.0 += if depth == 0 { value } else { 0 };
        share.1 += if is_first { value } else { 0 };
    }
}

/// From the JSON report; `stack` gives a site's names, innermost first.
pub(crate) fn expected(report: &Value, field: &str, stack: impl Fn(&Value) -> Vec<String>) -> Shares {
    let mut shares = Shares::new();
    for site in items(&report["sites"]) {
        add(&mut shares, stack(site), number(site, field));
    }
    shares.retain(|_, it| it.1 != 0);
    shares
}

/// The levels of a flame graph, without the process.
pub(crate) fn levels(site: &Value) -> Vec<String> {
    let mapping = (site["kind"] == "mmap").then(|| format!("[{}]", text(&site["via"])));
    let frames = items(&site["frames"]).iter().map(|it| match it["function"].as_str() {
        Some(function) => function.to_owned(),
        None => format!("{}+{:#x}", module(it), it["offset"].as_u64().expect("an offset")),
    });
    let end = (site["stack_complete"] == false).then(|| "[stack ends early]".to_owned());
    mapping.into_iter().chain(frames).chain(end).collect()
}

pub(crate) fn module(frame: &Value) -> &str {
    frame["module"].as_str().map_or("[anonymous]", |it| it.rsplit('/').next().unwrap_or(it))
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is a text"))
}

pub(crate) fn process_name(report: &Value, site: &Value) -> String {
    let processes = items(&report["processes"]);
    let process = processes.iter().find(|it| it["id"] == site["process"]).expect("its process");
    match processes.len() {
        1 => text(&process["name"]).to_owned(),
        _ => format!("{} ({})", text(&process["name"]), number(process, "pid")),
    }
}

pub(crate) fn assert_same(what: &str, found: &Shares, expected: &Shares) {
    let names: HashSet<&String> = found.keys().chain(expected.keys()).collect();
    let differences: Vec<String> = names
        .into_iter()
        .filter(|it| found.get(*it) != expected.get(*it))
        .map(|it| format!("{it}: {:?}, in JSON {:?}", found.get(it), expected.get(it)))
        .collect();
    assert!(differences.is_empty(), "{what}: {} differences\n{}", differences.len(), differences.join("\n"));
    assert!(expected.len() > 20, "{what}: the recording has functions");
}
