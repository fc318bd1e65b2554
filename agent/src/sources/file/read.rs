//! Files to one contribution.

use constellation_config::FileSource;

use super::PROVIDER;
use crate::sources::Contribution;

/// Reads the documents of one provider.
#[derive(Debug)]
pub(super) struct Reader {
    source: FileSource,
}

/// What a reading gave.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) contribution: Contribution,
}

impl Reader {
    pub(super) fn new(source: FileSource) -> Self {
        Self { source }
    }

    pub(super) fn read(&mut self) -> Reading {
        let path = match &self.source {
            FileSource::File(path) | FileSource::Directory(path) => path,
        };
        let mut contribution = Contribution {
            provider: PROVIDER,
            ..Contribution::default()
        };
        if let (Some(format), Ok(text)) = (
            constellation_config::Format::of(path),
            std::fs::read_to_string(path),
        ) {
            match constellation_config::dynamic::parse(&text, format, path) {
                Ok(dynamic) => contribution.dynamic = dynamic,
                Err(errors) => contribution.problems.push(crate::sources::Problem {
                    subject: format!("file {}", path.display()),
                    message: errors.to_string(),
                }),
            }
        }
        Reading { contribution }
    }
}
