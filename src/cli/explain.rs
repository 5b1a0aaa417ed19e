//! `tilewise explain`: what a spec becomes, without running it.

mod attention;
mod matmul;
mod moe;
mod neighborhood;
mod report;

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use self::report::kernel_text;
use super::common::{CliError, Common, device_line};
use super::output::print;
use super::spec::{asked, read_spec};
use crate::any::{AnyProblem, AnySpec};
use crate::engine::{Engine, Matrices};
use crate::fused::{FusedShape, FusedTiles};
use crate::gpu::device::adapters;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::Plan;
use crate::gpu::shader::Shader;
use crate::operator::{Operator, Tiles};

#[derive(Args)]
pub(super) struct ExplainArgs {
    /// The spec: a JSON file, or JSON.
    spec: String,
    /// Tensors to take the extents from; without them the spec must say all.
    #[arg(long, value_name = "SAFETENSORS")]
    input: Option<PathBuf>,
    /// Create the pipelines one after the other, naming each on stderr before; nothing is run.
    #[arg(long)]
    compile: bool,
    /// Plan (and compile) every tile set that this device is worth trying, not only the chosen one.
    #[arg(long)]
    all_tiles: bool,
    /// Count the tiles that each query's window touches: for neighborhood specs.
    #[arg(long)]
    simulate: bool,
}

pub(super) fn explain(common: &Common, args: &ExplainArgs) -> Result<(), CliError> {
    let spec = read_spec(&args.spec)?;
    if matches!(spec, AnySpec::AttentionMerge(_)) {
        let message = "attention_merge has one kernel and no choice to explain";
        return Err(CliError::Request(message.to_owned()));
    }
    let problem = asked(common, &spec, args.input.as_deref())?;
    if args.simulate && !matches!(problem, AnyProblem::Neighborhood(_)) {
        let message = "--simulate applies to neighborhood specs alone";
        return Err(CliError::Request(message.to_owned()));
    }
    match problem {
        AnyProblem::Attention(problem) => attention::explain(common, args, &problem),
        AnyProblem::AttentionMerge(_) => Ok(()), // refused above
        AnyProblem::Neighborhood(problem) => neighborhood::explain(common, args, &problem),
        AnyProblem::NeighborhoodScores(problem) => {
            neighborhood::explain_slots(common, args, &*problem, problem.flops())
        }
        AnyProblem::NeighborhoodAggregate(problem) => {
            neighborhood::explain_slots(common, args, &*problem, problem.flops())
        }
        AnyProblem::Moe(problem) => moe::explain(common, args, &problem),
        AnyProblem::Matmul(problem) => matmul::explain(common, args, &problem),
    }
}

/// What is planned for.
struct Device {
    name: String,
    limits: GpuLimits,
    engine: Option<Engine>,
}

impl Device {
    /// The adapter asked for, else the best there is, else WebGPU's floor. It is opened only to compile.
    fn of(common: &Common, args: &ExplainArgs) -> Result<Self, CliError> {
        let floor = if common.floor { "WebGPU's floor on " } else { "" };
        if common.adapter.is_some() || args.compile {
            let engine = common.open_with(Matrices::Assumed)?;
            let name = format!("{floor}{}", device_line(engine.adapter()));
            let limits = engine.limits().clone();
            return Ok(Self { name, limits, engine: Some(engine) });
        }
        if !common.floor
            && let Some(best) = pollster::block_on(adapters()).first()
        {
            return Ok(Self { name: device_line(best), limits: best.limits.clone(), engine: None });
        }
        let why = if common.floor { "as asked" } else { "no adapter was found" };
        let name = format!("WebGPU's floor, {why}");
        Ok(Self { name, limits: GpuLimits::floor(), engine: None })
    }
}

/// The device that is planned for, and its tiles for a problem.
struct Planned<T> {
    device: Device,
    /// Those worth trying, the heuristic's choice first.
    candidates: Vec<T>,
    /// Those that are explained.
    tiles: T,
    forced: bool,
}

