//! Incident: a parser gathers input until the end of the line, on a connection whose line never ends.

mod traffic;

#[derive(Default)]
struct Parser {
    buffer: Vec<u8>,
}

impl Parser {
    /// Takes in `input` and hands back the complete lines.
    #[inline(never)]
    fn feed(&mut self, input: &[u8]) -> Vec<Vec<u8>> {
        self.buffer.extend_from_slice(input);
        let mut lines = Vec::new();
        while let Some(end) = self.buffer.iter().rev().take(input.len()).position(|it| *it == b'\n') {
            let rest = self.buffer.split_off(self.buffer.len() - end);
            lines.push(std::mem::replace(&mut self.buffer, rest));
        }
        lines
    }
}

fn main() {
    let mut healthy = Parser::default();
    let mut endless = Parser::default();
    traffic::run("parser::Parser::feed", |round| {
        std::hint::black_box(healthy.feed(format!("GET /{round}\r\n").as_bytes()));
        std::hint::black_box(endless.feed(&[b'x'; 3000]));
    });
}
