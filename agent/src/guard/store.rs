//! The file that keeps what was asked for at run time: over a stop, an upgrade and a reboot.
//!
//! It is written whole, beside the old one, and put in its place in one step; the one before stays as `guard.json.last`. A
//! file that can't be read is put aside and told of, the last good one is taken, and the node runs in any case. Ends are
//! by the wall clock there; where that is off after a reboot, a ban lasts no longer than it was meant to in all.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::book::{Allowance, Ban, Book, Full, Now, Origin};

/// Of the file's layout.
const VERSION: u32 = 1;
/// More than both lists can need.
const MAX_BYTES: u64 = 256 << 20;

/// Where the file is.
#[derive(Clone, Debug)]
pub(super) struct Store {
    file: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    denied: Vec<Denied>,
    allowed: Vec<Allowed>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Denied {
    prefix: IpNet,
    origin: Origin,
    reason: Arc<str>,
    made: String,
    until: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Allowed {
    prefix: IpNet,
    reason: Arc<str>,
    made: String,
}

impl Store {
    /// In this folder, which need not be there.
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            file: folder.join("guard.json"),
        }
    }

    /// The file.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = self.file.clone().into_os_string();
        name.push(ending);
        name.into()
    }

    /// Puts what is kept into the book. Bans that are over by now are left out. In words, what was wrong.
    pub(super) fn load(&self, book: &mut Book, now: Now) -> Option<String> {
        match read(&self.file) {
            Ok(document) => {
                document
                    .into_iter()
                    .for_each(|document| fill(book, document, now));
                None
            }
            Err(error) => {
                let (aside, last) = (self.beside(".corrupt"), self.beside(".last"));
                let mut said = format!("{}: {error}", self.file.display());
                match fs::rename(&self.file, &aside) {
                    Ok(()) => said += &format!("; it is put aside as {}", aside.display()),
                    Err(error) => said += &format!("; it can't be put aside: {error}"),
                }
                match read(&last) {
                    Ok(Some(document)) => {
                        fill(book, document, now);
                        said += &format!("; the bans of {} are used", last.display());
                    }
                    Ok(None) => {
                        said += "; there is no earlier one: bans that were added at run time are lost"
                    }
                    Err(error) => {
                        said += &format!(
                            "; {}: {error}: bans that were added at run time are lost",
                            last.display()
                        );
                    }
                }
                Some(said)
            }
        }
    }

    /// Writes what was asked for at run time.
    ///
    /// # Errors
    /// When the folder can't be made or written; the file of before stays.
    pub(super) fn save(&self, document: &Snapshot) -> io::Result<()> {
        if let Some(folder) = self.file.parent() {
            DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
        }
        let unfinished = self.beside(".new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)?;
        file.write_all(&document.0)?;
        file.sync_all()?;
        let last = self.beside(".last");
        // A copy without copying; at no moment is there no file.
        gone_is_fine(fs::remove_file(&last))?;
        gone_is_fine(fs::hard_link(&self.file, &last))?;
        fs::rename(&unfinished, &self.file)
    }
}

/// The book's content as it is written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Snapshot(Vec<u8>);

impl Snapshot {
    /// Of now.
    pub(super) fn of(book: &Book, now: Now) -> Self {
        let document = Document {
            version: VERSION,
            denied: book
                .bans()
                .map(|(prefix, ban)| Denied {
                    prefix,
                    origin: ban.origin,
                    reason: ban.reason.clone(),
                    made: text(ban.made),
                    // By the boot clock and the present wall clock: that may have been set meanwhile.
                    until: ban
                        .until
                        .map(|until| text(now.wall + until.boot.remaining(now.boot).unwrap_or_default())),
                })
                .collect(),
            allowed: book
                .asked_allowances()
                .map(|(prefix, allowance)| Allowed {
                    prefix,
                    reason: allowance.reason.clone(),
                    made: text(allowance.made),
                })
                .collect(),
        };
        // Texts and numbers always make JSON.
        Self(serde_json::to_vec_pretty(&document).unwrap_or_default())
    }
}

