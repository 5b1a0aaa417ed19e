//! Operators and casts of WGSL, on vectors by component.

use naga::{BinaryOperator, ScalarKind, UnaryOperator};

use super::value::{Unsupported, Value};

/// How many digits floating-point results keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precision {
    /// All that f64 has: the truth.
    F64,
    /// Every result rounded to f32, as a device would.
    F32,
}

impl Precision {
    /// A number as this precision holds it.
    pub(super) fn round(self, value: f64) -> Value {
        Value::F32(match self {
            Self::F64 => value,
            Self::F32 => f64::from(value as f32),
        })
    }
}

/// Applies `f` by component where an operand is a vector; scalars among them go with every component.
pub(super) fn by_component(
    operands: &[Value],
    f: &dyn Fn(&[Value]) -> Result<Value, Unsupported>,
) -> Result<Value, Unsupported> {
    let length = operands.iter().find_map(|operand| match operand {
        Value::Composite(parts) => Some(parts.len()),
        _ => None,
    });
    let Some(length) = length else { return f(operands) };
    let component = |index: usize| {
        let parts = operands.iter().map(|operand| match operand {
            Value::Composite(_) => operand.component(index).cloned(),
            scalar => Ok(scalar.clone()),
        });
        by_component(&parts.collect::<Result<Vec<_>, _>>()?, f)
    };
    (0..length).map(component).collect::<Result<_, _>>().map(Value::Composite)
}

/// An operator of one operand.
pub(super) fn unary(op: UnaryOperator, operand: Value) -> Result<Value, Unsupported> {
    by_component(&[operand], &|operands| match (op, &operands[0]) {
        (UnaryOperator::Negate, Value::F32(x)) => Ok(Value::F32(-x)),
        (UnaryOperator::Negate, Value::I32(x)) => Ok(Value::I32(x.wrapping_neg())),
        (UnaryOperator::LogicalNot | UnaryOperator::BitwiseNot, Value::Bool(x)) => {
            Ok(Value::Bool(!x))
        }
        (UnaryOperator::BitwiseNot, Value::I32(x)) => Ok(Value::I32(!x)),
        (UnaryOperator::BitwiseNot, Value::U32(x)) => Ok(Value::U32(!x)),
        (op, operand) => Err(Unsupported(format!("{op:?} of {operand:?}"))),
    })
}

/// An operator of two operands.
pub(super) fn binary(
    op: BinaryOperator,
    left: Value,
    right: Value,
    precision: Precision,
) -> Result<Value, Unsupported> {
    if op == BinaryOperator::Multiply && (is_matrix(&left) || is_matrix(&right)) {
        return Err(Unsupported("multiplication of matrices".to_owned()));
    }
    by_component(&[left, right], &|operands| {
        let result = match (&operands[0], &operands[1]) {
            (Value::F32(a), Value::F32(b)) => float(op, *a, *b, precision),
            (Value::I32(a), Value::I32(b)) => signed(op, *a, *b),
            (Value::U32(a), Value::U32(b)) => unsigned(op, *a, *b),
            (Value::I32(a), Value::U32(b)) => match op {
                BinaryOperator::ShiftLeft => Some(Value::I32(a.wrapping_shl(*b))),
                BinaryOperator::ShiftRight => Some(Value::I32(a.wrapping_shr(*b))),
                _ => None,
            },
            (Value::Bool(a), Value::Bool(b)) => logical(op, *a, *b),
            _ => None,
        };
        result.ok_or_else(|| Unsupported(format!("{op:?} of {operands:?}")))
    })
}

fn is_matrix(value: &Value) -> bool {
    matches!(value, Value::Composite(parts) if matches!(parts.first(), Some(Value::Composite(_))))
}

fn compared<T: PartialOrd>(op: BinaryOperator, a: T, b: T) -> Option<Value> {
    Some(Value::Bool(match op {
        BinaryOperator::Equal => a == b,
        BinaryOperator::NotEqual => a != b,
        BinaryOperator::Less => a < b,
        BinaryOperator::LessEqual => a <= b,
        BinaryOperator::Greater => a > b,
        BinaryOperator::GreaterEqual => a >= b,
        _ => return None,
    }))
}

fn float(op: BinaryOperator, a: f64, b: f64, precision: Precision) -> Option<Value> {
    Some(precision.round(match op {
        BinaryOperator::Add => a + b,
        BinaryOperator::Subtract => a - b,
        BinaryOperator::Multiply => a * b,
        BinaryOperator::Divide => a / b,
        BinaryOperator::Modulo => a % b,
        _ => return compared(op, a, b),
    }))
}

