//! A plan: dispatches and what they bind, inert until an engine records them.

use std::fmt;
use std::sync::Arc;

use super::limits::GpuLimits;
use super::shader::Shader;
use crate::error::PlanError;

/// The launches of one call, a pure function of the problem, the limits and the tiles. Only this crate makes or
/// changes one:
///
/// ```compile_fail,E0451
/// let plan = tilewise::gpu::recording::Plan { steps: Vec::new(), scratch: Vec::new() };
/// ```
/// ```compile_fail,E0616
/// fn cut_short(mut plan: tilewise::gpu::recording::Plan) {
///     plan.steps.pop();
/// }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub(crate) steps: Vec<Step>,
    pub(crate) scratch: Vec<Scratch>,
}

/// A scratch buffer: what a call's steps tell each other. It comes from the engine's pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scratch {
    /// What it holds.
    pub name: &'static str,
    /// Its size; 0 where this call does not use it.
    pub bytes: u64,
}

/// One dispatch. Only this crate makes or changes one:
///
/// ```compile_fail,E0616
/// fn widened(mut step: tilewise::gpu::recording::Step) {
///     step.bindings[0].size *= 2;
/// }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub(crate) shader: Arc<Shader>,
    pub(crate) params: Vec<u8>,
    pub(crate) bindings: Vec<Bound>,
    pub(crate) grid: Grid,
}

impl Step {
    /// Scratch is bound as far as it goes, no further.
    fn check_scratch(&self, scratch: &[Scratch]) -> Result<(), PlanError> {
        self.bindings.iter().try_for_each(|Bound { slot, offset, size }| {
            let Slot::Scratch(index) = slot else { return Ok(()) };
            let available = scratch.get(*index).map_or(0, |scratch| scratch.bytes);
            let end = offset.saturating_add(*size);
            within(self.shader.entry, ("bytes of the plan's scratch", end, available))
        })
    }

    fn check(&self, limits: &GpuLimits) -> Result<(), PlanError> {
        let Shader { entry, workgroup_size, workgroup_bytes, .. } = *self.shader;
        let bindings = self.bindings.len() as u64;
        let groups = match self.grid {
            Grid::Direct(groups) => groups.into_iter().max().unwrap_or(0),
            Grid::Indirect { .. } => 0, // the kernel that counts them folds them
        };
        let params = self.params.len() as u64;
        for (limit, needed, available) in [
            ("invocations a workgroup", workgroup_size.into(), limits.workgroup_invocations.into()),
            ("bytes of workgroup memory", workgroup_bytes.into(), limits.workgroup_bytes.into()),
            (
                "storage buffers (max_storage_buffers_per_shader_stage)",
                bindings,
                limits.storage_buffers.into(),
            ),
            ("bytes of a uniform binding", params, limits.uniform_binding_bytes),
            ("workgroups a dimension", groups.into(), limits.workgroups_per_dimension.into()),
        ] {
            within(entry, (limit, needed, available))?;
        }
        for (declared, bound) in self.shader.bindings.iter().zip(&self.bindings) {
            let limit = "bytes of one binding (max_storage_buffer_binding_size)";
            let what = &declared.name;
            within(what, (limit, bound.size, limits.storage_binding_bytes))?;
            let Slot::Tensor(name) = &bound.slot else { continue };
            let end = bound.offset.saturating_add(bound.size);
            within(name, (BUFFER_BYTES, end, limits.buffer_bytes))?;
        }
        Ok(())
    }

    /// The kernel.
    pub fn shader(&self) -> &Shader {
        &self.shader
    }

    /// Its params.
    pub fn params(&self) -> &[u8] {
        &self.params
    }

    /// What its storage bindings are bound to, in the order of [`Shader::bindings`].
    pub fn bindings(&self) -> &[Bound] {
        &self.bindings
    }

    /// Workgroups along x, y, z.
    pub const fn grid(&self) -> &Grid {
        &self.grid
    }
}

/// Steps of a plan in the making; those of one kernel hold its text once.
#[derive(Default)]
pub(crate) struct Steps {
    steps: Vec<Step>,
    /// The kernels among them, few of which are different.
    kernels: Vec<Arc<Shader>>,
}

impl Steps {
    /// Adds a step.
    pub fn push(&mut self, mut step: Step) {
        let same =
            |known: &&Arc<Shader>| Arc::ptr_eq(known, &step.shader) || **known == step.shader;
        match self.kernels.iter().find(same) {
            Some(known) => step.shader = Arc::clone(known),
            None => self.kernels.push(Arc::clone(&step.shader)),
        }
        self.steps.push(step);
    }

