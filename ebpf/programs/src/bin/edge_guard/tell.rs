//! Telling the daemon what happens rarely, rarely.

use constellation_ebpf_abi::guard::{Config, Event, Verdict};

use crate::maps::{GUARD_EVENTS, GUARD_PACE};
use crate::verdict::Subject;

/// Tells of a verdict, unless its source or prefix was told of a moment ago, or too much is told already.
///
/// # Safety
/// `told_at` is in a value of a map.
#[inline(always)]
pub unsafe fn tell(
    config: &Config,
    now: u64,
    subject: &Subject,
    verdict: Verdict,
    reason: u32,
    told_at: *mut u64,
) {
    // SAFETY: as promised by the caller.
    let last = unsafe { *told_at };
    if last != 0 && now.wrapping_sub(last) < config.event_gap {
        return;
    }
    let Some(pace) = GUARD_PACE.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: the value is in the map; processors that race for it tell one event too many.
    unsafe {
        let Some(full_at) = config.events.take(*pace, now) else {
            return;
        };
        *pace = full_at;
        *told_at = now;
    }
    let event = Event {
        at: now,
        verdict: verdict as u32,
        reason,
        source: subject.source.address,
        port: subject.port,
        protocol: subject.protocol,
        reserved: [0; 5],
    };
    // With nobody reading, the buffer is full, and the counters still tell.
    let _: Result<(), i32> = GUARD_EVENTS.output::<Event>(event, 0);
}
