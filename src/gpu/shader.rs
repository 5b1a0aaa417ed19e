//! A kernel before it is compiled: text made of named parts, its bindings, its workgroup.

use std::fmt::Write as _;

/// A kernel's source and interface. Two kernels are the same pipeline iff they are equal. Only this crate makes or
/// changes one:
///
/// ```compile_fail,E0616
/// fn tampered(mut shader: tilewise::gpu::shader::Shader) -> tilewise::gpu::shader::Shader {
///     shader.parts.clear();
///     shader
/// }
/// ```
/// ```compile_fail,E0451
/// use tilewise::gpu::shader::Shader;
/// fn forged(shader: Shader) -> Shader {
///     Shader { parts: Vec::new(), ..shader }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shader {
    pub(crate) entry: &'static str,
    pub(crate) parts: Vec<Part>,
    pub(crate) bindings: Vec<Declared>,
    pub(crate) workgroup_size: u32,
    pub(crate) workgroup_bytes: u32,
    pub(crate) proven: Option<Proven>,
}

/// Leave to run without bounds checks and loop bounding. Who makes one has proven that every index of the kernel lies in
/// its binding and that every loop ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Proven(());

impl Proven {
    /// For kernels whose ranges a plan computes, and whose text is this crate's.
    pub const fn by_plan() -> Self {
        Self(())
    }
}

/// A fragment of a kernel's text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Part {
    /// The file it comes from; `header` for what the host writes.
    pub file: String,
    /// Its text.
    pub text: String,
}

/// A storage binding as the kernel declares it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Declared {
    /// Name of the variable.
    pub name: String,
    /// Whether the kernel writes it.
    pub writes: bool,
}

impl Shader {
    /// Entry point, named `<operator>_<kernel>`.
    pub const fn entry(&self) -> &'static str {
        self.entry
    }

    /// The header and the fragments, in order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// What binding n + 1 is (binding 0 is the params).
    pub fn bindings(&self) -> &[Declared] {
        &self.bindings
    }

    /// Invocations a workgroup.
    pub const fn workgroup_size(&self) -> u32 {
        self.workgroup_size
    }

    /// Workgroup memory it takes.
    pub const fn workgroup_bytes(&self) -> u32 {
        self.workgroup_bytes
    }

    /// Whether bounds checks and loop bounding stay on: the text holds a caller's code that may need them.
    pub const fn is_checked(&self) -> bool {
        self.proven.is_none()
    }

    /// The same kernel with these bindings declared writable, which lets them share a buffer with what it writes.
    pub(crate) fn with_writable(&self, bindings: &[usize]) -> Self {
        let mut shader = self.clone();
        for &binding in bindings {
            let Declared { name, writes } = &mut shader.bindings[binding];
            *writes = true;
            let (read, write) = (
                format!("var<storage, read> {name}:"),
                format!("var<storage, read_write> {name}:"),
            );
            for part in &mut shader.parts {
                part.text = part.text.replace(&read, &write);
            }
        }
        shader
    }

    /// The whole text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for part in &self.parts {
            let _ = writeln!(text, "// ---- {}", part.file);
            text.push_str(&part.text);
            if !part.text.ends_with('\n') {
                text.push('\n');
            }
        }
        text
    }

    /// File and line within it of a line (from 1) of the whole text.
    pub fn locate(&self, line: u32) -> (&str, u32) {
        let mut left = line.saturating_sub(1);
        for part in &self.parts {
            let lines = 1 + part.text.lines().count() as u32;
            if left < lines {
                return (&part.file, left);
            }
            left -= lines;
        }
        ("header", line)
    }
}

/// A kernel's runtime numbers: one list gives the WGSL struct and the bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Params {
    fields: Vec<(String, &'static str)>,
    bytes: Vec<u8>,
    lists: Vec<(String, Vec<i32>)>,
}

impl Params {
    /// Adds an unsigned number.
    pub fn u32(&mut self, name: impl Into<String>, value: u32) {
        self.push(name.into(), "u32", value.to_le_bytes());
    }

    /// Adds a signed number.
    pub fn i32(&mut self, name: impl Into<String>, value: i32) {
        self.push(name.into(), "i32", value.to_le_bytes());
    }

    /// Adds a real number.
    pub fn f32(&mut self, name: impl Into<String>, value: f32) {
        self.push(name.into(), "f32", value.to_le_bytes());
    }

    /// Whether a number of this name was added.
    pub fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(known, _)| known == name)
    }

    /// The first byte of the number of this name; of none, past the end.
    pub(crate) fn offset_of(&self, name: &str) -> usize {
        let place = self.fields.iter().position(|(known, _)| known == name);
        place.unwrap_or(self.fields.len()) * 4
    }

    /// Adds a list of signed numbers; element `i` is `params.name[i / 4u][i % 4u]`.
    pub fn i32_list(&mut self, name: impl Into<String>, values: &[i32]) {
        let mut values = values.to_vec();
        values.resize(values.len().max(1).next_multiple_of(4), 0);
        self.lists.push((name.into(), values));
    }

    fn push(&mut self, name: String, kind: &'static str, bytes: [u8; 4]) {
        self.fields.push((name, kind));
        self.bytes.extend(bytes);
    }

    /// The struct and its binding.
    pub fn wgsl(&self) -> String {
        let mut text = String::from("struct Params {\n");
        for (name, kind) in &self.fields {
            let _ = writeln!(text, "    {name}: {kind},");
        }
        for (name, values) in &self.lists {
            let _ = writeln!(text, "    {name}: array<vec4<i32>, {}>,", values.len() / 4);
        }
        text.push_str("}\n@group(0) @binding(0) var<uniform> params: Params;\n");
        text
    }

    /// The bytes: numbers, then lists, each starting at a multiple of 16 as uniform buffers want.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes.resize(bytes.len().max(16).next_multiple_of(16), 0);
        for (_, values) in &self.lists {
            bytes.extend_from_slice(bytemuck::cast_slice(values));
        }
        bytes
    }
}
