//! What was measured, beside what must be reached.

use std::io::Write as _;

/// A bound that a figure has to keep.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// At least so much.
    AtLeast(f64),
    /// At most so much.
    AtMost(f64),
    /// Only told.
    None,
}

#[derive(Debug)]
struct Row {
    what: String,
    measured: f64,
    unit: &'static str,
    target: Target,
}

impl Row {
    fn good(&self) -> bool {
        match self.target {
            Target::AtLeast(bound) => self.measured >= bound,
            Target::AtMost(bound) => self.measured <= bound,
            Target::None => true,
        }
    }
}

/// All figures of a run.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<Row>);

impl Report {
    /// Adds a figure, and shows it at once.
    pub(crate) fn add(&mut self, what: &str, measured: f64, unit: &'static str, target: Target) {
        let row = Row {
            what: what.to_owned(),
            measured,
            unit,
            target,
        };
        line(&format!("  {}", text(&row)));
        self.0.push(row);
    }

    /// Whether any figure missed its target.
    pub(crate) fn missed(&self) -> bool {
        self.0.iter().any(|row| !row.good())
    }

    /// The table.
    pub(crate) fn print(&self) {
        line("");
        for row in &self.0 {
            line(&text(row));
        }
        let missed = self.0.iter().filter(|row| !row.good()).count();
        line(&format!("{missed} of {} missed", self.0.len()));
    }
}

fn text(row: &Row) -> String {
    let target = match row.target {
        Target::AtLeast(bound) => format!("at least {}", number(bound)),
        Target::AtMost(bound) => format!("at most {}", number(bound)),
        Target::None => String::new(),
    };
    let verdict = match (row.target, row.good()) {
        (Target::None, _) => "",
        (_, true) => "ok",
        (_, false) => "MISSED",
    };
    let measured = format!("{} {}", number(row.measured), row.unit);
    format!("{:52} {measured:>18}  {target:17} {verdict}", row.what)
}

fn number(n: f64) -> String {
    match n.abs() {
        size if size >= 100.0 => format!("{n:.0}"),
        size if size >= 1.0 => format!("{n:.1}"),
        _ => format!("{n:.3}"),
    }
}

/// Prints a line.
pub(crate) fn line(text: &str) {
    // A closed output is no reason to end a measurement.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}
