//! ggml's Vulkan backend, by its C functions, from shared libraries in a folder.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::Path;
use std::ptr::null_mut;
use std::rc::Rc;

use half::f16;
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use tilewise::tensor::HostTensor;

use crate::contest::{Call, Failure, Tensors};

type Context = *mut c_void;
type Tensor = *mut c_void;
type Graph = *mut c_void;
type Backend = *mut c_void;
type Buffer = *mut c_void;

/// `ggml_type`.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Type {
    F32 = 0,
    F16 = 1,
    I32 = 26,
}

/// `ggml_prec`: f32 accumulation.
const PRECISION_F32: c_int = 10;

/// `ggml_init_params`.
#[repr(C)]
struct InitParams {
    mem_size: usize,
    mem_buffer: *mut c_void,
    no_alloc: bool,
}

/// The functions, resolved once.
macro_rules! api {
    ($($library:ident: fn $name:ident($($argument:ty),*) $(-> $result:ty)?;)*) => {
        struct Api { $($name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)* }

        impl Api {
            /// # Safety
            /// The libraries must be ggml's, of a version with these signatures, and stay loaded.
            unsafe fn load(base: &Library, vulkan: &Library) -> Result<Self, Failure> {
                let libraries = Libraries { base, vulkan };
                // SAFETY: the caller's.
                unsafe { Ok(Self { $($name: *libraries.$library.get(stringify!($name).as_bytes())?,)* }) }
            }
        }
    };
}

struct Libraries<'a> {
    base: &'a Library,
    vulkan: &'a Library,
}

api! {
    base: fn ggml_init(InitParams) -> Context;
    base: fn ggml_free(Context);
    base: fn ggml_tensor_overhead() -> usize;
    base: fn ggml_graph_overhead() -> usize;
    base: fn ggml_new_tensor(Context, c_int, c_int, *const i64) -> Tensor;
    base: fn ggml_new_graph(Context) -> Graph;
    base: fn ggml_build_forward_expand(Graph, Tensor);
    base: fn ggml_flash_attn_ext(Context, Tensor, Tensor, Tensor, Tensor, f32, f32, f32) -> Tensor;
    base: fn ggml_flash_attn_ext_set_prec(Tensor, c_int);
    base: fn ggml_mul_mat(Context, Tensor, Tensor) -> Tensor;
    base: fn ggml_mul_mat_id(Context, Tensor, Tensor, Tensor) -> Tensor;
    base: fn ggml_swiglu_split(Context, Tensor, Tensor) -> Tensor;
    base: fn ggml_mul(Context, Tensor, Tensor) -> Tensor;
    base: fn ggml_add(Context, Tensor, Tensor) -> Tensor;
    base: fn ggml_view_2d(Context, Tensor, i64, i64, usize, usize) -> Tensor;
    base: fn ggml_backend_alloc_ctx_tensors(Context, Backend) -> Buffer;
    base: fn ggml_backend_buffer_free(Buffer);
    base: fn ggml_backend_tensor_set(Tensor, *const c_void, usize, usize);
    base: fn ggml_backend_tensor_get(Tensor, *mut c_void, usize, usize);
    base: fn ggml_backend_graph_compute_async(Backend, Graph) -> c_int;
    base: fn ggml_backend_synchronize(Backend);
    vulkan: fn ggml_backend_vk_get_device_count() -> c_int;
    vulkan: fn ggml_backend_vk_get_device_description(c_int, *mut c_char, usize);
    vulkan: fn ggml_backend_vk_init(usize) -> Backend;
}

/// The backend on its first device.
pub struct Ggml {
    api: Api,
    backend: Backend,
    /// The device's name.
    pub device: String,
    // Dropped last: the functions live in them.
    _libraries: [Library; 2],
}

impl Ggml {
    /// Loads `libggml-base.so` and `libggml-vulkan.so`.
    pub fn load(folder: &Path) -> Result<Rc<Self>, Failure> {
        // SAFETY: they are ggml's libraries, whose initialisers need nothing of us; the signatures above are those of
        // the release that `run` fetches.
        unsafe {
            let open = |name: &str| Library::open(Some(folder.join(name)), RTLD_NOW | RTLD_GLOBAL);
            let (base, vulkan) = (open("libggml-base.so")?, open("libggml-vulkan.so")?);
            let api = Api::load(&base, &vulkan)?;
            if (api.ggml_backend_vk_get_device_count)() == 0 {
                return Err("ggml sees no Vulkan device: GGML_VK_VISIBLE_DEVICES=0 lets it take a software one".into());
            }
            let mut name: [c_char; 256] = [0; 256];
            (api.ggml_backend_vk_get_device_description)(0, name.as_mut_ptr(), name.len());
            let device = CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned();
            let backend = (api.ggml_backend_vk_init)(0);
            if backend.is_null() {
                return Err(format!("ggml could not open {device}").into());
            }
            Ok(Rc::new(Self { api, backend, device, _libraries: [base, vulkan] }))
        }
    }
}

