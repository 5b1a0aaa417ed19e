//! Contests: one problem, the same tensors, several libraries, timed in turns.

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
    /// Computes so many times, one after the other, and waits until all is done.
    fn run(&self, times: u32) -> Result<(), Failure>;
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

/// A timed run on a GPU lasts about this long: calls are repeated, so that submitting and waiting do not count.
const RUN: Duration = Duration::from_millis(20);

/// Work before anything is timed: a GPU that was idle runs at a fraction of its clock for a while.
const WARMING: Duration = Duration::from_millis(500);

/// How often a call fits [`RUN`], after a first time that does not count.
fn repeats(call: &dyn Call) -> Result<u32, Failure> {
    let start = Instant::now();
    let mut times = 1;
    loop {
        let run = Instant::now();
        call.run(times)?;
        let share = run.elapsed().as_secs_f64() / RUN.as_secs_f64();
        if start.elapsed() > WARMING {
            return Ok((f64::from(times) / share).clamp(1.0, 1000.0) as u32);
        }
        if share < 0.5 && times < 1000 {
            times *= 2;
        }
    }
}

/// Runs every contestant once, compares the results with the first's, then times them in turns.
pub fn hold(contestants: Vec<Contestant>, runs: usize, by_cpu: bool) -> Vec<Standing> {
    let mut first: Option<Vec<f32>> = None;
    let mut standings = Vec::new();
    let mut calls = Vec::new();
    for Contestant { name, call } in contestants {
        let outcome = call.and_then(|call| {
            let result = call.run(1).and_then(|()| call.output()).map_err(|e| e.to_string())?;
            let apart = apart(first.get_or_insert_with(|| result.clone()), &result)?;
            let repeats = if by_cpu { 1 } else { repeats(&*call).map_err(|e| e.to_string())? };
            calls.push((standings.len(), call, repeats));
            Ok(Times { seconds: Vec::new(), apart })
        });
        standings.push(Standing { name, outcome });
    }
    for _ in 0..runs {
        for (place, call, repeats) in &calls {
            // Threads of the one before may still spin.
            std::thread::sleep(Duration::from_millis(20));
            let (clock, cpu) = (Instant::now(), ProcessTime::now());
            let done = call.run(*repeats);
            let time = if by_cpu { cpu.elapsed() } else { clock.elapsed() };
            let outcome = &mut standings[*place].outcome;
            match (done, outcome.as_mut()) {
                (Ok(()), Ok(times)) => times.seconds.push(time.as_secs_f64() / f64::from(*repeats)),
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

/// Three digits that count, of small numbers.
fn digits(value: f64) -> String {
    if value < 1.0 { format!("{value:.3}") } else { format!("{value:.1}") }
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
                    digits(times.median() * 1e3),
                    format!("{} to {}", digits(least * 1e3), digits(most * 1e3)),
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
