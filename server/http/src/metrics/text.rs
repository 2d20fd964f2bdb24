//! Figures in the text format of Prometheus (version 0.0.4).

use std::fmt::Write as _;

/// How figures of a family are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, from the start on.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by steps.
    Histogram,
}

/// The longest value of a label, in bytes: words of others come into them.
const LABEL_MAX: usize = 300;

/// Figures that are being written down.
#[derive(Debug, Default)]
pub struct Figures {
    text: String,
    family: &'static str,
}

impl Figures {
    /// Begins a family; its samples follow. Each family is begun once.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.family = name;
        // Writing into a text cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// A figure of the family that was begun last; `suffix` is for the parts of a histogram.
    pub fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: f64) {
        self.text.push_str(self.family);
        self.text.push_str(suffix);
        for (n, (name, value)) in labels.iter().enumerate() {
            let begin = if n == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{begin}{name}=\"{}\"", escaped(value));
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{end} {value}");
    }

    /// A family with a single figure.
    pub fn one(&mut self, name: &'static str, kind: Kind, help: &str, value: f64) {
        self.family(name, kind, help);
        self.sample("", &[], value);
    }

    /// All that was written.
    #[must_use]
    pub fn into_text(self) -> String {
        self.text
    }
}

/// A label's value as it may stand between quotes, cut where it is too long.
fn escaped(value: &str) -> String {
    let end = value.floor_char_boundary(LABEL_MAX);
    let mut text = String::new();
    for c in value.get(..end).unwrap_or_default().chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c if c.is_control() => text.push(' '),
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn labels_cannot_break_out() {
        let mut figures = Figures::default();
        figures.family("x", Kind::Gauge, "What it is.");
        let long = "ä".repeat(LABEL_MAX);
        figures.sample("", &[("words", "a \"b\"\\\n\tc"), ("long", &long)], 1.5);
        figures.one("y_total", Kind::Counter, "Another.", 7.0);
        let half = "ä".repeat(LABEL_MAX / 2);
        let wanted = format!(
            "# HELP x What it is.\n# TYPE x gauge\n\
             x{{words=\"a \\\"b\\\"\\\\\\n c\",long=\"{half}\"}} 1.5\n\
             # HELP y_total Another.\n# TYPE y_total counter\ny_total 7\n"
        );
        assert_eq!(figures.into_text(), wanted);
    }
}
