//! What was measured, as a table for people and as JSON for whatever compares runs.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

/// What a row must reach.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// As design says: at least this share of the limit, or at most this much.
    AtLeast(f64),
    /// See above.
    AtMost(f64),
    /// Shown for what it is worth.
    None,
}

impl Target {
    fn text(self) -> String {
        match self {
            Self::AtLeast(bound) => format!(">= {bound}"),
            Self::AtMost(bound) => format!("<= {bound}"),
            Self::None => String::new(),
        }
    }

    fn met(self, measured: f64) -> Option<bool> {
        match self {
            Self::AtLeast(bound) => Some(measured >= bound),
            Self::AtMost(bound) => Some(measured <= bound),
            Self::None => None,
        }
    }
}

/// One side of a row in one round.
#[derive(Debug, Clone, Copy, Default)]
pub struct Side {
    /// The figure that the row is about.
    pub figure: f64,
    /// Milliseconds, where there are single requests.
    pub p50: Option<f64>,
    /// See above.
    pub p99: Option<f64>,
    /// Microseconds of processor time per request, where it is a process of its own.
    pub cpu: Option<f64>,
}

/// How a row's two figures make the one that its target is about.
#[derive(Debug, Clone, Copy)]
pub enum Compare {
    /// Ours divided by the limit.
    Ratio,
    /// Ours less the limit.
    Added,
    /// Ours alone.
    Alone,
}

/// One line of the table.
#[derive(Debug)]
pub struct Row {
    /// What it is about.
    pub name: String,
    /// The unit of both figures.
    pub unit: &'static str,
    /// Each round's sides.
    pub ours: Vec<Side>,
    /// Empty where there is no limit.
    pub limit: Vec<Side>,
    /// The gateway given by `--against`, measured in the same rounds.
    pub other: Vec<Side>,
    /// What is made of them.
    pub compare: Compare,
    /// What is to be reached.
    pub target: Target,
    /// Why nothing was measured.
    pub skipped: Option<String>,
}

impl Row {
    /// A row that could not be measured.
    pub fn skipped(name: &str, why: &str) -> Self {
        Self {
            name: name.to_owned(),
            unit: "",
            ours: Vec::new(),
            limit: Vec::new(),
            other: Vec::new(),
            compare: Compare::Alone,
            target: Target::None,
            skipped: Some(why.to_owned()),
        }
    }

    /// The median over the rounds of what each round's pair makes, with the least and the most:
    /// two sides of one round had the same noise around them, those of different rounds had not.
    fn measured(&self) -> (f64, f64, f64) {
        let made: Vec<f64> = match self.compare {
            Compare::Alone => self.ours.iter().map(|side| side.figure).collect(),
            Compare::Ratio => self.pairs().map(|(a, b)| a / b).collect(),
            Compare::Added => self.pairs().map(|(a, b)| a - b).collect(),
        };
        let least = made.iter().copied().fold(f64::INFINITY, f64::min);
        let most = made.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        (median(made), least, most)
    }

    fn pairs(&self) -> impl Iterator<Item = (f64, f64)> {
        let limit = self.limit.iter().map(|side| side.figure);
        self.ours.iter().map(|side| side.figure).zip(limit)
    }

    fn cells(&self) -> [String; 9] {
        let (measured, least, most) = self.measured();
        let figure = |sides: &[Side]| match sides {
            [] => String::new(),
            sides => number(median_of(sides, |side| Some(side.figure))),
        };
        let spread = if self.ours.len() > 1 {
            format!("{} ({}..{})", small(measured), small(least), small(most))
        } else {
            small(measured)
        };
        [
            self.name.clone(),
            self.unit.to_owned(),
            figure(&self.ours),
            figure(&self.limit),
            spread,
            self.target.text(),
            match self.target.met(measured) {
                Some(true) => "yes".to_owned(),
                Some(false) => "NO".to_owned(),
                None => String::new(),
            },
            self.pair(|side| side.p50, |side| side.p99),
            self.cpu(),
        ]
    }

    /// `p50/p99` of ours, and of the limit.
    fn pair(
        &self,
        first: impl Fn(&Side) -> Option<f64> + Copy,
        second: impl Fn(&Side) -> Option<f64> + Copy,
    ) -> String {
        let one = |sides: &[Side]| {
            let (a, b) = (median_of(sides, first), median_of(sides, second));
            if a.is_nan() {
                "-".to_owned()
            } else {
                format!("{}/{}", small(a), small(b))
            }
        };
        match (one(&self.ours), one(&self.limit)) {
            (ours, limit) if ours == "-" && limit == "-" => String::new(),
            (ours, limit) => format!("{ours}  {limit}"),
        }
    }

