//! Chooses ends and begins, by following all ways of a call with what is known of its result.

use std::collections::VecDeque;

use super::{
    Refusal,
    callees::Callee,
    flow::{Flow, Result_, Then, ZeroFlag},
};

/// What is known of rax.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Anything,
    Zero,
    NotZero,
}

/// A place on a way: before an instruction, with what is known there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) op: usize,
    result: Known,
    /// The zero flag says whether rax is zero.
    flag: bool,
    /// A begin was passed.
    begun: bool,
}

/// Nodes of one instruction.
const STATES: usize = 3 * 2 * 2;

impl Node {
    pub(super) const ENTRY: Self = Self { op: 0, result: Known::Anything, flag: false, begun: false };

    pub(super) fn count(flow: &Flow) -> usize {
        flow.ops.len() * STATES
    }

    pub(super) fn index(self) -> usize {
        let result = self.result as usize;
        self.op * STATES + result * 4 + usize::from(self.flag) * 2 + usize::from(self.begun)
    }

    pub(super) fn all_at(op: usize) -> impl Iterator<Item = Self> {
        let results = [Known::Anything, Known::Zero, Known::NotZero];
        results.into_iter().flat_map(move |result| {
            [(false, false), (false, true), (true, false), (true, true)]
                .into_iter()
                .map(move |(flag, begun)| Self { op, result, flag, begun })
        })
    }

    /// The ways from here on which rax is zero.
    fn if_zero(self) -> Self {
        Self { result: Known::Zero, ..self }
    }

    /// A probe here would see a block, or the end of a call in progress.
    fn counts(self) -> bool {
        self.begun || self.result != Known::Zero
    }
}

/// What may come next. `begins` says of each instruction whether it is one; it may be empty.
pub(super) fn successors(flow: &Flow, node: Node, begins: &[bool]) -> impl Iterator<Item = Node> + use<> {
    let op = &flow.ops[node.op];
    let mut after = Node { begun: node.begun || begins.get(node.op) == Some(&true), ..node };
    match (op.then, op.result) {
        (Then::Call(_), _) | (_, Result_::Other) => (after.result, after.flag) = (Known::Anything, false),
        (_, Result_::Zero) => (after.result, after.flag) = (Known::Zero, false),
        (_, Result_::Stays) => {}
    }
    match op.zero_flag {
        ZeroFlag::Stays => {}
        ZeroFlag::OfResult => after.flag = true,
        ZeroFlag::Other => after.flag = false,
    }
    let go = |to: Option<usize>, node: Option<Node>| to.zip(node).map(|(op, it)| Node { op, ..it });
    let with = |is_zero: bool| match (after.result, is_zero) {
        (Known::NotZero, true) | (Known::Zero, false) => None,
        (_, true) => Some(Node { result: Known::Zero, ..after }),
        (_, false) => Some(Node { result: Known::NotZero, ..after }),
    };
    let ways = match op.then {
        Then::Next | Then::Call(_) => [go(op.next, Some(after)), None],
        Then::Jump => [go(op.jump, Some(after)), None],
        Then::Branch(Some(zero)) if after.flag => [go(op.jump, with(zero)), go(op.next, with(!zero))],
        Then::Branch(_) => [go(op.jump, Some(after)), go(op.next, Some(after))],
        Then::Return | Then::Nothing | Then::Elsewhere => [None, None],
    };
    ways.into_iter().flatten()
}

/// Begins, and ends with whether they must know the size.
pub(super) type Choice = (Vec<usize>, Vec<(usize, bool)>);

