//! How much is written into the log of what strangers do.

use std::time::Duration;

use constellation_ebpf_loader::BootTime;

/// Counts lines: an attack must not fill the disk.
#[derive(Default)]
pub(super) struct Lines {
    until: Option<BootTime>,
    written: u32,
    left_out: u32,
}

impl Lines {
    const EACH_MINUTE: u32 = 20;

    /// Whether there may be another line. The first of a minute says how many were left out before.
    pub(super) fn another(&mut self, now: BootTime) -> bool {
        if self.until.is_none_or(|until| now >= until) {
            if self.left_out > 0 {
                tracing::info!(
                    lines = self.left_out,
                    "lines of the guard were left out; constellation guard status shows the last events, guard list the bans"
                );
            }
            *self = Self {
                until: Some(now + Duration::from_secs(60)),
                ..Self::default()
            };
        }
        let may = self.written < Self::EACH_MINUTE;
        if may {
            self.written += 1;
        } else {
            self.left_out += 1;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_has_so_many_lines_and_no_more() {
        let mut lines = Lines::default();
        let start = BootTime::from_nanos(5);
        let mut in_minute = |minute: u64| {
            let now = start + Duration::from_secs(60 * minute);
            (0..1000).filter(|_| lines.another(now)).count()
        };
        assert_eq!([in_minute(0), in_minute(0), in_minute(1)], [20, 0, 20]);
        assert_eq!(lines.left_out, 980);
    }
}
