//! Checks that a relay does its work before it is measured.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::backend::{BLOCK, ECHO, MESSAGE, ONCE, SEND};
use super::scenario::Work;
use crate::bench::backend::body;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes that are looked at in each direction.
const LOOKED_AT: usize = 4 << 20;

/// Fails unless the relay at `port` does what is to be measured.
pub(super) fn check(work: Work, port: u16) -> Result<()> {
    match work {
        Work::Bulk => {
            let mut stream = connect(port)?;
            stream.write_all(&[SEND])?;
            let mut got = vec![0; LOOKED_AT];
            stream.read_exact(&mut got).context("too few bytes come")?;
            let block = body(BLOCK);
            ensure!(
                got.chunks(BLOCK).all(|chunk| chunk == block),
                "other bytes come than were sent"
            );
            echo(port)
        }
        Work::Ping => echo(port),
        Work::Connect => {
            let mut stream = connect(port)?;
            stream.write_all(&[ONCE; MESSAGE])?;
            let mut got = Vec::new();
            stream
                .read_to_end(&mut got)
                .context("the end of a connection is not passed on")?;
            ensure!(
                got == [ONCE; MESSAGE],
                "{} bytes come back of {MESSAGE}",
                got.len()
            );
            Ok(())
        }
        Work::Udp => {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.connect((Ipv4Addr::LOCALHOST, port))?;
            socket.set_read_timeout(Some(Duration::from_millis(200)))?;
            let message: Vec<u8> = body(MESSAGE);
            socket.send(&message)?;
            let mut got = [0; 2 * MESSAGE];
            let length = socket.recv(&mut got).context("no datagram comes back")?;
            ensure!(got[..length] == message, "another datagram comes back");
            Ok(())
        }
    }
}

/// More than socket buffers hold, there and back.
fn echo(port: u16) -> Result<()> {
    let mut stream = connect(port)?;
    let mut sent = body(LOOKED_AT);
    sent[0] = ECHO;
    let mut writer = stream.try_clone()?;
    let got = std::thread::scope(|scope| {
        let writing = scope.spawn(|| writer.write_all(&sent));
        let mut got = vec![0; LOOKED_AT];
        let read = stream.read_exact(&mut got);
        writing
            .join()
            .map_err(|_| anyhow::anyhow!("sending panicked"))??;
        read.context("too few bytes come back")?;
        anyhow::Ok(got)
    })?;
    ensure!(got == sent, "other bytes come back than were sent");
    Ok(())
}

fn connect(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}
