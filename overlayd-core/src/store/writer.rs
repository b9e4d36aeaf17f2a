//! The writing thread, and what becomes of it when the disk fails.
//!
//! redb takes no further transaction after an error of the disk, so the file is opened anew. Whether the failed
//! transaction is on disk is not known then; because its requests were refused, it is taken back first.

use std::{
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use redb::{Database, ReadableDatabase, ReadableTable};

use super::{Job, META, RECORDS, Row, file::Open};

/// Key of the number of the last transaction.
const LAST: &str = "last";

/// How long a change committed in passing may wait for others to share a sync with.
const COMPANY: Duration = Duration::from_millis(10);

/// Writes transactions one after the other.
pub(super) struct Writer {
    open: Open,
    /// `None` while the disk fails.
    database: Option<Database>,
    /// Number of the last transaction that is on disk.
    last: u64,
    /// A failed transaction that may be on disk.
    doubtful: Option<Doubtful>,
}

struct Doubtful {
    number: u64,
    /// What its rows were before.
    before: Vec<Row>,
}

impl Writer {
    /// For a database that was opened by `open`.
    pub(super) fn new(database: Database, open: Open) -> Result<Self, String> {
        let last = last(&database).map_err(|error| error.to_string())?;
        Ok(Self { open, database: Some(database), last, doubtful: None })
    }

    /// Commits what is queued, until the handle is dropped and no more can be queued.
    pub(super) fn serve(mut self, queue: &mpsc::Receiver<Job>) {
        while let Ok(first) = queue.recv() {
            let jobs = gathered(first, queue);
            let rows: Vec<&Row> = jobs.iter().flat_map(|job| &job.rows).collect();
            let outcome: Result<(), Arc<str>> = self.commit(&rows).map_err(Arc::from);
            // The last one is told first: decisions are taken back in this order when they were not recorded.
            for job in jobs.into_iter().rev() {
                match (job.done, &outcome) {
                    (Some(waiter), _) => waiter.tell(outcome.clone()),
                    (None, Err(error)) => {
                        tracing::error!(%error, "a change committed in passing could not be recorded")
                    }
                    (None, Ok(())) => {}
                }
            }
        }
    }

    fn commit(&mut self, rows: &[&Row]) -> Result<(), String> {
        let database = match self.database.take() {
            Some(database) => database,
            None => self.recover()?,
        };
        let number = self.last + 1;
        let mut before = Vec::with_capacity(rows.len());
        match write(&database, number, rows, &mut before) {
            Ok(()) => {
                self.last = number;
                self.database = Some(database);
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, "the state could not be written; it is opened anew for the next change");
                self.doubtful = Some(Doubtful { number, before });
                Err(error.to_string())
            }
        }
    }

    /// Opens the file after a failure, and takes back what failed.
    fn recover(&mut self) -> Result<Database, String> {
        let database = (self.open)().map_err(|error| error.to_string())?;
        let last = last(&database).map_err(|error| error.to_string())?;
        if let Some(doubtful) = self.doubtful.as_ref().filter(|doubtful| doubtful.number == last) {
            // The latest content of a row that was written twice is the one before the first time.
            let rows: Vec<&Row> = doubtful.before.iter().rev().collect();
            write(&database, last + 1, &rows, &mut Vec::new()).map_err(|error| error.to_string())?;
            self.last = last + 1;
        } else {
            self.last = last;
        }
        self.doubtful = None;
        tracing::info!("the state can be written again");
        Ok(database)
    }
}

/// All that is queued, once a request waits for any of it or it has waited for long enough.
fn gathered(first: Job, queue: &mpsc::Receiver<Job>) -> Vec<Job> {
    let until = Instant::now() + COMPANY;
    let mut jobs = vec![first];
    jobs.extend(queue.try_iter());
    while jobs.iter().all(|job| job.done.is_none()) {
        // The time is over, or there will be no more.
        let Ok(next) = queue.recv_timeout(until.saturating_duration_since(Instant::now())) else { break };
        jobs.push(next);
        jobs.extend(queue.try_iter());
    }
    jobs
}

fn last(database: &Database) -> Result<u64, redb::Error> {
    let read = database.begin_read()?;
    Ok(read.open_table(META)?.get(LAST)?.map_or(0, |number| number.value()))
}

/// Writes the rows as transaction `number`, and notes in `before` what each was.
fn write(database: &Database, number: u64, rows: &[&Row], before: &mut Vec<Row>) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    write.open_table(META)?.insert(LAST, number)?;
    {
        let mut table = write.open_table(RECORDS)?;
        for (key, content) in rows {
            let known = table.get(key.as_str())?.map(|content| content.value().to_owned());
            before.push((key.clone(), known));
            match content {
                Some(content) => drop(table.insert(key.as_str(), content.as_slice())?),
                None => drop(table.remove(key.as_str())?),
            }
        }
    }
    Ok(write.commit()?)
}
