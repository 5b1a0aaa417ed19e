//! Walks naga's intermediate representation: statements, calls, pointers.

use naga::{Block, Expression, Function, Handle, Range, Span, Statement, SwitchValue};

use super::program::Program;
use super::value::{Unsupported, Value};
use crate::snippet::bounds::MOST_TURNS;

/// Statements in one call: the longest function that there may be, in loops of the most turns, may have more.
const STEP_LIMIT: u32 = 1 << 22;

/// Why a call gave no value, and where.
pub(super) struct Fail {
    pub(super) span: Span,
    pub(super) message: String,
}

/// One call of the caller's function.
pub(super) struct Machine<'a> {
    pub(super) program: &'a Program,
    pos_q: &'a dyn Fn(u32, u32) -> i32,
    /// Local variables of all frames; pointers are indices into it.
    pub(super) slots: Vec<Value>,
    steps: u32,
    /// Turns of all loops.
    turns: u32,
}

/// One function that runs.
pub(super) struct Frame<'a> {
    pub(super) function: &'a Function,
    pub(super) arguments: Vec<Value>,
    /// Values of the expressions emitted so far.
    values: Vec<Option<Value>>,
    /// Where its local variables begin among the slots.
    pub(super) first_slot: usize,
}

enum Flow {
    Next,
    Break,
    Continue,
    Return(Option<Value>),
}

impl<'a> Machine<'a> {
    /// A machine without a frame.
    pub(super) fn new(program: &'a Program, pos_q: &'a dyn Fn(u32, u32) -> i32) -> Self {
        Self { program, pos_q, slots: Vec::new(), steps: 0, turns: 0 }
    }

    /// Runs a function; gives what it returns.
    pub(super) fn call(
        &mut self,
        function: Handle<Function>,
        arguments: Vec<Value>,
    ) -> Result<Option<Value>, Fail> {
        if Some(function) == self.program.pos_q {
            let [Value::U32(b), Value::U32(q)] = arguments[..] else { return Ok(None) };
            return Ok(Some(Value::I32((self.pos_q)(b, q))));
        }
        let module = &self.program.parsed.module;
        let function = &module.functions[function];
        let first_slot = self.slots.len();
        let values = vec![None; function.expressions.len()];
        let mut frame = Frame { function, arguments, values, first_slot };
        for (handle, variable) in function.local_variables.iter() {
            let span = function.local_variables.get_span(handle);
            let value = match variable.init {
                Some(init) => self.eval(&frame, init)?,
                None => Value::zero(module, variable.ty).map_err(|what| at(span, what))?,
            };
            self.slots.push(value);
        }
        let flow = self.run(&mut frame, &function.body)?;
        self.slots.truncate(first_slot);
        match flow {
            Flow::Return(value) => Ok(value),
            Flow::Next | Flow::Break | Flow::Continue => Ok(None),
        }
    }

    fn run(&mut self, frame: &mut Frame<'a>, block: &'a Block) -> Result<Flow, Fail> {
        for (statement, span) in block.span_iter() {
            self.steps += 1;
            if self.steps > STEP_LIMIT {
                let message = format!("still running after {STEP_LIMIT} statements");
                return Err(Fail { span: *span, message });
            }
            match self.step(frame, statement, *span)? {
                Flow::Next => {}
                other => return Ok(other),
            }
        }
        Ok(Flow::Next)
    }

    fn step(
        &mut self,
        frame: &mut Frame<'a>,
        statement: &'a Statement,
        span: Span,
    ) -> Result<Flow, Fail> {
        match statement {
            Statement::Emit(range) => self.emit(frame, range)?,
            Statement::Block(inner) => return self.run(frame, inner),
            Statement::If { condition, accept, reject } => {
                let condition = self.condition(frame, *condition)?;
                return self.run(frame, if condition { accept } else { reject });
            }
            Statement::Switch { selector, cases } => {
                let selector = self.eval(frame, *selector)?;
                return self.switch(frame, &selector, cases);
            }
            Statement::Loop { body, continuing, break_if } => {
                return self.repeat(frame, body, continuing, *break_if);
            }
            Statement::Break => return Ok(Flow::Break),
            Statement::Continue => return Ok(Flow::Continue),
            Statement::Return { value } => {
                let value = value.map(|value| self.eval(frame, value)).transpose()?;
                return Ok(Flow::Return(value));
            }
            Statement::Store { pointer, value } => {
                let pointer = self.eval(frame, *pointer)?;
                let value = self.eval(frame, *value)?;
                self.store(&pointer, value).map_err(|what| at(span, what))?;
            }
            Statement::Call { function, arguments, result } => {
                let value = self.call_with(frame, *function, arguments)?;
                if let Some(result) = result {
                    frame.values[result.index()] = value;
                }
            }
            _ => return Err(at(span, Unsupported("this statement".to_owned()))),
        }
        Ok(Flow::Next)
    }

