//! What a node tells of itself. Nobody can write another one's keys: chitchat keeps one owner for each state, and this is
//! the only way to write.

use chitchat::NodeState;
use thiserror::Error;

use crate::value::{Bulk, Counted, Counts, Label, Load, Metadata, ServiceId, VALUE_LIMIT, ValueError};

pub(crate) const METADATA: &str = "m";
pub(crate) const LOAD: &str = "l";
pub(crate) const SERVICE: &str = "s/";
pub(crate) const COUNTED: &str = "c";
pub(crate) const BULK: &str = "b/";

/// The most services of which a node tells how their instances fare.
pub const SERVICES_LIMIT: usize = 1024;
/// The most bulks of a node.
pub(crate) const BULKS_LIMIT: usize = 16;

/// Why something is not told.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OwnError {
    /// Not a value that others would read.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// Too many.
    #[error(
        "{key} is not gossiped: this node tells {limit} of its kind already, remove one first or announce them as bulk"
    )]
    Full {
        /// Which.
        key: String,
        /// How many.
        limit: usize,
    },
}

/// Write access to this node's own state. Changes go out with the next round.
pub struct Own<'a>(pub(crate) &'a mut NodeState);

impl Own<'_> {
    /// Tells the metadata.
    pub fn metadata(&mut self, metadata: &Metadata) -> Result<(), OwnError> {
        self.put::<Metadata>("metadata", METADATA.to_owned(), metadata)
    }

    /// Tells the load.
    pub fn load(&mut self, load: &Load) -> Result<(), OwnError> {
        self.put::<Load>("load", LOAD.to_owned(), load)
    }

    /// Tells how the instances of a service fare.
    pub fn service(&mut self, id: ServiceId, counts: &Counts) -> Result<(), OwnError> {
        let key = format!("{SERVICE}{id}");
        self.fits(&key, SERVICE, SERVICES_LIMIT)?;
        self.put::<Counts>("service", key, counts)
    }

    /// Tells that a service is gone.
    pub fn remove_service(&mut self, id: ServiceId) {
        self.0.delete(&format!("{SERVICE}{id}"));
    }

    /// Tells that what was told of services until now is of this version of the export, or a later one. Others see it
    /// no sooner than that.
    pub fn counted(&mut self, version: u64) -> Result<(), OwnError> {
        self.put::<Counted>("counted", COUNTED.to_owned(), &Counted(version))
    }

    /// Tells which version of something large there is to pull.
    pub fn bulk(&mut self, name: &Label, bulk: &Bulk) -> Result<(), OwnError> {
        let key = format!("{BULK}{name}");
        self.fits(&key, BULK, BULKS_LIMIT)?;
        self.put::<Bulk>("bulk", key, bulk)
    }

    /// Tells that there is nothing to pull any more.
    pub fn remove_bulk(&mut self, name: &Label) {
        self.0.delete(&format!("{BULK}{name}"));
    }

    fn fits(&self, key: &str, prefix: &str, limit: usize) -> Result<(), OwnError> {
        let full = self.0.get(key).is_none() && self.0.iter_prefix(prefix).count() >= limit;
        if full {
            Err(OwnError::Full {
                key: key.to_owned(),
                limit,
            })
        } else {
            Ok(())
        }
    }

    /// Only what others can read is told.
    fn put<T>(&mut self, what: &'static str, key: String, value: &T) -> Result<(), OwnError>
    where
        T: ToString + std::str::FromStr<Err = ValueError>,
    {
        let text = value.to_string();
        if text.len() > VALUE_LIMIT {
            return Err(ValueError::Large {
                what,
                bytes: text.len(),
            }
            .into());
        }
        text.parse::<T>()?;
        self.0.set(key, text);
        Ok(())
    }
}
