//! What can be allowed: bytes, and bytes per time.

use std::{fmt, str::FromStr};

use crate::report::units;

/// One budget. Direct mappings and what is suppressed do not count, except for RSS.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// Growth of the live heap bytes of all processes.
    Growth(Rate),
    /// Growth of one call stack that grows to the end.
    GrowthPerSite(Rate),
    /// Live heap bytes of a process.
    Live(u64),
    /// Live heap bytes of one call stack.
    LivePerSite(u64),
    /// What a process never freed.
    Leaked(u64),
    /// Resident bytes of a process.
    Rss(u64),
}

impl Budget {
    pub fn flag(&self) -> &'static str {
        match self {
            Self::Growth(_) => "--max-growth",
            Self::GrowthPerSite(_) => "--max-growth-per-site",
            Self::Live(_) => "--max-live",
            Self::LivePerSite(_) => "--max-live-per-site",
            Self::Leaked(_) => "--max-leaked",
            Self::Rss(_) => "--max-rss",
        }
    }

    /// Bytes, or bytes per second.
    pub fn allowed(&self) -> f64 {
        match self {
            Self::Growth(rate) | Self::GrowthPerSite(rate) => rate.bytes_per_s(),
            Self::Live(bytes) | Self::LivePerSite(bytes) | Self::Leaked(bytes) | Self::Rss(bytes) => {
                *bytes as f64
            }
        }
    }

    /// An amount in the unit of this budget, for people.
    pub fn show(&self, amount: f64) -> String {
        match self {
            Self::Growth(rate) | Self::GrowthPerSite(rate) => rate.per.show(amount),
            _ => units::bytes(amount.round() as i64),
        }
    }

    /// To the byte.
    pub fn show_exactly(&self, amount: f64) -> String {
        match self {
            Self::Growth(rate) | Self::GrowthPerSite(rate) => {
                format!("{:.3} B/{}", amount * rate.per.seconds(), rate.per.name())
            }
            _ => format!("{} B", units::count(amount.round() as i64)),
        }
    }

    pub fn is_rate(&self) -> bool {
        matches!(self, Self::Growth(_) | Self::GrowthPerSite(_))
    }

    /// What its suspects did.
    pub fn deed(&self) -> &'static str {
        match self {
            Self::Growth(_) | Self::GrowthPerSite(_) => "what grew",
            Self::Live(_) | Self::LivePerSite(_) => "what was held",
            Self::Leaked(_) => "what was never freed",
            Self::Rss(_) => "what the heap held then",
        }
    }
}

/// `1MiB/min`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub bytes: u64,
    pub per: Per,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Per {
    Second,
    Minute,
    Hour,
    Day,
}

impl Per {
    const ALL: [(Self, &'static str, &'static [&'static str]); 4] = [
        (Self::Second, "s", &["s", "sec", "second"]),
        (Self::Minute, "min", &["m", "min", "minute"]),
        (Self::Hour, "h", &["h", "hour"]),
        (Self::Day, "d", &["d", "day"]),
    ];

    fn seconds(self) -> f64 {
        match self {
            Self::Second => 1.0,
            Self::Minute => 60.0,
            Self::Hour => 3600.0,
            Self::Day => 86400.0,
        }
    }

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|it| it.0 == self).map_or("", |it| it.1)
    }

    /// A rate in this unit, for people.
    pub fn show(self, bytes_per_s: f64) -> String {
        let bytes = units::bytes((bytes_per_s * self.seconds()).round() as i64);
        format!("{bytes}/{}", self.name())
    }
}

impl Rate {
    pub fn bytes_per_s(self) -> f64 {
        self.bytes as f64 / self.per.seconds()
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.per.show(self.bytes_per_s()))
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hint = "write for example 1MiB/min, 512KiB/h or 100B/s";
        let (size, unit) =
            text.split_once('/').ok_or_else(|| format!("a rate is a size per time; {hint}"))?;
        let bytes =
            size.trim().parse::<bytesize::ByteSize>().map_err(|why| format!("{why}; {hint}"))?.as_u64();
        let unit = unit.trim().to_lowercase();
        let per = Per::ALL.iter().find(|(_, _, names)| names.contains(&unit.as_str()));
        let (per, _, _) = per.ok_or_else(|| format!("{unit:?} is no time; {hint}"))?;
        Ok(Self { bytes, per: *per })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(f64, &str)>) {
        let rate = text.parse::<Rate>().ok();
        let found = rate.map(|it| (it.bytes_per_s(), it.to_string()));
        assert_eq!(found, expected.map(|(per_s, shown)| (per_s, shown.to_owned())), "{text}");
    }

    #[test]
    fn rates() {
        check("1MiB/min", Some((1048576.0 / 60.0, "1.0 MiB/min")));
        check("512KiB/h", Some((524288.0 / 3600.0, "512.0 KiB/h")));
        check("100B/s", Some((100.0, "100 B/s")));
        check("36 kB / hour", Some((10.0, "35.2 KiB/h")));
        check("0/s", Some((0.0, "0 B/s")));
        check("2GiB/day", Some((2147483648.0 / 86400.0, "2.0 GiB/d")));
        for wrong in ["", "1MiB", "/s", "1MiB/", "1MiB/fortnight", "many/s", "-1/s", "1/s/s"] {
            check(wrong, None);
        }
    }

    #[test]
    fn what_is_measured_is_shown_in_the_unit_of_the_budget() {
        let rate = Budget::Growth(Rate { bytes: 1 << 20, per: Per::Minute });
        assert_eq!(rate.show(1024.0), "60.0 KiB/min");
        assert_eq!(Budget::Live(0).show(1536.0), "1.5 KiB");
    }
}
