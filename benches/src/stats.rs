//! Medians, and how far to trust them.
//!
//! Kept true: nothing is assumed of the distribution; the interval comes from ranks alone.

/// What a table shows of some runs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// At least 90 % sure to hold the true median; none below five runs.
    pub(crate) interval: Option<(f64, f64)>,
    pub(crate) count: usize,
}

/// `None` for no runs.
pub(crate) fn summary(runs: &[f64]) -> Option<Summary> {
    let mut sorted = runs.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (count, half) = (sorted.len(), sorted.len() / 2);
    let (&min, &max) = (sorted.first()?, sorted.last()?);
    let median = if count % 2 == 1 {
        sorted[half]
    } else {
        (sorted[half - 1] + sorted[half]) / 2.0
    };
    let interval = outside(count).map(|rank| (sorted[rank], sorted[count - 1 - rank]));
    Some(Summary {
        median,
        min,
        max,
        interval,
        count,
    })
}

/// How many runs may be left out at each end so that those between hold the median with 90 %: the largest `k` with
/// P(fewer than k+1 of `count` coin flips are heads) <= 5 %.
fn outside(count: usize) -> Option<usize> {
    let mut term = 0.5_f64.powi(i32::try_from(count).ok()?);
    let mut tail = 0.0;
    let mut found = None;
    for k in 0..count.div_ceil(2) {
        tail += term;
        if tail > 0.05 {
            break;
        }
        found = Some(k);
        term *= (count - k) as f64 / (k + 1) as f64;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_and_even_counts() {
        assert_eq!(
            summary(&[3.0, 1.0, 2.0]).map(|s| (s.median, s.min, s.max)),
            Some((2.0, 1.0, 3.0))
        );
        assert_eq!(summary(&[4.0, 1.0, 2.0, 3.0]).map(|s| s.median), Some(2.5));
        assert_eq!(summary(&[]), None);
    }

    /// Ranks as in any table of the sign test: 5 and 7 runs leave out none, 8 one, 15 three, 21 six.
    #[test]
    fn interval_by_ranks() {
        let lower = |count: u32| {
            let runs: Vec<f64> = (0..count).map(f64::from).collect();
            summary(&runs)
                .and_then(|s| s.interval)
                .map(|(low, high)| (low as u32, count - 1 - high as u32))
        };
        assert_eq!(lower(4), None);
        assert_eq!(lower(5), Some((0, 0)));
        assert_eq!(lower(7), Some((0, 0)));
        assert_eq!(lower(8), Some((1, 1)));
        assert_eq!(lower(15), Some((3, 3)));
        assert_eq!(lower(21), Some((6, 6)));
    }
}
