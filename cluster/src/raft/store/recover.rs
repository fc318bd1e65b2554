//! When the majority is lost for good: a log in which this node is the only voter, made of what this node has.
//!
//! It takes the snapshot and **every** entry behind it, committed or not. This node can't know which of the last ones were: what
//! a majority has written is committed, and the majority is what is gone. To leave one out may undo what somebody was told
//! is done; to take one in does at most what somebody asked for and was told nothing about.
//!
//! The new log begins at an index and in a term that are a million beyond all that this node has seen. Tokens of leases are indices, and
//! those who are lost may have gone on for a while without this node; none of theirs may ever be above one of ours. And a log
//! of theirs that comes back is the older one, so that this node never votes for it. It has to be kept from coming back all the
//! same: two of three that were taken for lost are a majority of the old cluster.
//!
//! Crash-safe: all is written aside, one rename makes it count, and what a crash leaves undone after that is done by whoever
//! opens the log next ([`finish`]). What was there before is kept under a number.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openraft::{
    CommittedLeaderId, Entry, EntryPayload, LogId, Membership, SnapshotMeta, StoredMembership, Vote,
};
use redb::Database;

use super::super::{Member, StoreFailure, Types, codec};
use super::log::{self, LogStore};
use super::snapshot::{self, Content};
use super::writer::{COMMITTED, ENTRIES, META, PURGED, VOTE};
use crate::state::{NodeId, State};

/// How far beyond all that was seen.
const GAP: u64 = 1_000_000;
/// The files, in the order in which they are put in place: the log comes last, as it is what a node starts with.
const FILES: [&str; 2] = ["state.snapshot", "log.redb"];
/// Where the new files are made. Worth nothing.
const UNFINISHED: &str = "recovery.unfinished";
/// Where they are once they count.
const READY: &str = "recovery.ready";
/// Where the old ones are kept, with a number.
const BEFORE: &str = "before-recovery";

/// What was recovered, for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Where the files are that were there before.
    pub kept: PathBuf,
    /// The last entry that was found, which is in the state now.
    pub last: Option<u64>,
    /// How many of the last ones this node did not know to be committed.
    pub uncertain: u64,
    /// The index at which the log goes on.
    pub index: u64,
    /// The members of before, as this node knew them. None of them but this node may be started with the files that it has.
    pub members: BTreeMap<NodeId, Member>,
}

/// Makes node `id` the only voter of its log, for when the majority is lost for good. For a node that is not running, because an
/// operator said so.
///
/// # Errors
/// If there is no log of this node, it is in use, or something can't be read or written. Nothing has changed then, unless
/// the failure came while the new files were put in place; starting the node, or another call, goes on with that.
pub fn recover(folder: &Path, id: NodeId, member: Member) -> Result<Recovered, StoreFailure> {
    finish(folder)?;
    let path = folder.join("log.redb");
    if !path.exists() {
        return Err(StoreFailure::Foreign {
            path,
            detail: "there is no log: nothing can be recovered here, let the node join instead".to_owned(),
        });
    }
    // Open until the end, so that no node can start meanwhile.
    let found = LogStore::open(&path, id, Arc::new(|_| {}))?;
    let newest = newest(folder, &path, &found)?;
    let seen = newest.last.map_or(0, |last| last.index);
    let term = newest.term.saturating_add(GAP);
    let at = LogId::new(CommittedLeaderId::new(term, id), seen.saturating_add(GAP));

    let unfinished = folder.join(UNFINISHED);
    remove(&unfinished)?;
    create(&unfinished)?;
    write_log(&unfinished.join("log.redb"), id, at)?;
    let voters = vec![BTreeSet::from([id])];
    let membership = Membership::new(voters, BTreeMap::from([(id, member)]));
    let content = Content {
        meta: SnapshotMeta {
            last_log_id: Some(at),
            last_membership: StoredMembership::new(Some(at), membership),
            snapshot_id: format!("{at}-recovered"),
        },
        state: newest.state,
    };
    snapshot::write(&unfinished, &content.to_bytes(&unfinished)?)?;
    snapshot::sync_folder(&unfinished)?;
    let kept = keep(folder)?;
    rename(&unfinished, &folder.join(READY))?;
    snapshot::sync_folder(folder)?;
    // From here on it is the new log's, whatever happens.
    finish(folder)?;
    drop(found);
    Ok(Recovered {
        kept,
        last: newest.last.map(|last| last.index),
        uncertain: newest.uncertain,
        index: at.index,
        members: newest.members,
    })
}

/// Goes on with what a crash left undone; nothing if there is nothing. Before the log is opened.
pub(in super::super) fn finish(folder: &Path) -> Result<(), StoreFailure> {
    let ready = folder.join(READY);
    if !ready.exists() {
        return Ok(());
    }
    let kept = last_kept(folder)?.ok_or_else(|| StoreFailure::Corrupt {
        path: ready.clone(),
        detail: format!("a recovery without a folder {BEFORE}-1 for the files before it"),
    })?;
    for name in FILES {
        let (new, place, old) = (ready.join(name), folder.join(name), kept.join(name));
        // It is in place.
        if !new.exists() {
            continue;
        }
        if place.exists() && !old.exists() {
            rename(&place, &old)?;
            snapshot::sync_folder(&kept)?;
        }
        rename(&new, &place)?;
        snapshot::sync_folder(folder)?;
    }
    remove(&ready)?;
    snapshot::sync_folder(folder)
}

