//! The durable copy of the desired state: one redb file, one row per record, written by one thread that commits
//! whatever has queued up while the disk was busy (group commit), so that concurrent requests share a sync.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread::JoinHandle,
};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::sync::oneshot;

use crate::{desired::Change, private_file};

const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("records");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const FORMAT: u64 = 1;
/// The state is small and read once; redb's default cache would be most of the daemon's memory.
const CACHE_BYTES: usize = 1 << 20;

/// Why the store cannot be read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The file is there but cannot be opened or read.
    #[error(
        "could not read the state in {path}: {reason}; nothing was touched. Restore the file from a backup, or move it \
         away to start from an empty state"
    )]
    Unreadable {
        /// The store's file.
        path: PathBuf,
        /// The library's own words.
        reason: String,
    },
    /// A newer daemon wrote the file.
    #[error(
        "the state in {path} has format {found}, this daemon knows up to {FORMAT}; start a newer overlayd, or move the file away"
    )]
    Newer {
        /// The store's file.
        path: PathBuf,
        /// Its format number.
        found: u64,
    },
    /// A change could not be made durable.
    #[error("could not record the change in {path}: {reason}; nothing was changed")]
    Write {
        /// The store's file.
        path: PathBuf,
        /// The library's own words.
        reason: Arc<str>,
    },
}

/// Handle to the writing thread, which writes what is queued and ends when the handle is dropped.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    /// Taken on drop, which ends the thread.
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// A queued change; resolves once it is on disk.
#[derive(Debug)]
#[must_use = "a change is durable only once this resolved"]
pub struct Pending {
    path: PathBuf,
    done: oneshot::Receiver<Result<(), Arc<str>>>,
}

#[derive(Debug)]
struct Job {
    rows: Vec<Row>,
    done: oneshot::Sender<Result<(), Arc<str>>>,
}

/// A record's key and its new content.
type Row = (String, Option<Vec<u8>>);

impl Store {
    /// Opens the store in `path`, creating it (0600) when absent, and reads all records.
    pub fn open(path: &Path) -> Result<(Self, Vec<Change>), StoreError> {
        let database = open_database(path)?;
        let records = read_all(&database).map_err(|reason| unreadable(path, reason))?;
        let (jobs, queue) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || write_loop(&database, &queue))
            .map_err(|error| unreadable(path, error.to_string()))?;
        Ok((Self { path: path.to_owned(), jobs: Some(jobs), thread: Some(thread) }, records))
    }

    /// Queues `changes` as one transaction. Transactions become durable in the order of these calls.
    pub fn commit(&self, changes: &[Change]) -> Pending {
        let (done, waiter) = oneshot::channel();
        let job = changes.iter().map(row).collect::<Result<_, _>>().map(|rows| Job { rows, done });
        // An undelivered job drops its sender, which the waiter reports as an ended store.
        if let (Ok(job), Some(jobs)) = (job, &self.jobs) {
            drop(jobs.send(job));
        }
        Pending { path: self.path.clone(), done: waiter }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(path = %self.path.display(), "the store's thread has panicked");
        }
    }
}

impl Pending {
    /// Waits until the transaction is on disk.
    pub async fn durable(self) -> Result<(), StoreError> {
        let outcome = self.done.await.unwrap_or_else(|_| Err("the store has ended".into()));
        outcome.map_err(|reason| StoreError::Write { path: self.path, reason })
    }
}

fn row(change: &Change) -> serde_json::Result<Row> {
    let content = if change.forgets() { None } else { Some(serde_json::to_vec(change)?) };
    Ok((change.key(), content))
}

fn unreadable(path: &Path, reason: impl Into<String>) -> StoreError {
    StoreError::Unreadable { path: path.to_owned(), reason: reason.into() }
}

