//! The durable copy of the desired state: one redb file, one row per record, written by one thread that commits
//! all that has queued up while the disk was busy (group commit), so that concurrent requests share a sync.

mod file;
mod format;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread::JoinHandle,
};

use redb::TableDefinition;
use tokio::sync::oneshot;

use self::{format::FORMAT, writer::Writer};
use crate::desired::Change;

const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("records");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

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
    /// Held once by everybody who waits.
    awaited: Arc<()>,
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
    /// Who waits for it.
    done: Option<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    done: oneshot::Sender<Result<(), Arc<str>>>,
    _awaited: Arc<()>,
}

/// A record's key and its new content.
type Row = (String, Option<Vec<u8>>);

impl Store {
    /// Opens the store in `path`, creating it (0600) when absent, and reads all records. A store of an older format is
    /// brought to this one's in one step.
    pub fn open(path: &Path) -> Result<(Self, Vec<Change>), StoreError> {
        let owned = path.to_owned();
        Self::open_by(path, Box::new(move || file::open(&owned)))
    }

    /// Opens the store by `open`, which is called again after the disk has failed.
    fn open_by(path: &Path, open: file::Open) -> Result<(Self, Vec<Change>), StoreError> {
        let database = open()?;
        let records = file::read_all(&database).map_err(|reason| unreadable(path, reason))?;
        let writer = Writer::new(database, open).map_err(|reason| unreadable(path, reason))?;
        let (jobs, queue) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || writer.serve(&queue))
            .map_err(|error| unreadable(path, error.to_string()))?;
        Ok((Self { path: path.to_owned(), jobs: Some(jobs), thread: Some(thread), awaited: Arc::default() }, records))
    }

    /// Queues `changes` as one transaction. Transactions become durable in the order of these calls.
    pub fn commit(&self, changes: &[Change]) -> Pending {
        let (done, waiter) = oneshot::channel();
        self.queue(changes, Some(Waiter { done, _awaited: Arc::clone(&self.awaited) }));
        Pending { path: self.path.clone(), done: waiter }
    }

    /// Queues `changes`, in the same order, that no request waits for: they share the sync of the next transaction, or have
    /// one of their own a little later.
    pub fn commit_in_passing(&self, changes: &[Change]) {
        self.queue(changes, None);
    }

    /// Whether everybody has been told who waited for a transaction.
    pub fn is_idle(&self) -> bool {
        Arc::strong_count(&self.awaited) == 1
    }

    fn queue(&self, changes: &[Change], done: Option<Waiter>) {
        let job = changes.iter().map(row).collect::<Result<_, _>>().map(|rows| Job { rows, done });
        // An undelivered job drops its sender, which the waiter reports as an ended store.
        if let (Ok(job), Some(jobs)) = (job, &self.jobs) {
            drop(jobs.send(job));
        }
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

impl Waiter {
    /// The caller may have given up waiting; the rows are written all the same.
    fn tell(self, outcome: Result<(), Arc<str>>) {
        drop(self.done.send(outcome));
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

#[cfg(test)]
mod tests;