/// `can_begin`: a probe there would be cheap and know the size. `can_end`: it would be cheap.
pub(super) fn choose(
    flow: &Flow,
    can_begin: &dyn Fn(usize) -> bool,
    can_end: &dyn Fn(usize) -> bool,
) -> Result<Choice, Refusal> {
    let all = || 0..flow.ops.len();
    let knows_size: Vec<bool> = all().map(can_begin).collect();
    let begins = choose_begins(flow, &knows_size)?;
    let reached = reach(flow, &begins, [Node::ENTRY], |_| true);
    let spoilt = spoilt(flow);
    let is_final = |node: Node| {
        let seen = Node { begun: false, ..node };
        let is_kept = |it: Node| !spoilt[it.index()];
        match (node.begun, node.result) {
            (true, Known::Anything) => is_kept(seen) && is_kept(seen.if_zero()),
            (true, _) | (false, Known::Anything | Known::NotZero) => is_kept(seen),
            (false, Known::Zero) => true,
        }
    };
    let here = |op: usize| Node::all_at(op).filter(|it| reached[it.index()]);
    let needs_size = |op: usize| here(op).any(|it| !it.begun && it.counts());
    let mut candidates: Vec<bool> = all()
        .map(|op| {
            can_end(op)
                && here(op).all(is_final)
                && (!needs_size(op) || knows_size[op])
                && here(op).any(Node::counts)
        })
        .collect();
    loop {
        let ends = first_ends(flow, &begins, &candidates)?;
        let Some(early) = early_end(flow, &begins, &reached, &ends) else {
            if !ends.iter().any(|it| needs_size(*it)) {
                return Err(Refusal::NoGain);
            }
            let begins = all().filter(|it| begins[*it]).collect();
            return Ok((begins, ends.into_iter().map(|it| (it, needs_size(it))).collect()));
        };
        candidates[early] = false;
    }
}

fn is_loud(flow: &Flow, op: usize) -> bool {
    flow.ops[op].then == Then::Call(Callee::Loud)
}

/// All nodes that can be reached from behind `from`, and `from` itself, through nodes that `goes_on` holds for.
fn reach(
    flow: &Flow,
    begins: &[bool],
    from: impl IntoIterator<Item = Node>,
    goes_on: impl Fn(Node) -> bool,
) -> Vec<bool> {
    let mut reached = vec![false; Node::count(flow)];
    let mut todo: Vec<Node> = from.into_iter().collect();
    while let Some(node) = todo.pop() {
        if std::mem::replace(&mut reached[node.index()], true) || !goes_on(node) {
            continue;
        }
        todo.extend(successors(flow, node, begins));
    }
    reached
}

/// The last instructions before calls that may do anything at which a probe would know the size; without those that others
/// make needless.
fn choose_begins(flow: &Flow, knows_size: &[bool]) -> Result<Vec<bool>, Refusal> {
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); flow.ops.len()];
    for (from, op) in flow.ops.iter().enumerate() {
        op.next.into_iter().chain(op.jump).for_each(|to| before[to].push(from));
    }
    let distances = distances(flow);
    let mut begins = vec![false; flow.ops.len()];
    let mut seen = vec![false; flow.ops.len()];
    let mut todo: Vec<usize> = (0..flow.ops.len()).filter(|it| is_loud(flow, *it)).collect();
    while let Some(op) = todo.pop() {
        if op == 0 {
            return Err(Refusal::CallBeforeBegin);
        }
        for from in before[op].iter().copied() {
            if knows_size[from] {
                begins[from] = true;
            } else if !is_loud(flow, from) && !std::mem::replace(&mut seen[from], true) {
                todo.push(from);
            }
        }
    }
    let is_enough = |begins: &[bool]| {
        let reached = reach(flow, begins, [Node::ENTRY], |_| true);
        let loud = (0..flow.ops.len()).filter(|it| is_loud(flow, *it));
        loud.flat_map(Node::all_at).all(|it| it.begun || !reached[it.index()])
    };
    if !is_enough(&begins) {
        return Err(Refusal::CallBeforeBegin);
    }
    // The last first: what leads to it may be one for several.
    let mut order: Vec<usize> = (0..flow.ops.len()).filter(|it| begins[*it]).collect();
    order.sort_by_key(|it| std::cmp::Reverse(distances[*it]));
    for op in order {
        begins[op] = false;
        begins[op] = !is_enough(&begins);
    }
    Ok(begins)
}

