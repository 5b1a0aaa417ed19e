//! The question, checked: every extent known, every tensor's shape and type right.

use std::collections::BTreeMap;
use std::fmt;

use super::spec::MatmulSpec;
use super::weights::{check_blocks, check_inner, scales_name, stored};
use crate::error::SpecError;
use crate::tensor::{Dtype, TensorDesc, WeightFormat};

/// Tensors by name: inputs and, where the caller has one, `out`.
pub type TensorDescs = BTreeMap<String, TensorDesc>;

/// A matmul with every extent, stride and type known and checked; made by [`MatmulProblem::new`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MatmulProblem {
    /// The caller's spec with its extents filled in.
    pub spec: MatmulSpec,
    /// The extents.
    pub extents: MatmulExtents,
    /// Every tensor: x, w, w_scales, bias, out.
    pub tensors: TensorDescs,
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

impl MatmulProblem {
    /// Checks a question against the tensors it is asked of: `x`, `w`, and `w_scales`, `bias` and `out` where the
    /// caller has them.
    ///
    /// # Errors
    /// [`SpecError`] names what is wrong, what would be right and what was given.
    pub fn new(spec: &MatmulSpec, tensors: &TensorDescs) -> Result<Self, SpecError> {
        check_dtypes(spec)?;
        let format = spec.weight_format();
        let extents = extents_of(spec, tensors)?;
        let [rows, columns, inner] = [extents.rows, extents.columns, extents.inner].map(u64::from);
        check_inner(format, "inner", inner)?;
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
            let desc = find(tensors, &name)?;
            check_tensor(&name, desc, &shape, &dtypes)?;
            checked.insert(name, desc.clone());
        }
        check_blocks(format, "w", &checked["w"], checked.get(&scales_name("w")), 1)?;
        let dtype = spec.out_dtype.unwrap_or(spec.dtype);
        let assumed = TensorDesc::contiguous(dtype, &[rows, columns]);
        let out = tensors.get("out").unwrap_or(&assumed);
        check_tensor("out", out, assumed.shape(), &[dtype])?;
        if out.layout.overlaps_itself() {
            let got = format!("strides {:?}", out.layout.strides);
            return Err(SpecError::value("out", "elements of their own", got));
        }
        checked.insert("out".to_owned(), out.clone());
        let mut spec = spec.clone();
        (spec.rows, spec.columns, spec.inner) =
            (Some(extents.rows), Some(extents.columns), Some(extents.inner));
        Ok(Self { spec, extents, tensors: checked })
    }

    /// Element type of out.
    pub fn out_dtype(&self) -> Dtype {
        self.spec.out_dtype.unwrap_or(self.spec.dtype)
    }

    /// Multiply-adds times two.
    pub fn flops(&self) -> f64 {
        let MatmulExtents { rows, columns, inner } = self.extents;
        2.0 * f64::from(rows) * f64::from(columns) * f64::from(inner)
    }
}

/// A command line that reproduces the question.
impl fmt::Display for MatmulProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut json = serde_json::to_value(&self.spec).map_err(|_| fmt::Error)?;
        json["op"] = "matmul".into();
        write!(f, "tilewise explain '{json}'")
    }
}

fn check_dtypes(spec: &MatmulSpec) -> Result<(), SpecError> {
    if !spec.dtype.is_float() {
        return Err(SpecError::value("dtype", "f32, f16 or bf16", spec.dtype));
    }
    match spec.out_dtype {
        Some(out) if out != spec.dtype && out != Dtype::F32 => {
            let expected = format!("{} (the dtype) or f32", spec.dtype);
            Err(SpecError::value("out_dtype", expected, out))
        }
        _ => Ok(()),
    }
}

fn find<'a>(tensors: &'a TensorDescs, name: &str) -> Result<&'a TensorDesc, SpecError> {
    tensors.get(name).ok_or_else(|| SpecError::MissingTensor {
        name: name.to_owned(),
        why: "asked for by matmul".to_owned(),
    })
}

fn extents_of(spec: &MatmulSpec, tensors: &TensorDescs) -> Result<MatmulExtents, SpecError> {
    let x = find(tensors, "x")?.shape();
    let &[rows, inner] = x else {
        return Err(SpecError::value("x", "2 axes (rows, inner)", format!("shape {x:?}")));
    };
    let w = find(tensors, "w")?.shape();
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
    let ranged = |field: &str, asked: Option<u32>, found: u64, least: u64| {
        let most = u64::from(u32::MAX >> 3);
        if !(least..=most).contains(&found) {
            return Err(SpecError::value(field, format!("{least} to {most}"), found));
        }
        match asked {
            Some(asked) if u64::from(asked) != found => {
                Err(SpecError::value(field, format!("{found} as the tensors have"), asked))
            }
            _ => Ok(found as u32),
        }
    };
    Ok(MatmulExtents {
        rows: ranged("rows", spec.rows, rows, 0)?,
        columns: ranged("columns", spec.columns, columns, 1)?,
        inner: ranged("inner", spec.inner, inner, 1)?,
    })
}

fn check_tensor(
    name: &str,
    desc: &TensorDesc,
    shape: &[u64],
    dtypes: &[Dtype],
) -> Result<(), SpecError> {
    if desc.shape() != shape {
        let got = format!("{:?}", desc.shape());
        return Err(SpecError::value(name, format!("shape {shape:?}"), got));
    }
    if !dtypes.contains(&desc.dtype) {
        let names: Vec<String> = dtypes.iter().map(Dtype::to_string).collect();
        return Err(SpecError::Dtype {
            tensor: name.to_owned(),
            expected: names.join(" or "),
            got: desc.dtype,
        });
    }
    if let (Some(&stride), Some(&extent)) = (desc.layout.strides.last(), shape.last())
        && stride != 1
        && extent > 1
    {
        return Err(SpecError::value(format!("{name} stride of the last axis"), 1, stride));
    }
    match desc.layout.end() {
        Some(_) => Ok(()),
        None => Err(SpecError::value(name, "elements within u64", "strides past it")),
    }
}
