//! Expressions: from a handle to a value.

use naga::{Expression, Handle, Module, RelationalFunction};

use super::machine::{Frame, Machine, Stop};
use super::math::math;
use super::operators::{binary, by_component, cast, unary};
use super::value::{Place, Root, Unsupported, Value};

/// A constant at module scope.
pub(super) fn constant(module: &Module, handle: Handle<Expression>) -> Result<Value, Unsupported> {
    match &module.global_expressions[handle] {
        Expression::Literal(literal) => Value::of_literal(*literal),
        Expression::Constant(inner) => constant(module, module.constants[*inner].init),
        Expression::ZeroValue(ty) => Value::zero(module, *ty),
        Expression::Compose { ty, components } => {
            let parts = components.iter().map(|&part| constant(module, part));
            Ok(Value::compose(module, *ty, parts.collect::<Result<_, _>>()?))
        }
        Expression::Splat { size, value } => {
            Ok(Value::Composite(vec![constant(module, *value)?; *size as usize]))
        }
        other => Err(Unsupported(format!("the constant {other:?}"))),
    }
}

impl<'a> Machine<'a> {
    /// The value of an expression.
    pub(super) fn expression(
        &self,
        frame: &Frame<'a>,
        handle: Handle<Expression>,
    ) -> Result<Value, Stop> {
        let module = &self.program.parsed.module;
        Ok(match &frame.function.expressions[handle] {
            Expression::Literal(literal) => Value::of_literal(*literal)?,
            Expression::Constant(inner) => constant(module, module.constants[*inner].init)?,
            Expression::ZeroValue(ty) => Value::zero(module, *ty)?,
            Expression::FunctionArgument(index) => frame
                .arguments
                .get(*index as usize)
                .cloned()
                .ok_or_else(|| Unsupported("an argument that was not passed".to_owned()))?,
            Expression::LocalVariable(local) => {
                pointer(Root::Slot(frame.first_slot + local.index()))
            }
            Expression::GlobalVariable(global) => pointer(Root::Aux(global.index())),
            Expression::CallResult(_) => {
                return Err(Unsupported("the result of a function without one".to_owned()).into());
            }
            Expression::Load { pointer } => self.load(&self.eval(frame, *pointer)?)?,
            Expression::ArrayLength(array) => self.array_length(&self.eval(frame, *array)?)?,
            expression => match self.composite(frame, expression)? {
                Some(value) => value,
                None => self.operation(frame, expression)?,
            },
        })
    }

    /// Vectors, matrices, arrays, structs: putting together and taking apart.
    fn composite(&self, frame: &Frame<'a>, expression: &Expression) -> Result<Option<Value>, Stop> {
        Ok(Some(match expression {
            Expression::Compose { ty, components } => {
                let parts = components.iter().map(|&part| self.eval(frame, part));
                let parts = parts.collect::<Result<_, _>>()?;
                Value::compose(&self.program.parsed.module, *ty, parts)
            }
            Expression::Splat { size, value } => {
                Value::Composite(vec![self.eval(frame, *value)?; *size as usize])
            }
            Expression::Access { base, index } => {
                let index = self.eval(frame, *index)?.as_index()?;
                part_of(self.eval(frame, *base)?, index)?
            }
            Expression::AccessIndex { base, index } => {
                part_of(self.eval(frame, *base)?, *index as usize)?
            }
            Expression::Swizzle { size, vector, pattern } => {
                let vector = self.eval(frame, *vector)?;
                let parts = pattern[..*size as usize].iter();
                let parts = parts.map(|&part| vector.component(part as usize).cloned());
                Value::Composite(parts.collect::<Result<_, _>>()?)
            }
            _ => return Ok(None),
        }))
    }

