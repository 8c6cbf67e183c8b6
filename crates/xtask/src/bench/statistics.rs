//! Statistics of several runs, and goals.

use serde_json::{Value, json};

/// The median; 0 if there are no values.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        length if length % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

pub fn lowest(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

/// The highest value; 0 if all are lower or there are none.
pub fn highest(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

/// A goal, and whether it was met.
#[derive(Debug)]
pub struct Goal {
    pub text: String,
    pub value: f64,
    pub is_met: bool,
}

impl Goal {
    pub fn new(text: impl Into<String>, value: f64, is_met: bool) -> Self {
        Self { text: text.into(), value, is_met }
    }

    /// One line of a report.
    pub fn line(&self) -> String {
        let word = if self.is_met { "met   " } else { "MISSED" };
        format!("{word}  {}: {}", self.text, three_digits(self.value))
    }

    pub fn json(&self) -> Value {
        let rounded = (self.value * 1000.0).round() / 1000.0;
        json!({ "goal": self.text, "value": rounded, "met": self.is_met })
    }
}

/// A number with its first three digits, as C's `%.3g` writes it.
fn three_digits(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let text = format!("{value:.2e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..3).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trimmed(digits), exponent.abs());
    }
    let decimals = usize::try_from(2 - exponent).unwrap_or(0);
    trimmed(&format!("{value:.decimals$}")).to_owned()
}

/// Removes zeros from the end of a fraction.
fn trimmed(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let check = |values: &[f64], expected: f64| {
            assert!((median(values) - expected).abs() < 1e-9, "{values:?}");
        };
        check(&[3.0, 1.0, 2.0], 2.0);
        check(&[4.0, 1.0, 2.0, 3.0], 2.5);
        check(&[], 0.0);
    }

    #[test]
    fn numbers_have_three_digits() {
        for (value, expected) in [
            (0.0, "0"),
            (2.0, "2"),
            (12.345, "12.3"),
            (0.012_34, "0.0123"),
            (123.6, "124"),
            (1234.5, "1.23e+03"),
            (999.9, "1e+03"),
            (0.000_012_3, "1.23e-05"),
            (-3.456, "-3.46"),
        ] {
            assert_eq!(three_digits(value), expected);
        }
    }

    #[test]
    fn a_goal_is_a_line() {
        assert_eq!(Goal::new("under 0.3 s", 0.1234, true).line(), "met     under 0.3 s: 0.123");
        assert_eq!(Goal::new("twice", 1.5, false).line(), "MISSED  twice: 1.5");
    }
}
