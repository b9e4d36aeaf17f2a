use std::{
    io,
    sync::{Mutex, PoisonError},
};

use redb::{Database, ReadableDatabase, StorageBackend, backends::FileBackend};

use super::*;
use crate::desired::NodeRecord;

fn node(id: u64) -> Change {
    Change::Node(Some(NodeRecord { node_id: Some(id), announced_pubkey: None }))
}

fn rest(until: Option<u64>) -> Change {
    Change::Rest([10, 0, 0, 2].into(), until)
}

fn new_path() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    (dir, path)
}

#[tokio::test]
async fn what_is_committed_in_passing_is_written_and_never_overtakes() {
    let (_dir, path) = new_path();
    {
        let (store, _) = Store::open(&path).unwrap();
        store.commit_in_passing(&[node(1)]);
        store.commit(&[node(2)]).durable().await.unwrap();
        store.commit_in_passing(&[node(3)]);
    }
    assert_eq!(Store::open(&path).unwrap().1, [node(3)]);
}

#[tokio::test]
async fn what_was_committed_is_read_back_and_what_was_forgotten_is_not() {
    let (_dir, path) = new_path();
    {
        let (store, records) = Store::open(&path).unwrap();
        assert!(records.is_empty());
        store.commit(&[node(1), rest(Some(9))]).durable().await.unwrap();
        let later = [store.commit(&[node(2)]), store.commit(&[rest(None)])];
        for pending in later {
            pending.durable().await.unwrap();
        }
    }
    let (_, reopened) = Store::open(&path).unwrap();
    assert_eq!(reopened, [node(2)]);
}

/// The first megabyte, of which redb writes the beginning last, is what a crash leaves of a new file.
#[tokio::test]
async fn a_crash_while_the_file_is_made_leaves_none() {
    let (_dir, path) = new_path();
    std::fs::write(path.with_extension("new"), [0; 1 << 20]).unwrap();
    let (store, records) = Store::open(&path).unwrap();
    assert!(records.is_empty() && !path.with_extension("new").exists());
    store.commit(&[node(1)]).durable().await.unwrap();
    drop(store);
    assert_eq!(Store::open(&path).unwrap().1, [node(1)]);
}

#[test]
fn a_damaged_file_refuses_to_open_and_stays_as_it_is() {
    let (_dir, path) = new_path();
    std::fs::write(&path, b"not a database, but bytes of another program").unwrap();
    let message = Store::open(&path).unwrap_err().to_string();
    assert!(message.contains("state.redb") && message.contains("Restore"), "{message}");
    assert_eq!(std::fs::read(&path).unwrap(), b"not a database, but bytes of another program");
}

/// A file of this format with these rows.
fn write_file(path: &Path, format: u64, rows: &[(String, Vec<u8>)]) {
    let database = Database::create(path).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(META).unwrap().insert("format", format).unwrap();
    for (key, content) in rows {
        write.open_table(RECORDS).unwrap().insert(key.as_str(), content.as_slice()).unwrap();
    }
    drop(write.open_table(RECORDS).unwrap());
    write.commit().unwrap();
}

fn format_of(path: &Path) -> u64 {
    let database = Database::open(path).unwrap();
    let read = database.begin_read().unwrap();
    read.open_table(META).unwrap().get("format").unwrap().unwrap().value()
}

#[test]
fn a_newer_format_refuses_to_open_and_stays_as_it_is() {
    let (_dir, path) = new_path();
    write_file(&path, FORMAT + 1, &[("node".into(), b"who knows".to_vec())]);
    assert!(matches!(Store::open(&path), Err(StoreError::Newer { found, .. }) if found == FORMAT + 1));
    assert_eq!((keys(&path), format_of(&path)), (vec!["node".to_owned()], FORMAT + 1));
}

/// What a daemon of format 1 has written.
const FORMAT_1: &str = include_str!("../../tests/golden/store_format_1.jsonl");

#[tokio::test]
async fn a_file_of_format_1_is_read_and_goes_on_in_todays() {
    let (_dir, path) = new_path();
    let changes: Vec<Change> = FORMAT_1.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let rows: Vec<_> =
        changes.iter().zip(FORMAT_1.lines()).map(|(change, line)| (change.key(), line.as_bytes().to_vec())).collect();
    write_file(&path, 1, &rows);
    let (store, mut records) = Store::open(&path).unwrap();
    records.sort_by_key(Change::key);
    let mut expected = changes;
    expected.sort_by_key(Change::key);
    assert_eq!(records, expected);
    store.commit(&[node(77)]).durable().await.unwrap();
    drop(store);
    assert_eq!(format_of(&path), FORMAT);
    assert!(Store::open(&path).unwrap().1.contains(&node(77)));
}

