//! Calendar time in UTC, for lines of the log.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// A moment in the proleptic Gregorian calendar; moments before 1970 count as 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    year: u64,
    month: u64,
    day: u64,
    seconds_of_day: u64,
    nanoseconds: u32,
}

impl Moment {
    pub(super) fn new(when: SystemTime) -> Self {
        let since: Duration = when.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (year, month, day) = civil(since.as_secs() / 86_400);
        Self {
            year,
            month,
            day,
            seconds_of_day: since.as_secs() % 86_400,
            nanoseconds: since.subsec_nanos(),
        }
    }

    fn clock(self) -> (u64, u64, u64) {
        (
            self.seconds_of_day / 3600,
            self.seconds_of_day / 60 % 60,
            self.seconds_of_day % 60,
        )
    }

    /// `2026-11-21T10:02:03.000000004Z`
    pub(super) fn rfc3339_nanos(self) -> impl fmt::Display {
        let (hours, minutes, seconds) = self.clock();
        let Self {
            year,
            month,
            day,
            nanoseconds,
            ..
        } = self;
        fmt::from_fn(move |f| {
            write!(
                f,
                "{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{nanoseconds:09}Z"
            )
        })
    }

    /// `2026-11-21T10:02:03Z`
    pub(super) fn rfc3339(self) -> impl fmt::Display {
        let (hours, minutes, seconds) = self.clock();
        let Self { year, month, day, .. } = self;
        fmt::from_fn(move |f| {
            write!(
                f,
                "{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}Z"
            )
        })
    }

    /// `21/Nov/2026:10:02:03 +0000`
    pub(super) fn common(self) -> impl fmt::Display {
        let (hours, minutes, seconds) = self.clock();
        let Self { year, month, day, .. } = self;
        let month = usize::try_from(month)
            .ok()
            .and_then(|m| MONTHS.get(m.saturating_sub(1)))
            .unwrap_or(&"Jan");
        fmt::from_fn(move |f| {
            write!(
                f,
                "{day:02}/{month}/{year:04}:{hours:02}:{minutes:02}:{seconds:02} +0000"
            )
        })
    }
}

/// Year, month and day of a day counted from 1970-01-01. Years begin in March here, so that the leap day is the last.
fn civil(days: u64) -> (u64, u64, u64) {
    /// From 0000-03-01 to 1970-01-01.
    const TO_1970: u64 = 719_468;
    const ERA: u64 = 146_097;
    let days = days + TO_1970;
    let (era, day_of_era) = (days / ERA, days % ERA);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (year_of_era + era * 400 + next_year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_calendar() {
        let cases = [
            (
                0,
                0,
                "1970-01-01T00:00:00.000000000Z",
                "01/Jan/1970:00:00:00 +0000",
            ),
            (
                951_782_399,
                1,
                "2000-02-28T23:59:59.000000001Z",
                "28/Feb/2000:23:59:59 +0000",
            ),
            (
                951_782_400,
                0,
                "2000-02-29T00:00:00.000000000Z",
                "29/Feb/2000:00:00:00 +0000",
            ),
            (
                1_709_251_199,
                0,
                "2024-02-29T23:59:59.000000000Z",
                "29/Feb/2024:23:59:59 +0000",
            ),
            (
                1_767_225_599,
                999_999_999,
                "2025-12-31T23:59:59.999999999Z",
                "31/Dec/2025:23:59:59 +0000",
            ),
            (
                4_107_542_400,
                0,
                "2100-03-01T00:00:00.000000000Z",
                "01/Mar/2100:00:00:00 +0000",
            ),
        ];
        for (seconds, nanos, rfc3339, common) in cases {
            let moment = Moment::new(UNIX_EPOCH + Duration::new(seconds, nanos));
            assert_eq!(moment.rfc3339_nanos().to_string(), rfc3339);
            assert_eq!(moment.common().to_string(), common);
        }
    }

    #[test]
    fn a_clock_before_1970_does_no_harm() {
        let before = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(Moment::new(before).rfc3339().to_string(), "1970-01-01T00:00:00Z");
    }
}
