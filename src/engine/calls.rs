//! The calls that an engine prepared before, of every operator.

use std::any::{Any, TypeId};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};

use super::Tensors;
use crate::gpu::lock::lock;
use crate::operator::{Operator, Spec};
use crate::prepared::Prepared;
use crate::recent::Recent;
use crate::tensor::{TensorDesc, TensorDescs};

/// Calls that are kept. An app whose lengths grow with every token asks a new problem each time; pipelines are kept
/// apart, so that what is dropped here costs a plan and a place for params.
const KEPT_CALLS: usize = 1024;

/// Prepared calls by the hash of what asks for them: a spec and its tensors, or a problem and its tiles.
#[derive(Debug)]
pub(super) struct KeptCalls(Mutex<Recent<u64, Box<AnyCall>>>);

/// A key and the [`Prepared`] call that was kept under it.
#[cfg(not(target_arch = "wasm32"))]
type AnyCall = dyn Any + Send;
/// What a browser makes is bound to its thread.
#[cfg(target_arch = "wasm32")]
type AnyCall = dyn Any;

type Call<K, O> = (K, Arc<Prepared<O>>);

impl Default for KeptCalls {
    fn default() -> Self {
        Self(Mutex::new(Recent::new(KEPT_CALLS)))
    }
}

impl KeptCalls {
    /// The call that was kept under a key of this hash, if the key is the one.
    pub fn find<K, O>(&self, hash: u64, is: impl FnOnce(&K) -> bool) -> Option<Arc<Prepared<O>>>
    where
        K: Send + 'static,
        O: Operator,
    {
        let mut kept = lock(&self.0);
        let (key, prepared) = kept.get(&hash)?.downcast_ref::<Call<K, O>>()?;
        is(key).then(|| Arc::clone(prepared))
    }

    /// Keeps a call. Another of the same hash leaves.
    pub fn keep<K, O>(&self, hash: u64, key: K, prepared: &Arc<Prepared<O>>)
    where
        K: Send + 'static,
        O: Operator,
    {
        lock(&self.0).insert(hash, Box::new((key, Arc::clone(prepared))));
    }

    /// Forgets the one that was asked for least recently; whether there was one.
    pub fn drop_oldest(&self) -> bool {
        lock(&self.0).drop_oldest(|_| true)
    }

    /// Forgets all of them.
    pub fn clear(&self) {
        lock(&self.0).clear();
    }
}

/// The hash of a key, unlike that of an equal one of another type.
pub(super) fn hash_of<K: Hash + 'static>(key: &K) -> u64 {
    let mut hasher = DefaultHasher::new();
    (TypeId::of::<K>(), key).hash(&mut hasher);
    hasher.finish()
}

/// A spec asked of views. Where a view begins is no part of what it is found by, but for how far that is from a multiple of
/// the device's alignment: one that moves by a layer is the same call, bound elsewhere.
pub(super) struct Asked<'a, S> {
    pub spec: &'a S,
    pub tensors: &'a Tensors<'a>,
    /// Bytes, by whose multiples bindings move.
    pub alignment: u64,
}

/// [`Asked`] as it is kept: tensors begin less than the alignment behind their buffers' starts.
pub(super) type AskedBefore<S> = (S, Vec<(String, TensorDesc)>);

impl<S: Spec> Asked<'_, S> {
    /// What it is found by.
    pub fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (TypeId::of::<S>(), self.spec).hash(&mut hasher);
        for (name, view) in self.tensors {
            let TensorDesc { dtype, layout } = &view.desc;
            let key = (name, dtype, layout.shape(), layout.strides());
            (key, self.first(&view.desc)).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Whether it is what was asked before.
    pub fn is(&self, (spec, tensors): &AskedBefore<S>) -> bool {
        let same = |((name, view), (known, desc)): (&(&str, _), &(String, TensorDesc))| {
            let view: &crate::tensor::TensorView<'_> = view;
            let (layout, before) = (&view.desc.layout, &desc.layout);
            name == known
                && view.desc.dtype == desc.dtype
                && layout.shape() == before.shape()
                && layout.strides() == before.strides()
                && self.first(&view.desc) == self.first(desc)
        };
        spec == self.spec
            && tensors.len() == self.tensors.len()
            && self.tensors.iter().zip(tensors).all(same)
    }

    /// What is kept of it.
    pub fn kept(&self) -> AskedBefore<S> {
        let tensors = self.tensors.iter();
        let desc = |view: &TensorDesc| TensorDesc {
            dtype: view.dtype,
            layout: view.layout.with_offset(self.first(view) / view.dtype.bytes()),
        };
        let tensors = tensors.map(|(name, view)| ((*name).to_owned(), desc(&view.desc)));
        (self.spec.clone(), tensors.collect())
    }

    /// The first byte of a tensor behind a multiple of the alignment.
    fn first(&self, desc: &TensorDesc) -> u64 {
        desc.layout.offset() * desc.dtype.bytes() % self.alignment
    }

    /// By how many bytes a view lies behind what was kept of it.
    pub fn shift(&self, desc: &TensorDesc) -> u64 {
        desc.layout.offset() * desc.dtype.bytes() - self.first(desc)
    }
}

/// Tensors by name.
pub(super) fn by_name((_, tensors): &AskedBefore<impl Spec>) -> TensorDescs {
    tensors.iter().cloned().collect()
}