    fn cpu(&self) -> String {
        let one = |sides: &[Side]| match median_of(sides, |side| side.cpu) {
            cpu if cpu.is_nan() => "-".to_owned(),
            cpu => small(cpu),
        };
        match (one(&self.ours), one(&self.limit)) {
            (ours, limit) if ours == "-" && limit == "-" => String::new(),
            (ours, limit) => format!("{ours}  {limit}"),
        }
    }

    /// How ours compares with the gateway of `--against`.
    fn against(&self) -> Option<String> {
        let ratios: Vec<f64> = self
            .ours
            .iter()
            .zip(&self.other)
            .map(|(ours, other)| ours.figure / other.figure)
            .collect();
        if ratios.is_empty() {
            return None;
        }
        let mut text = format!(
            "{}: {} against {}, ratio {}",
            self.name,
            number(median_of(&self.ours, |side| Some(side.figure))),
            number(median_of(&self.other, |side| Some(side.figure))),
            small(median(ratios)),
        );
        let cpu = (
            median_of(&self.ours, |side| side.cpu),
            median_of(&self.other, |side| side.cpu),
        );
        if !cpu.0.is_nan() {
            let _ = write!(
                text,
                "; CPU us {} against {}, ratio {}",
                small(cpu.0),
                small(cpu.1),
                small(cpu.0 / cpu.1)
            );
        }
        Some(text)
    }

    fn json(&self) -> Value {
        if let Some(why) = &self.skipped {
            return json!({"name": self.name, "skipped": why});
        }
        let sides = |sides: &[Side]| -> Vec<Value> {
            let side = |side: &Side| {
                json!({"figure": side.figure, "p50_ms": side.p50, "p99_ms": side.p99,
                       "cpu_us": side.cpu})
            };
            sides.iter().map(side).collect()
        };
        let (measured, least, most) = self.measured();
        json!({
            "name": self.name,
            "unit": self.unit,
            "ours": median_of(&self.ours, |side| Some(side.figure)),
            "limit": (!self.limit.is_empty())
                .then(|| median_of(&self.limit, |side| Some(side.figure))),
            "compared": format!("{:?}", self.compare).to_lowercase(),
            "measured": measured,
            "measured_least": least,
            "measured_most": most,
            "target": self.target.text(),
            "met": self.target.met(measured),
            "rounds": {
                "ours": sides(&self.ours),
                "limit": sides(&self.limit),
                "against": sides(&self.other),
            },
        })
    }
}

const HEADS: [&str; 9] = [
    "row",
    "unit",
    "ours",
    "limit",
    "ratio",
    "target",
    "met",
    "p50/p99 ms: ours, limit",
    "CPU us: ours, limit",
];

/// Prints the table, and under it what was skipped and the comparison with another gateway.
pub fn print(rows: &[Row]) {
    let measured = rows.iter().filter(|row| row.skipped.is_none());
    let mut lines: Vec<[String; 9]> = vec![HEADS.map(str::to_owned)];
    lines.extend(measured.map(Row::cells));
    let widths: Vec<usize> = (0..HEADS.len())
        .map(|column| {
            let lengths = lines.iter().map(|line| line[column].chars().count());
            lengths.max().unwrap_or(0)
        })
        .collect();
    println!();
    for (index, line) in lines.iter().enumerate() {
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        println!("{}", cells.join(" | ").trim_end());
        if index == 0 {
            let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
            println!("{}", rules.join("-|-"));
        }
    }
    println!();
    for row in rows {
        if let Some(why) = &row.skipped {
            println!("{}: skipped, {why}", row.name);
        }
        if let Some(against) = row.against() {
            println!("{against}");
        }
    }
}

/// Writes all that was measured.
///
/// # Errors
///
/// The file cannot be written.
pub fn write(path: &Path, rows: &[Row], run: &Value) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let rows: Vec<Value> = rows.iter().map(Row::json).collect();
    let all = json!({"run": run, "rows": rows});
    std::fs::write(path, format!("{all:#}\n"))
}

fn median_of(sides: &[Side], figure: impl Fn(&Side) -> Option<f64>) -> f64 {
    median(sides.iter().filter_map(figure).collect())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

/// Thousands apart, so that 1,204,310 and 120,431 do not look alike.
fn number(value: f64) -> String {
    if value.abs() < 100.0 {
        return small(value);
    }
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn small(value: f64) -> String {
    if value.abs() >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}
