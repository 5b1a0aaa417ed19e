//! What an engine knows of tiles: stored, imported and just measured ones, and the problems that wait to be measured.

use std::any::TypeId;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::pin::Pin;
use std::sync::Mutex;
use std::time::Duration;

use super::Engine;
use crate::cache::CachePlace;
use crate::error::Error;
use crate::gpu::device::AdapterDescription;
use crate::gpu::lock::lock;
use crate::gpu::recording::Plan;
use crate::gpu::signal::Waiting;
use crate::operator::Operator;
use crate::tune::{
    Progress, Race, Store, Stored, Timing, TuneKey, TunePolicy, Tuned, Tuning, Tunings, race,
};

/// Tunings of one engine.
#[derive(Default)]
pub(super) struct Tuner {
    policy: TunePolicy,
    store: Option<Store>,
    /// Measured on this very device and driver.
    own: Mutex<Tunings>,
    /// Brought by the app, for adapters by name.
    imported: Mutex<Tunings>,
    /// Keys by bucket: a key costs the plans of all candidates.
    keys: Mutex<HashMap<BucketId, TuneKey>>,
    /// Problems without a tuning that wait for [`Engine::tune_asked`], by bucket.
    asked: Mutex<HashMap<BucketId, Asked>>,
}

/// Tells buckets of all operators apart, within a process.
type BucketId = (TypeId, u64);

fn bucket_id<O: Operator>(bucket: &O) -> BucketId {
    (TypeId::of::<O>(), BuildHasherDefault::<DefaultHasher>::default().hash_one(bucket))
}

/// Tunes a problem, whatever its operator.
#[cfg(not(target_arch = "wasm32"))]
type Asked = Box<dyn FnOnce(Engine, Duration, Waiting) -> Running + Send>;
/// Tunes a problem, whatever its operator, on a browser's one thread.
#[cfg(target_arch = "wasm32")]
type Asked = Box<dyn FnOnce(Engine, Duration, Waiting) -> Running>;
type Running = Pin<Box<dyn Future<Output = Result<(), Error>>>>;

/// Problems that wait at most; more than this are not noted.
const MOST_ASKED: usize = 256;

impl std::fmt::Debug for Tuner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tuner").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Tuner {
    /// Reads what the place holds, unless the policy never looks.
    pub fn open(policy: TunePolicy, place: &CachePlace) -> Self {
        let store = if policy == TunePolicy::Off { None } else { Store::of(place) };
        let own = Mutex::new(store.as_ref().map(Store::load).unwrap_or_default());
        Self { policy, store, own, ..Self::default() }
    }

    /// Tiles that are known for a problem, and their plan; those that do not fit the device are no longer known.
    pub fn stored<O: Operator>(
        &self,
        operator: &O,
        adapter: &AdapterDescription,
    ) -> Option<(O::Tiles, Plan)> {
        let nothing = lock(&self.own).is_empty() && lock(&self.imported).is_empty();
        if self.policy == TunePolicy::Off || nothing {
            return None;
        }
        let key = self.key(operator, adapter)?;
        let own = lock(&self.own).find(&key).cloned();
        let known = own.or_else(|| lock(&self.imported).find_shipped(&key).cloned())?;
        let planned = |tiles: O::Tiles| {
            let plan = operator.plan(&adapter.limits, &tiles).ok()?;
            Some((tiles, plan))
        };
        let fits = serde_json::from_value(known.tiles.clone()).ok().and_then(planned);
        if fits.is_none() {
            log::debug!("stored tiles {} do not fit {}: dropped", known.tiles, key.problem);
            lock(&self.own).remove(&key);
            lock(&self.imported).remove_shipped(&key);
        }
        fits
    }

    /// Notes a problem that got the heuristic's tiles, where the policy is to measure.
    pub fn note<O: Operator>(&self, operator: &O) {
        if !matches!(self.policy, TunePolicy::Measure { .. }) {
            return;
        }
        let mut asked = lock(&self.asked);
        let bucket = bucket_id(&operator.bucket());
        if asked.len() < MOST_ASKED && !asked.contains_key(&bucket) {
            let operator = operator.clone();
            let tune = move |engine: Engine, budget, waiting| -> Running {
                let tuned = async move {
                    let tuned = engine.tune_with(&operator, budget, waiting, &|_| {}).await?;
                    if let Stored::NotWritten { path, message } = tuned.stored {
                        log::warn!("{} was not written: {message}", path.display());
                    }
                    Ok(())
                };
                Box::pin(tuned)
            };
            asked.insert(bucket, Box::new(tune));
        }
    }

    fn key<O: Operator>(&self, operator: &O, adapter: &AdapterDescription) -> Option<TuneKey> {
        let bucket = operator.bucket();
        let id = bucket_id(&bucket);
        if let Some(key) = lock(&self.keys).get(&id) {
            return Some(key.clone());
        }
        let key = TuneKey::of(adapter, &bucket).ok()?;
        lock(&self.keys).insert(id, key.clone());
        Some(key)
    }

    /// Keeps what was measured, on disk too where there is a place for it.
    fn add(&self, key: TuneKey, tuning: Tuning) -> Stored {
        let mut new = Tunings::default();
        new.insert(key, tuning);
        lock(&self.own).merge(new.clone());
        let Some(store) = &self.store else { return Stored::InMemory };
        let path = store.path().to_owned();
        match store.add(new) {
            Ok(()) => Stored::InFile(path),
            Err(error) => Stored::NotWritten { path, message: error.to_string() },
        }
    }
}

