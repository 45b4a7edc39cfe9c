//! Incident: a parser gathers input until the end of the line, on a connection whose line never ends.

mod traffic;

#[derive(Default)]
struct Parser {
    buffer: Vec<u8>,
    /// The fix: a longer line is no line.
    max_line: Option<usize>,
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
        if self.max_line.is_some_and(|max_line| self.buffer.len() > max_line) {
            self.buffer = Vec::new();
        }
        lines
    }
}

fn main() {
    let parser = || Parser { max_line: traffic::is_fixed().then_some(64 << 10), ..Parser::default() };
    let (mut healthy, mut endless) = (parser(), parser());
    traffic::run("parser::Parser::feed", |round| {
        std::hint::black_box(healthy.feed(format!("GET /{round}\r\n").as_bytes()));
        std::hint::black_box(endless.feed(&[b'x'; 3000]));
    });
}
