//! Contests: one question, the same tensors, several libraries, timed in turns.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use cpu_time::ProcessTime;
use tilewise::tensor::HostTensor;

/// Whatever went wrong, of whichever library.
pub type Failure = Box<dyn std::error::Error>;

/// Tensors by name.
pub type Tensors = BTreeMap<String, HostTensor>;

/// A call whose tensors lie where the library wants them.
pub trait Call {
    /// Computes, and waits until it is done.
    fn run(&self) -> Result<(), Failure>;
    /// The last result, in tilewise's order of axes.
    fn output(&self) -> Result<Vec<f32>, Failure>;
}

/// One library's way to answer.
pub struct Contestant {
    pub name: String,
    /// The call, or why there is none.
    pub call: Result<Box<dyn Call>, String>,
}

impl Contestant {
    pub fn new(name: &str, call: Result<Box<dyn Call>, Failure>) -> Self {
        Self { name: name.to_owned(), call: call.map_err(|failure| failure.to_string()) }
    }
}

/// How far results may lie apart, as a share of the largest: some peers sum in f16 whatever they are told.
const TOLERANCE: f32 = 5e-2;

/// What was measured of one contestant.
pub struct Standing {
    name: String,
    outcome: Result<Times, String>,
}

struct Times {
    /// Sorted.
    seconds: Vec<f64>,
    /// Largest difference from the first contestant's result ÷ that one's largest element.
    apart: f32,
}

impl Times {
    fn median(&self) -> f64 {
        self.seconds[self.seconds.len() / 2]
    }
}

/// Runs every contestant once, compares the results with the first's, then times them in turns.
pub fn hold(contestants: Vec<Contestant>, runs: usize, by_cpu: bool) -> Vec<Standing> {
    let mut first: Option<Vec<f32>> = None;
    let mut standings = Vec::new();
    let mut calls = Vec::new();
    for Contestant { name, call } in contestants {
        let outcome = call.and_then(|call| {
            let result = call.run().and_then(|()| call.output()).map_err(|e| e.to_string())?;
            let apart = apart(first.get_or_insert_with(|| result.clone()), &result)?;
            calls.push((standings.len(), call));
            Ok(Times { seconds: Vec::new(), apart })
        });
        standings.push(Standing { name, outcome });
    }
    for _ in 0..runs {
        for (place, call) in &calls {
            // Threads of the one before may still spin.
            std::thread::sleep(Duration::from_millis(20));
            let (clock, cpu) = (Instant::now(), ProcessTime::now());
            let done = call.run();
            let time = if by_cpu { cpu.elapsed() } else { clock.elapsed() };
            let outcome = &mut standings[*place].outcome;
            match (done, outcome.as_mut()) {
                (Ok(()), Ok(times)) => times.seconds.push(time.as_secs_f64()),
                (Err(failure), Ok(_)) => *outcome = Err(failure.to_string()),
                (_, Err(_)) => {}
            }
        }
    }
    for standing in &mut standings {
        if let Ok(times) = &mut standing.outcome {
            times.seconds.sort_by(f64::total_cmp);
        }
    }
    standings
}

fn apart(ours: &[f32], theirs: &[f32]) -> Result<f32, String> {
    if ours.len() != theirs.len() {
        return Err(format!("gave {} elements, expected {}", theirs.len(), ours.len()));
    }
    let largest = ours.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    let mut apart = 0.0f32;
    for (ours, theirs) in ours.iter().zip(theirs) {
        let difference = (ours - theirs).abs() / largest;
        if difference.is_nan() {
            return Err("gave NaN".to_owned());
        }
        apart = apart.max(difference);
    }
    if apart > TOLERANCE {
        return Err(format!("gave another result: apart by {apart:.1e} of the largest element"));
    }
    Ok(apart)
}

/// A contest's standings, as a table in Markdown.
pub fn table(standings: &[Standing], unit: &str) -> String {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header(["library", unit, "least to most", "× tilewise", "apart"]);
    let ours = standings.first().and_then(|first| first.outcome.as_ref().ok());
    for Standing { name, outcome } in standings {
        let [median, spread, ratio, apart] = match outcome {
            Ok(times) => {
                let (least, most) = (times.seconds[0], times.seconds[times.seconds.len() - 1]);
                [
                    format!("{:.1}", times.median() * 1e3),
                    format!("{:.1} to {:.1}", least * 1e3, most * 1e3),
                    ours.map_or(String::new(), |o| format!("{:.2}", times.median() / o.median())),
                    format!("{:.0e}", times.apart),
                ]
            }
            Err(why) => [String::new(), why.clone(), String::new(), String::new()],
        };
        table.add_row([name.clone(), median, spread, ratio, apart]);
    }
    table.to_string()
}
