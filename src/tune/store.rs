//! Tunings as values, as JSON, and as a file in the user's cache folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::key::TuneKey;
use super::tuned::Timing;
use crate::cache::{CachePlace, VERSION};
#[cfg(not(target_arch = "wasm32"))]
use crate::cache::{lock_beside, write_atomically};

/// Tunings by their keys: what an app ships, and what a device was measured to like best.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tunings {
    entries: BTreeMap<TuneKey, Tuning>,
}

/// The tiles that were the fastest, and all that was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuning {
    /// The tiles themselves, never an index into a list that may change.
    pub tiles: Value,
    /// Every candidate, in the heuristic's order.
    pub timings: Vec<Timing<Value>>,
}

/// Text that holds no tunings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TuningsError {
    /// It is not the JSON of tunings.
    #[error("not tunings: {0}")]
    Format(String),
    /// It is of a format that this crate does not know.
    #[error("tunings of format {got}, this crate reads {expected}")]
    Version {
        /// The format that it says.
        got: u64,
        /// The one that is known.
        expected: u64,
    },
}

/// The format of the file; counted up when old readers would misread it.
const FORMAT: u64 = 1;

/// The file, as JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    tilewise_tunings: u64,
    entries: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    key: TuneKey,
    tuning: Tuning,
}

impl Tunings {
    /// Reads what [`Tunings::to_json`] wrote.
    ///
    /// # Errors
    /// [`TuningsError`] for anything else.
    pub fn from_json(text: &str) -> Result<Self, TuningsError> {
        let wrong = |error: serde_json::Error| TuningsError::Format(error.to_string());
        let value: Value = serde_json::from_str(text).map_err(wrong)?;
        match value.get("tilewise_tunings").and_then(Value::as_u64) {
            Some(FORMAT) => {}
            Some(got) => return Err(TuningsError::Version { got, expected: FORMAT }),
            None => return Err(TuningsError::Format("no field tilewise_tunings".to_owned())),
        }
        let file: File = serde_json::from_value(value).map_err(wrong)?;
        let entries = file.entries.into_iter().map(|entry| (entry.key, entry.tuning)).collect();
        Ok(Self { entries })
    }

    /// As JSON, for a file that an app ships.
    pub fn to_json(&self) -> String {
        let entries = self.entries.iter();
        let entries =
            entries.map(|(key, tuning)| Entry { key: key.clone(), tuning: tuning.clone() });
        let file = File { tilewise_tunings: FORMAT, entries: entries.collect() };
        // Strings, numbers and lists of them always have a form.
        serde_json::to_string_pretty(&file).unwrap_or_default()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Each with its key.
    pub fn iter(&self) -> impl Iterator<Item = (&TuneKey, &Tuning)> {
        self.entries.iter()
    }

    /// Adds one, in place of what was known under its key.
    pub fn insert(&mut self, key: TuneKey, tuning: Tuning) {
        self.entries.insert(key, tuning);
    }

    /// Adds all of `others`, in place of what was known under their keys.
    pub fn merge(&mut self, others: Self) {
        self.entries.extend(others.entries);
    }

    /// The tuning of exactly this key.
    pub fn find(&self, key: &TuneKey) -> Option<&Tuning> {
        self.entries.get(key)
    }

    /// Forgets the tuning of exactly this key.
    pub(crate) fn remove(&mut self, key: &TuneKey) {
        self.entries.remove(key);
    }

    /// Forgets what [`Tunings::find_shipped`] finds.
    pub(crate) fn remove_shipped(&mut self, key: &TuneKey) {
        self.entries.retain(|known, _| !serves(known, key));
    }

    /// A tuning for the same problem on an adapter of the same name, whatever its driver is; rather one of the same
    /// kernels, which a device opened with other limits does not have.
    pub(crate) fn find_shipped(&self, key: &TuneKey) -> Option<&Tuning> {
        let fitting = self.entries.iter().filter(|(known, _)| serves(known, key));
        fitting.max_by_key(|(known, _)| known.kernels == key.kernels).map(|(_, tuning)| tuning)
    }
}

fn serves(known: &TuneKey, key: &TuneKey) -> bool {
    known.adapter == key.adapter && known.problem == key.problem && known.version == key.version
}

/// The file of tunings of a place.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    path: PathBuf,
}

impl Store {
    /// The store of a place that has a folder. Each version of this crate has a file of its own.
    pub fn of(place: &CachePlace) -> Option<Self> {
        let path = place.folder()?.join(format!("tunings-{VERSION}.json"));
        Some(Self { path })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file holds; nothing, with a warning, where it is none of ours.
    pub fn load(&self) -> Tunings {
        let read = self.read();
        read.map_err(|error| error.to_string()).and_then(|read| read).unwrap_or_else(|message| {
            log::warn!("{} is ignored: {message}", self.path.display());
            Tunings::default()
        })
    }

    /// The outer error is the file system's; the inner one says why the file is none of ours.
    fn read(&self) -> std::io::Result<Result<Tunings, String>> {
        match std::fs::read(&self.path) {
            Ok(bytes) => Ok(String::from_utf8(bytes)
                .map_err(|error| error.to_string())
                .and_then(|text| Tunings::from_json(&text).map_err(|error| error.to_string()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok(Ok(Tunings::default()))
            }
            Err(error) => Err(error),
        }
    }

    /// Adds tunings to the file: reads it again, then replaces it whole, so that a reader never sees half a file. Writers
    /// wait for each other by a lock on a file beside it, so that each keeps what the others added. A file that is none
    /// of ours is replaced.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn add(&self, tunings: Tunings) -> std::io::Result<()> {
        let _held = lock_beside(&self.path)?;
        let mut all = self.read()?.unwrap_or_default();
        all.merge(tunings);
        write_atomically(&self.path, all.to_json().as_bytes())
    }

    /// There are no files.
    #[cfg(target_arch = "wasm32")]
    pub fn add(&self, _: Tunings) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}