/// A graph under construction, then its call.
struct Built {
    ggml: Rc<Ggml>,
    context: Context,
    graph: Graph,
    buffer: Buffer,
    inputs: Vec<(Tensor, Vec<u8>)>,
    out: Tensor,
    elements: usize,
    /// Extents `[heads, queries, dim]` where the result has its heads behind the queries.
    heads_last: Option<[usize; 3]>,
}

/// Nodes that a graph here may have.
const NODES: usize = 64;

impl Built {
    fn new(ggml: &Rc<Ggml>) -> Result<Self, Failure> {
        let api = &ggml.api;
        // SAFETY: plain values; the memory is ggml's own.
        let (context, graph) = unsafe {
            let size = NODES * (api.ggml_tensor_overhead)() + (api.ggml_graph_overhead)();
            let params = InitParams { mem_size: size, mem_buffer: null_mut(), no_alloc: true };
            let context = (api.ggml_init)(params);
            if context.is_null() {
                return Err("ggml could not make a context".into());
            }
            (context, (api.ggml_new_graph)(context))
        };
        Ok(Self {
            ggml: ggml.clone(),
            context,
            graph,
            buffer: null_mut(),
            inputs: Vec::new(),
            out: null_mut(),
            elements: 0,
            heads_last: None,
        })
    }

    /// An input; extents as tilewise has them, outermost first.
    fn input(&mut self, host: &HostTensor, kind: Type, shape: &[u64]) -> Tensor {
        let extents: Vec<i64> = shape.iter().rev().map(|&extent| extent as i64).collect();
        let values = host.to_f64();
        let bytes = match kind {
            Type::F32 => values.iter().flat_map(|&v| (v as f32).to_le_bytes()).collect(),
            Type::F16 => values.iter().flat_map(|&v| f16::from_f64(v).to_le_bytes()).collect(),
            Type::I32 => values.iter().flat_map(|&v| (v as i32).to_le_bytes()).collect(),
        };
        // SAFETY: ggml reads as many extents as it is told there are.
        let tensor = unsafe {
            (self.ggml.api.ggml_new_tensor)(
                self.context,
                kind as c_int,
                extents.len() as c_int,
                extents.as_ptr(),
            )
        };
        self.inputs.push((tensor, bytes));
        tensor
    }

    /// Places everything on the device.
    fn finish(mut self, out: Tensor, elements: usize) -> Result<Box<dyn Call>, Failure> {
        let api = &self.ggml.api;
        (self.out, self.elements) = (out, elements);
        // SAFETY: all tensors are this context's; each input gets as many bytes as its extents hold.
        unsafe {
            (api.ggml_build_forward_expand)(self.graph, out);
            self.buffer = (api.ggml_backend_alloc_ctx_tensors)(self.context, self.ggml.backend);
            if self.buffer.is_null() {
                return Err("ggml could not allocate the tensors".into());
            }
            for (tensor, bytes) in std::mem::take(&mut self.inputs) {
                (api.ggml_backend_tensor_set)(tensor, bytes.as_ptr().cast(), 0, bytes.len());
            }
        }
        Ok(Box::new(self))
    }
}

impl Drop for Built {
    fn drop(&mut self) {
        // SAFETY: both are this graph's alone, and used no more.
        unsafe {
            if !self.buffer.is_null() {
                (self.ggml.api.ggml_backend_buffer_free)(self.buffer);
            }
            (self.ggml.api.ggml_free)(self.context);
        }
    }
}

impl Call for Built {
    fn run(&self, times: u32) -> Result<(), Failure> {
        let Ggml { api, backend, .. } = &*self.ggml;
        for _ in 0..times {
            // SAFETY: the graph's tensors are allocated on this backend.
            let status = unsafe { (api.ggml_backend_graph_compute_async)(*backend, self.graph) };
            if status != 0 {
                return Err(format!("ggml's graph ended with status {status}").into());
            }
        }
        // SAFETY: the backend is open.
        unsafe { (api.ggml_backend_synchronize)(*backend) };
        Ok(())
    }

