//! Incident: a program puts itself to sleep when there is nothing to update. The effects that its updates
//! would have carried out are queued by a timer all the same.

mod traffic;

use std::collections::VecDeque;

struct Effect {
    payload: Vec<u8>,
}

#[derive(Default)]
struct Scheduler {
    effects: VecDeque<Effect>,
    asleep: bool,
    /// The fix: nobody waits for the effects of a program that sleeps.
    drops_when_asleep: bool,
}

impl Scheduler {
    #[inline(never)]
    fn queue_effect(&mut self, round: u64) {
        self.effects.push_back(Effect { payload: vec![round as u8; 900] });
    }

    #[inline(never)]
    fn update(&mut self) -> usize {
        if self.asleep {
            if self.drops_when_asleep {
                self.effects.clear();
            }
            return 0;
        }
        self.effects.drain(..).map(|it| it.payload.len()).sum()
    }
}

fn main() {
    let mut scheduler = Scheduler { drops_when_asleep: traffic::is_fixed(), ..Scheduler::default() };
    traffic::run("effects::Scheduler::queue_effect", |round| {
        scheduler.queue_effect(round);
        std::hint::black_box(scheduler.update());
        scheduler.asleep = round > 100;
    });
}
