//! `tilewise demo neighborhood`: noise taken off a photograph.

use std::path::PathBuf;

use clap::Args;

use super::canvas::{Canvas, Colour, Line};
use super::denoise::{PATCH, Tokens, WINDOW};
use super::photo::Photo;
use crate::any::AnyProblem;
use crate::cli::common::{CliError, Common, device_line};
use crate::cli::measure::Elapsed;
use crate::cli::output::{digits, print};
use crate::engine::Engine;
use crate::neighborhood::NeighborhoodTiles;
use crate::operator::Operator;
use crate::problems::Resident;
use crate::verify::Expected;

#[derive(Args)]
pub(super) struct NeighborhoodDemoArgs {
    /// Where the picture goes.
    #[arg(long, value_name = "PNG", default_value = "neighborhood.png")]
    output: PathBuf,
    /// A picture of your own, grey or colour, without transparency.
    #[arg(long, value_name = "PNG")]
    image: Option<PathBuf>,
    /// Standard deviation of the noise, in steps of 255.
    #[arg(long, value_name = "STEPS", default_value_t = 20.0)]
    noise: f64,
    /// Seed of the noise.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Side of the part that is held against the reference and against dense attention, which are slow.
const PART: usize = 96;

pub(super) fn neighborhood(common: &Common, args: &NeighborhoodDemoArgs) -> Result<(), CliError> {
    if !(args.noise >= 1.0 && args.noise <= 100.0) {
        return Err(CliError::Request(format!("--noise: expected 1 to 100, got {}", args.noise)));
    }
    let deviation = args.noise / 255.0;
    let photo = Photo::read(args.image.as_deref())?;
    let noisy = photo.with_noise(deviation, args.seed);
    let engine = common.open()?;
    let tiles: Option<NeighborhoodTiles> = common.tiles()?;
    let tokens = Tokens::of(&noisy, deviation);
    let call = Resident::new(&engine, &tokens.problem()?, tiles, &tokens.inputs)?;
    call.run(1)?;
    let denoised = Photo { values: call.outputs()?["out"].to_f64(), ..photo };
    let [before, after] = [noisy.psnr(&photo), denoised.psnr(&photo)];
    let time_words = if engine.adapter().is_software() { "CPU ms" } else { "ms" };
    print(&format!(
        "{} by {} pixels, {} channels, noise of {} steps (seed {}), on {}\n\
         each pixel becomes the mean of the {WINDOW} by {WINDOW} around it, weighted by patches of {PATCH} by {PATCH}\n\n\
         PSNR with noise    {before:.2} dB\n\
         PSNR denoised      {after:.2} dB\n\
         whole picture      {} {time_words}\n",
        photo.width,
        photo.height,
        photo.channels,
        args.noise,
        args.seed,
        device_line(engine.adapter()),
        digits(milliseconds(&engine, &call)?),
    ))?;
    print(&part(&engine, tiles, &noisy.middle(PART, PART), deviation, time_words)?)?;
    picture([
        (&noisy, format!("with noise: {before:.1} dB")),
        (&denoised, format!("denoised: {after:.1} dB")),
        (&photo, "original".to_owned()),
    ])
    .save(&args.output)?;
    print(&format!("\nDrew the three to {}\n", args.output.display()))
}

/// The least time of a call: by the process's CPU time on a software adapter.
fn milliseconds<O: Operator>(engine: &Engine, call: &Resident<O>) -> Result<f64, CliError> {
    const RUNS: u32 = 3;
    let mut least = f64::INFINITY;
    for _ in 0..RUNS {
        let elapsed = Elapsed::of(|| call.run(1))?;
        let time = if engine.adapter().is_software() { elapsed.cpu } else { elapsed.wall };
        least = least.min(time.as_secs_f64() * 1e3);
    }
    Ok(least)
}

/// The same problem of a part of the picture: held against the reference, and against dense attention's time.
fn part(
    engine: &Engine,
    tiles: Option<NeighborhoodTiles>,
    noisy: &Photo,
    deviation: f64,
    time_words: &str,
) -> Result<String, CliError> {
    let tokens = Tokens::of(noisy, deviation);
    let problem = tokens.problem()?;
    let call = Resident::new(engine, &problem, tiles, &tokens.inputs)?;
    call.run(1)?;
    let problem = AnyProblem::Neighborhood(Box::new(problem.clone()));
    let report = Expected::new(&problem, &tokens.inputs)?
        .check(&call.outputs()?)
        .map_err(|error| CliError::Failed(format!("{problem}\n{error}")))?;
    let (dense, dense_inputs) = tokens.dense()?;
    let dense = Resident::new(engine, &dense, None, &dense_inputs)?;
    dense.run(1)?;
    let [ours, dense] = [milliseconds(engine, &call)?, milliseconds(engine, &dense)?];
    Ok(format!(
        "\nThe middle {} by {} pixels alone:\n\
         against the f64 reference      max error {:.1e}, a plain f32 implementation's {:.1e}\n\
         this window                    {} {time_words}\n\
         every pixel with every other   {} {time_words}, {:.1} x as long\n",
        noisy.width,
        noisy.height,
        report.max_error,
        report.plain_error,
        digits(ours),
        digits(dense),
        dense / ours,
    ))
}

const PAPER: Colour = [255, 255, 255];
const INK: Colour = [28, 30, 34];
const MARGIN: usize = 24;
/// Pictures that are narrower than this are drawn larger, so that their labels fit.
const LEAST_WIDTH: usize = 360;

/// Three pictures side by side, a label above each.
fn picture(panels: [(&Photo, String); 3]) -> Canvas {
    let (height, width) = (panels[0].0.height, panels[0].0.width);
    let zoom = LEAST_WIDTH.div_ceil(width.max(1)).max(1);
    let letters = (width as f32 * zoom as f32 / 18.0).clamp(20.0, 64.0);
    let labels = panels.each_ref().map(|(_, label)| Line::new(label, letters));
    let top = MARGIN + labels[0].height + MARGIN / 3;
    let step = width * zoom + MARGIN;
    let mut canvas = Canvas::new(MARGIN + 3 * step, top + height * zoom + MARGIN, PAPER);
    for (index, ((photo, _), label)) in panels.iter().zip(&labels).enumerate() {
        let left = MARGIN + index * step;
        canvas.write([left, MARGIN], label, INK);
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            canvas.fill([left + x * zoom, top + y * zoom], [zoom; 2], photo.colour(y, x));
        }
    }
    canvas
}