fn open_database(path: &Path) -> Result<Database, StoreError> {
    let file = private_file::open_or_create(path).map_err(|error| unreadable(path, error.to_string()))?;
    let backend = redb::backends::FileBackend::new(file).map_err(|error| unreadable(path, error.to_string()))?;
    let database = Database::builder()
        .set_cache_size(CACHE_BYTES)
        .create_with_backend(backend)
        .map_err(|error| unreadable(path, error.to_string()))?;
    match format_of(&database).map_err(|reason| unreadable(path, reason))? {
        Some(found) if found > FORMAT => Err(StoreError::Newer { path: path.to_owned(), found }),
        Some(_) => Ok(database),
        None => write_format(&database).map(|()| database).map_err(|error| unreadable(path, error.to_string())),
    }
}

fn format_of(database: &Database) -> Result<Option<u64>, String> {
    let read = database.begin_read().map_err(|error| error.to_string())?;
    match read.open_table(META) {
        Ok(meta) => Ok(meta.get("format").map_err(|error| error.to_string())?.map(|format| format.value())),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

fn write_format(database: &Database) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    write.open_table(META)?.insert("format", FORMAT)?;
    write.open_table(RECORDS)?;
    Ok(write.commit()?)
}

fn read_all(database: &Database) -> Result<Vec<Change>, String> {
    let read = database.begin_read().map_err(|error| error.to_string())?;
    let table = read.open_table(RECORDS).map_err(|error| error.to_string())?;
    let rows = table.iter().map_err(|error| error.to_string())?;
    rows.map(|row| {
        let (key, content) = row.map_err(|error| error.to_string())?;
        serde_json::from_slice(content.value()).map_err(|error| format!("record {}: {error}", key.value()))
    })
    .collect()
}

fn write_loop(database: &Database, queue: &mpsc::Receiver<Job>) {
    while let Ok(first) = queue.recv() {
        let jobs: Vec<Job> = std::iter::once(first).chain(queue.try_iter()).collect();
        let rows = jobs.iter().flat_map(|job| &job.rows);
        let outcome = write(database, rows).map_err(|error| Arc::from(error.to_string()));
        for job in jobs {
            // The caller may have given up waiting; the rows are written all the same.
            drop(job.done.send(outcome.clone()));
        }
    }
}

fn write<'a>(database: &Database, rows: impl Iterator<Item = &'a Row>) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    {
        let mut table = write.open_table(RECORDS)?;
        for (key, content) in rows {
            match content {
                Some(content) => drop(table.insert(key.as_str(), content.as_slice())?),
                None => drop(table.remove(key.as_str())?),
            }
        }
    }
    Ok(write.commit()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::NodeRecord;

    fn node(id: u64) -> Change {
        Change::Node(Some(NodeRecord { node_id: Some(id), announced_pubkey: None }))
    }

    #[tokio::test]
    async fn what_was_committed_is_read_back_and_what_was_forgotten_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.redb");
        let rest = Change::Rest([10, 0, 0, 2].into(), Some(9));
        {
            let (store, records) = Store::open(&path).unwrap();
            assert!(records.is_empty());
            store.commit(&[node(1), rest.clone()]).durable().await.unwrap();
            let later = [store.commit(&[node(2)]), store.commit(&[Change::Rest([10, 0, 0, 2].into(), None)])];
            for pending in later {
                pending.durable().await.unwrap();
            }
        }
        let (_, reopened) = Store::open(&path).unwrap();
        assert_eq!(reopened, [node(2)]);
    }

    #[test]
    fn a_damaged_file_refuses_to_open_and_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.redb");
        std::fs::write(&path, b"not a database, but somebody's bytes").unwrap();
        let message = Store::open(&path).unwrap_err().to_string();
        assert!(message.contains("state.redb") && message.contains("Restore"), "{message}");
        assert_eq!(std::fs::read(&path).unwrap(), b"not a database, but somebody's bytes");
    }

    #[test]
    fn a_newer_format_refuses_to_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.redb");
        {
            let database = open_database(&path).unwrap();
            let write = database.begin_write().unwrap();
            write.open_table(META).unwrap().insert("format", FORMAT + 1).unwrap();
            write.commit().unwrap();
        }
        assert!(matches!(Store::open(&path), Err(StoreError::Newer { found: 2, .. })));
    }
}
