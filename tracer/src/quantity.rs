//! Durations, sizes and shares as people write them.

use std::time::Duration;

/// `90`, `90s`, `5m`, `1h30m`; a bare number is seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let parsed = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|it| it.to_string()),
        Err(_) => humantime::parse_duration(text).map_err(|it| it.to_string()),
    }
    .map_err(|why| format!("{why}; write for example 500ms, 60s, 5m or 1h30m"))?;
    if parsed.is_zero() { Err("must be more than nothing".to_owned()) } else { Ok(parsed) }
}

/// `4096`, `64KiB`, `1MB`.
pub fn size(text: &str) -> Result<u64, String> {
    let why = |it| format!("{it}; write for example 4096, 64KiB or 1MB");
    text.parse::<bytesize::ByteSize>().map(|it| it.as_u64()).map_err(why)
}

/// `5%`, `0.5%`; a bare number is a percentage too.
pub fn share(text: &str) -> Result<f64, String> {
    let percent: f64 = text
        .strip_suffix('%')
        .unwrap_or(text)
        .trim()
        .parse()
        .map_err(|_| "is not a share; write for example 5% or 0.5%".to_owned())?;
    if (0.1..=1000.0).contains(&percent) {
        Ok(percent / 100.0)
    } else {
        Err("must be between 0.1% and 1000%".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        for wrong in ["", "0", "-1", "5 parsecs", "1e99", "nan"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn shares() {
        assert_eq!(share("5%"), Ok(0.05));
        assert_eq!(share("0.5"), Ok(0.005));
        assert_eq!(share("200 %"), Ok(2.0));
        for wrong in ["", "%", "0", "-5%", "5%%", "five", "nan", "inf", "1e9"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("64KiB"), Ok(65536));
        assert_eq!(size("1MB"), Ok(1_000_000));
        assert!(size("many").is_err());
    }
}
