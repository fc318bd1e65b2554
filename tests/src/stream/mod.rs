//! Streams of bytes: back ends that name themselves and echo ([`Echo`]), and jobs whose every byte is known
//! ([`Job`], [`JobServer`]), so that a lost, doubled or moved one shows.

mod echo;
mod job;
mod pattern;
mod server;

pub use echo::Echo;
pub use job::{Job, Order};
pub use pattern::Pattern;
pub use server::{End, JobServer, Outcome};

use socket2::SockRef;
use tokio::net::TcpStream;

/// Closes a connection so that the other side sees a reset.
pub fn reset(stream: TcpStream) {
    SockRef::from(&stream)
        .set_linger(Some(std::time::Duration::ZERO))
        .unwrap();
    drop(stream);
}
