//! tilewise beside other portable libraries: the same tensors, one process, one device, runs in turns.
//!
//! `run` beside this crate fetches what it needs and starts it.

mod burn;
mod candle;
mod contest;
mod ggml;
mod ours;

use std::path::PathBuf;
use std::rc::Rc;

use clap::Parser;
use tilewise::attention::{AttentionProblem, AttentionSpec, Mask};
use tilewise::matmul::{MatmulProblem, MatmulSpec};
use tilewise::moe::{MoeProblem, MoeSpec, Router};
use tilewise::tensor::{Dtype, HostTensor, descs};
use tilewise::{Engine, EngineOptions};

use crate::burn::Fused;
use crate::contest::{Contestant, Failure, Standing, Tensors, hold, table};
use crate::ggml::{Ggml, Type};

/// tilewise beside Burn, candle and ggml, on the best adapter.
#[derive(Parser)]
struct Arguments {
    /// Contests to hold, by a part of their names; all if none is named.
    contests: Vec<String>,
    /// Timed runs of each library.
    #[arg(long, default_value_t = 7)]
    runs: usize,
    /// Folder of ggml's shared libraries; without it ggml takes no part, and the table says so.
    #[arg(long, value_name = "FOLDER")]
    ggml: Option<PathBuf>,
}

/// Who takes part.
struct Field {
    engine: Engine,
    ggml: Result<Rc<Ggml>, String>,
    software: bool,
    runs: usize,
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let engine = Engine::open(&EngineOptions::default())?;
    let software = engine.adapter().is_software();
    let ggml = match &arguments.ggml {
        Some(folder) => Ggml::load(folder).map_err(|failure| failure.to_string()),
        None => Err("no folder was given by --ggml".to_owned()),
    };
    println!("tilewise: {} ({})", engine.adapter().name, engine.adapter().driver);
    match &ggml {
        Ok(ggml) => println!("ggml: {}", ggml.device),
        Err(why) => println!("ggml: {why}"),
    }
    let field = Field { engine, ggml, software, runs: arguments.runs.max(1) };
    let all: [(&str, fn(&Field) -> Result<Vec<Standing>, Failure>); 6] = [
        ("attention f32 B1 H8 L1024 D64", |field| field.attention([8, 8], [1024, 1024], 64, false)),
        ("the same, causal", |field| field.attention([8, 8], [1024, 1024], 64, true)),
        ("decode H32/8 4096 keys D128", |field| field.attention([32, 8], [1, 4096], 128, false)),
        ("decode H32/32 4096 keys D128", |field| field.attention([32, 32], [1, 4096], 128, false)),
        ("matmul f32 1024 × 1024 × 1024", Field::matmul),
        ("experts f32 T256 512 → 1024 → 512, 8 of 64", Field::experts),
    ];
    let wanted = |name: &str| {
        arguments.contests.is_empty()
            || arguments.contests.iter().any(|part| name.contains(part.as_str()))
    };
    let unit = if software { "CPU ms" } else { "ms" };
    for (name, contest) in all.into_iter().filter(|(name, _)| wanted(name)) {
        println!("\n{name}\n\n{}", table(&contest(&field)?, unit));
    }
    println!();
    println!(
        "Medians of {} runs in turns; apart: largest difference from tilewise's result ÷ its largest element.",
        field.runs
    );
    if software {
        println!(
            "The adapter is software: times are CPU time of all threads, and say nothing about GPUs."
        );
    }
    Ok(())
}

