//! `tilewise demo moe`: a real feed-forward block as a mixture of experts.

use std::path::PathBuf;

use clap::Args;

use super::call::Call;
use super::canvas::Canvas;
use super::chart::{Chart, Curve, draw};
use super::feed_forward::{Carved, FeedForward};
use crate::cli::common::{CliError, Common, device_line};
use crate::cli::output::{digits, print, table};
use crate::moe::MAX_TOP_K;
use crate::tensor::HostTensor;

#[derive(Args)]
pub(super) struct MoeDemoArgs {
    /// Where the picture goes.
    #[arg(long, value_name = "PNG", default_value = "moe.png")]
    output: PathBuf,
    /// Experts that the block's 1536 neurons are grouped into: a divisor of them, at most 32.
    #[arg(long, value_name = "N", default_value_t = 32)]
    experts: u32,
    /// Experts of each token in the picture of their loads.
    #[arg(long, value_name = "N", default_value_t = 8)]
    top_k: u32,
}

/// How far the dense block may be from what the model computed, as the mean over tokens of the distance's share of the
/// row's length. The model's weights were f32; the file rounds them to f16.
const TOLERANCE: f64 = 1e-3;

pub(super) fn moe(common: &Common, args: &MoeDemoArgs) -> Result<(), CliError> {
    let block = FeedForward::read()?;
    let [tokens, dim, neurons] = block.extents();
    check_args(args, neurons)?;
    let engine = common.open()?;
    let tiles = common.tiles()?;
    let call = |carved: &Carved, top_k: u32| Call::new(&engine, tiles, carved, top_k);
    print(&format!(
        "{}: {tokens} tokens, {dim} -> {neurons} -> {dim}\non {}\n",
        block.model,
        device_line(engine.adapter())
    ))?;
    let dense_call = call(&Carved::of(&block, 1), 1)?;
    let dense = dense_call.run()?.out;
    print(&against_model(&dense, &block.model_out)?)?;
    let dense_time = dense_call.time()?;

    let carved = Carved::of(&block, args.experts);
    let tried = steps(args.experts, args.top_k).into_iter();
    let tried = tried
        .map(|top_k| Tried::of(call(&carved, top_k)?, &carved, top_k, &dense))
        .collect::<Result<Vec<_>, _>>()?;
    let time_words = if engine.adapter().is_software() { "CPU ms" } else { "ms" };
    let headings = ["top_k", "arithmetic", "error", "in turn", time_words, "of dense"];
    let mut table = table(&headings, 0);
    tried.iter().for_each(|tried| {
        table.add_row(tried.row(args.experts, dense_time));
    });
    print(&format!(
        "\n{} experts of {} neurons each; dense: {} {time_words}\n\n{table}\n",
        args.experts,
        neurons / u64::from(args.experts),
        digits(dense_time * 1e3)
    ))?;
    print(EXPLAINED)?;
    chart(&block, args, tokens, &tried).save(&args.output)?;
    print(&format!("\nDrew loads and errors to {}\n", args.output.display()))
}

/// What a number of experts a token gives.
struct Tried {
    top_k: u32,
    /// Share of the dense block's arithmetic.
    arithmetic: f64,
    error: f64,
    /// The error with experts taken in turn.
    in_turn: f64,
    /// Seconds of a call.
    time: f64,
    /// Rows of each expert.
    counts: Vec<f64>,
}

impl Tried {
    /// Runs a call, holds it against the reference, times it, and runs it once more with experts taken in turn.
    fn of(
        mut call: Call,
        carved: &Carved,
        top_k: u32,
        dense: &HostTensor,
    ) -> Result<Self, CliError> {
        let routed = call.run()?;
        call.check(carved, &routed)?;
        let time = call.time()?;
        call.choose_in_turn()?;
        let [error, in_turn] = [&routed.out, &call.run()?.out].map(|out| mean_distance(out, dense));
        let arithmetic = carved.arithmetic(top_k);
        Ok(Self { top_k, arithmetic, error, in_turn, time, counts: routed.counts })
    }

    /// A row of the table; with all experts errors are those of rounding.
    fn row(&self, experts: u32, dense_time: f64) -> Vec<String> {
        let error = |error: f64| if self.top_k == experts { digits(error) } else { percent(error) };
        vec![
            self.top_k.to_string(),
            percent(self.arithmetic),
            error(self.error),
            error(self.in_turn),
            digits(self.time * 1e3),
            percent(self.time / dense_time),
        ]
    }
}

