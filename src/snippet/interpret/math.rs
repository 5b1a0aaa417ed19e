//! Built-in functions of WGSL.

use naga::MathFunction as Fun;

use super::operators::{Precision, by_component};
use super::value::{Unsupported, Value};

/// A built-in function of one to four arguments.
pub(super) fn math(fun: Fun, args: &[Value], precision: Precision) -> Result<Value, Unsupported> {
    let result = match fun {
        Fun::Dot => dot(args, precision),
        Fun::Length => floats(&args[0]).map(|v| precision.round(norm(&v))),
        Fun::Distance => floats(&args[0]).zip(floats(&args[1])).map(|(a, b)| {
            let difference: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a - b).collect();
            precision.round(norm(&difference))
        }),
        Fun::Normalize => floats(&args[0]).map(|v| {
            let length = norm(&v);
            Value::Composite(v.iter().map(|x| precision.round(x / length)).collect())
        }),
        Fun::Cross => floats(&args[0]).zip(floats(&args[1])).and_then(|(a, b)| {
            let ([a0, a1, a2], [b0, b1, b2]) = (a[..].try_into().ok()?, b[..].try_into().ok()?);
            let parts: [f64; 3] = [a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0];
            Some(Value::Composite(parts.map(|x| precision.round(x)).to_vec()))
        }),
        _ => return by_component(args, &|args| scalar(fun, args, precision)),
    };
    result.ok_or_else(|| Unsupported(format!("{fun:?} of {args:?}")))
}

fn scalar(fun: Fun, args: &[Value], precision: Precision) -> Result<Value, Unsupported> {
    let result = match args {
        [Value::F32(x), Value::I32(power)] if fun == Fun::Ldexp => {
            Some(precision.round(x * f64::from(*power).exp2()))
        }
        [Value::F32(x)] => float_of_one(fun, *x).map(|x| precision.round(x)),
        [Value::F32(_), ..] => {
            numbers(args).and_then(|args| float_of_more(fun, &args).map(|x| precision.round(x)))
        }
        [Value::I32(x), rest @ ..] => signed(fun, *x, rest),
        [Value::U32(x), rest @ ..] => unsigned(fun, *x, rest).map(Value::U32),
        _ => None,
    };
    result.ok_or_else(|| Unsupported(format!("{fun:?} of {args:?}")))
}

fn float_of_one(fun: Fun, x: f64) -> Option<f64> {
    Some(match fun {
        Fun::Abs => x.abs(),
        Fun::Saturate => x.clamp(0.0, 1.0),
        Fun::Cos => x.cos(),
        Fun::Cosh => x.cosh(),
        Fun::Sin => x.sin(),
        Fun::Sinh => x.sinh(),
        Fun::Tan => x.tan(),
        Fun::Tanh => x.tanh(),
        Fun::Acos => x.acos(),
        Fun::Asin => x.asin(),
        Fun::Atan => x.atan(),
        Fun::Asinh => x.asinh(),
        Fun::Acosh => x.acosh(),
        Fun::Atanh => x.atanh(),
        Fun::Radians => x.to_radians(),
        Fun::Degrees => x.to_degrees(),
        Fun::Ceil => x.ceil(),
        Fun::Floor => x.floor(),
        Fun::Round => x.round_ties_even(),
        Fun::Fract => x - x.floor(),
        Fun::Trunc => x.trunc(),
        Fun::Exp => x.exp(),
        Fun::Exp2 => x.exp2(),
        Fun::Log => x.ln(),
        Fun::Log2 => x.log2(),
        Fun::Sign if x == 0.0 => 0.0,
        Fun::Sign => x.signum(),
        Fun::Sqrt => x.sqrt(),
        Fun::InverseSqrt => 1.0 / x.sqrt(),
        Fun::QuantizeToF16 => half::f16::from_f64(x).to_f64(),
        _ => return None,
    })
}

fn float_of_more(fun: Fun, args: &[f64]) -> Option<f64> {
    Some(match (fun, args) {
        (Fun::Min, [a, b]) => a.min(*b),
        (Fun::Max, [a, b]) => a.max(*b),
        (Fun::Clamp, [x, low, high]) => x.max(*low).min(*high),
        (Fun::Atan2, [y, x]) => y.atan2(*x),
        (Fun::Pow, [base, exponent]) => base.powf(*exponent),
        (Fun::Fma, [a, b, c]) => a.mul_add(*b, *c),
        (Fun::Mix, [a, b, t]) => a * (1.0 - t) + b * t,
        (Fun::Step, [edge, x]) => f64::from(u8::from(edge <= x)),
        (Fun::SmoothStep, [low, high, x]) => {
            let t = ((x - low) / (high - low)).clamp(0.0, 1.0);
            t * t * (3.0 - 2.0 * t)
        }
        _ => return None,
    })
}