/// Numbers between −1 and 1, the same for every library.
fn noise(shape: &[u64], seed: u64) -> HostTensor {
    let values: Vec<f64> = (0..shape.iter().product())
        .map(|i: u64| {
            let mixed = (i ^ seed << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (mixed >> 40) as f64 / f64::from(1 << 23) - 1.0
        })
        .collect();
    HostTensor::from_f64(Dtype::F32, shape, &values)
}

fn named<const N: usize>(tensors: [(&str, HostTensor); N]) -> Tensors {
    tensors.map(|(name, host)| (name.to_owned(), host)).into()
}

impl Field {
    fn hold(&self, contestants: Vec<Contestant>) -> Vec<Standing> {
        hold(contestants, self.runs, self.software)
    }

    fn ggml(&self) -> Result<&Rc<Ggml>, Failure> {
        self.ggml.as_ref().map_err(|why| why.as_str().into())
    }

    /// Heads are of queries, then of keys; so are lengths.
    fn attention(
        &self,
        heads: [u64; 2],
        lengths: [u64; 2],
        dim: u64,
        causal: bool,
    ) -> Result<Vec<Standing>, Failure> {
        let keys = [1, heads[1], lengths[1], dim];
        let q = noise(&[1, heads[0], lengths[0], dim], 1);
        let mut tensors = named([("q", q), ("k", noise(&keys, 2)), ("v", noise(&keys, 3))]);
        let mask = if causal { Mask::causal() } else { AttentionSpec::default().mask };
        let spec = AttentionSpec { mask, ..AttentionSpec::default() };
        let problem = AttentionProblem::new(&spec, &descs(&tensors))?;
        let ours = ours::call(&self.engine, &problem, &tensors);
        let ggml = |kept| ggml::fused(self.ggml()?, &tensors, causal, kept);
        let mut contestants = vec![
            Contestant::new("tilewise", ours),
            Contestant::new("ggml Vulkan, k and v f16", ggml(Type::F16)),
            Contestant::new("ggml Vulkan, k and v f32", ggml(Type::F32)),
            Contestant::new("candle on the processor, fused", candle::fused(&tensors, causal)),
        ];
        if heads[0] != heads[1] {
            // The others want as many key heads as query heads, so that keys are repeated for them.
            for name in ["k", "v"] {
                let repeated = repeat_heads(&tensors[name], heads[0] / heads[1]);
                tensors.insert(name.to_owned(), repeated);
            }
        }
        if !causal {
            contestants.push(Contestant::new(
                "candle on the processor, unfused",
                candle::unfused(&tensors),
            ));
        }
        for (name, which) in
            [("Burn, fused kernel", Fused::Unit), ("Burn, its tuner's choice", Fused::Tuned)]
        {
            let call = burn::fused(&tensors, causal, which, self.software);
            contestants.push(Contestant::new(name, call));
        }
        Ok(self.hold(contestants))
    }

    fn matmul(&self) -> Result<Vec<Standing>, Failure> {
        let tensors = named([("x", noise(&[1024, 1024], 1)), ("w", noise(&[1024, 1024], 2))]);
        let problem = MatmulProblem::new(&MatmulSpec::default(), &descs(&tensors))?;
        let ggml = self.ggml().and_then(|ggml| ggml::dense(ggml, &tensors));
        Ok(self.hold(vec![
            Contestant::new("tilewise", ours::call(&self.engine, &problem, &tensors)),
            Contestant::new("Burn, its tuner's choice", burn::dense(&tensors, self.software)),
            Contestant::new("ggml Vulkan", ggml),
            Contestant::new("candle on the processor", candle::dense(&tensors)),
        ]))
    }

    fn experts(&self) -> Result<Vec<Standing>, Failure> {
        let (tokens, slots, experts, dim, hidden) = (256u64, 8u64, 64u64, 512u64, 1024u64);
        let ids: Vec<f64> = (0..tokens)
            .flat_map(|token| {
                (0..slots).map(move |slot| ((token * 37 + slot * 11 + token / 7) % experts) as f64)
            })
            .collect();
        let weights = vec![1.0 / slots as f64; ids.len()];
        let tensors = named([
            ("x", noise(&[tokens, dim], 1)),
            ("w_gate", noise(&[experts, hidden, dim], 2)),
            ("w_up", noise(&[experts, hidden, dim], 3)),
            ("w_down", noise(&[experts, dim, hidden], 4)),
            ("topk_ids", HostTensor::from_f64(Dtype::I32, &[tokens, slots], &ids)),
            ("topk_weights", HostTensor::from_f64(Dtype::F32, &[tokens, slots], &weights)),
        ]);
        let spec =
            MoeSpec { top_k: Some(slots as u32), router: Router::External, ..MoeSpec::default() };
        let problem = MoeProblem::new(&spec, &descs(&tensors))?;
        let ggml = self.ggml().and_then(|ggml| ggml::experts(ggml, &tensors));
        Ok(self.hold(vec![
            Contestant::new("tilewise", ours::call(&self.engine, &problem, &tensors)),
            Contestant::new("ggml Vulkan", ggml),
        ]))
    }
}

/// Each head of `[batch, heads, seq, dim]` so many times, one after another.
fn repeat_heads(tensor: &HostTensor, times: u64) -> HostTensor {
    let [batch, heads, seq, dim] = [0, 1, 2, 3].map(|axis| tensor.shape[axis]);
    let head_bytes = (seq * dim * tensor.dtype.bytes()) as usize;
    let repeated = tensor.bytes.chunks_exact(head_bytes).map(|head| head.repeat(times as usize));
    let shape = vec![batch, heads * times, seq, dim];
    HostTensor { dtype: tensor.dtype, shape, bytes: repeated.collect::<Vec<_>>().concat() }
}
