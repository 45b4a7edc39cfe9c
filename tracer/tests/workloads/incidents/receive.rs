//! Incident: a receive buffer is cleared at the end of its function, and an early return on an error does not
//! get there. From the first damaged message on, each is appended to what came before.

mod traffic;

#[derive(Default)]
struct Connection {
    buffer: Vec<u8>,
    /// The fix.
    clears_on_error: bool,
}

impl Connection {
    #[inline(never)]
    fn receive(&mut self, message: &[u8]) -> Result<usize, String> {
        self.buffer.extend_from_slice(message);
        let sum = self.buffer.iter().rev().take(64).fold(0_u8, |sum, it| sum.wrapping_add(*it));
        if self.buffer.len() > 4096 || sum == 1 {
            if self.clears_on_error {
                self.buffer = Vec::new();
            }
            return Err(format!("message of {} bytes with checksum {sum}", message.len()));
        }
        let length = self.buffer.len();
        self.buffer.clear();
        Ok(length)
    }
}

fn main() {
    let connection = || Connection { clears_on_error: traffic::is_fixed(), ..Connection::default() };
    let (mut healthy, mut damaged) = (connection(), connection());
    traffic::run("receive::Connection::receive", |round| {
        let _ = std::hint::black_box(healthy.receive(&[round as u8 & 0xfe; 2048]));
        let mut message = [3; 2500];
        if round == 0 {
            message[2499] = 68;
        }
        let _ = std::hint::black_box(damaged.receive(&message));
    });
}
