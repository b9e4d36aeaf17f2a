//! Formats of the file, and the steps from each to the next.

use std::{collections::BTreeMap, path::Path};

use redb::{Database, ReadableDatabase, ReadableTable};

use super::{META, RECORDS, StoreError, unreadable};

/// The format that this daemon writes.
pub(super) const FORMAT: u64 = 2;

/// Key of the format number in the file.
const KEY: &str = "format";

/// The content of all rows by their keys.
pub(super) type Rows = BTreeMap<String, Vec<u8>>;

/// Turns rows of one format into rows of the next; a reason is why it cannot be done.
pub(super) type Step = fn(Rows) -> Result<Rows, String>;

/// The step from format `n` to `n + 1` is the `n`th one, from 1.
pub(super) const STEPS: &[Step] = &[services_may_be_left];

/// Format 2 knows services that the last of their containers has left. Rows of format 1 say nothing of the kind.
fn services_may_be_left(rows: Rows) -> Result<Rows, String> {
    Ok(rows)
}

/// Takes the file through the steps that it has not seen, all in one transaction: it is of the new format, or as it was.
pub(super) fn bring_up_to_date(path: &Path, database: &Database, steps: &[Step]) -> Result<(), StoreError> {
    let newest = steps.len() as u64 + 1;
    match of(database).map_err(|reason| unreadable(path, reason))? {
        None => write(database, newest, None).map_err(|error| unreadable(path, error.to_string())),
        Some(0) => Err(unreadable(path, "its format is 0, which there never was")),
        Some(found) if found == newest => Ok(()),
        Some(found) if found > newest => Err(StoreError::Newer { path: path.to_owned(), found }),
        Some(found) => {
            let first = usize::try_from(found - 1).unwrap_or(usize::MAX);
            let failed =
                |reason| unreadable(path, format!("its format {found} cannot be brought to {newest}: {reason}"));
            let rows = read(database).map_err(failed)?;
            let rows = steps.iter().skip(first).try_fold(rows, |rows, step| step(rows)).map_err(failed)?;
            write(database, newest, Some(&rows)).map_err(|error| failed(error.to_string()))?;
            tracing::info!(path = %path.display(), from = found, to = newest, "the state is of a new format");
            Ok(())
        }
    }
}

/// The format of the file; `None` for a new one.
fn of(database: &Database) -> Result<Option<u64>, String> {
    let read = database.begin_read().map_err(|error| error.to_string())?;
    match read.open_table(META) {
        Ok(meta) => Ok(meta.get(KEY).map_err(|error| error.to_string())?.map(|format| format.value())),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

fn read(database: &Database) -> Result<Rows, String> {
    let read = database.begin_read().map_err(|error| error.to_string())?;
    let table = read.open_table(RECORDS).map_err(|error| error.to_string())?;
    let rows = table.iter().map_err(|error| error.to_string())?;
    rows.map(|row| {
        let (key, content) = row.map_err(|error| error.to_string())?;
        Ok((key.value().to_owned(), content.value().to_owned()))
    })
    .collect()
}

/// Writes the format, and these rows in place of all that are there.
fn write(database: &Database, format: u64, rows: Option<&Rows>) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    write.open_table(META)?.insert(KEY, format)?;
    {
        let mut table = write.open_table(RECORDS)?;
        if let Some(rows) = rows {
            table.retain(|key, _| rows.contains_key(key))?;
            for (key, content) in rows {
                table.insert(key.as_str(), content.as_slice())?;
            }
        }
    }
    Ok(write.commit()?)
}