    /// How many there are.
    pub const fn len(&self) -> u64 {
        self.steps.len() as u64
    }

    /// The steps.
    pub fn into_vec(self) -> Vec<Step> {
        self.steps
    }
}

impl Extend<Step> for Steps {
    fn extend<T: IntoIterator<Item = Step>>(&mut self, steps: T) {
        steps.into_iter().for_each(|step| self.push(step));
    }
}

/// How many workgroups a dispatch has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Grid {
    /// So many along x, y, z.
    Direct([u32; 3]),
    /// What an earlier step wrote: three words of a scratch buffer.
    Indirect {
        /// Index of the scratch buffer, which no binding of the step writes.
        scratch: usize,
        /// Its first byte that counts, a multiple of 4.
        offset: u64,
    },
}

impl fmt::Display for Grid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct([x, y, z]) => write!(f, "{x} x {y} x {z}"),
            Self::Indirect { .. } => f.write_str("as many as the device counts"),
        }
    }
}

impl From<[u32; 3]> for Grid {
    fn from(workgroups: [u32; 3]) -> Self {
        Self::Direct(workgroups)
    }
}

/// A range of a buffer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bound {
    /// Which buffer.
    pub slot: Slot,
    /// First byte, a multiple of the device's alignment.
    pub offset: u64,
    /// Bytes, a multiple of 4; 0 where the tensor is empty (a stand-in is bound).
    pub size: u64,
}

/// A buffer of a call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    /// The caller's tensor of this name.
    Tensor(String),
    /// A scratch buffer of the plan, by index.
    Scratch(usize),
}

/// Most dispatches of a plan: more of them, of a second each, is more than one call should ask for.
const MOST_STEPS: u64 = 1 << 14;

const BUFFER_BYTES: &str = "bytes of one buffer (max_buffer_size)";

/// Refuses a plan of so many dispatches before it is built.
///
/// # Errors
/// [`PlanError::Limit`] with both numbers.
pub(crate) fn check_step_count(what: &str, needed: u64) -> Result<(), PlanError> {
    within(what, ("dispatches of one call", needed, MOST_STEPS))
}

