//! What tensors of a named problem hold where its numbers are the problem: masks that keep little.

/// Tokens of a document.
const DOCUMENT: u64 = 16;

/// The numbers of a problem's tensor, where it has its own.
pub(super) fn values(problem: &str, tensor: &str, shape: &[u64]) -> Option<Vec<f64>> {
    match (problem, tensor, shape) {
        ("long_blocks" | "long_blocks_of_heads", "keep", &[_, _, rows, columns]) => {
            let kept = |at: u64| at % columns == at / columns % rows * 2_654_435_761 % columns;
            Some(numbers(shape, |at| f64::from(u8::from(kept(at)))))
        }
        ("long_documents", "documents", &[_, tokens]) => {
            Some(numbers(shape, |at| (at % tokens / DOCUMENT) as f64))
        }
        _ => None,
    }
}

fn numbers(shape: &[u64], value: impl Fn(u64) -> f64) -> Vec<f64> {
    (0..shape.iter().product()).map(value).collect()
}
