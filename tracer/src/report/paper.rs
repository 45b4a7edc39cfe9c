//! Where text for people is written: in colour if that is wanted, and without any control character but ours.

use std::{
    fmt,
    io::{self, Write},
};

use anstyle::{AnsiColor, Style};

/// What stands out. Sparingly: a report is read, not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Where a part begins, and what is largest in it.
    Head,
    /// What somebody has to do something about.
    Alarm,
    /// What somebody should know before believing the rest.
    Caution,
}

impl Look {
    fn style(self) -> Style {
        match self {
            Self::Head => Style::new().bold(),
            Self::Alarm => AnsiColor::Red.on_default().bold(),
            Self::Caution => AnsiColor::Yellow.on_default(),
        }
    }
}

/// Spells out what a terminal would act on, except ends of lines: names come from the target.
pub struct Paper<'a> {
    out: &'a mut dyn Write,
    color: bool,
}

impl<'a> Paper<'a> {
    pub fn new(out: &'a mut dyn Write, color: bool) -> Self {
        Self { out, color }
    }

    /// Writes `what` with a look.
    ///
    /// # Errors
    /// Those of the output, as everywhere here.
    pub fn put(&mut self, look: Look, what: impl fmt::Display) -> io::Result<()> {
        if !self.color {
            return write!(self, "{what}");
        }
        let style = look.style();
        write!(self.out, "{style}")?;
        write!(self, "{what}")?;
        write!(self.out, "{style:#}")
    }
}

impl Write for Paper<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    /// `write!` comes here with whole pieces of text.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        for line in String::from_utf8_lossy(bytes).split_inclusive('\n') {
            match line.strip_suffix('\n') {
                Some(line) => writeln!(self.out, "{}", super::escape::printable(line))?,
                None => write!(self.out, "{}", super::escape::printable(line))?,
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(color: bool) -> String {
        let mut bytes = Vec::new();
        let mut paper = Paper::new(&mut bytes, color);
        paper.put(Look::Alarm, format_args!("[{}]", "evil\x1b[0m")).unwrap();
        writeln!(paper, " plain\x07 ü\u{9b}m").unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn plain_has_no_control_characters() {
        assert_eq!(written(false), "[evil\\u{1b}[0m] plain\\u{7} ü\\u{9b}m\n");
    }

    #[test]
    fn only_our_own_escapes_get_through() {
        let expected = "\x1b[1m\x1b[31m[evil\\u{1b}[0m]\x1b[0m plain\\u{7} ü\\u{9b}m\n";
        assert_eq!(written(true), expected);
    }
}
