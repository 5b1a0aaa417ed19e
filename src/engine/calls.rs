//! The calls that an engine prepared before, of every operator.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};

use crate::gpu::lock::lock;
use crate::operator::Operator;
use crate::prepared::Prepared;

/// Calls that are kept of a kind. An app whose lengths grow with every token asks a new problem each time; pipelines
/// are kept apart, so that what is dropped here costs a plan and a small buffer.
const KEPT_CALLS: usize = 1024;

/// Prepared calls by what asks for them: a spec and its tensors, or a problem and its tiles.
#[derive(Debug, Default)]
pub(super) struct KeptCalls {
    /// A [`CallsOf`] for each kind of key.
    kinds: Mutex<HashMap<TypeId, Box<AnyCalls>>>,
}

#[cfg(not(target_arch = "wasm32"))]
type AnyCalls = dyn Any + Send;
/// What a browser makes is bound to its thread.
#[cfg(target_arch = "wasm32")]
type AnyCalls = dyn Any;

type CallsOf<K, O> = HashMap<K, Arc<Prepared<O>>>;

impl KeptCalls {
    /// The call that was kept under a key.
    pub fn find<K, O>(&self, key: &K) -> Option<Arc<Prepared<O>>>
    where
        K: Eq + Hash + Send + 'static,
        O: Operator,
    {
        let kinds = lock(&self.kinds);
        let calls = kinds.get(&TypeId::of::<CallsOf<K, O>>())?;
        calls.downcast_ref::<CallsOf<K, O>>()?.get(key).cloned()
    }

    /// Keeps a call. A kind that is full starts anew.
    pub fn keep<K, O>(&self, key: K, prepared: &Arc<Prepared<O>>)
    where
        K: Eq + Hash + Send + 'static,
        O: Operator,
    {
        let mut kinds = lock(&self.kinds);
        let new = || Box::new(CallsOf::<K, O>::new());
        let calls = kinds.entry(TypeId::of::<CallsOf<K, O>>()).or_insert_with(|| new());
        if let Some(calls) = calls.downcast_mut::<CallsOf<K, O>>() {
            if calls.len() >= KEPT_CALLS {
                calls.clear();
            }
            calls.insert(key, Arc::clone(prepared));
        }
    }

    /// Forgets all of them.
    pub fn clear(&self) {
        lock(&self.kinds).clear();
    }
}
