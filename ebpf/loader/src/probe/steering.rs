//! A connection to a port that nobody listens on, steered to a listener on another port.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, getsockname, socket};

use super::{PATIENCE, failed, unmet};
use crate::steering::{Bind, Dest, Protocol};
use crate::{BootTime, Error, Lock, Steering};

pub(super) fn probe(lock: &Lock) -> Result<(), Error> {
    let mut steering = Steering::load(lock, None)?;
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| failed("listening", &error))?;
    // A port of our own that nobody listens on, so that no real connection can stray into the test.
    let held = socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    );
    let held = held.map_err(|error| failed("making a socket", &error.into()))?;
    let any = SockaddrIn::new(127, 0, 0, 1, 0);
    bind(held.as_raw_fd(), &any).map_err(|error| failed("taking a port", &error.into()))?;
    let port = getsockname::<SockaddrIn>(held.as_raw_fd())
        .map_err(|error| failed("asking for the port", &error.into()))?
        .port();

    let dest = Dest::new(0)?;
    let addresses = IpAddr::from(Ipv4Addr::LOCALHOST).into();
    steering.set_binds(&[Bind {
        protocol: Protocol::Tcp,
        addresses,
        port,
        dest,
    }])?;
    steering.insert_listeners(dest, &[listener.as_fd()])?;
    let link = steering.create()?;
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, port));

    let refused = TcpStream::connect_timeout(&target, PATIENCE);
    if !refused.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
        return Err(unmet("a connection without a grant was not refused"));
    }
    steering.grant(1, BootTime::now() + Duration::from_secs(60))?;
    TcpStream::connect_timeout(&target, PATIENCE).map_err(|error| failed("connecting", &error))?;
    listener
        .set_nonblocking(true)
        .map_err(|error| failed("setting up the listener", &error))?;
    listener
        .accept()
        .map_err(|error| failed("accepting the connection", &error))?;
    drop(link);
    Ok(())
}
