//! `tilewise demo attention`: what each word of a real text looks at.

use std::path::PathBuf;

use clap::Args;
use comfy_table::Table;

use super::encoder::{Encoder, Heads, Word, token_weights, word_weights};
use super::picture::{Picture, draw};
use crate::attention::{AttentionOutput, AttentionProblem, AttentionSpec, TensorDescs};
use crate::cli::common::{CliError, Common, device_line};
use crate::cli::output::{print, table};
use crate::tensor::HostTensor;

#[derive(Args)]
pub(super) struct AttentionDemoArgs {
    /// Where the picture goes.
    #[arg(long, value_name = "PNG", default_value = "attention.png")]
    output: PathBuf,
    /// The text that is drawn, from 1.
    #[arg(long, default_value_t = 2)]
    text: usize,
    /// The head that is shown, from 1, or `mean` of all.
    #[arg(long, value_name = "N|mean", default_value = "mean", value_parser = parse_head)]
    head: Heads,
}

fn parse_head(text: &str) -> Result<Heads, String> {
    match text.parse::<usize>() {
        _ if text == "mean" => Ok(Heads::Mean),
        Ok(head) if head > 0 => Ok(Heads::One(head - 1)),
        _ => Err("expected a head from 1, or mean".to_owned()),
    }
}

/// How far the kernels may be from what the model computed in f32 itself, as a share of its largest value.
const TOLERANCE: f64 = 1e-5;

pub(super) fn attention(common: &Common, args: &AttentionDemoArgs) -> Result<(), CliError> {
    let encoder = Encoder::read()?;
    let head_count = encoder.inputs["q"].shape[1] as usize;
    check_choice("--text", args.text, encoder.texts.len())?;
    if let Heads::One(head) = args.head {
        check_choice("--head", head + 1, head_count)?;
    }
    let engine = common.open()?;
    let spec = AttentionSpec {
        outputs: vec![AttentionOutput::Out, AttentionOutput::Lse],
        ..AttentionSpec::default()
    };
    let descs: TensorDescs =
        encoder.inputs.iter().map(|(name, host)| (name.clone(), host.desc())).collect();
    let problem = AttentionProblem::new(&spec, &descs)?;
    let outputs = engine.run(&problem, common.tiles()?, &encoder.inputs)?;
    print(&format!("{} on {}\n", encoder.model, device_line(engine.adapter())))?;
    print(&check(&outputs["out"], &encoder.attention_out)?)?;
    let lse = outputs["lse"].to_f64();
    for (index, text) in encoder.texts.iter().enumerate() {
        let words = encoder.words(index);
        let tokens = token_weights(&encoder, &lse, index, args.head);
        check_sums(&tokens)?;
        let weights = word_weights(&words, &tokens);
        let heading = format!("\nText {}, {}: {text}\n\n", index + 1, heads_words(args.head));
        print(&format!("{heading}{}\n", table_of(&words, &weights)))?;
        if index + 1 == args.text {
            let title = format!("What each word looks at ({})", heads_words(args.head));
            let subtitle = format!("{}, text {}", encoder.model, index + 1);
            draw(&Picture { title, subtitle, words: &words, weights: &weights })
                .save(&args.output)?;
        }
    }
    print(&format!("\nDrew text {} to {}\n", args.text, args.output.display()))
}

fn check_choice(option: &str, got: usize, most: usize) -> Result<(), CliError> {
    if (1..=most).contains(&got) {
        return Ok(());
    }
    Err(CliError::Request(format!("{option}: expected 1 to {most}, got {got}")))
}

fn heads_words(heads: Heads) -> String {
    match heads {
        Heads::Mean => "mean of all heads".to_owned(),
        Heads::One(head) => format!("head {}", head + 1),
    }
}

/// Holds the kernels' output against what the model itself computed.
fn check(got: &HostTensor, expected: &HostTensor) -> Result<String, CliError> {
    let (got, expected) = (got.to_f64(), expected.to_f64());
    let error = |(a, b): (&f64, &f64)| (a - b).abs();
    let worst = got.iter().zip(&expected).map(error).fold(0.0, |worst: f64, error| {
        if error.is_nan() { f64::INFINITY } else { worst.max(error) }
    });
    let most = expected.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
    let allowed = TOLERANCE * most;
    let figures =
        format!("max error {worst:.1e}, allowed {allowed:.1e}, of values up to {most:.2}");
    if got.len() != expected.len() || worst > allowed {
        return Err(CliError::Failed(format!("not what the model computed: {figures}")));
    }
    Ok(format!("{} values equal what the model computed: {figures}\n", got.len()))
}

/// With the right lse, what a token gives to all others adds up to 1.
fn check_sums(weights: &[Vec<f64>]) -> Result<(), CliError> {
    for row in weights {
        let sum: f64 = row.iter().sum();
        if (sum - 1.0).abs() > 1e-4 || sum.is_nan() {
            return Err(CliError::Failed(format!(
                "the lse is wrong: a row's weights add up to {sum}"
            )));
        }
    }
    Ok(())
}

/// The three words that each word attends to most, and what goes to the markers around the text.
fn table_of(words: &[Word], weights: &[Vec<f64>]) -> Table {
    let mut table = table(&["word", "looks at", "", "", "markers"], 4);
    for (word, weights) in words.iter().zip(weights) {
        if word.is_marker() {
            continue;
        }
        let mut seen: Vec<(&Word, f64)> = words.iter().zip(weights.iter().copied()).collect();
        let markers: f64 = seen.iter().filter(|(to, _)| to.is_marker()).map(|(_, w)| w).sum();
        seen.retain(|(to, _)| !to.is_marker());
        seen.sort_by(|a, b| b.1.total_cmp(&a.1));
        let mut cells = vec![word.text.clone()];
        let shown = |(to, weight): &(&Word, f64)| format!("{} {:.0} %", to.text, weight * 100.0);
        cells.extend(seen.iter().take(3).map(shown));
        cells.resize(4, String::new());
        cells.push(format!("{:.0} %", markers * 100.0));
        table.add_row(cells);
    }
    table
}