/// From the entry, in instructions.
fn distances(flow: &Flow) -> Vec<usize> {
    let mut distances = vec![usize::MAX; flow.ops.len()];
    let mut todo = VecDeque::from([(0, 0)]);
    while let Some((op, distance)) = todo.pop_front() {
        if distances[op] != usize::MAX {
            continue;
        }
        distances[op] = distance;
        let op = &flow.ops[op];
        todo.extend(op.next.into_iter().chain(op.jump).map(|it| (it, distance + 1)));
    }
    distances
}

/// Of each node without a begin: whether from there on rax may become something else than it is, or than zero if it is
/// zero, or the function may end elsewhere.
fn spoilt(flow: &Flow) -> Vec<bool> {
    let comes_back =
        backward(flow, |node| matches!(flow.ops[node.op].then, Then::Return | Then::Elsewhere), |_, _| true);
    let spoils = |node: Node| {
        if !comes_back[node.index()] {
            return false;
        }
        let op = &flow.ops[node.op];
        let changes = match op.result {
            Result_::Stays => false,
            Result_::Zero => node.result != Known::Zero,
            Result_::Other => true,
        };
        changes || matches!(op.then, Then::Call(_) | Then::Elsewhere)
    };
    // That rax may be zero is another node's business.
    let is_same = |from: Node, to: Node| from.result == Known::Zero || to.result != Known::Zero;
    backward(flow, spoils, is_same)
}

/// The nodes without a begin for which `holds`, and all from which a way of `counts` leads to one.
fn backward(flow: &Flow, holds: impl Fn(Node) -> bool, counts: impl Fn(Node, Node) -> bool) -> Vec<bool> {
    let nodes = || (0..flow.ops.len()).flat_map(Node::all_at).filter(|it| !it.begun);
    let mut before: Vec<Vec<Node>> = vec![Vec::new(); Node::count(flow)];
    for from in nodes() {
        for to in successors(flow, from, &[]).filter(|to| counts(from, *to)) {
            before[to.index()].push(from);
        }
    }
    let mut found = vec![false; Node::count(flow)];
    let mut todo: Vec<Node> = nodes().filter(|it| holds(*it)).collect();
    while let Some(node) = todo.pop() {
        if !std::mem::replace(&mut found[node.index()], true) {
            todo.extend(&before[node.index()]);
        }
    }
    found
}

/// The first end on each way, of those that may be one.
fn first_ends(flow: &Flow, begins: &[bool], candidates: &[bool]) -> Result<Vec<usize>, Refusal> {
    let mut ends = vec![false; flow.ops.len()];
    let mut seen = vec![false; Node::count(flow)];
    let mut todo = vec![Node::ENTRY];
    while let Some(node) = todo.pop() {
        if std::mem::replace(&mut seen[node.index()], true) {
            continue;
        }
        if candidates[node.op] && node.counts() {
            ends[node.op] = true;
            if !node.begun && node.result == Known::Anything {
                todo.push(node.if_zero());
            }
            continue;
        }
        match flow.ops[node.op].then {
            Then::Return if node.counts() => return Err(Refusal::NoEnd),
            Then::Elsewhere => return Err(Refusal::EndsElsewhere),
            _ => {}
        }
        todo.extend(successors(flow, node, begins));
    }
    Ok((0..flow.ops.len()).filter(|it| ends[*it]).collect())
}

/// An end from which a way leads to another, to itself, or to a begin.
fn early_end(flow: &Flow, begins: &[bool], reached: &[bool], ends: &[usize]) -> Option<usize> {
    let is_early = |end: usize| {
        let counted = Node::all_at(end).filter(|it| reached[it.index()] && it.counts());
        counted.into_iter().any(|from| {
            let counts = |it: &Node| from.begun || it.result != Known::Zero;
            let after: Vec<Node> = successors(flow, from, begins).filter(counts).collect();
            let behind = reach(flow, begins, after, |it| counts(&it));
            begins[end]
                || ends.iter().flat_map(|it| Node::all_at(*it)).any(|it| behind[it.index()] && counts(&it))
                || (0..flow.ops.len())
                    .filter(|it| begins[*it])
                    .flat_map(Node::all_at)
                    .any(|it| behind[it.index()] && counts(&it))
        })
    };
    ends.iter().copied().find(|it| is_early(*it))
}