fn within(
    what: &str,
    (limit, needed, available): (&'static str, u64, u64),
) -> Result<(), PlanError> {
    if needed <= available {
        return Ok(());
    }
    Err(PlanError::Limit { what: what.to_owned(), limit, needed, available })
}

impl Plan {
    /// A plan that the device takes.
    ///
    /// # Errors
    /// [`PlanError::Limit`] naming the first kernel, binding or buffer that is too large.
    pub(crate) fn fitting(
        steps: Vec<Step>,
        scratch: Vec<Scratch>,
        limits: &GpuLimits,
    ) -> Result<Self, PlanError> {
        check_step_count("the plan", steps.len() as u64)?;
        for step in &steps {
            step.check(limits)?;
            step.check_scratch(&scratch)?;
        }
        let plan = Self { steps, scratch };
        for Scratch { name, bytes } in &plan.scratch {
            within(&format!("scratch for {name}"), (BUFFER_BYTES, *bytes, limits.buffer_bytes))?;
        }
        within("params", (BUFFER_BYTES, plan.params_bytes(limits), limits.buffer_bytes))?;
        Ok(plan)
    }

    /// Dispatches, in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Scratch buffers.
    pub fn scratch(&self) -> &[Scratch] {
        &self.scratch
    }

    /// Bytes of the buffer that holds the params of all steps, each at a multiple of the device's alignment.
    pub fn params_bytes(&self, limits: &GpuLimits) -> u64 {
        self.params_offsets(limits).last().copied().unwrap_or(0).max(16)
    }

    /// Where the params of each step begin in that buffer, and its end.
    pub(crate) fn params_offsets(&self, limits: &GpuLimits) -> Vec<u64> {
        let mut offsets = Vec::with_capacity(self.steps.len() + 1);
        let mut end = 0_u64;
        for step in &self.steps {
            let start = end.next_multiple_of(u64::from(limits.uniform_alignment.max(1)));
            offsets.push(start);
            end = start + step.params.len() as u64;
        }
        offsets.push(end);
        offsets
    }

    /// Bytes of all scratch buffers.
    pub fn scratch_bytes(&self) -> u64 {
        self.scratch.iter().fold(0, |sum, scratch| scratch.bytes.saturating_add(sum))
    }
}

/// Folds a linear count of workgroups over x and y; kernels undo it by `x + y * num_workgroups.x` and let the surplus idle.
///
/// # Errors
/// [`PlanError::Limit`] past what two dimensions hold.
pub fn fold_grid(what: &str, workgroups: u64, limits: &GpuLimits) -> Result<[u32; 3], PlanError> {
    let most = u64::from(limits.workgroups_per_dimension);
    let limit = |available| PlanError::Limit {
        what: what.to_owned(),
        limit: "workgroups (max_compute_workgroups_per_dimension squared)",
        needed: workgroups,
        available,
    };
    if workgroups > (most * most).min(u64::from(u32::MAX)) {
        return Err(limit((most * most).min(u64::from(u32::MAX))));
    }
    if workgroups <= most {
        return Ok([workgroups as u32, 1, 1]);
    }
    let rows = workgroups.div_ceil(most);
    Ok([workgroups.div_ceil(rows) as u32, rows as u32, 1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::shader::Declared;

    fn step(workgroup_size: u32, workgroup_bytes: u32, sizes: &[u64]) -> Step {
        let declared = |_| Declared { name: "x".to_owned(), writes: false };
        let bound = |size: &u64| Bound { slot: Slot::Scratch(0), offset: 0, size: *size };
        let shader = Shader {
            entry: "k",
            parts: Vec::new(),
            bindings: sizes.iter().map(declared).collect(),
            workgroup_size,
            workgroup_bytes,
            proven: None,
        };
        let bindings = sizes.iter().map(bound).collect();
        Step { shader: Arc::new(shader), params: vec![0; 16], bindings, grid: [1, 1, 1].into() }
    }

    #[test]
    fn what_a_device_lacks_is_refused_by_name_and_with_both_numbers() {
        let floor = GpuLimits::floor();
        let plan = |steps, bytes, limits: &GpuLimits| {
            Plan::fitting(steps, vec![Scratch { name: "sums", bytes }], limits)
        };
        let refused =
            |step, limits: &GpuLimits| plan(vec![step], 1 << 20, limits).unwrap_err().to_string();
        let right = || step(64, 1024, &[16, 16]);
        assert!(plan(vec![right()], 1 << 20, &floor).is_ok());
        assert_eq!(
            refused(step(512, 0, &[]), &floor),
            "k: needs 512 invocations a workgroup, the device has 256"
        );
        assert!(refused(step(1, 20_000, &[]), &floor).contains("20000 bytes of workgroup memory"));
        assert!(refused(step(1, 0, &[16; 9]), &floor).contains("9 storage buffers"));
        assert!(refused(step(1, 0, &[1 << 30]), &floor).starts_with("x: needs 1073741824 bytes"));
        let few = GpuLimits { workgroups_per_dimension: 0, ..floor.clone() };
        assert!(refused(right(), &few).contains("1 workgroups a dimension"));
        let few = GpuLimits { uniform_binding_bytes: 8, ..floor.clone() };
        assert!(refused(right(), &few).contains("16 bytes of a uniform binding"));
        let error = plan(vec![right()], 1 << 40, &floor).unwrap_err().to_string();
        assert!(error.starts_with("scratch for sums: needs 1099511627776 bytes"), "{error}");
        let error = plan(vec![right()], 8, &floor).unwrap_err().to_string();
        assert_eq!(error, "k: needs 16 bytes of the plan's scratch, the device has 8");
        let mut far = right();
        far.bindings[0] = Bound { slot: Slot::Tensor("k".to_owned()), offset: 1 << 28, size: 16 };
        let error = plan(vec![far], 1 << 20, &floor).unwrap_err().to_string();
        assert_eq!(
            error,
            "k: needs 268435472 bytes of one buffer (max_buffer_size), the device has 268435456"
        );
        let many = vec![right(); 16_385];
        let error = plan(many, 0, &floor).unwrap_err().to_string();
        assert_eq!(error, "the plan: needs 16385 dispatches of one call, the device has 16384");
    }

    #[test]
    fn a_folded_grid_covers_and_fits() {
        let limits = GpuLimits::floor();
        for workgroups in [0, 1, 65_535, 65_536, 131_071, 70_000_000, 4_294_836_225] {
            let [x, y, z] = fold_grid("k", workgroups, &limits).unwrap();
            let grid = u64::from(x) * u64::from(y) * u64::from(z);
            assert!(x <= 65_535 && y <= 65_535 && z == 1);
            assert!(grid >= workgroups && grid < workgroups + u64::from(y) + 1);
        }
        let error = fold_grid("k", 4_294_836_226, &limits).unwrap_err().to_string();
        assert!(error.contains("4294836226") && error.contains("4294836225"), "{error}");
    }
}