impl Engine {
    /// Measures which tiles a problem runs fastest with, and takes them from now on: every candidate's result is held
    /// against the heuristic's, then they are timed. Nothing is started after `budget`, no compilation and no run; what runs
    /// then is waited for. Tensors of the problem's sizes are made for it, so that it needs that much memory; those of
    /// the app are not touched. The result is stored where the engine has a place for it: [`Tuned::stored`] says where.
    ///
    /// Blocks: call it while loading, or on a thread of its own. Other threads may go on using the engine, and the
    /// device takes their work between the measured runs. Calls that were prepared before keep their tiles; prepare
    /// them again ([`Engine::record`] does so by itself).
    ///
    /// # Errors
    /// As [`Engine::run`] with the heuristic's tiles; what goes wrong with another candidate is in its verdict.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn tune<O: Operator>(
        &self,
        operator: &O,
        budget: Duration,
    ) -> Result<Tuned<O::Tiles>, Error> {
        self.tune_watched(operator, budget, &|_| {})
    }

    /// [`Engine::tune`] that tells what it does next, for a progress bar.
    ///
    /// # Errors
    /// As [`Engine::tune`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn tune_watched<O: Operator>(
        &self,
        operator: &O,
        budget: Duration,
        progress: &dyn Fn(Progress),
    ) -> Result<Tuned<O::Tiles>, Error> {
        pollster::block_on(self.tune_with(operator, budget, Waiting::Block, progress))
    }

    /// [`Engine::tune`] that never waits for the device: for the browser, where nothing may block. Elsewhere each poll
    /// may compile a kernel, which takes longer than a frame: use [`Engine::tune`] on a thread there.
    ///
    /// # Errors
    /// As [`Engine::tune`].
    pub async fn tune_async<O: Operator>(
        &self,
        operator: &O,
        budget: Duration,
    ) -> Result<Tuned<O::Tiles>, Error> {
        self.tune_with(operator, budget, Waiting::Yield, &|_| {}).await
    }

    async fn tune_with<O: Operator>(
        &self,
        operator: &O,
        budget: Duration,
        waiting: Waiting,
        progress: &dyn Fn(Progress),
    ) -> Result<Tuned<O::Tiles>, Error> {
        self.gpu.healthy()?;
        let mut tuned = race(&self.gpu, operator, Race { budget, waiting, progress }).await?;
        let key = self.calls.tuner.key(operator, self.adapter());
        if let (Some(key), Some(_)) = (key, tuned.heuristic_ratio()) {
            tuned.stored = self.calls.tuner.add(key, stored(&tuned));
            self.calls.forget_unforced();
        }
        Ok(tuned)
    }

    /// Measures every problem that was asked without a stored tuning since the last time, with
    /// [`TunePolicy::Measure`]; how many. Blocks, as [`Engine::tune`] does.
    ///
    /// # Errors
    /// As [`Engine::tune`]; the problems after the one that failed are not measured.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn tune_asked(&self) -> Result<usize, Error> {
        pollster::block_on(self.tune_asked_with(Waiting::Block))
    }

    /// [`Engine::tune_asked`] that never waits for the device, as [`Engine::tune_async`].
    ///
    /// # Errors
    /// As [`Engine::tune_asked`].
    pub async fn tune_asked_async(&self) -> Result<usize, Error> {
        self.tune_asked_with(Waiting::Yield).await
    }

    async fn tune_asked_with(&self, waiting: Waiting) -> Result<usize, Error> {
        let TunePolicy::Measure { budget_ms } = self.calls.tuner.policy else { return Ok(0) };
        let asked = std::mem::take(&mut *lock(&self.calls.tuner.asked));
        let count = asked.len();
        for tune in asked.into_values() {
            tune(self.clone(), Duration::from_millis(budget_ms.into()), waiting).await?;
        }
        Ok(count)
    }

    /// Takes tunings that the app ships: they serve adapters of the same name, whatever the driver, where nothing was
    /// measured on the device itself. Calls that were prepared before keep their tiles.
    pub fn import_tunings(&self, tunings: Tunings) {
        lock(&self.calls.tuner.imported).merge(tunings);
        self.calls.forget_unforced();
    }

    /// What is known: stored, measured and imported.
    pub fn tunings(&self) -> Tunings {
        let mut all = lock(&self.calls.tuner.imported).clone();
        all.merge(lock(&self.calls.tuner.own).clone());
        all
    }
}

/// The outcome as it is stored.
fn stored<T: serde::Serialize>(tuned: &Tuned<T>) -> Tuning {
    let value = |tiles: &T| serde_json::to_value(tiles).unwrap_or_default();
    let timings = tuned.timings.iter();
    let timings = timings
        .map(|Timing { tiles, verdict }| Timing { tiles: value(tiles), verdict: verdict.clone() });
    Tuning { tiles: value(&tuned.tiles), timings: timings.collect() }
}

#[cfg(all(test, feature = "disk-cache"))]
mod tests;
