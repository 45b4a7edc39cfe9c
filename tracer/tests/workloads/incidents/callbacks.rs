//! Incident: a program registers its callback again on every event instead of once.

mod traffic;

struct Bus {
    listeners: Vec<Box<dyn Fn(u64) -> u64>>,
}

impl Bus {
    #[inline(never)]
    fn register_callback(&mut self, context: [u64; 90]) {
        self.listeners.push(Box::new(move |event| event ^ context[event as usize % context.len()]));
    }

    /// The fix: whoever registers again has been heard before.
    fn unregister_old(&mut self) {
        self.listeners.drain(..self.listeners.len().saturating_sub(4));
    }

    fn publish(&self, event: u64) -> u64 {
        // The last few hear of it; the others are as good as dead.
        self.listeners.iter().rev().take(4).map(|listener| listener(event)).fold(0, u64::wrapping_add)
    }
}

fn main() {
    let is_fixed = traffic::is_fixed();
    let mut bus = Bus { listeners: Vec::new() };
    traffic::run("callbacks::Bus::register_callback", |event| {
        bus.register_callback([event; 90]);
        if is_fixed {
            bus.unregister_old();
        }
        std::hint::black_box(bus.publish(event));
    });
}
