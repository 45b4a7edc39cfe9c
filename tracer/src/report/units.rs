//! Numbers as people read them.

/// `1.5 MiB`; exact below 1 KiB.
pub fn bytes(bytes: i64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes.unsigned_abs() < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value.abs() >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `+1.5 MiB`; a zero has no sign.
pub fn change(change_bytes: i64) -> String {
    let sign = if change_bytes > 0 { "+" } else { "" };
    format!("{sign}{}", bytes(change_bytes))
}

/// `1,234,567`
pub fn count(count: i64) -> String {
    let digits = count.unsigned_abs().to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if count < 0 { format!("-{text}") } else { text }
}

/// `+3.0 KiB/s`; a zero has no sign.
pub fn rate(bytes_per_s: f64) -> String {
    format!("{}/s", change(bytes_per_s.round() as i64))
}

/// `3.2 s`, `4 min 5 s`, `2 h 3 min`
pub fn seconds(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (value, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536 << 10, "1.5 MiB"),
            (-2048, "-2.0 KiB"),
            (1 << 20, "1.0 MiB"),
            ((1 << 20) - 1, "1.0 MiB"),
        ] {
            assert_eq!(bytes(value), text);
        }
    }

    #[test]
    fn counts() {
        for (value, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (-1234567, "-1,234,567")] {
            assert_eq!(count(value), text);
        }
    }

    #[test]
    fn rates_and_times() {
        assert_eq!([rate(2048.2), rate(0.2), rate(-10.0)], ["+2.0 KiB/s", "0 B/s", "-10 B/s"]);
        assert_eq!(
            [seconds(3.24), seconds(59.96), seconds(245.0), seconds(7380.0)],
            ["3.2 s", "1 min 0 s", "4 min 5 s", "2 h 3 min"]
        );
    }
}