    /// Computes expressions where the statement stands.
    fn emit(&self, frame: &mut Frame<'a>, range: &Range<Expression>) -> Result<(), Fail> {
        for handle in range.clone() {
            frame.values[handle.index()] = Some(self.compute(frame, handle)?);
        }
        Ok(())
    }

    /// Calls a function with the values of expressions.
    fn call_with(
        &mut self,
        frame: &Frame<'a>,
        function: Handle<Function>,
        arguments: &[Handle<Expression>],
    ) -> Result<Option<Value>, Fail> {
        let arguments = arguments.iter().map(|&argument| self.eval(frame, argument));
        let arguments = arguments.collect::<Result<Vec<_>, _>>()?;
        self.call(function, arguments)
    }

    fn switch(
        &mut self,
        frame: &mut Frame<'a>,
        selector: &Value,
        cases: &'a [naga::SwitchCase],
    ) -> Result<Flow, Fail> {
        let wanted = match selector {
            Value::I32(value) => SwitchValue::I32(*value),
            Value::U32(value) => SwitchValue::U32(*value),
            _ => SwitchValue::Default,
        };
        let find = |wanted| cases.iter().position(|case| case.value == wanted);
        let first = find(wanted).or_else(|| find(SwitchValue::Default)).unwrap_or(cases.len());
        for case in &cases[first..] {
            match self.run(frame, &case.body)? {
                Flow::Next if case.fall_through => {}
                Flow::Next | Flow::Break => break,
                other => return Ok(other),
            }
        }
        Ok(Flow::Next)
    }

    fn repeat(
        &mut self,
        frame: &mut Frame<'a>,
        body: &'a Block,
        continuing: &'a Block,
        break_if: Option<Handle<Expression>>,
    ) -> Result<Flow, Fail> {
        loop {
            self.turns += 1;
            if self.turns > MOST_TURNS {
                let message = format!("loops still running after {MOST_TURNS} turns");
                let span = body.span_iter().next().map_or(Span::UNDEFINED, |(_, span)| *span);
                return Err(Fail { span, message });
            }
            match self.run(frame, body)? {
                Flow::Break => return Ok(Flow::Next),
                Flow::Return(value) => return Ok(Flow::Return(value)),
                Flow::Next | Flow::Continue => {}
            }
            self.run(frame, continuing)?;
            if let Some(condition) = break_if
                && self.condition(frame, condition)?
            {
                return Ok(Flow::Next);
            }
        }
    }

    fn condition(&self, frame: &Frame<'a>, handle: Handle<Expression>) -> Result<bool, Fail> {
        let span = frame.function.expressions.get_span(handle);
        self.eval(frame, handle)?.as_bool().map_err(|what| at(span, what))
    }

    /// The value of an expression: the one that was emitted, or computed now (constants, arguments, variables).
    pub(super) fn eval(
        &self,
        frame: &Frame<'a>,
        handle: Handle<Expression>,
    ) -> Result<Value, Fail> {
        match &frame.values[handle.index()] {
            Some(value) => Ok(value.clone()),
            None => self.compute(frame, handle),
        }
    }

    fn compute(&self, frame: &Frame<'a>, handle: Handle<Expression>) -> Result<Value, Fail> {
        self.expression(frame, handle).map_err(|stop| match stop {
            Stop::Inner(fail) => fail,
            Stop::Here(what) => at(frame.function.expressions.get_span(handle), what),
        })
    }
}

/// Why an expression has no value: an operand has none, or it has none itself.
pub(super) enum Stop {
    Inner(Fail),
    Here(Unsupported),
}

impl From<Fail> for Stop {
    fn from(fail: Fail) -> Self {
        Self::Inner(fail)
    }
}

impl From<Unsupported> for Stop {
    fn from(what: Unsupported) -> Self {
        Self::Here(what)
    }
}

fn at(span: Span, what: Unsupported) -> Fail {
    Fail { span, message: format!("the CPU reference cannot run {}", what.0) }
}
