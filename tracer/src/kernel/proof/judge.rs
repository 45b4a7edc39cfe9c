//! Whether what probes inside of a function saw agrees with its entry and return. PURE.

use std::collections::HashMap;

use tracer_ebpf::proof::{BEGIN, END, ENTER, LEAVE, Step};

/// What is going on in one frame.
#[derive(Default)]
struct Call {
    enter: Option<Step>,
    is_begun: bool,
    ends: Vec<Step>,
}

/// Of one function.
#[derive(Clone, Copy, Default)]
struct Account {
    /// Calls that were seen whole by one end, and that ended behind a begin.
    whole: u64,
    begun: u64,
    is_refuted: bool,
}

/// Fewer calls say nothing.
const ENOUGH_CALLS: u64 = 100;

pub(super) struct Judge {
    /// By function, thread and frame.
    calls_in_progress: HashMap<(u32, u32, u64), Call>,
    accounts: Vec<Account>,
    pub(super) calls: u64,
}

impl Judge {
    pub(super) fn new(functions: usize) -> Self {
        Self { calls_in_progress: HashMap::new(), accounts: vec![Account::default(); functions], calls: 0 }
    }

    pub(super) fn see(&mut self, step: Step) {
        let Some(account) = self.accounts.get_mut(step.via as usize) else { return };
        let key = (step.via, step.tid, step.sp);
        match step.what {
            ENTER => {
                let call = Call { enter: Some(step), ..Call::default() };
                // The frame of the one before must have been left.
                account.is_refuted |= self.calls_in_progress.insert(key, call).is_some();
            }
            BEGIN => {
                let call = self.calls_in_progress.entry(key).or_default();
                account.is_refuted |= !agrees(call.enter, step) || !call.ends.is_empty();
                call.is_begun = true;
            }
            END => {
                let call = self.calls_in_progress.entry(key).or_default();
                account.is_refuted |= !agrees(call.enter, step);
                call.ends.push(step);
            }
            LEAVE => {
                self.calls += 1;
                let call = self.calls_in_progress.remove(&key).unwrap_or_default();
                let is_right = call.is_seen(step.result);
                account.is_refuted |= !is_right;
                match call.is_begun {
                    true => account.begun += 1,
                    false if step.result != 0 => account.whole += 1,
                    false => {}
                }
            }
            _ => account.is_refuted = true,
        }
    }

    /// For each function whether its proof holds; `None` if too little was seen to say.
    pub(super) fn verdicts(&self) -> Vec<Option<bool>> {
        let verdict = |(number, it): (usize, &Account)| {
            let is_open = self.calls_in_progress.keys().any(|(via, ..)| *via as usize == number);
            match it.is_refuted || is_open {
                true => Some(false),
                false => (it.whole >= ENOUGH_CALLS).then_some(true),
            }
        };
        self.accounts.iter().enumerate().map(verdict).collect()
    }
}

impl Call {
    /// Whether a tracer would have reported what was returned, and nothing else.
    fn is_seen(&self, result: u64) -> bool {
        let Some(enter) = self.enter else { return false };
        if self.is_begun {
            return matches!(self.ends[..], [end] if end.result == result);
        }
        let counted: Vec<&Step> = self.ends.iter().filter(|it| it.result != 0).collect();
        match counted[..] {
            [] => result == 0,
            [end] => end.result == result && end.knows_size == 1 && end.size_bytes == enter.size_bytes,
            _ => false,
        }
    }
}

/// Whether a step inside of a call knows of it what its entry knew.
fn agrees(enter: Option<Step>, step: Step) -> bool {
    enter.is_some_and(|it| it.fp == step.fp && (step.knows_size == 0 || it.size_bytes == step.size_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(what: u32, size_bytes: u64, result: u64) -> Step {
        Step {
            what,
            tid: 1,
            knows_size: (size_bytes != 0).into(),
            sp: 0x7000,
            fp: 1,
            size_bytes,
            result,
            via: 0,
        }
    }

    /// Each of `calls` so often that it is enough.
    fn check(calls: &[Step], expected: Option<bool>) {
        let mut judge = Judge::new(1);
        for _ in 0..ENOUGH_CALLS {
            calls.iter().for_each(|it| judge.see(*it));
        }
        assert_eq!(judge.verdicts(), [expected], "{calls:?}");
    }

    #[test]
    fn what_was_returned_must_have_been_seen_once() {
        let (enter, leave) = (step(ENTER, 8, 0), step(LEAVE, 0, 0x100));
        check(&[enter, step(END, 8, 0x100), leave], Some(true));
        check(&[enter, leave], Some(false));
        check(&[enter, step(END, 8, 0x100), step(END, 8, 0x100), leave], Some(false));
        check(&[enter, step(END, 8, 0), step(END, 8, 0x100), leave], Some(true));
        check(&[enter, step(END, 9, 0x100), leave], Some(false));
        check(&[enter, step(END, 0, 0x100), leave], Some(false));
        check(&[enter, step(END, 8, 0x108), leave], Some(false));
        check(&[step(END, 8, 0x100), leave], Some(false));
        check(&[enter, step(END, 8, 0x100)], Some(false));
        let elsewhere = Step { fp: 2, ..step(END, 8, 0x100) };
        check(&[enter, elsewhere, leave], Some(false));
    }

    #[test]
    fn behind_a_begin_every_return_has_an_end() {
        let (enter, begin, end) = (step(ENTER, 8, 0), step(BEGIN, 8, 0), step(END, 0, 0x100));
        let (leave, fail) = (step(LEAVE, 0, 0x100), step(LEAVE, 0, 0));
        let whole = [enter, step(END, 8, 0x100), leave];
        let with = |calls: &[Step]| [&whole[..], calls].concat();
        check(&with(&[enter, begin, end, leave]), Some(true));
        check(&with(&[enter, begin, begin, end, leave]), Some(true));
        check(&with(&[enter, begin, step(END, 0, 0), fail]), Some(true));
        check(&with(&[enter, begin, fail]), Some(false));
        check(&with(&[enter, begin, step(END, 0, 0), end, leave]), Some(false));
        check(&with(&[enter, step(BEGIN, 9, 0), end, leave]), Some(false));
        check(&with(&[enter, end, begin, leave]), Some(false));
    }

    #[test]
    fn what_was_hardly_seen_is_not_known() {
        check(&[step(ENTER, 8, 0), step(LEAVE, 0, 0)], None);
        check(&[step(ENTER, 8, 0), step(BEGIN, 8, 0), step(END, 0, 0x100), step(LEAVE, 0, 0x100)], None);
    }
}
