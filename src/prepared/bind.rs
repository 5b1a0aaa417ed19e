//! Binding a call's buffers: bind groups of its steps, and the kernels that take shared buffers.

use std::sync::Arc;

use super::Prepared;
use super::given::{Needed, resolved};
use crate::error::{Error, GpuError, SpecError};
use crate::gpu::bound::{BoundCall, Given, Givens, bound_key};
use crate::gpu::lock::lock;
use crate::gpu::pipeline::Pipeline;
use crate::gpu::recording::{Bound, Plan, Slot, Step};
use crate::operator::Operator;

/// A step whose tensors share a buffer with what it writes: its bindings that do, and its kernel, which declares them
/// writable.
#[derive(Debug)]
pub(super) struct Sharing {
    step: usize,
    bindings: Vec<usize>,
    pipeline: Arc<Pipeline>,
}

/// What a step's bindings are bound to.
#[derive(Debug)]
pub(super) struct StepSlots(Vec<BindingSlot>);

/// What a binding is bound to.
#[derive(Clone, Copy, Debug)]
enum BindingSlot {
    /// Nothing: the tensor has no element.
    StandIn,
    Scratch(usize),
    /// By its place among the problem's tensors.
    Tensor(usize),
}

impl StepSlots {
    /// Of every step.
    pub fn of(plan: &Plan, needed: &[Needed]) -> Vec<Self> {
        let slot = |Bound { slot, size, .. }: &Bound| match slot {
            _ if *size == 0 => BindingSlot::StandIn,
            Slot::Scratch(index) => BindingSlot::Scratch(*index),
            Slot::Tensor(name) => {
                let place = needed.iter().position(|needed| needed.name == *name);
                place.map_or(BindingSlot::StandIn, BindingSlot::Tensor)
            }
        };
        let steps = plan.steps.iter();
        steps.map(|step| Self(step.bindings.iter().map(slot).collect())).collect()
    }

    /// The bindings that are read alone, of a buffer that the step writes by another binding.
    fn shared(&self, step: &Step, tensors: &[Given<'_>]) -> Vec<usize> {
        let buffer = |slot: &BindingSlot| match slot {
            BindingSlot::Tensor(place) => Some(tensors[*place].buffer),
            BindingSlot::StandIn | BindingSlot::Scratch(_) => None,
        };
        let bindings = || self.0.iter().map(buffer).zip(step.shader.bindings());
        let is_written = |wanted: &wgpu::Buffer| {
            bindings().any(|(buffer, declared)| declared.writes && buffer == Some(wanted))
        };
        let shared = bindings()
            .enumerate()
            .filter(|(_, (buffer, declared))| !declared.writes && buffer.is_some_and(is_written));
        shared.map(|(binding, _)| binding).collect()
    }
}

impl<O: Operator> Prepared<O> {
    /// The call bound to buffers, as it was kept or anew.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn bound<'a>(&self, given: impl Givens<'a>) -> Result<Arc<BoundCall>, Error> {
        match self.kept(given.clone()) {
            Some(kept) => Ok(kept),
            None => pollster::block_on(self.bound_anew(given)),
        }
    }

