//! Where an engine keeps what it learns between runs, and how files are written there.

use std::path::{Path, PathBuf};

/// The version of this crate: another one's kernels are others.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where an engine keeps what it learns between runs: tunings and compiled pipelines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CachePlace {
    /// Nowhere: in memory, as long as the engine lives. No file is read or written.
    #[default]
    Memory,
    /// The user's cache folder: what the environment variable `TILEWISE_CACHE` names, else `tilewise` where the
    /// platform has its caches. In memory in a browser, and where the variable is set to nothing.
    #[cfg(feature = "disk-cache")]
    User,
    /// This folder; in a browser, which has none, memory.
    #[cfg(feature = "disk-cache")]
    Folder(PathBuf),
}

impl CachePlace {
    /// The folder, if any.
    #[cfg(all(feature = "disk-cache", not(target_arch = "wasm32")))]
    pub fn folder(&self) -> Option<PathBuf> {
        match self {
            Self::Memory => None,
            Self::Folder(folder) => Some(folder.clone()),
            Self::User => match std::env::var_os("TILEWISE_CACHE") {
                Some(folder) if folder.is_empty() => None,
                Some(folder) => Some(PathBuf::from(folder)),
                None => directories::ProjectDirs::from("", "", "tilewise")
                    .map(|folders| folders.cache_dir().to_owned()),
            },
        }
    }

    /// There is none.
    #[cfg(not(all(feature = "disk-cache", not(target_arch = "wasm32"))))]
    pub fn folder(&self) -> Option<PathBuf> {
        None
    }
}

/// Writes a file beside its place, then moves it there.
#[cfg(all(feature = "disk-cache", not(target_arch = "wasm32")))]
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;

    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

#[cfg(not(all(feature = "disk-cache", not(target_arch = "wasm32"))))]
pub(crate) fn write_atomically(_: &Path, _: &[u8]) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}