/// Overflow wraps; `x / 0` is x and `x % 0` is 0, as WGSL says.
fn signed(op: BinaryOperator, a: i32, b: i32) -> Option<Value> {
    Some(Value::I32(match op {
        BinaryOperator::Add => a.wrapping_add(b),
        BinaryOperator::Subtract => a.wrapping_sub(b),
        BinaryOperator::Multiply => a.wrapping_mul(b),
        BinaryOperator::Divide if b == 0 => a,
        BinaryOperator::Divide => a.wrapping_div(b),
        BinaryOperator::Modulo if b == 0 => 0,
        BinaryOperator::Modulo => a.wrapping_rem(b),
        BinaryOperator::And => a & b,
        BinaryOperator::ExclusiveOr => a ^ b,
        BinaryOperator::InclusiveOr => a | b,
        _ => return compared(op, a, b),
    }))
}

fn unsigned(op: BinaryOperator, a: u32, b: u32) -> Option<Value> {
    Some(Value::U32(match op {
        BinaryOperator::Add => a.wrapping_add(b),
        BinaryOperator::Subtract => a.wrapping_sub(b),
        BinaryOperator::Multiply => a.wrapping_mul(b),
        BinaryOperator::Divide => a.checked_div(b).unwrap_or(a),
        BinaryOperator::Modulo => a.checked_rem(b).unwrap_or(0),
        BinaryOperator::And => a & b,
        BinaryOperator::ExclusiveOr => a ^ b,
        BinaryOperator::InclusiveOr => a | b,
        BinaryOperator::ShiftLeft => a.wrapping_shl(b),
        BinaryOperator::ShiftRight => a.wrapping_shr(b),
        _ => return compared(op, a, b),
    }))
}

fn logical(op: BinaryOperator, a: bool, b: bool) -> Option<Value> {
    Some(Value::Bool(match op {
        BinaryOperator::And | BinaryOperator::LogicalAnd => a & b,
        BinaryOperator::InclusiveOr | BinaryOperator::LogicalOr => a | b,
        BinaryOperator::ExclusiveOr | BinaryOperator::NotEqual => a != b,
        BinaryOperator::Equal => a == b,
        _ => return None,
    }))
}

/// `T(value)`, or `bitcast` where `converts` is false.
pub(super) fn cast(
    value: Value,
    kind: ScalarKind,
    converts: bool,
    precision: Precision,
) -> Result<Value, Unsupported> {
    by_component(&[value], &|operands| {
        let operand = &operands[0];
        let result =
            if converts { convert(operand, kind, precision) } else { bitcast(operand, kind) };
        result.ok_or_else(|| Unsupported(format!("a cast of {operand:?} to {kind:?}")))
    })
}

fn convert(operand: &Value, kind: ScalarKind, precision: Precision) -> Option<Value> {
    let number = match operand {
        Value::F32(x) => *x,
        Value::I32(x) => f64::from(*x),
        Value::U32(x) => f64::from(*x),
        Value::Bool(x) => f64::from(u8::from(*x)),
        _ => return None,
    };
    Some(match (kind, operand) {
        (ScalarKind::Float, _) => precision.round(number),
        (ScalarKind::Bool, _) => Value::Bool(number != 0.0),
        (ScalarKind::Sint, Value::U32(x)) => Value::I32(*x as i32),
        (ScalarKind::Uint, Value::I32(x)) => Value::U32(*x as u32),
        // The nearest f32 within the integer's range, as WGSL clamps.
        (ScalarKind::Sint, Value::F32(x)) => Value::I32(x.min(2_147_483_520.0) as i32),
        (ScalarKind::Uint, Value::F32(x)) => Value::U32(x.min(4_294_967_040.0) as u32),
        (ScalarKind::Sint, _) => Value::I32(number as i32),
        (ScalarKind::Uint, _) => Value::U32(number as u32),
        _ => return None,
    })
}

fn bitcast(operand: &Value, kind: ScalarKind) -> Option<Value> {
    let bits = match operand {
        Value::F32(x) => (*x as f32).to_bits(),
        Value::I32(x) => *x as u32,
        Value::U32(x) => *x,
        _ => return None,
    };
    match kind {
        ScalarKind::Float => Some(Value::F32(f64::from(f32::from_bits(bits)))),
        ScalarKind::Sint => Some(Value::I32(bits as i32)),
        ScalarKind::Uint => Some(Value::U32(bits)),
        _ => None,
    }
}