    /// The call bound to buffers, as it was kept or anew, where its kernels are compiled.
    #[cfg(target_arch = "wasm32")]
    pub(crate) fn bound<'a>(&self, given: impl Givens<'a>) -> Result<Arc<BoundCall>, Error> {
        if let Some(kept) = self.kept(given.clone()) {
            return Ok(kept);
        }
        let tensors = self.resolve(given.clone())?;
        match self.uncompiled(&tensors).first() {
            None => self.bind_and_keep(given, &tensors),
            Some((step, bindings)) => {
                let name = &self.plan.steps[*step].shader.bindings()[bindings[0]].name;
                let expected = "a buffer of its own, or Engine::record_async, which may compile";
                Err(SpecError::value(name, expected, "a buffer that is written").into())
            }
        }
    }

    /// [`Prepared::bound`] that may wait.
    pub(crate) async fn bound_async<'a>(
        &self,
        given: impl Givens<'a>,
    ) -> Result<Arc<BoundCall>, Error> {
        match self.kept(given.clone()) {
            Some(kept) => Ok(kept),
            None => self.bound_anew(given).await,
        }
    }

    async fn bound_anew<'a>(&self, given: impl Givens<'a>) -> Result<Arc<BoundCall>, Error> {
        let tensors = self.resolve(given.clone())?;
        self.compile_sharing(&tensors).await?;
        self.bind_and_keep(given, &tensors)
    }

    /// The call bound to buffers, of which nothing is kept.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn bind_once<'a>(&self, given: impl Givens<'a>) -> Result<BoundCall, Error> {
        let tensors = self.resolve(given)?;
        pollster::block_on(self.compile_sharing(&tensors))?;
        Ok(self.bind(&tensors)?.0)
    }

    /// The call bound to buffers that share none with what is written, of which nothing is kept.
    #[cfg(target_arch = "wasm32")]
    pub(super) fn bind_once<'a>(&self, given: impl Givens<'a>) -> Result<BoundCall, Error> {
        Ok(self.bind(&self.resolve(given)?)?.0)
    }

    fn kept<'a>(&self, given: impl Givens<'a>) -> Option<Arc<BoundCall>> {
        self.gpu.bound(bound_key(self.number, given.clone()), self.number, given)
    }

    fn resolve<'a>(&self, given: impl Givens<'a>) -> Result<Vec<Given<'a>>, SpecError> {
        let tensors = resolved(&self.operator, &self.needed, given)?;
        if cfg!(target_arch = "wasm32") {
            self.refuse_neighbours(&tensors)?;
        }
        Ok(tensors)
    }

    fn bind_and_keep<'a>(
        &self,
        given: impl Givens<'a>,
        tensors: &[Given<'_>],
    ) -> Result<Arc<BoundCall>, Error> {
        let key = bound_key(self.number, given.clone());
        let (mut bound, is_pooled) = self.bind(tensors)?;
        let owned = |it: Given<'_>| (it.name.to_owned(), it.buffer.clone(), it.shift);
        bound.tensors = given.map(owned).collect();
        let bound = Arc::new(bound);
        if is_pooled {
            self.gpu.keep_bound(key, &bound);
        }
        Ok(bound)
    }

    /// What the steps bind, made before anything is recorded: an encoder that takes a wrong binding is spoilt. Says also
    /// whether all of its scratch is the pool's.
    fn bind(&self, tensors: &[Given<'_>]) -> Result<(BoundCall, bool), Error> {
        let (scratch, is_pooled) = self.gpu.scratch(&self.plan.scratch)?;
        let stand_in = self.gpu.stand_in()?;
        let steps = self.gpu.guarded("binding a call's buffers", || {
            let steps = 0..self.plan.steps.len();
            let bind = |index| {
                let pipeline = self.pipeline(index, tensors)?;
                let group = self.bind_group(index, &pipeline, tensors, (&scratch, stand_in));
                Some((pipeline, group))
            };
            steps.map(bind).collect::<Option<Vec<_>>>()
        })?;
        let uncompiled = || GpuError::Validation {
            what: "binding a call's buffers".to_owned(),
            message: "a kernel for tensors of one buffer is not compiled".to_owned(),
        };
        let steps = steps.ok_or_else(uncompiled)?;
        Ok((BoundCall { call: self.number, tensors: Vec::new(), scratch, steps }, is_pooled))
    }

    fn bind_group(
        &self,
        index: usize,
        pipeline: &Pipeline,
        tensors: &[Given<'_>],
        (scratch, stand_in): (&[wgpu::Buffer], &wgpu::Buffer),
    ) -> wgpu::BindGroup {
        let step = &self.plan.steps[index];
        let params = wgpu::BufferBinding {
            buffer: &self.params.buffer,
            offset: self.params.first + self.param_offsets[index],
            size: wgpu::BufferSize::new(step.params.len() as u64),
        };
        let entry = |binding: usize, resource| wgpu::BindGroupEntry {
            binding: binding as u32,
            resource: wgpu::BindingResource::Buffer(resource),
        };
        let mut entries = vec![entry(0, params)];
        for (binding, (slot, bound)) in self.slots[index].0.iter().zip(&step.bindings).enumerate() {
            let (buffer, shift) = match *slot {
                BindingSlot::StandIn => (stand_in, 0),
                BindingSlot::Scratch(index) => (&scratch[index], 0),
                BindingSlot::Tensor(place) => (tensors[place].buffer, tensors[place].shift),
            };
            let size = wgpu::BufferSize::new(bound.size);
            let offset = bound.offset + shift;
            entries.push(entry(binding + 1, wgpu::BufferBinding { buffer, offset, size }));
        }
        self.gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(step.shader.entry),
            layout: &pipeline.layout,
            entries: &entries,
        })
    }

    /// The kernel of a step; `None` where its tensors share buffers as they never did.
    fn pipeline(&self, index: usize, tensors: &[Given<'_>]) -> Option<Arc<Pipeline>> {
        let bindings = self.slots[index].shared(&self.plan.steps[index], tensors);
        if bindings.is_empty() {
            return Some(Arc::clone(&self.pipelines[index]));
        }
        let sharing = lock(&self.sharing);
        let known = sharing.iter().find(|it| it.step == index && it.bindings == bindings);
        known.map(|sharing| Arc::clone(&sharing.pipeline))
    }

    /// The steps whose kernels are not compiled yet for tensors that share buffers as these do.
    fn uncompiled(&self, tensors: &[Given<'_>]) -> Vec<(usize, Vec<usize>)> {
        let unknown = |index: &usize| self.pipeline(*index, tensors).is_none();
        let steps = (0..self.slots.len()).filter(unknown);
        let shared = |index: usize| self.slots[index].shared(&self.plan.steps[index], tensors);
        steps.map(|index| (index, shared(index))).collect()
    }

    async fn compile_sharing(&self, tensors: &[Given<'_>]) -> Result<(), Error> {
        for (step, bindings) in self.uncompiled(tensors) {
            let shader = self.plan.steps[step].shader.with_writable(&bindings);
            let pipeline = self.gpu.pipeline(&Arc::new(shader)).await?;
            lock(&self.sharing).push(Sharing { step, bindings, pipeline });
        }
        Ok(())
    }

    /// Browsers bind no range that is written where another one lies, and ranges begin at multiples of the device's
    /// alignment. What may be written decides nothing there that a workgroup does together, as whole numbers do.
    fn refuse_neighbours(&self, tensors: &[Given<'_>]) -> Result<(), SpecError> {
        for (slots, step) in self.slots.iter().zip(&self.plan.steps) {
            for binding in slots.shared(step, tensors) {
                if let BindingSlot::Tensor(place) = slots.0[binding]
                    && self.needed[place].is_of_whole_numbers()
                {
                    let expected = "a buffer in which nothing is written, in a browser";
                    return Err(SpecError::value(
                        &self.needed[place].name,
                        expected,
                        "an output's",
                    ));
                }
            }
            self.refuse_neighbours_of(slots, step, tensors)?;
        }
        Ok(())
    }

    fn refuse_neighbours_of(
        &self,
        slots: &StepSlots,
        step: &Step,
        tensors: &[Given<'_>],
    ) -> Result<(), SpecError> {
        let bindings = slots.0.iter().zip(&step.bindings).zip(step.shader.bindings());
        let ranges = bindings.filter_map(|((slot, bound), declared)| match slot {
            BindingSlot::Tensor(place) => {
                let first = bound.offset + tensors[*place].shift;
                Some((&tensors[*place], first..first + bound.size, declared.writes))
            }
            BindingSlot::StandIn | BindingSlot::Scratch(_) => None,
        });
        let ranges: Vec<_> = ranges.collect();
        for (written, range, _) in ranges.iter().filter(|(.., writes)| *writes) {
            let touches = |(other, theirs, _): &&(&Given<'_>, std::ops::Range<u64>, bool)| {
                let apart = theirs.end <= range.start || range.end <= theirs.start;
                other.name != written.name && other.buffer == written.buffer && !apart
            };
            if let Some((other, ..)) = ranges.iter().find(touches) {
                let (name, alignment) = (written.name, self.gpu.limits().storage_alignment);
                let expected =
                    format!("{alignment} bytes to {} in their buffer, in a browser", other.name);
                return Err(SpecError::value(name, expected, "less"));
            }
        }
        Ok(())
    }
}