    fn output(&self) -> Result<Vec<f32>, Failure> {
        let mut out = vec![0f32; self.elements];
        // SAFETY: the result is f32 and contiguous, with so many elements.
        unsafe {
            (self.ggml.api.ggml_backend_tensor_get)(
                self.out,
                out.as_mut_ptr().cast(),
                0,
                4 * out.len(),
            );
        }
        let Some([heads, queries, dim]) = self.heads_last else { return Ok(out) };
        let row = |index: usize| {
            let (head, query) = (index / queries, index % queries);
            &out[(query * heads + head) * dim..][..dim]
        };
        Ok((0..heads * queries).flat_map(row).copied().collect())
    }
}

/// `flash_attn_ext` of q, k, v `[1, heads, seq, dim]`; keys and values stored as `kept`.
pub fn fused(
    ggml: &Rc<Ggml>,
    tensors: &Tensors,
    causal: bool,
    kept: Type,
) -> Result<Box<dyn Call>, Failure> {
    let mut built = Built::new(ggml)?;
    let [q_host, k_host, v_host] = ["q", "k", "v"].map(|name| &tensors[name]);
    let q = built.input(q_host, Type::F32, &q_host.shape);
    let k = built.input(k_host, kept, &k_host.shape);
    let v = built.input(v_host, kept, &v_host.shape);
    let [heads, queries, dim] = [1, 2, 3].map(|axis| q_host.shape[axis] as usize);
    let keys = k_host.shape[2] as usize;
    let mask = if causal {
        let seen = |query: usize, key: usize| {
            if key + queries <= query + keys { 0.0 } else { f64::NEG_INFINITY }
        };
        let values: Vec<f64> =
            (0..queries).flat_map(|query| (0..keys).map(move |key| seen(query, key))).collect();
        let shape = [queries as u64, keys as u64];
        let host = HostTensor::from_f64(tilewise::tensor::Dtype::F16, &shape, &values);
        built.input(&host, Type::F16, &shape)
    } else {
        null_mut()
    };
    built.heads_last = Some([heads, queries, dim]);
    let api = &ggml.api;
    // SAFETY: tensors of this context, with the extents that the function asks for.
    let out = unsafe {
        let scale = (dim as f32).powf(-0.5);
        let out = (api.ggml_flash_attn_ext)(built.context, q, k, v, mask, scale, 0.0, 0.0);
        (api.ggml_flash_attn_ext_set_prec)(out, PRECISION_F32);
        out
    };
    built.finish(out, heads * queries * dim)
}

/// `x · wᵀ`.
pub fn dense(ggml: &Rc<Ggml>, tensors: &Tensors) -> Result<Box<dyn Call>, Failure> {
    let mut built = Built::new(ggml)?;
    let [x_host, w_host] = ["x", "w"].map(|name| &tensors[name]);
    let x = built.input(x_host, Type::F32, &x_host.shape);
    let w = built.input(w_host, Type::F32, &w_host.shape);
    // SAFETY: tensors of this context that share their inner extent.
    let out = unsafe { (ggml.api.ggml_mul_mat)(built.context, w, x) };
    built.finish(out, (x_host.shape[0] * w_host.shape[0]) as usize)
}

/// A mixture's layer after its router, `mul_mat_id` for each of gate, up and down.
pub fn experts(ggml: &Rc<Ggml>, tensors: &Tensors) -> Result<Box<dyn Call>, Failure> {
    let mut built = Built::new(ggml)?;
    let host = |name: &str| &tensors[name];
    let [tokens, dim] = [0, 1].map(|axis| host("x").shape[axis]);
    let slots = host("topk_ids").shape[1];
    let x = built.input(host("x"), Type::F32, &[tokens, 1, dim]);
    let ids = built.input(host("topk_ids"), Type::I32, &[tokens, slots]);
    let weights = built.input(host("topk_weights"), Type::F32, &[tokens, slots, 1]);
    let [gate, up, down] = ["w_gate", "w_up", "w_down"]
        .map(|name| built.input(host(name), Type::F32, &host(name).shape));
    let (api, context) = (&ggml.api, built.context);
    // SAFETY: tensors of this context with the extents that the functions ask for; the views stay inside theirs.
    let out = unsafe {
        let multiply = |weights, rows| (api.ggml_mul_mat_id)(context, weights, rows, ids);
        let hidden = (api.ggml_swiglu_split)(context, multiply(gate, x), multiply(up, x));
        let weighted = (api.ggml_mul)(context, multiply(down, hidden), weights);
        let row = 4 * dim as usize;
        let slot = |slot: u64| {
            let (token, offset) = (row * slots as usize, row * slot as usize);
            (api.ggml_view_2d)(context, weighted, dim as i64, tokens as i64, token, offset)
        };
        let first = slot(0);
        (1..slots).fold(first, |sum, next| (api.ggml_add)(context, sum, slot(next)))
    };
    built.finish(out, (tokens * dim) as usize)
}
