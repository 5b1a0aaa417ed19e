//! tilewise's calls.

use tilewise::Engine;
use tilewise::operator::Operator;
use tilewise::problems::Resident;

use crate::contest::{Call, Failure, Tensors};

struct Ours<O: Operator>(Resident<O>);

/// A call of tilewise with the tiles that it chooses unmeasured.
pub fn call<O: Operator>(
    engine: &Engine,
    operator: &O,
    inputs: &Tensors,
) -> Result<Box<dyn Call>, Failure>
where
    Resident<O>: 'static,
{
    Ok(Box::new(Ours(Resident::new(engine, operator, None, inputs)?)))
}

impl<O: Operator> Call for Ours<O> {
    fn run(&self, times: u32) -> Result<(), Failure> {
        Ok(self.0.run(times)?)
    }

    fn output(&self) -> Result<Vec<f32>, Failure> {
        let outputs = self.0.outputs()?;
        Ok(outputs["out"].to_f64().into_iter().map(|value| value as f32).collect())
    }
}
