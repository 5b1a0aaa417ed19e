//! Where an engine keeps what it learns between runs, and how files are written there.

#[cfg(not(target_arch = "wasm32"))]
use std::path::Path;
use std::path::PathBuf;

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

/// Writes a file beside its place, then moves it there: a reader never sees half of it, and where writing fails, what was
/// there stays. Its mode is the user's default.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = parent(path);
    std::fs::create_dir_all(folder)?;
    replace(path, folder, None, bytes)
}

/// Writes a file that a caller names, as [`write_atomically`]; what a link points at, in a folder that is there, with the
/// mode of the file that it replaces. What is no file (a pipe, a terminal) is written as it is.
#[cfg(all(feature = "safetensors", not(target_arch = "wasm32")))]
pub(crate) fn write_output(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let Ok(there) = std::fs::metadata(path) else {
        // Nothing, or a link to nothing, through which the file is made.
        return match path.is_symlink() {
            true => std::fs::write(path, bytes),
            false => replace(path, parent(path), None, bytes),
        };
    };
    if !there.is_file() {
        return std::fs::write(path, bytes);
    }
    let place = std::fs::canonicalize(path)?;
    replace(&place, parent(&place), Some(there.permissions()), bytes)
}

#[cfg(all(feature = "safetensors", target_arch = "wasm32"))]
pub(crate) fn write_output(_: &std::path::Path, _: &[u8]) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// Keeps all others that ask for it away from a file until the result is dropped. Waits for them.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn lock_beside(path: &Path) -> std::io::Result<std::fs::File> {
    std::fs::create_dir_all(parent(path))?;
    let lock = path.with_file_name("tunings.lock");
    let made = std::fs::OpenOptions::new().create(true).append(true).open(&lock);
    // Another user's lock can be held without writing to it.
    let file = made.or_else(|_| std::fs::File::open(&lock))?;
    match file.lock() {
        // A file system without locks: replacing the file whole is all there is.
        Err(error) if error.kind() == std::io::ErrorKind::Unsupported => Ok(file),
        held => held.map(|()| file),
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Removes a file that was not moved to its place.
#[cfg(not(target_arch = "wasm32"))]
struct Unfinished(Option<PathBuf>);

#[cfg(not(target_arch = "wasm32"))]
impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // Nothing can be done about one that stays.
            std::fs::remove_file(path).ok();
        }
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn replace(
    path: &Path,
    folder: &Path,
    mode: Option<std::fs::Permissions>,
    bytes: &[u8],
) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::sync::atomic::{AtomicU32, Ordering};

    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let beside = folder.join(format!(".tilewise-{}-{count}.part", std::process::id()));
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(&beside)?;
    let mut unfinished = Unfinished(Some(beside.clone()));
    file.write_all(bytes)?;
    if let Some(mode) = mode {
        file.set_permissions(mode)?;
    }
    // Some file systems tell only now that they are full.
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    unfinished.0 = None;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_written_leaves_what_was_there_and_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("place");
        std::fs::create_dir(&place).unwrap();
        assert!(write_atomically(&place, b"new").is_err());
        assert!(write_output(&place, b"new").is_err());
        let count = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!((place.is_dir(), count), (true, 1));
        assert!(write_output(&folder.path().join("no/such"), b"new").is_err());
    }

    #[cfg(unix)]
    #[test]
    fn an_output_keeps_its_mode_and_goes_where_a_link_points() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};

        let folder = tempfile::tempdir().unwrap();
        let [file, link, plain] = ["file", "link", "plain"].map(|name| folder.path().join(name));
        std::fs::write(&file, "old").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        symlink(&file, &link).unwrap();
        write_output(&link, b"new").unwrap();
        assert!(link.is_symlink());
        assert_eq!(std::fs::read(&file).unwrap(), b"new");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&file), 0o640);
        // As a file is that the system makes by itself: another user of a shared folder can read it.
        std::fs::write(&plain, "").unwrap();
        let cached = folder.path().join("deep/cached");
        write_atomically(&cached, b"new").unwrap();
        assert_eq!(mode(&cached), mode(&plain));
    }
}