/// Steps of formats to come: each row's key says which steps it has seen.
const SOME_STEPS: [format::Step; 2] = [
    |rows| Ok(rows.into_iter().map(|(key, content)| (format!("{key}, first"), content)).collect()),
    |rows| Ok(rows.into_iter().map(|(key, content)| (format!("{key}, second"), content)).collect()),
];

fn keys(path: &Path) -> Vec<String> {
    let database = Database::open(path).unwrap();
    let read = database.begin_read().unwrap();
    let table = read.open_table(RECORDS).unwrap();
    redb::ReadableTable::iter(&table).unwrap().map(|row| row.unwrap().0.value().to_owned()).collect()
}

#[test]
fn a_file_takes_the_steps_that_it_has_not_seen_in_order_and_once() {
    for (format, expected) in [(1, "row, first, second"), (2, "row, second"), (3, "row")] {
        let (_dir, path) = new_path();
        write_file(&path, format, &[("row".into(), b"{}".to_vec())]);
        for _ in 0..2 {
            let database = Database::open(&path).unwrap();
            format::bring_up_to_date(&path, &database, &SOME_STEPS).unwrap();
        }
        assert_eq!(keys(&path), [expected], "from format {format}");
        assert_eq!(format_of(&path), 3);
    }
}

#[test]
fn a_step_that_fails_leaves_the_file_in_its_old_format() {
    let (_dir, path) = new_path();
    write_file(&path, 1, &[("row".into(), b"{}".to_vec())]);
    let database = Database::open(&path).unwrap();
    let steps: [format::Step; 2] = [SOME_STEPS[0], |_| Err("row has no colour".into())];
    let message = format::bring_up_to_date(&path, &database, &steps).unwrap_err().to_string();
    drop(database);
    assert!(message.contains("no colour") && message.contains("state.redb"), "{message}");
    assert_eq!((keys(&path), format_of(&path)), (vec!["row".to_owned()], 1));
}

/// A disk that refuses changes: from the `after`th one on, counted from when this was said.
#[derive(Debug, Clone, Default)]
struct Fault(Arc<Mutex<Option<(usize, io::ErrorKind)>>>);

impl Fault {
    fn begin(&self, after: usize, kind: io::ErrorKind) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((after, kind));
    }

    fn end(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn pass(&self) -> io::Result<()> {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((0, kind)) => Err((*kind).into()),
            Some((left, _)) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

#[derive(Debug)]
struct Failing(FileBackend, Fault);

impl StorageBackend for Failing {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.1.pass()?;
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.1.pass()?;
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.1.pass()?;
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }
}

fn open_failing(path: &Path, fault: &Fault) -> Store {
    let (owned, fault) = (path.to_owned(), fault.clone());
    let open = move || {
        let file = crate::private_file::open_or_create(&owned).unwrap();
        file::open_backend(&owned, Failing(FileBackend::new(file).unwrap(), fault.clone()))
    };
    Store::open_by(path, Box::new(open)).unwrap().0
}

/// The disk fails at its n-th change, for every n within a transaction, and a while later works again.
#[tokio::test]
async fn a_change_that_was_refused_is_not_on_record_and_the_next_one_is_taken_once_the_disk_works_again() {
    for kind in [io::ErrorKind::StorageFull, io::ErrorKind::ReadOnlyFilesystem] {
        let mut failures = 0;
        for n in 0.. {
            let (_dir, path) = new_path();
            let fault = Fault::default();
            let store = open_failing(&path, &fault);
            store.commit(&[node(1), rest(Some(9))]).durable().await.unwrap();
            fault.begin(n, kind);
            let outcome = store.commit(&[node(2), rest(None)]).durable().await;
            let again = store.commit(&[node(3)]).durable().await;
            fault.end();
            store.commit(&[Change::DedicatedPort("db".into(), Some(51421))]).durable().await.unwrap();
            drop(store);
            let records = Store::open(&path).unwrap().1;
            let port = Change::DedicatedPort("db".into(), Some(51421));
            let expected = match (&outcome, &again) {
                (Ok(()), Ok(())) => vec![port, node(3)],
                (Ok(()), Err(_)) => vec![port, node(2)],
                (Err(_), Ok(())) => vec![port, node(3), rest(Some(9))],
                (Err(_), Err(_)) => vec![port, node(1), rest(Some(9))],
            };
            assert_eq!(records, expected, "{kind:?} at change {n}: {outcome:?}, {again:?}");
            let Err(error) = outcome else { break };
            assert!(error.to_string().contains("state.redb"), "{error}");
            failures += 1;
        }
        assert!(failures > 2, "a transaction changes the disk more than {failures} times");
    }
}