fn signed(fun: Fun, x: i32, rest: &[Value]) -> Option<Value> {
    Some(Value::I32(match (fun, rest) {
        (Fun::Abs, []) => x.wrapping_abs(),
        (Fun::Sign, []) => x.signum(),
        (Fun::Min, [Value::I32(y)]) => x.min(*y),
        (Fun::Max, [Value::I32(y)]) => x.max(*y),
        (Fun::Clamp, [Value::I32(low), Value::I32(high)]) => x.max(*low).min(*high),
        (Fun::FirstLeadingBit, []) => {
            let bits = if x < 0 { !x } else { x };
            31 - bits.leading_zeros() as i32
        }
        (Fun::ExtractBits, [Value::U32(offset), Value::U32(count)]) => {
            match bit_range(*offset, *count) {
                (_, 0) => 0,
                (offset, count) => (x << (32 - offset - count)) >> (32 - count),
            }
        }
        (Fun::InsertBits, [Value::I32(new), rest @ ..]) => {
            let rest: Vec<Value> =
                [Value::U32(*new as u32)].into_iter().chain(rest.iter().cloned()).collect();
            unsigned(fun, x as u32, &rest)? as i32
        }
        // The others see bits alone.
        (
            Fun::CountTrailingZeros
            | Fun::CountLeadingZeros
            | Fun::CountOneBits
            | Fun::ReverseBits
            | Fun::FirstTrailingBit,
            [],
        ) => unsigned(fun, x as u32, rest)? as i32,
        _ => return None,
    }))
}

fn unsigned(fun: Fun, x: u32, rest: &[Value]) -> Option<u32> {
    Some(match (fun, rest) {
        (Fun::Abs, []) => x,
        (Fun::Min, [Value::U32(y)]) => x.min(*y),
        (Fun::Max, [Value::U32(y)]) => x.max(*y),
        (Fun::Clamp, [Value::U32(low), Value::U32(high)]) => x.max(*low).min(*high),
        (Fun::CountTrailingZeros, []) => x.trailing_zeros(),
        (Fun::CountLeadingZeros, []) => x.leading_zeros(),
        (Fun::CountOneBits, []) => x.count_ones(),
        (Fun::ReverseBits, []) => x.reverse_bits(),
        (Fun::FirstTrailingBit, []) if x == 0 => u32::MAX,
        (Fun::FirstTrailingBit, []) => x.trailing_zeros(),
        // Of zero it is -1, all bits set.
        (Fun::FirstLeadingBit, []) => 31_u32.wrapping_sub(x.leading_zeros()),
        (Fun::ExtractBits, [Value::U32(offset), Value::U32(count)]) => {
            let (offset, count) = bit_range(*offset, *count);
            x.checked_shr(offset).unwrap_or(0) & low_bits(count)
        }
        (Fun::InsertBits, [Value::U32(new), Value::U32(offset), Value::U32(count)]) => {
            let (offset, count) = bit_range(*offset, *count);
            let field = low_bits(count).checked_shl(offset).unwrap_or(0);
            (x & !field) | (new.checked_shl(offset).unwrap_or(0) & field)
        }
        _ => return None,
    })
}

/// Offset and count cut to the 32 bits there are, as WGSL says.
fn bit_range(offset: u32, count: u32) -> (u32, u32) {
    let offset = offset.min(32);
    (offset, count.min(32 - offset))
}

fn low_bits(count: u32) -> u32 {
    1_u32.checked_shl(count).map_or(u32::MAX, |bit| bit - 1)
}

fn numbers(values: &[Value]) -> Option<Vec<f64>> {
    let number = |value: &Value| match value {
        Value::F32(x) => Some(*x),
        _ => None,
    };
    values.iter().map(number).collect()
}

fn floats(value: &Value) -> Option<Vec<f64>> {
    match value {
        Value::Composite(parts) => numbers(parts),
        scalar => numbers(std::slice::from_ref(scalar)),
    }
}

fn norm(vector: &[f64]) -> f64 {
    vector.iter().map(|x| x * x).sum::<f64>().sqrt()
}

fn dot(args: &[Value], precision: Precision) -> Option<Value> {
    let (Value::Composite(a), Value::Composite(b)) = (args.first()?, args.get(1)?) else {
        return None;
    };
    let mut sum = None;
    for (a, b) in a.iter().zip(b) {
        sum = Some(match (a, b, sum) {
            (Value::F32(a), Value::F32(b), None) => Value::F32(a * b),
            (Value::F32(a), Value::F32(b), Some(Value::F32(sum))) => Value::F32(a.mul_add(*b, sum)),
            (Value::I32(a), Value::I32(b), None) => Value::I32(a.wrapping_mul(*b)),
            (Value::I32(a), Value::I32(b), Some(Value::I32(sum))) => {
                Value::I32(a.wrapping_mul(*b).wrapping_add(sum))
            }
            (Value::U32(a), Value::U32(b), None) => Value::U32(a.wrapping_mul(*b)),
            (Value::U32(a), Value::U32(b), Some(Value::U32(sum))) => {
                Value::U32(a.wrapping_mul(*b).wrapping_add(sum))
            }
            _ => return None,
        });
    }
    match sum? {
        Value::F32(sum) => Some(precision.round(sum)),
        integer => Some(integer),
    }
}
