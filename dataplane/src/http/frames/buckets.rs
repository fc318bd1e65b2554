//! How often a client may send frames that cost it little.

use std::time::Instant;

use crate::http::refusal::Refusal;
use crate::metrics::Refusal as Label;

/// Tokens for frames of one type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    tokens: u32,
    burst: u32,
    per_second: u32,
    label: Label,
}

impl Bucket {
    const fn new(burst: u32, per_second: u32, label: Label) -> Self {
        Self {
            tokens: burst,
            burst,
            per_second,
            label,
        }
    }

    pub(super) fn take(&mut self) -> Result<(), Refusal> {
        self.tokens = self.tokens.checked_sub(1).ok_or(Refusal::Calm(self.label))?;
        Ok(())
    }

    pub(super) fn add(&mut self, tokens: u32) {
        self.tokens = self.tokens.saturating_add(tokens).min(self.burst);
    }
}

/// The buckets of a connection: bursts and refills are several times what clients were seen to send.
#[derive(Debug)]
pub(super) struct Buckets {
    /// A browser that leaves a page resets every stream it has; each response that ends earns another one.
    pub(super) resets: Bucket,
    /// gRPC measures its bandwidth with a ping for each round trip that brings data; each DATA frame earns one.
    pub(super) pings: Bucket,
    pub(super) settings: Bucket,
    /// Each request earns two.
    pub(super) priority: Bucket,
    /// Each DATA frame of ours earns four: one for the stream, one for the connection, and as many to spare.
    pub(super) windows: Bucket,
    pub(super) empty: Bucket,
    pub(super) unknown: Bucket,
    filled: Option<Instant>,
}

impl Buckets {
    pub(super) const fn new() -> Self {
        Self {
            resets: Bucket::new(500, 50, Label::H2Resets),
            pings: Bucket::new(500, 50, Label::H2Pings),
            settings: Bucket::new(50, 5, Label::H2Settings),
            priority: Bucket::new(1000, 50, Label::H2Priority),
            windows: Bucket::new(2000, 500, Label::H2WindowUpdates),
            empty: Bucket::new(64, 10, Label::H2EmptyData),
            unknown: Bucket::new(100, 10, Label::H2Unknown),
            filled: None,
        }
    }

    pub(super) fn refill(&mut self, now: Instant) {
        let filled = *self.filled.get_or_insert(now);
        let seconds = now.saturating_duration_since(filled).as_secs();
        let Ok(seconds @ 1..) = u32::try_from(seconds) else {
            return;
        };
        self.filled = Some(now);
        for bucket in [
            &mut self.resets,
            &mut self.pings,
            &mut self.settings,
            &mut self.priority,
            &mut self.windows,
            &mut self.empty,
            &mut self.unknown,
        ] {
            bucket.add(bucket.per_second.saturating_mul(seconds));
        }
    }
}
