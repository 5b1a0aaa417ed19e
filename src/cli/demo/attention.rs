//! `tilewise demo attention`: what each word of a real text looks at.

use std::path::PathBuf;

use clap::Args;
use comfy_table::Table;

use super::canvas::Canvas;
use super::encoder::{Encoder, Heads, Word, token_weights, word_weights};
use super::picture::{Picture, draw};
use crate::attention::{AttentionOutput, AttentionProblem, AttentionSpec, TensorDescs};
use crate::cli::common::{CliError, Common, device_line};
use crate::cli::output::{print, table};
use crate::tensor::{HostTensor, descs};

#[derive(Args)]
pub(super) struct AttentionDemoArgs {
    /// Where the picture goes.
    #[arg(long, value_name = "PNG", default_value = "attention.png")]
    output: PathBuf,
    /// The text that is drawn, from 1.
    #[arg(long, value_name = "N", default_value_t = 1)]
    text: usize,
    /// The head that is shown, from 1, or `mean` of all. Head 2 of this layer finds what pronouns stand for.
    #[arg(long, value_name = "N|mean", default_value = "2", value_parser = parse_head)]
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
    let descs: TensorDescs = descs(&encoder.inputs);
    let problem = AttentionProblem::new(&spec, &descs)?;
    let outputs = engine.run(&problem, common.tiles()?, &encoder.inputs)?;
    print(&format!("{} on {}\n", encoder.model, device_line(engine.adapter())))?;
    print(&check(&outputs["out"], &encoder.attention_out)?)?;
    let lse = outputs["lse"].to_f64();
    for (index, text) in encoder.texts.iter().enumerate() {
        let view = View::of(&encoder, &lse, index, args.head)?;
        let heading = format!("\nText {}, {}: {text}\n\n", index + 1, heads_words(args.head));
        print(&format!("{heading}{}\n", view.table()))?;
        if index + 1 == args.text {
            view.picture(&encoder.model, args.head).save(&args.output)?;
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

/// The words of a text and how they look at each other, without signs.
struct View {
    words: Vec<Word>,
    weights: Vec<Vec<f64>>,
    /// What each word gives to signs.
    signs: Vec<f64>,
}

impl View {
    fn of(encoder: &Encoder, lse: &[f64], text: usize, heads: Heads) -> Result<Self, CliError> {
        let words = encoder.words(text);
        let tokens = token_weights(encoder, lse, text, heads);
        check_sums(&tokens)?;
        let is_word: Vec<bool> = words.iter().map(|word| !word.is_sign()).collect();
        let mut weights = word_weights(&words, &tokens);
        let of_signs = |row: &Vec<f64>| {
            row.iter().zip(&is_word).filter(|(_, is_word)| !**is_word).map(|(w, _)| w).sum()
        };
        let mut signs: Vec<f64> = weights.iter().map(of_signs).collect();
        retain(&mut signs, &is_word);
        retain(&mut weights, &is_word);
        weights.iter_mut().for_each(|row| retain(row, &is_word));
        let words = words.into_iter().filter(|word| !word.is_sign()).collect();
        Ok(Self { words, weights, signs })
    }

    /// The three words that each word looks at most.
    fn table(&self) -> Table {
        let mut table = table(&["word", "looks at", "then at", "and at", "signs"], 4);
        for ((word, weights), signs) in self.words.iter().zip(&self.weights).zip(&self.signs) {
            let mut seen: Vec<(&Word, f64)> =
                self.words.iter().zip(weights.iter().copied()).collect();
            seen.sort_by(|a, b| b.1.total_cmp(&a.1));
            let shown =
                |(to, weight): &(&Word, f64)| format!("{} {:.0} %", to.text, weight * 100.0);
            let mut cells = vec![word.text.clone()];
            cells.extend(seen.iter().take(3).map(shown));
            cells.resize(4, String::new());
            cells.push(format!("{:.0} %", signs * 100.0));
            table.add_row(cells);
        }
        table
    }

    fn picture(&self, model: &str, heads: Heads) -> Canvas {
        let mean = self.signs.iter().sum::<f64>() / self.signs.len().max(1) as f64;
        draw(&Picture {
            title: format!("What each word looks at: {}", heads_words(heads)),
            subtitle: format!(
                "{model}; the {:.0} % that go to punctuation and the model's own tokens are left out",
                mean * 100.0
            ),
            words: &self.words,
            weights: &self.weights,
        })
    }
}

fn retain<T>(values: &mut Vec<T>, keep: &[bool]) {
    let mut keep = keep.iter();
    values.retain(|_| keep.next().copied().unwrap_or(false));
}
