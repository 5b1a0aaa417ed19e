//! The kernel half of mixtures of experts: from a problem to launches, and what each is made of.

mod activation;
mod bindings;
mod capacity;
mod choices;
mod combine;
mod context;
mod cuts;
mod experts;
mod fitting;
mod given;
mod launch;
mod loss;
mod operands;
mod packed;
mod place;
mod plan;
mod scratch;
mod sections;
mod soft;
#[cfg(test)]
mod tests;
mod tokens;

pub(super) use plan::plan;
