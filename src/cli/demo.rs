//! `tilewise demo`: a real job, and something to look at.

mod attention;
mod call;
mod canvas;
mod chart;
mod denoise;
mod encoder;
mod feed_forward;
mod groups;
mod moe;
mod neighborhood;
mod photo;
mod picture;

use clap::{Args, Subcommand};

use super::common::{CliError, Common};

#[derive(Args)]
pub(super) struct DemoArgs {
    #[command(subcommand)]
    demo: Demo,
}

#[derive(Subcommand)]
enum Demo {
    /// Self-attention of a real sentence encoder: what each word of a text looks at, as a table and a picture.
    Attention(attention::AttentionDemoArgs),
    /// Neighborhood attention on a photograph: non-local means takes noise away, shown as a picture.
    Neighborhood(neighborhood::NeighborhoodDemoArgs),
    /// A real feed-forward block as a mixture of experts: how the error falls with the arithmetic, as a table and a picture.
    Moe(moe::MoeDemoArgs),
}

pub(super) fn demo(common: &Common, args: &DemoArgs) -> Result<(), CliError> {
    match &args.demo {
        Demo::Attention(args) => attention::attention(common, args),
        Demo::Neighborhood(args) => neighborhood::neighborhood(common, args),
        Demo::Moe(args) => moe::moe(common, args),
    }
}