fn gone_is_fine(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn text(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// Nothing where there is no file.
fn read(path: &Path) -> Result<Option<Document>, String> {
    let bytes = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Ok(metadata) if metadata.len() > MAX_BYTES => {
            return Err("it is too long for what it should be".to_owned());
        }
        _ => fs::read(path).map_err(|error| format!("it can't be read: {error}"))?,
    };
    let document: Document =
        serde_json::from_slice(&bytes).map_err(|error| format!("it is not what was written: {error}"))?;
    if document.version != VERSION {
        return Err(format!(
            "it is of version {}, and this program knows version {VERSION}",
            document.version
        ));
    }
    Ok(Some(document))
}

fn fill(book: &mut Book, document: Document, now: Now) {
    let time = |text: &str| humantime::parse_rfc3339(text).unwrap_or(now.wall);
    let mut bans = Vec::with_capacity(document.denied.len());
    for denied in document.denied {
        let made = time(&denied.made);
        let until = denied.until.as_deref().map(time);
        let left = until.map(|until| {
            let left = until.duration_since(now.wall).unwrap_or_default();
            left.min(until.duration_since(made).unwrap_or_default())
        });
        if left.is_some_and(|left| left.is_zero()) {
            continue;
        }
        let ban = Ban {
            origin: denied.origin,
            reason: denied.reason,
            made,
            until: left.map(|left| now.after(left)),
        };
        bans.push((denied.prefix.trunc(), ban));
    }
    let allowed = document.allowed.into_iter().map(|allowed| {
        let allowance = Allowance {
            reason: allowed.reason,
            made: time(&allowed.made),
        };
        (allowed.prefix.trunc(), allowance)
    });
    let mut allowances: Vec<_> = allowed.collect();
    // The configuration may have grown meanwhile.
    as_many_as_fit(&mut bans, |bans| book.deny(bans));
    as_many_as_fit(&mut allowances, |allowances| book.allow(allowances));
}

fn as_many_as_fit<T>(items: &mut Vec<T>, mut put: impl FnMut(&[T]) -> Result<(), Full>) {
    let all = items.len();
    while let Err(full) = put(items) {
        items.truncate(items.len() * 9 / 10);
        if items.is_empty() {
            tracing::error!(%full, "nothing of what was kept has room");
            return;
        }
    }
    if items.len() < all {
        tracing::error!(
            kept = items.len(),
            lost = all - items.len(),
            "not everything that was kept has room"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use constellation_ebpf_loader::BootTime;

    use super::*;

    fn now(seconds: u64) -> Now {
        Now {
            boot: BootTime::from_nanos(seconds * 1_000_000_000),
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds),
        }
    }

    fn book() -> Book {
        let mut book = Book::default();
        let ban = |until: Option<u64>| Ban {
            origin: Origin::Proxy,
            reason: "flood".into(),
            made: now(0).wall,
            until: until.map(|seconds| now(0).after(Duration::from_secs(seconds))),
        };
        let bans = [("192.0.2.0/24", Some(100)), ("2001:db8::/32", None)];
        let bans = bans.map(|(net, until)| (net.parse().unwrap(), ban(until)));
        book.deny(&bans).unwrap();
        let allowance = Allowance {
            reason: "office".into(),
            made: now(0).wall,
        };
        book.allow(&[("10.0.0.0/8".parse().unwrap(), allowance)]).unwrap();
        book
    }

    fn loaded(store: &Store, now: Now) -> (Book, Option<String>) {
        let mut book = Book::default();
        let said = store.load(&mut book, now);
        (book, said)
    }

    #[test]
    fn what_was_kept_comes_back_with_what_is_left_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(&folder.path().join("data"));
        assert_eq!(loaded(&store, now(0)).1, None, "nothing is no fault");
        store.save(&Snapshot::of(&book(), now(0))).unwrap();
        // Another boot: the boot clock begins anew, the wall clock goes on.
        let rebooted = Now {
            boot: BootTime::from_nanos(5),
            wall: now(40).wall,
        };
        let (book, said) = loaded(&store, rebooted);
        assert_eq!(said, None);
        let bans: Vec<_> = book.bans().collect();
        assert_eq!(
            bans[0].1.until.unwrap().boot,
            rebooted.boot + Duration::from_secs(60)
        );
        assert_eq!(
            (bans[1].1.until, &*bans[1].1.reason, bans[1].1.origin),
            (None, "flood", Origin::Proxy)
        );
        assert!(book.allows("10.1.2.3".parse().unwrap()));
        assert_eq!(loaded(&store, now(100)).0.counts(), (1, 1), "one is over");
        // A clock that stands in the past makes no ban longer than it was meant to be.
        let past = Now {
            boot: BootTime::from_nanos(5),
            wall: SystemTime::UNIX_EPOCH,
        };
        let (book, _) = loaded(&store, past);
        let until = book.bans().next().unwrap().1.until.unwrap();
        assert_eq!(until.boot, past.boot + Duration::from_secs(100));
    }

    #[test]
    fn a_file_that_is_broken_is_put_aside_and_the_last_good_one_used() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        let mut changed = book();
        store.save(&Snapshot::of(&changed, now(0))).unwrap();
        changed.undeny("2001:db8::/32".parse().unwrap());
        store.save(&Snapshot::of(&changed, now(0))).unwrap();
        for broken in [
            "{\"version\": 1, \"denied\": [",
            "",
            "{\"version\": 2, \"denied\": [], \"allowed\": []}",
        ] {
            fs::write(store.file(), broken).unwrap();
            let (book, said) = loaded(&store, now(1));
            let said = said.unwrap();
            assert!(
                said.contains("put aside") && said.contains("guard.json.last are used"),
                "{said}"
            );
            assert_eq!(book.counts(), (2, 1), "that of before the last change");
            assert_eq!(fs::read_to_string(store.beside(".corrupt")).unwrap(), broken);
        }
        fs::write(store.file(), "x").unwrap();
        fs::write(store.beside(".last"), "x").unwrap();
        let (book, said) = loaded(&store, now(1));
        assert!(said.unwrap().contains("are lost"));
        assert_eq!(book.counts(), (0, 0));
        store.save(&Snapshot::of(&book, now(1))).unwrap();
        assert_eq!(loaded(&store, now(1)).1, None);
    }

    #[test]
    fn a_folder_that_can_not_be_written_is_an_error_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("data"), "a file").unwrap();
        let store = Store::new(&folder.path().join("data"));
        assert!(store.save(&Snapshot::of(&book(), now(0))).is_err());
    }
}
