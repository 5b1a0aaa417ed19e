//! Values of the caller's WGSL on the CPU.

use naga::{ArraySize, Handle, Literal, Module, ScalarKind, Type, TypeInner};

/// A value; an f32 is kept as f64.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    F32(f64),
    I32(i32),
    U32(u32),
    Bool(bool),
    /// A vector, matrix (of columns), array or struct.
    Composite(Vec<Value>),
    Pointer(Place),
}

/// What a pointer points at: a root and the indices from there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Place {
    pub(super) root: Root,
    pub(super) path: Vec<usize>,
}

/// A local variable by its slot, or an aux tensor by its place in the list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Root {
    Slot(usize),
    Aux(usize),
}

/// An operation that this interpreter does not have: what it is.
#[derive(Debug)]
pub(super) struct Unsupported(pub(super) String);

impl Value {
    /// A literal's value.
    pub(super) fn of_literal(literal: Literal) -> Result<Self, Unsupported> {
        match literal {
            Literal::F32(value) => Ok(Self::F32(f64::from(value))),
            Literal::I32(value) => Ok(Self::I32(value)),
            Literal::U32(value) => Ok(Self::U32(value)),
            Literal::Bool(value) => Ok(Self::Bool(value)),
            other => Err(Unsupported(format!("literal {other:?}"))),
        }
    }

    /// The zero of a type.
    pub(super) fn zero(module: &Module, ty: Handle<Type>) -> Result<Self, Unsupported> {
        let repeat = |value: Value, count: usize| Self::Composite(vec![value; count]);
        match &module.types[ty].inner {
            TypeInner::Scalar(scalar) => zero_scalar(*scalar),
            TypeInner::Vector { size, scalar } => Ok(repeat(zero_scalar(*scalar)?, *size as usize)),
            TypeInner::Matrix { columns, rows, scalar } => {
                let column = repeat(zero_scalar(*scalar)?, *rows as usize);
                Ok(repeat(column, *columns as usize))
            }
            TypeInner::Array { base, size: ArraySize::Constant(count), .. } => {
                Ok(repeat(Self::zero(module, *base)?, count.get() as usize))
            }
            TypeInner::Struct { members, .. } => members
                .iter()
                .map(|member| Self::zero(module, member.ty))
                .collect::<Result<_, _>>()
                .map(Self::Composite),
            _ => Err(Unsupported("a value of this type".to_owned())),
        }
    }

    /// Puts components together; vectors among them are spread where the whole is a vector.
    pub(super) fn compose(module: &Module, ty: Handle<Type>, components: Vec<Value>) -> Self {
        if !matches!(module.types[ty].inner, TypeInner::Vector { .. }) {
            return Self::Composite(components);
        }
        let spread = components.into_iter().flat_map(|component| match component {
            Self::Composite(inner) => inner,
            scalar => vec![scalar],
        });
        Self::Composite(spread.collect())
    }

    /// The truth value, where it is one.
    pub(super) fn as_bool(&self) -> Result<bool, Unsupported> {
        match self {
            Self::Bool(value) => Ok(*value),
            other => Err(Unsupported(format!("{other:?} as a condition"))),
        }
    }

    /// An index; a negative one is far out of range, as on the device.
    pub(super) fn as_index(&self) -> Result<usize, Unsupported> {
        match self {
            Self::U32(value) => Ok(*value as usize),
            Self::I32(value) => Ok(*value as u32 as usize),
            other => Err(Unsupported(format!("{other:?} as an index"))),
        }
    }

    /// The component at `index`, the last one beyond the end.
    pub(super) fn component(&self, index: usize) -> Result<&Value, Unsupported> {
        match self {
            Self::Composite(parts) if !parts.is_empty() => Ok(&parts[index.min(parts.len() - 1)]),
            other => Err(Unsupported(format!("a component of {other:?}"))),
        }
    }

    /// As [`Value::component`], to write to.
    pub(super) fn component_mut(&mut self, index: usize) -> Result<&mut Value, Unsupported> {
        match self {
            Self::Composite(parts) if !parts.is_empty() => {
                let last = parts.len() - 1;
                Ok(&mut parts[index.min(last)])
            }
            _ => Err(Unsupported("a component of a scalar".to_owned())),
        }
    }
}

fn zero_scalar(scalar: naga::Scalar) -> Result<Value, Unsupported> {
    match (scalar.kind, scalar.width) {
        (ScalarKind::Float, 4) => Ok(Value::F32(0.0)),
        (ScalarKind::Sint, 4) => Ok(Value::I32(0)),
        (ScalarKind::Uint, 4) => Ok(Value::U32(0)),
        (ScalarKind::Bool, _) => Ok(Value::Bool(false)),
        _ => Err(Unsupported(format!("scalar {scalar:?}"))),
    }
}