struct Newest {
    state: State,
    last: Option<LogId<NodeId>>,
    /// The highest that was voted or written in.
    term: u64,
    uncertain: u64,
    members: BTreeMap<NodeId, Member>,
}

/// The state after all entries of this node.
fn newest(folder: &Path, path: &Path, log: &LogStore) -> Result<Newest, StoreFailure> {
    let stored = snapshot::read(folder)?.map(|(content, _)| content);
    let (mut state, mut last, mut membership) = match stored {
        Some(content) => (
            content.state,
            content.meta.last_log_id,
            content.meta.last_membership,
        ),
        None => (State::default(), None, StoredMembership::default()),
    };
    let known = log.known()?;
    let committed = known.committed.max(last);
    let vote = known.vote.map_or(0, |vote| vote.leader_id().term);
    let first = last.map_or(0, |last| last.index + 1);
    // A snapshot from the leader may be newer than all entries.
    let missing = |index| StoreFailure::Corrupt {
        path: path.to_owned(),
        detail: format!("entry {index} is missing between the snapshot and the end of the log"),
    };
    if known.purged.is_some_and(|purged| purged.index >= first) {
        return Err(missing(first));
    }
    for entry in following(log, last)? {
        let index = entry.log_id.index;
        let expected = last.map_or(0, |last| last.index + 1);
        if index != expected {
            return Err(missing(expected));
        }
        last = Some(entry.log_id);
        match entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Normal(request) => drop(state.apply(index, &request)),
            EntryPayload::Membership(of) => membership = StoredMembership::new(Some(entry.log_id), of),
        }
    }
    let index = |log: Option<LogId<NodeId>>| log.map_or(0, |log| log.index);
    Ok(Newest {
        state,
        term: vote.max(last.map_or(0, |last| last.leader_id.term)),
        uncertain: index(last).saturating_sub(index(committed)),
        last,
        members: membership
            .membership()
            .nodes()
            .map(|(id, member)| (*id, member.clone()))
            .collect(),
    })
}

/// The entries behind a snapshot. A crash while it was installed may have left some that it has overruled.
fn following(log: &LogStore, snapshot: Option<LogId<NodeId>>) -> Result<Vec<Entry<Types>>, StoreFailure> {
    let Some(snapshot) = snapshot else {
        return log.after(0);
    };
    let mut entries = log.after(snapshot.index)?;
    match entries.first().map(|entry| entry.log_id) {
        Some(first) if first == snapshot => drop(entries.remove(0)),
        Some(first) if first.index == snapshot.index => entries.clear(),
        _ => {}
    }
    Ok(entries)
}

/// A log that begins after `at`.
fn write_log(path: &Path, id: NodeId, at: LogId<NodeId>) -> Result<(), StoreFailure> {
    let failed = |error: redb::Error| StoreFailure::writing(path, error);
    let database = Database::create(path).map_err(|error| failed(error.into()))?;
    log::own(&database, path, id)?;
    let records = [
        // Nobody's vote: the node elects itself, in the term after this.
        (
            VOTE,
            codec::seal(VOTE.as_bytes(), &Vote::new(at.leader_id.term, id)),
        ),
        (PURGED, codec::seal(PURGED.as_bytes(), &at)),
        (COMMITTED, codec::seal(COMMITTED.as_bytes(), &Some(at))),
    ];
    let transaction = database.begin_write().map_err(|error| failed(error.into()))?;
    {
        transaction
            .open_table(ENTRIES)
            .map_err(|error| failed(error.into()))?;
        let mut meta = transaction
            .open_table(META)
            .map_err(|error| failed(error.into()))?;
        for (key, record) in records {
            let record = record.map_err(|error| StoreFailure::Write {
                path: path.to_owned(),
                detail: format!("a record that can't be written: {error}"),
            })?;
            meta.insert(key, record.as_slice())
                .map_err(|error| failed(error.into()))?;
        }
    }
    transaction.commit().map_err(|error| failed(error.into()))
}

/// A new folder for the files of before, the next number.
fn keep(folder: &Path) -> Result<PathBuf, StoreFailure> {
    let next = numbers(folder)?.last().map_or(1, |last| last.saturating_add(1));
    let kept = folder.join(format!("{BEFORE}-{next}"));
    create(&kept)?;
    Ok(kept)
}

fn last_kept(folder: &Path) -> Result<Option<PathBuf>, StoreFailure> {
    let last = numbers(folder)?.last().copied();
    Ok(last.map(|number| folder.join(format!("{BEFORE}-{number}"))))
}

fn numbers(folder: &Path) -> Result<BTreeSet<u64>, StoreFailure> {
    let failed = |error: io::Error| StoreFailure::Read {
        path: folder.to_owned(),
        detail: error.to_string(),
    };
    let mut numbers = BTreeSet::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let number: Option<u64> = name
            .to_str()
            .and_then(|name| name.strip_prefix(BEFORE)?.strip_prefix('-'))
            .and_then(|number| number.parse().ok());
        numbers.extend(number);
    }
    Ok(numbers)
}

fn create(path: &Path) -> Result<(), StoreFailure> {
    fs::create_dir(path).map_err(|error| StoreFailure::write(path, &error))
}

fn rename(from: &Path, to: &Path) -> Result<(), StoreFailure> {
    fs::rename(from, to).map_err(|error| StoreFailure::write(to, &error))
}

/// A folder with all that is in it, if it is there.
fn remove(path: &Path) -> Result<(), StoreFailure> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreFailure::write(path, &error)),
        _ => Ok(()),
    }
}