    fn operation(&self, frame: &Frame<'a>, expression: &Expression) -> Result<Value, Stop> {
        let value = |handle: Handle<Expression>| self.eval(frame, handle);
        let precision = self.program.precision;
        Ok(match expression {
            Expression::Unary { op, expr } => unary(*op, value(*expr)?)?,
            Expression::Binary { op, left, right } => {
                binary(*op, value(*left)?, value(*right)?, precision)?
            }
            Expression::Select { condition, accept, reject } => {
                select(value(*condition)?, value(*accept)?, value(*reject)?)?
            }
            Expression::Relational { fun, argument } => relational(*fun, &value(*argument)?)?,
            Expression::Math { fun, arg, arg1, arg2, arg3 } => {
                let args = [Some(*arg), *arg1, *arg2, *arg3].into_iter().flatten().map(value);
                math(*fun, &args.collect::<Result<Vec<_>, _>>()?, precision)?
            }
            Expression::As { expr, kind, convert } => {
                // Widths other than 4 (bool has 1) are types that this interpreter does not have.
                match convert {
                    Some(1 | 4) | None => cast(value(*expr)?, *kind, convert.is_some(), precision)?,
                    Some(width) => {
                        return Err(Unsupported(format!("{kind:?} of {width} bytes")).into());
                    }
                }
            }
            other => return Err(Unsupported(format!("{other:?}")).into()),
        })
    }

    /// Reads what a pointer points at; an aux tensor gives its last element beyond its end.
    fn load(&self, pointer: &Value) -> Result<Value, Unsupported> {
        let Value::Pointer(Place { root, path }) = pointer else {
            return Err(Unsupported("a load without a pointer".to_owned()));
        };
        match (root, path.as_slice()) {
            (Root::Slot(slot), path) => {
                let mut value = &self.slots[*slot];
                for &index in path {
                    value = value.component(index)?;
                }
                Ok(value.clone())
            }
            (Root::Aux(global), [index]) => Ok(self.program.aux_values(*global)?.get(*index)),
            (Root::Aux(_), _) => Err(Unsupported("an aux tensor as a whole".to_owned())),
        }
    }

    /// Writes what a pointer stands for.
    pub(super) fn store(&mut self, pointer: &Value, value: Value) -> Result<(), Unsupported> {
        let Value::Pointer(Place { root: Root::Slot(slot), path }) = pointer else {
            return Err(Unsupported("a store to anything but a local variable".to_owned()));
        };
        let mut target = &mut self.slots[*slot];
        for &index in path {
            target = target.component_mut(index)?;
        }
        *target = value;
        Ok(())
    }

    fn array_length(&self, array: &Value) -> Result<Value, Unsupported> {
        match array {
            Value::Pointer(Place { root: Root::Aux(global), path }) if path.is_empty() => {
                Ok(Value::U32(self.program.aux_values(*global)?.len() as u32))
            }
            _ => Err(Unsupported("the length of this array".to_owned())),
        }
    }
}

fn pointer(root: Root) -> Value {
    Value::Pointer(Place { root, path: Vec::new() })
}

fn part_of(base: Value, index: usize) -> Result<Value, Unsupported> {
    match base {
        Value::Pointer(Place { root, mut path }) => {
            path.push(index);
            Ok(Value::Pointer(Place { root, path }))
        }
        value => value.component(index).cloned(),
    }
}

fn select(condition: Value, accept: Value, reject: Value) -> Result<Value, Unsupported> {
    if let Value::Bool(condition) = condition {
        return Ok(if condition { accept } else { reject });
    }
    by_component(&[condition, accept, reject], &|operands| {
        Ok(operands[if operands[0].as_bool()? { 1 } else { 2 }].clone())
    })
}

fn relational(fun: RelationalFunction, argument: &Value) -> Result<Value, Unsupported> {
    let bools = match argument {
        Value::Composite(parts) => parts.iter().map(Value::as_bool).collect::<Result<_, _>>()?,
        scalar => vec![scalar.as_bool()?],
    };
    match fun {
        RelationalFunction::All => Ok(Value::Bool(bools.into_iter().all(|b| b))),
        RelationalFunction::Any => Ok(Value::Bool(bools.into_iter().any(|b| b))),
        other => Err(Unsupported(format!("{other:?}"))),
    }
}
