//! Writes a kernel's header: constants, params, bindings, and functions that come before the fragments.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

pub(crate) use super::access::{Access, bound_range};
use super::unroll::unrolled;
use crate::gpu::recording::{Bound, Step};
use crate::gpu::shader::{Declared, Params, Part, Proven, Shader};

/// Adds a fragment to a kernel by its file in `shaders/`.
macro_rules! add_fragment {
    ($source:expr, $file:literal) => {
        $source
            .fragment($file, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $file)))
    };
}
pub(crate) use add_fragment;

/// A kernel being put together; [`KernelSource::step`] closes it.
#[derive(Default)]
pub(crate) struct KernelSource {
    enables: String,
    consts: String,
    /// The numbers among the constants, which loops may be unrolled by.
    counts: BTreeMap<String, u32>,
    pub params: Params,
    declarations: String,
    accessors: String,
    fragments: Vec<Part>,
    declared: Vec<Declared>,
    bound: Vec<Bound>,
}

/// What closes a kernel beside its text.
pub(crate) struct Launch {
    pub entry: &'static str,
    pub workgroup_size: u32,
    pub workgroup_bytes: u32,
    /// Bounds checks stay on: the text holds a caller's code that may need them.
    pub checked: bool,
    pub grid: [u32; 3],
}

/// What a constant vector may hold.
pub(crate) trait Vec3Element: std::fmt::Display {
    /// The type in WGSL.
    const KIND: &'static str;
    /// What follows a number.
    const SUFFIX: &'static str;
}

impl Vec3Element for u32 {
    const KIND: &'static str = "u32";
    const SUFFIX: &'static str = "u";
}

impl Vec3Element for bool {
    const KIND: &'static str = "bool";
    const SUFFIX: &'static str = "";
}

impl KernelSource {
    /// Enables an extension of WGSL.
    pub fn enable(&mut self, extension: &str) {
        let _ = writeln!(self.enables, "enable {extension};");
    }

    /// Another name of a type.
    pub fn alias(&mut self, name: &str, of: &str) {
        let _ = writeln!(self.consts, "alias {name} = {of};");
    }

    /// A number, which loops may be unrolled by.
    pub fn const_u32(&mut self, name: &str, value: u32) {
        let _ = writeln!(self.consts, "const {name}: u32 = {value}u;");
        self.counts.insert(name.to_owned(), value);
    }

    /// A truth value.
    pub fn const_bool(&mut self, name: &str, value: bool) {
        let _ = writeln!(self.consts, "const {name}: bool = {value};");
    }

    /// A real number.
    pub fn const_f32(&mut self, name: &str, value: f32) {
        // Exactly: the shortest form of the lowest number lies beyond it, which browsers refuse.
        let _ = writeln!(self.consts, "const {name}: f32 = {:?}f;", f64::from(value));
    }

    /// A vector of three, of unsigned numbers or truth values.
    pub fn const_vec3<T: Vec3Element>(&mut self, name: &str, [x, y, z]: [T; 3]) {
        let (kind, suffix) = (T::KIND, T::SUFFIX);
        let _ = writeln!(
            self.consts,
            "const {name}: vec3<{kind}> = vec3<{kind}>({x}{suffix}, {y}{suffix}, {z}{suffix});"
        );
    }

    /// Adds a fragment, once.
    pub fn fragment(&mut self, file: &str, text: impl Into<String>) {
        if self.fragments.iter().any(|part| part.file == file) {
            return;
        }
        self.fragments.push(Part { file: file.to_owned(), text: text.into() });
    }

    /// Declares a storage binding, once: says whether the name is new.
    pub fn bind(&mut self, name: &str, element: &str, writes: bool, bound: Bound) -> bool {
        if self.declared.iter().any(|declared| declared.name == name) {
            return false;
        }
        let access = if writes { "read_write" } else { "read" };
        let number = self.declared.len() + 1;
        let _ = writeln!(
            self.declarations,
            "@group(0) @binding({number}) var<storage, {access}> {name}: array<{element}>;"
        );
        self.declared.push(Declared { name: name.to_owned(), writes });
        self.bound.push(bound);
        true
    }

    /// Storage bindings so far.
    pub fn binding_count(&self) -> u32 {
        self.declared.len() as u32
    }

    /// Whether a param of this name is there already.
    pub fn has_param(&self, name: &str) -> bool {
        self.params.has(name)
    }

    /// Adds a function to the header's accessors.
    pub fn accessor(&mut self, text: &str) {
        self.accessors.push_str(text);
    }

    /// Closes the kernel.
    pub fn step(self, launch: Launch) -> Step {
        let Launch { entry, workgroup_size, workgroup_bytes, checked, grid } = launch;
        let Self {
            enables,
            consts,
            counts,
            params,
            declarations,
            accessors,
            fragments,
            declared,
            bound,
        } = self;
        let header = format!("{enables}{consts}{}{declarations}{accessors}", params.wgsl());
        let mut parts = vec![Part { file: "header".to_owned(), text: header }];
        parts.extend(fragments.into_iter().map(|part| {
            let text = unrolled(part.text, &counts);
            Part { file: part.file, text }
        }));
        let proven = (!checked).then(Proven::by_plan);
        let shader =
            Shader { entry, parts, bindings: declared, workgroup_size, workgroup_bytes, proven };
        Step {
            shader: Arc::new(shader),
            params: params.bytes(),
            bindings: bound,
            grid: grid.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_number_is_not_written_as_one_below_it() {
        let mut source = KernelSource::default();
        source.const_f32("LOWEST", f32::MIN);
        let written = source.consts.trim_start_matches("const LOWEST: f32 = ");
        let number: f64 = written.trim_end().trim_end_matches("f;").parse().unwrap();
        assert_eq!(number, f64::from(f32::MIN), "{written}");
    }
}
