//! Wall-clock seconds, as certificates and expiries need them; always passed in, never read in a decision.

use std::fmt;
use std::time::{Duration, SystemTime};

use ::time::OffsetDateTime;
use rustls_pki_types::UnixTime;
use serde::{Deserialize, Serialize};

/// Seconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UnixSeconds(pub u64);

impl UnixSeconds {
    /// What this machine's clock says; a clock before 1970 reads as 1970, which every expiry check then refuses.
    pub fn now() -> Self {
        Self(
            SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
        )
    }

    /// Later by `by`, at most the end of what a `u64` can tell.
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by.as_secs()))
    }

    /// Earlier by `by`, at most 1970.
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(by.as_secs()))
    }

    /// The distance between the two, whichever is later.
    pub fn apart(self, other: Self) -> Duration {
        Duration::from_secs(self.0.abs_diff(other.0))
    }

    pub(crate) fn date(self) -> Option<OffsetDateTime> {
        OffsetDateTime::from_unix_timestamp(i64::try_from(self.0).ok()?).ok()
    }

    pub(crate) fn unix(self) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(self.0))
    }
}

impl fmt::Display for UnixSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(at) = self.date() else {
            return write!(f, "{} s after 1970", self.0);
        };
        let (month, day) = (u8::from(at.month()), at.day());
        let (hour, minute, second) = at.to_hms();
        write!(
            f,
            "{}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z",
            at.year()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_as_people_write_it() {
        assert_eq!(UnixSeconds(1_700_000_000).to_string(), "2023-11-14T22:13:20Z");
        assert_eq!(UnixSeconds(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(
            UnixSeconds(u64::MAX).to_string(),
            "18446744073709551615 s after 1970"
        );
    }

    #[test]
    fn arithmetic_stops_at_the_ends() {
        assert_eq!(UnixSeconds(5).minus(Duration::from_secs(9)), UnixSeconds(0));
        assert_eq!(
            UnixSeconds(u64::MAX).plus(Duration::from_secs(1)),
            UnixSeconds(u64::MAX)
        );
        assert_eq!(
            UnixSeconds(3).apart(UnixSeconds(10)),
            UnixSeconds(10).apart(UnixSeconds(3))
        );
    }
}
