//! Named documents with a revision each: cordons, certificates, service definitions, whatever the cluster keeps whole.
//!
//! A revision is the index in the log where the document was written, so it only grows, also across removal. A change
//! may name the revision that it was made from and is refused when that is not the current one.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The largest document, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 256 * 1024;
/// The longest name of a document, in bytes.
pub const MAX_NAME_BYTES: usize = 256;
/// How many documents there can be.
pub const MAX_DOCUMENTS: usize = 16 * 1024;

/// A change of one document. What it becomes is not shown: it may be a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentChange {
    /// Which one.
    pub name: String,
    /// The revision it must have for the change to be made: 0 for "there must be none", nothing for whatever there is.
    pub expected: Option<u64>,
    /// What it becomes; nothing to remove it.
    pub content: Option<Vec<u8>>,
}

/// A document as it is. Its content is not shown: it may be a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// The index in the log where it was written.
    pub revision: u64,
    /// What was written.
    pub content: Vec<u8>,
}

impl fmt::Debug for DocumentChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DocumentChange")
            .field("name", &self.name)
            .field("expected", &self.expected)
            .field("bytes", &self.content.as_ref().map(Vec::len))
            .finish()
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document")
            .field("revision", &self.revision)
            .field("bytes", &self.content.len())
            .finish()
    }
}

/// What a change came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DocumentOutcome {
    /// It has this revision now; a removed one has none, and this is where it went.
    Changed {
        /// The index in the log of the change.
        revision: u64,
    },
    /// Somebody changed it meanwhile.
    Conflict {
        /// The revision that it has; 0 for none.
        current: u64,
    },
    /// More bytes than [`MAX_DOCUMENT_BYTES`].
    TooLarge {
        /// How many there were.
        bytes: u64,
    },
    /// A name that is empty, or longer than [`MAX_NAME_BYTES`].
    InvalidName {
        /// How long it is.
        bytes: u64,
    },
    /// There are [`MAX_DOCUMENTS`] already.
    Full,
}

impl DocumentChange {
    /// What it comes to wherever it is applied, if that can be told from it alone. Such a change need not be proposed.
    #[must_use]
    pub fn unfit(&self) -> Option<DocumentOutcome> {
        let content = self.content.as_ref().map_or(0, Vec::len);
        if self.name.is_empty() || self.name.len() > MAX_NAME_BYTES {
            return Some(DocumentOutcome::InvalidName {
                bytes: self.name.len() as u64,
            });
        }
        (content > MAX_DOCUMENT_BYTES).then_some(DocumentOutcome::TooLarge {
            bytes: content as u64,
        })
    }
}

/// All documents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Documents(BTreeMap<String, Document>);

impl Documents {
    /// The document of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Document> {
        self.0.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Document)> {
        self.0.iter().map(|(name, document)| (name.as_str(), document))
    }

    pub(super) fn apply(&mut self, index: u64, change: &DocumentChange) -> DocumentOutcome {
        if let Some(unfit) = change.unfit() {
            return unfit;
        }
        let current = self.0.get(&change.name).map_or(0, |document| document.revision);
        if change.expected.is_some_and(|expected| expected != current) {
            return DocumentOutcome::Conflict { current };
        }
        match &change.content {
            None => {
                self.0.remove(&change.name);
            }
            Some(_) if current == 0 && self.0.len() >= MAX_DOCUMENTS => return DocumentOutcome::Full,
            Some(content) => {
                let document = Document {
                    revision: index,
                    content: content.clone(),
                };
                self.0.insert(change.name.clone(), document);
            }
        }
        DocumentOutcome::Changed { revision: index }
    }
}
