//! What is left of an answer once its head has said what there is to know.

use std::time::Duration;

use bytes::Buf;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

/// Most bytes of a body that are read to keep its connection.
pub(super) const MAX_BODY: usize = 64 * 1024;
/// Longest time for that.
const PATIENCE: Duration = Duration::from_secs(1);

/// The body of an answer that is known already.
pub(super) struct Rest(pub(super) Incoming);

impl Rest {
    /// Reads the body to its end, within limits. `false`: it was not to end there, and its connection is of no use.
    pub(super) async fn settle(self) -> bool {
        let Self(mut body) = self;
        if body.size_hint().lower() > MAX_BODY as u64 {
            return false;
        }
        let reading = async {
            let mut read = 0;
            while let Some(frame) = body.frame().await {
                let Ok(frame) = frame else { return false };
                read += frame.data_ref().map_or(0, Buf::remaining);
                if read > MAX_BODY {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(PATIENCE, reading).await.unwrap_or(false)
    }
}
