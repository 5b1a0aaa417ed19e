//! The problem: a spec checked against tensors, every extent known, every tensor's shape and type right.

use std::fmt;

use super::operands::Operands;
use super::spec::MatmulSpec;
use super::weights::{check_activations, check_blocks, check_inner, scales_name, stored};
use crate::error::{Error, SpecError};
use crate::operator::{Spec, command_line};
use crate::tensor::check::{self, Output};
use crate::tensor::{Dtype, TensorDescs, WeightFormat};

/// A matmul with every extent, stride and type known and checked; made by [`MatmulProblem::new`].
///
/// Only this crate changes one, since kernels run without bounds checks on what it says:
///
/// ```compile_fail,E0616
/// fn changed(mut problem: tilewise::matmul::MatmulProblem) {
///     problem.extents.rows += 1;
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MatmulProblem {
    pub(crate) spec: MatmulSpec,
    pub(crate) extents: MatmulExtents,
    pub(crate) tensors: TensorDescs,
}

/// The extents of a matmul.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MatmulExtents {
    /// Rows of x and out.
    pub rows: u32,
    /// Rows of w, columns of out.
    pub columns: u32,
    /// Elements of a row of x and of w.
    pub inner: u32,
}

impl Spec for MatmulSpec {
    type Problem = MatmulProblem;

    fn ask(&self, tensors: &TensorDescs) -> Result<MatmulProblem, Error> {
        Ok(MatmulProblem::new(self, tensors)?)
    }
}

impl MatmulProblem {
    /// Checks a spec against the tensors of a call: `x`, `w`, and `w_scales`, `bias` and `out` where the
    /// caller has them.
    ///
    /// # Errors
    /// [`SpecError`] names what is wrong, what would be right and what was given.
    pub fn new(spec: &MatmulSpec, tensors: &TensorDescs) -> Result<Self, SpecError> {
        check::all_within_u64(tensors)?;
        check::float_dtypes(spec.dtype, spec.out_dtype)?;
        let format = spec.weight_format();
        let extents = extents_of(spec, tensors)?;
        let [rows, columns, inner] = [extents.rows, extents.columns, extents.inner].map(u64::from);
        check_inner(format, "inner", inner)?;
        check_activations(spec.quantise_activations, format)?;
        let has = |name: &str| tensors.contains_key(name);
        let mut wanted = vec![("x".to_owned(), vec![rows, inner], vec![spec.dtype])];
        for (name, shape) in stored(format, "w", &[columns, inner], has("w_scales")) {
            wanted.push((name, shape, vec![format.dtype()]));
        }
        if has("bias") {
            wanted.push(("bias".to_owned(), vec![columns], vec![Dtype::F32, spec.dtype]));
        }
        let mut checked = TensorDescs::new();
        for (name, shape, dtypes) in wanted {
            let desc = check::find(tensors, &name, "matmul")?;
            check::shape(&name, desc, &shape)?;
            check::element_type(&name, desc, &dtypes)?;
            check::rows(&name, desc, desc.dtype)?;
            checked.insert(name, desc.clone());
        }
        check_blocks(format, "w", &checked["w"], checked.get(&scales_name("w")), 1)?;
        checked.extend(tensors.get("out").map(|out| ("out".to_owned(), out.clone())));
        let dtype = spec.out_dtype.unwrap_or(spec.dtype);
        let shape = &[rows, columns];
        check::output(
            &mut checked,
            &Output { name: "out", wanted: true, dtype, shape, by_rows: true },
        )?;
        let mut spec = spec.clone();
        (spec.rows, spec.columns, spec.inner) =
            (Some(extents.rows), Some(extents.columns), Some(extents.inner));
        Ok(Self { spec, extents, tensors: checked })
    }

    /// The caller's spec with its extents filled in.
    pub const fn spec(&self) -> &MatmulSpec {
        &self.spec
    }

    /// The extents.
    pub const fn extents(&self) -> &MatmulExtents {
        &self.extents
    }

    /// Every tensor: x, w, w_scales, bias, out.
    pub const fn descs(&self) -> &TensorDescs {
        &self.tensors
    }

    /// Element type of out.
    pub fn out_dtype(&self) -> Dtype {
        self.spec.out_dtype.unwrap_or(self.spec.dtype)
    }

    /// What is multiplied.
    pub fn operands(&self) -> Operands {
        let MatmulSpec { dtype, quantise_activations, .. } = self.spec;
        Operands::of(dtype, self.spec.weight_format(), quantise_activations)
    }

    /// Multiply-adds times two.
    pub fn flops(&self) -> f64 {
        let MatmulExtents { rows, columns, inner } = self.extents;
        2.0 * f64::from(rows) * f64::from(columns) * f64::from(inner)
    }
}

/// A command line that reproduces the problem.
impl fmt::Display for MatmulProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        command_line(f, "explain", "matmul", &self.spec)
    }
}

/// The extents that spec and tensors agree on.
fn extents_of(spec: &MatmulSpec, tensors: &TensorDescs) -> Result<MatmulExtents, SpecError> {
    let x = check::find(tensors, "x", "matmul")?.shape();
    let &[rows, inner] = x else {
        return Err(SpecError::value("x", "2 axes (rows, inner)", format!("shape {x:?}")));
    };
    let w = check::find(tensors, "w", "matmul")?.shape();
    let pair =
        spec.weight_format() == WeightFormat::Mxfp4 && tensors.contains_key(&scales_name("w"));
    let columns = match *w {
        [columns, _] if !pair => columns,
        [columns, _, _] if pair => columns,
        _ => {
            let axes =
                if pair { "3 axes (columns, blocks, 16)" } else { "2 axes (columns, inner)" };
            return Err(SpecError::value("w", axes, format!("shape {w:?}")));
        }
    };
    let most = u32::MAX >> 3;
    Ok(MatmulExtents {
        rows: check::extent("rows", spec.rows, rows, 0..=most)?,
        columns: check::extent("columns", spec.columns, columns, 1..=most)?,
        inner: check::extent("inner", spec.inner, inner, 1..=most)?,
    })
}
