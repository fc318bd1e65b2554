//! What makes frames late: a process between two tap devices, since not every kernel has `netem`.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::tun::Tun;

/// The longest frame: devices of the lab have an MTU of 1500, and taps get what is cut to that.
const LONGEST: usize = 2048;
/// More wait in no cable: what comes then is lost.
const QUEUE: usize = 20_000;

/// Carries frames between two tap devices, each so much later than it came, until it is killed.
///
/// # Errors
/// When a device is not there.
pub fn forward(near: &str, far: &str, delay: Duration) -> Result<()> {
    let open = |name: &str| Tun::attach(name).with_context(|| format!("the tap device {name}"));
    let (near, far) = (open(near)?, open(far)?);
    let ways = [(near.try_clone()?, far.try_clone()?), (far, near)];
    std::thread::scope(|scope| {
        for (from, to) in ways {
            let (frames, queue) = channel();
            scope.spawn(move || deliver(&queue, to));
            scope.spawn(move || {
                let mut from = from;
                let mut frame = [0; LONGEST];
                // Ends with the device.
                while let Ok(length) = from.read(&mut frame) {
                    let late = (Instant::now() + delay, frame[..length].to_vec());
                    if frames.send(late).is_err() {
                        return;
                    }
                }
            });
        }
    });
    Ok(())
}

fn deliver(queue: &Receiver<(Instant, Vec<u8>)>, mut to: File) {
    let mut waiting: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    loop {
        let next = waiting
            .front()
            .map(|(when, _)| when.saturating_duration_since(Instant::now()));
        let received = match next {
            Some(wait) => queue.recv_timeout(wait),
            None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match received {
            Ok(frame) if waiting.len() < QUEUE => waiting.push_back(frame),
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        while let Some((when, frame)) = waiting.pop_front() {
            if when > Instant::now() {
                waiting.push_front((when, frame));
                break;
            }
            // A cable says nothing when the other end is down.
            to.write_all(&frame).unwrap_or_default();
        }
    }
}
