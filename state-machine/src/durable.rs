//! Files that appear whole or not at all.
//!
//! ```text
//!   write NAME.tmp -> sync the file -> rename to NAME -> sync the directory
//!                                      ^ readers see the old or the new one, never a part
//! ```
//! Only when the directory's sync returned is the new name certain to survive a power cut.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::StoreError;

/// Ends the name of every file that is not finished; such files are deleted at open.
pub(crate) const UNFINISHED: &str = ".tmp";

/// Attaches the place to an I/O error.
pub(crate) fn at<'a>(
    op: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> StoreError + use<'a> {
    move |source| StoreError::Io { op, path: path.to_owned(), source }
}

/// Makes the names in `dir` survive a power cut.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(at("sync directory", dir))
}

/// Creates `dir` with its parents, names included.
pub(crate) fn create_dir(dir: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(dir).map_err(at("create directory", dir))?;
    sync_parent(dir)
}

/// Makes the name of `path` survive a power cut.
fn sync_parent(path: &Path) -> Result<(), StoreError> {
    match path.parent() {
        // A relative path of one name lies in the working directory.
        Some(parent) if parent.as_os_str().is_empty() => sync_dir(Path::new(".")),
        Some(parent) => sync_dir(parent),
        None => Ok(()),
    }
}

/// Gives a finished, synced file its final name.
pub(crate) fn publish(unfinished: &Path, name: &Path) -> Result<(), StoreError> {
    fs::rename(unfinished, name).map_err(at("rename file", name))?;
    sync_parent(name)
}

/// Replaces the file `name` by `bytes`, durably when it returns.
pub(crate) fn replace(name: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let unfinished = unfinished(name);
    let mut file = File::create(&unfinished).map_err(at("create file", &unfinished))?;
    file.write_all(bytes).map_err(at("write file", &unfinished))?;
    file.sync_all().map_err(at("sync file", &unfinished))?;
    publish(&unfinished, name)
}

/// The name a file has until it is whole.
pub(crate) fn unfinished(name: &Path) -> PathBuf {
    let mut path = name.as_os_str().to_owned();
    path.push(UNFINISHED);
    path.into()
}

/// Deletes a directory and all that is in it; one that is not there is as good.
pub(crate) fn remove_dir(dir: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(at("remove directory", dir)(error))
        }
        _ => Ok(()),
    }
}

/// Deletes a file; one that is not there is as good.
pub(crate) fn remove_file(file: &Path) -> Result<(), StoreError> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(at("remove file", file)(error))
        }
        _ => Ok(()),
    }
}
