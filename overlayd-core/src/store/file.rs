//! Opening the file and reading it.

use std::{io, path::Path};

use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend};

use super::{RECORDS, StoreError, format, unreadable};
use crate::{desired::Change, private_file};

/// The state is small and read once; redb's default cache would be most of the daemon's memory.
const CACHE_BYTES: usize = 1 << 20;

/// Opens the database, as often as it has to be.
pub(super) type Open = Box<dyn Fn() -> Result<Database, StoreError> + Send>;

/// Opens the file, creating it (0600) when absent, and brings it to this daemon's format.
pub(super) fn open(path: &Path) -> Result<Database, StoreError> {
    let failed = |error: io::Error| unreadable(path, error.to_string());
    if !path.try_exists().map_err(failed)? {
        // redb makes a new file in several steps, and takes one that has not seen the last of them for a file of another program.
        let draft = private_file::draft_of(path);
        private_file::remove(&draft).map_err(failed)?;
        drop(open_file(path, &draft)?);
        private_file::put_in_place(&draft, path).map_err(failed)?;
    }
    open_file(path, path)
}

/// Opens `file`; `path` is what it is called by in errors.
fn open_file(path: &Path, file: &Path) -> Result<Database, StoreError> {
    let file = private_file::open_or_create(file).map_err(|error| unreadable(path, error.to_string()))?;
    let backend = redb::backends::FileBackend::new(file).map_err(|error| unreadable(path, error.to_string()))?;
    open_backend(path, backend)
}

/// Opens what `backend` holds; `path` is what it is called by in errors.
pub(super) fn open_backend(path: &Path, backend: impl StorageBackend) -> Result<Database, StoreError> {
    let database = Database::builder()
        .set_cache_size(CACHE_BYTES)
        .create_with_backend(backend)
        .map_err(|error| unreadable(path, error.to_string()))?;
    format::bring_up_to_date(path, &database, format::STEPS)?;
    Ok(database)
}

pub(super) fn read_all(database: &Database) -> Result<Vec<Change>, String> {
    let read = database.begin_read().map_err(|error| error.to_string())?;
    let table = read.open_table(RECORDS).map_err(|error| error.to_string())?;
    let rows = table.iter().map_err(|error| error.to_string())?;
    rows.map(|row| {
        let (key, content) = row.map_err(|error| error.to_string())?;
        serde_json::from_slice(content.value()).map_err(|error| format!("record {}: {error}", key.value()))
    })
    .collect()
}
