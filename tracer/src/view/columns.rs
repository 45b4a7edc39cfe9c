//! The columns of the list: which of them fit, and what stands in each.

use super::{picture::Line, state::Tab};
use crate::{
    cost::Cost,
    profile::Verdict,
    report::units::{bytes, count, rate},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    /// What the site looks like, as one character.
    Verdict,
    Live,
    /// Of a function, without those that it calls.
    Own,
    Growth,
    Blocks,
    Oldest,
    Share,
    Trend,
    Pid,
    /// Of a process.
    Rss,
}

/// Characters of a [`Column::Trend`].
pub(super) const TREND_CHARS: usize = 10;

/// Names get at least this many characters before a further column does.
const NAME_CHARS: usize = 30;

impl Column {
    /// What fits into `width` characters, for names to stand behind it.
    pub(super) fn that_fit(width: usize, tab: Tab, several: bool) -> Vec<Self> {
        let mut fit = vec![Self::Verdict, Self::Live, Self::Growth, Self::Blocks, Self::Oldest, Self::Share];
        let mut order = match tab {
            Tab::Sites => vec![Self::Growth, Self::Blocks, Self::Oldest, Self::Share, Self::Trend],
            Tab::Processes => {
                fit.insert(2, Self::Rss);
                vec![Self::Growth, Self::Pid, Self::Rss, Self::Blocks, Self::Share, Self::Oldest, Self::Trend]
            }
            Tab::Functions => {
                fit.insert(2, Self::Own);
                vec![Self::Growth, Self::Own, Self::Blocks, Self::Share, Self::Oldest, Self::Trend]
            }
        };
        fit.push(Self::Trend);
        match tab {
            Tab::Sites if several => {
                fit.push(Self::Pid);
                order.insert(1, Self::Pid);
            }
            Tab::Processes => fit.push(Self::Pid),
            _ => {}
        }
        // The one that matters least goes first.
        while let Some(last) = order.last()
            && fit.iter().map(|it| it.chars() + 1).sum::<usize>() + NAME_CHARS > width
        {
            fit.retain(|it| it != last);
            order.pop();
        }
        if order.is_empty() && width < 20 {
            fit.retain(|it| *it == Self::Live);
        }
        fit
    }

    pub(super) fn chars(self) -> usize {
        match self {
            Self::Verdict => 1,
            Self::Live | Self::Own | Self::Rss | Self::Blocks | Self::Trend => 10,
            Self::Growth => 13,
            Self::Oldest | Self::Pid => 7,
            Self::Share => 6,
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Verdict => "",
            Self::Live => "LIVE",
            Self::Own => "OWN",
            Self::Growth => "GROWTH",
            Self::Blocks => "BLOCKS",
            Self::Oldest => "OLDEST",
            Self::Share => "SHARE",
            Self::Trend => "TREND",
            Self::Pid => "PID",
            Self::Rss => "RSS",
        }
    }

    /// Numbers end where their column ends.
    pub(super) fn align(self, text: &str) -> String {
        let chars = self.chars();
        if self == Self::Trend { format!("{text:<chars$}") } else { format!("{text:>chars$}") }
    }

    /// `trend` and `pid` are for those columns; `all` is the whole of which a share is.
    pub(super) fn text(self, line: &Line, all: Cost, trend: &str, pid: u32) -> String {
        let text = match self {
            Self::Verdict => sign(line.verdict).to_owned(),
            Self::Live => bytes(line.live.bytes),
            Self::Own => line.own.map_or_else(String::new, |it| bytes(it.bytes)),
            Self::Growth => rate(line.growth_bytes_per_s),
            Self::Blocks => count(line.live.blocks),
            Self::Oldest => line.oldest_s.map_or_else(String::new, age),
            Self::Share => format!("{:.1}%", line.live.bytes as f64 * 100.0 / all.bytes.max(1) as f64),
            Self::Trend => trend.to_owned(),
            Self::Pid => pid.to_string(),
            Self::Rss => line.rss_bytes.map_or_else(String::new, |it| bytes(it as i64)),
        };
        self.align(&text)
    }
}

/// A verdict in one character.
pub(super) fn sign(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Growing { .. } => "▲",
        Verdict::Steady => "=",
        Verdict::Turnover | Verdict::Replacing => "~",
        Verdict::Freed => "-",
        Verdict::TooShort => "?",
    }
}

/// `3.2s`, `59s`, `4m05s`, `2h03m`, `3d04h`
pub(super) fn age(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0..10 => format!("{seconds:.1}s"),
        10..60 => format!("{whole}s"),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        3600..86400 => format!("{}h{:02}m", whole / 3600, whole / 60 % 60),
        _ => format!("{}d{:02}h", whole / 86400, whole / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        for (seconds, text) in [
            (0.04, "0.0s"),
            (9.96, "10.0s"),
            (59.9, "59s"),
            (245.0, "4m05s"),
            (7380.0, "2h03m"),
            (273_600.0, "3d04h"),
        ] {
            assert_eq!(age(seconds), text);
        }
    }

    #[test]
    fn names_have_room() {
        for several in [false, true] {
            for tab in [Tab::Sites, Tab::Functions, Tab::Processes] {
                for width in 46..300 {
                    let used: usize =
                        Column::that_fit(width, tab, several).iter().map(|it| it.chars() + 1).sum();
                    assert!(used + NAME_CHARS <= width, "{width} {tab:?} {used}");
                }
                assert_eq!(Column::that_fit(45, tab, several).len(), 2);
                assert_eq!(Column::that_fit(19, tab, several), [Column::Live]);
            }
        }
        let all = Column::that_fit(300, Tab::Functions, true);
        assert_eq!((all.len(), Column::that_fit(300, Tab::Sites, true).len()), (8, 8));
    }
}
