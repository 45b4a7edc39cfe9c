//! A straight line through what was measured, and how sure it is.

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Slope {
    pub(super) per_hour: f64,
    /// Two standard errors, as they are if neighbours do not go together.
    pub(super) spread: f64,
}

/// Parts that are averaged first: what is measured one after the other is not independent.
const PARTS: usize = 12;

/// Through (seconds, bytes); `None` if they are too few.
pub(super) fn slope(points: &[(f64, f64)]) -> Option<Slope> {
    if points.len() < 2 * PARTS {
        return None;
    }
    let mean = |it: &[(f64, f64)]| {
        let count = it.len() as f64;
        (it.iter().map(|it| it.0).sum::<f64>() / count, it.iter().map(|it| it.1).sum::<f64>() / count)
    };
    let parts: Vec<(f64, f64)> = points.chunks(points.len().div_ceil(PARTS)).map(mean).collect();
    let (t, y) = mean(&parts);
    let squares: f64 = parts.iter().map(|it| (it.0 - t).powi(2)).sum();
    let per_s = parts.iter().map(|it| (it.0 - t) * (it.1 - y)).sum::<f64>() / squares;
    let off: f64 = parts.iter().map(|it| (it.1 - y - per_s * (it.0 - t)).powi(2)).sum();
    let error = (off / (parts.len() - 2) as f64 / squares).sqrt();
    Some(Slope { per_hour: per_s * 3600.0, spread: 2.0 * error * 3600.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found() {
        let points: Vec<(f64, f64)> = (0..240).map(|it| (f64::from(it), 5.0 + f64::from(it) * 2.0)).collect();
        let slope = slope(&points).unwrap();
        assert!((slope.per_hour - 7200.0).abs() < 1e-6 && slope.spread < 1e-6, "{slope:?}");
    }

    #[test]
    fn what_goes_up_and_down_is_flat_within_its_spread() {
        let points: Vec<(f64, f64)> =
            (0..240).map(|it| (f64::from(it), f64::from(it * 7919 % 101))).collect();
        let slope = slope(&points).unwrap();
        assert!(slope.per_hour.abs() < slope.spread, "{slope:?}");
    }

    #[test]
    fn too_few_say_nothing() {
        assert_eq!(slope(&[(0.0, 1.0); 23]), None);
    }
}