impl<T: Tiles> Planned<T> {
    fn of<O: Operator<Tiles = T>>(
        common: &Common,
        args: &ExplainArgs,
        problem: &O,
    ) -> Result<Self, CliError> {
        let device = Device::of(common, args)?;
        let candidates = problem.candidates(&device.limits)?;
        let forced: Option<T> = common.tiles()?;
        let tiles = forced.unwrap_or(candidates[0]);
        Ok(Self { device, candidates, tiles, forced: forced.is_some() })
    }

    fn plan<O: Operator<Tiles = T>>(&self, problem: &O) -> Result<Plan, CliError> {
        Ok(problem.plan(&self.device.limits, &self.tiles)?)
    }

    /// The tiles, and who chose them.
    fn chosen(&self) -> String {
        let how = if self.forced { "as asked" } else { "the heuristic's choice" };
        format!("{} ({how})\n{:14}{}", self.tiles.label(), "", self.tiles)
    }

    /// The options of a command line that shows the same plan.
    fn options(&self, common: &Common, args: &ExplainArgs) -> String {
        let input = args.input.as_ref().map(|path| format!(" --input {}", path.display()));
        let floor = common.floor.then(|| " --floor".to_owned());
        let tiles = self.forced.then(|| format!(" --tiles '{}'", self.tiles));
        [input, floor, tiles].into_iter().flatten().collect()
    }

    /// Prints what is told, then the kernels, and compiles these where that is asked; `trips` is what a forward
    /// kernel's name says beside its tiles.
    fn tell<O: Operator<Tiles = T>>(
        &self,
        args: &ExplainArgs,
        problem: &O,
        text: &str,
        trips: impl Fn(&T) -> String,
    ) -> Result<(), CliError> {
        let chosen = [self.tiles];
        let wanted = if args.all_tiles { &self.candidates[..] } else { &chosen };
        let kernels = kernels(problem, &self.device.limits, wanted, trips)?;
        print(&format!("{text}{}", kernel_text(&kernels)))?;
        match (&self.device.engine, args.compile) {
            (Some(engine), true) => compile(engine, &kernels),
            _ => Ok(()),
        }
    }
}

/// A kernel, and a short name that tells its tiles.
struct Kernel {
    name: String,
    shader: Arc<Shader>,
}

/// Each different kernel of the plans with these tiles, once.
fn kernels<O: Operator>(
    problem: &O,
    limits: &GpuLimits,
    tiles: &[O::Tiles],
    trips: impl Fn(&O::Tiles) -> String,
) -> Result<Vec<Kernel>, CliError> {
    let mut kernels: Vec<Kernel> = Vec::new();
    for tiles in tiles {
        for step in problem.plan(limits, tiles)?.steps {
            if kernels.iter().all(|known| known.shader != step.shader) {
                let mut name = format!("{} {}", step.shader().entry(), tiles.label());
                if step.shader().entry().starts_with("fused_forward") {
                    name.push_str(&trips(tiles));
                }
                kernels.push(Kernel { name, shader: step.shader });
            }
        }
    }
    Ok(kernels)
}

/// ` trips=4:512,8:256`: how often the rolled loops of a forward kernel run.
fn trips(tiles: &FusedTiles, shape: FusedShape) -> String {
    let loops = tiles.rolled_loops(shape);
    let loops: Vec<String> =
        loops.iter().map(|(trips, multiply_adds)| format!("{trips}:{multiply_adds}")).collect();
    format!(" trips={}", loops.join(","))
}

/// Creates the pipelines in order; what a driver prints about one comes after its name. One that fails does not keep
/// the others from being tried.
fn compile(engine: &Engine, kernels: &[Kernel]) -> Result<(), CliError> {
    let mut stderr = std::io::stderr();
    let mut failed = 0;
    for Kernel { name, shader } in kernels {
        writeln!(stderr, "=== kernel {name}")?;
        stderr.flush()?;
        if let Err(error) = engine.compile(shader) {
            writeln!(stderr, "{error}")?;
            failed += 1;
        }
    }
    match failed {
        0 => Ok(()),
        _ => Err(CliError::Failed(format!("{failed} of {} kernels do not compile", kernels.len()))),
    }
}
