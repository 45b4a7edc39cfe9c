//! Pairs of malloc and free under every tool in several cases, and the table of each case.

use serde_json::{Map, Value, json};

use super::{
    rounds::Rounds,
    stats::{self, Spread, Table},
    tool::Tool,
};

/// One tool in one case, once.
#[derive(Clone, Copy, Default)]
pub(super) struct Sample {
    /// CPU time of a pair, in the thread that did it.
    pub(super) cpu_ns: f64,
    /// CPU time of the tracer itself, per pair.
    pub(super) tracer_ns: Option<f64>,
    pub(super) pairs_per_s: Option<f64>,
    /// Of the tracer's own memory, and for each block that is live.
    pub(super) tracer_mib: Option<f64>,
    pub(super) bytes_per_block: Option<f64>,
}

/// By case; `None` where a tool cannot do it.
pub(super) type Samples = Vec<Option<Sample>>;

/// A column beyond those that all grids have: heading, name in JSON, digits.
pub(super) type Figure = (&'static str, &'static str, usize, fn(&Sample) -> Option<f64>);

pub(super) const TRACER_NS: Figure = ("tracer CPU ns", "tracer_cpu_ns", 0, |it| it.tracer_ns);

/// What is divided by: heading, name in JSON.
const BASES: [(Tool, &str, &str); 4] = [
    (Tool::Floor, "x our floor", "added_of_floor"),
    (Tool::NaiveFloor, "x naive floor", "added_of_naive_floor"),
    (Tool::Bpftrace, "x bpftrace", "added_of_bpftrace"),
    (Tool::Memleak, "x memleak", "added_of_memleak"),
];

/// CPU time over the untraced pair of the same round.
fn added(rounds: &Rounds<Samples>, tool: Tool, case: usize) -> Vec<Option<f64>> {
    let of = |tool| rounds.of(tool, |it: &Samples| Some(it.get(case)?.as_ref()?.cpu_ns));
    of(tool).into_iter().zip(of(Tool::Untraced)).map(|(with, base)| Some(with? - base?)).collect()
}

/// A table for each of `cases`; `unit` is what they count.
pub(super) fn print(rounds: &Rounds<Samples>, unit: &str, cases: &[u64], figures: &[Figure]) -> Value {
    let mut all = Map::new();
    for (case, &number) in cases.iter().enumerate() {
        let bases: Vec<_> = BASES.iter().filter(|(tool, ..)| rounds.last(*tool).is_some()).collect();
        let title = format!("{} {unit}", stats::grouped(number));
        let mut headings = vec![title.as_str(), "pair, CPU ns", "added ns"];
        headings.extend(bases.iter().map(|(_, heading, _)| *heading));
        headings.extend(figures.iter().map(|(heading, ..)| *heading));
        let mut table = Table::new(&headings);
        let mut rows = Map::new();
        for tool in rounds.tools() {
            let value = |of: &dyn Fn(&Sample) -> Option<f64>| {
                rounds.spread(tool, |it: &Samples| of(it.get(case)?.as_ref()?))
            };
            let Some(pair) = value(&|it| Some(it.cpu_ns)) else { continue };
            let its_added = added(rounds, tool, case);
            let is_traced = tool != Tool::Untraced;
            let mut cells =
                vec![tool.to_string(), stats::cell(Some(pair), if is_traced { 0 } else { 1 }, "")];
            let mut row = Map::new();
            row.insert("pair_cpu_ns".to_owned(), pair.json());
            let mean = Spread::of(its_added.iter().flatten().copied()).filter(|_| is_traced);
            cells.push(stats::cell(mean, 0, ""));
            row.insert("added_cpu_ns".to_owned(), stats::json_or_null(mean));
            for (base, _, name) in &bases {
                let ratio = is_traced.then(|| Spread::ratio(&its_added, &added(rounds, *base, case)));
                let ratio = ratio.flatten().filter(|_| *base != tool);
                cells.push(stats::cell(ratio, 2, ""));
                row.insert((*name).to_owned(), stats::json_or_null(ratio));
            }
            for (_, name, digits, of) in figures {
                let figure = value(of);
                cells.push(stats::cell(figure, *digits, ""));
                row.insert((*name).to_owned(), stats::json_or_null(figure));
            }
            table.row(cells);
            rows.insert(tool.key().to_owned(), Value::Object(row));
        }
        println!("{table}");
        all.insert(number.to_string(), Value::Object(rows));
    }
    rounds.print_skipped();
    json!(all)
}