const EXPLAINED: &str = "
error: mean over tokens of |out - dense| / |dense|, experts chosen by their mean keys, nothing trained
in turn: the same with as many experts taken in turn, whatever the token is
Every row was held against the f64 reference.
";

fn check_args(args: &MoeDemoArgs, neurons: u64) -> Result<(), CliError> {
    let MoeDemoArgs { output: _, experts, top_k } = args;
    if !(1..=MAX_TOP_K).contains(experts) || !neurons.is_multiple_of(u64::from(*experts)) {
        let expected = format!("a divisor of {neurons}, at most {MAX_TOP_K}");
        return Err(CliError::Request(format!("--experts: expected {expected}, got {experts}")));
    }
    if !(1..=*experts).contains(top_k) {
        return Err(CliError::Request(format!("--top-k: expected 1 to {experts}, got {top_k}")));
    }
    Ok(())
}

/// The numbers of experts that are tried: few, then every eighth of all.
fn steps(experts: u32, shown: u32) -> Vec<u32> {
    let eighths = (1..=8).map(|eighth| (experts * eighth / 8).max(1));
    let mut steps: Vec<u32> = eighths.chain([1, 2.min(experts), shown]).collect();
    steps.sort_unstable();
    steps.dedup();
    steps
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// The mean over tokens of how far a row is from another, as a share of that one's length.
fn mean_distance(got: &HostTensor, of: &HostTensor) -> f64 {
    let (values, expected) = (got.to_f64(), of.to_f64());
    let dim = of.shape[1] as usize;
    let length = |row: &mut dyn Iterator<Item = f64>| row.map(|it| it * it).sum::<f64>().sqrt();
    let rows = values.chunks_exact(dim).zip(expected.chunks_exact(dim));
    let shares = rows.map(|(got, of)| {
        let distance = length(&mut got.iter().zip(of).map(|(a, b)| a - b));
        distance / length(&mut of.iter().copied())
    });
    shares.sum::<f64>() / of.shape[0] as f64
}

fn against_model(dense: &HostTensor, model: &HostTensor) -> Result<String, CliError> {
    let distance = mean_distance(dense, model);
    let figures = format!("mean distance {distance:.1e} of a token's row, allowed {TOLERANCE:.0e}");
    if distance <= TOLERANCE {
        return Ok(format!("the dense block gives what the model computed: {figures}\n"));
    }
    Err(CliError::Failed(format!("the dense block is not the model's: {figures}")))
}

fn chart(block: &FeedForward, args: &MoeDemoArgs, tokens: u64, tried: &[Tried]) -> Canvas {
    let curve = |name: &str, error: fn(&Tried) -> f64| Curve {
        name: name.to_owned(),
        points: tried.iter().map(|tried| [tried.arithmetic, error(tried)]).collect(),
    };
    let shown = tried.iter().find(|tried| tried.top_k == args.top_k);
    let mut loads = shown.map(|shown| shown.counts.clone()).unwrap_or_default();
    loads.sort_by(|a, b| b.total_cmp(a));
    let MoeDemoArgs { output: _, experts, top_k } = args;
    draw(&Chart {
        title: "A trained feed-forward block as a mixture of experts".to_owned(),
        subtitle: format!(
            "{}; its neurons in {experts} experts by the directions of their keys; nothing is trained",
            block.model
        ),
        curves: [
            curve("by mean keys", |tried| tried.error),
            curve("in turn", |tried| tried.in_turn),
        ],
        loads,
        loads_name: format!("tokens of {tokens} that each expert takes, {top_k} a token"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Dtype;

    #[test]
    fn the_numbers_of_experts_rise_to_all() {
        assert_eq!(steps(32, 8), [1, 2, 4, 8, 12, 16, 20, 24, 28, 32]);
        assert_eq!(steps(3, 2), [1, 2, 3]);
        assert_eq!(steps(1, 1), [1]);
    }

    #[test]
    fn a_distance_is_a_share_of_the_row() {
        let rows = |values: &[f64]| HostTensor::from_f64(Dtype::F32, &[2, 2], values);
        let distance = mean_distance(&rows(&[3.0, 4.0, 0.0, 2.0]), &rows(&[3.0, 4.0, 0.0, 1.0]));
        assert!((distance - 0.5).abs() < 1e-12);
        assert!(mean_distance(&rows(&[f64::NAN; 4]), &rows(&[1.0; 4])).is_nan());
    }
}
