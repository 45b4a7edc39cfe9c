//! Who is connected, and who has to leave when more come than there is room for.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use tokio::task::AbortHandle;

/// Each takes a descriptor and some 20 KB.
const MAX: usize = 256;

/// Those that are open, in the order in which they came.
#[derive(Default)]
pub(super) struct Connections {
    open: RefCell<BTreeMap<u64, Connection>>,
    next: Cell<u64>,
}

struct Connection {
    work: Work,
    task: AbortHandle,
}

/// Answers of one connection that are being made or sent: as many as it has copies.
#[derive(Clone, Default)]
pub(super) struct Work(Rc<()>);

impl Work {
    fn is_idle(&self, known_elsewhere: usize) -> bool {
        Rc::strong_count(&self.0) <= known_elsewhere
    }
}

impl Connections {
    /// Makes room for one more: who has no answer pending and came first has to leave. False if all are at work.
    pub(super) fn make_room(&self) -> bool {
        let mut open = self.open.borrow_mut();
        if open.len() < MAX {
            return true;
        }
        // One is ours, and one the connection's own.
        let idle = open.iter().find(|it| it.1.work.is_idle(2)).map(|it| *it.0);
        let Some(idle) = idle.and_then(|it| open.remove(&it)) else { return false };
        idle.task.abort();
        true
    }

    /// Its number.
    pub(super) fn add(&self, work: Work, task: AbortHandle) -> u64 {
        let id = self.next.get();
        self.next.set(id + 1);
        self.open.borrow_mut().insert(id, Connection { work, task });
        id
    }

    pub(super) fn remove(&self, id: u64) {
        self.open.borrow_mut().remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_idles_has_to_leave_and_the_first_first() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let connections = Connections::default();
            // (its own, the answer that it is working on)
            let mut theirs = Vec::new();
            let mut tasks = Vec::new();
            for at in 0..MAX {
                assert!(connections.make_room());
                let own = Work::default();
                let task = tokio::task::spawn_local(std::future::pending::<()>());
                connections.add(own.clone(), task.abort_handle());
                let answer = (at != 7 && at != 9).then(|| own.clone());
                theirs.push((own, answer));
                tasks.push(task);
            }
            assert!(connections.make_room(), "the eighth leaves");
            assert!(connections.make_room(), "there is room now");
            connections.add(Work::default(), tasks[7].abort_handle());
            assert!(connections.make_room(), "the tenth leaves");
            connections.add(theirs[0].0.clone(), tasks[9].abort_handle());
            tokio::task::yield_now().await;
            for (at, task) in tasks.iter().enumerate() {
                assert_eq!(task.is_finished(), at == 7 || at == 9, "{at}");
            }
        });
    }

    #[test]
    fn who_works_may_stay() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let connections = Connections::default();
            let own: Vec<Work> = (0..MAX).map(|_| Work::default()).collect();
            let answers = own.clone();
            let ids: Vec<u64> = own
                .iter()
                .map(|it| {
                    let task = tokio::task::spawn_local(std::future::pending::<()>());
                    connections.add(it.clone(), task.abort_handle())
                })
                .collect();
            assert!(!connections.make_room());
            drop(answers);
            connections.remove(ids[3]);
            assert!(connections.make_room());
        });
    }
}
