//! What an operator reads when the node can't start, and the exit code that goes with it.

use std::io;
use std::net::SocketAddr;

use constellation_dataplane::{StartError, port_owner};
use tokio::net::TcpListener;

use crate::cli::{Exit, Failure};

/// Binds the control address, unless a listener for it was inherited.
pub(super) async fn bind_control(
    address: SocketAddr,
    inherited: Option<std::net::TcpListener>,
) -> Result<TcpListener, Failure> {
    listen("control", address, "control.address", inherited).await
}

/// The same for the address where a Traefik polls.
pub(super) async fn bind_provider(
    address: SocketAddr,
    inherited: Option<std::net::TcpListener>,
) -> Result<TcpListener, Failure> {
    listen("provider", address, "traefikProvider.address", inherited).await
}

async fn listen(
    who: &str,
    address: SocketAddr,
    key: &str,
    inherited: Option<std::net::TcpListener>,
) -> Result<TcpListener, Failure> {
    let listener = match inherited {
        Some(inherited) => inherited
            .set_nonblocking(true)
            .and_then(|()| TcpListener::from_std(inherited)),
        None => TcpListener::bind(address).await,
    };
    listener.map_err(|error| bind(who, address, key, &error))
}

/// Why the data plane did not start; its text already names the address, its holder and the key.
pub(super) fn data_plane(error: &StartError) -> Failure {
    let exit = match error {
        StartError::Bind { source, .. } => exit_of(source),
        _ => Exit::System,
    };
    Failure::new(exit, error.to_string())
}

fn exit_of(error: &io::Error) -> Exit {
    match error.kind() {
        io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable => Exit::Unavailable,
        io::ErrorKind::PermissionDenied => Exit::Permission,
        _ => Exit::System,
    }
}

/// Names the address, who has it, and the key to change.
fn bind(who: &str, address: SocketAddr, key: &str, error: &io::Error) -> Failure {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "the port is held by {}. Free the address or change {key}",
            port_owner::tcp(address)
        ),
        io::ErrorKind::PermissionDenied => format!(
            "ports below 1024 need root or the capability CAP_NET_BIND_SERVICE. Grant it or change {key}"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!("this machine does not have that address. Change {key}")
        }
        _ => format!("the operating system refused. Check {key}"),
    };
    Failure::new(
        exit_of(error),
        format!("{who}: cannot listen on {address}: {error}; {hint}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_to_listen_names_the_address_and_the_key() {
        let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
        for (kind, exit, words) in [
            (io::ErrorKind::AddrInUse, Exit::Unavailable, "the port is held by"),
            (
                io::ErrorKind::PermissionDenied,
                Exit::Permission,
                "CAP_NET_BIND_SERVICE",
            ),
            (
                io::ErrorKind::AddrNotAvailable,
                Exit::Unavailable,
                "does not have that address",
            ),
            (io::ErrorKind::Other, Exit::System, "the operating system refused"),
        ] {
            let failure = bind(
                "entry point web",
                address,
                "entryPoints.web.address",
                &kind.into(),
            );
            assert_eq!(failure.exit, exit);
            assert!(
                failure
                    .message
                    .starts_with("entry point web: cannot listen on 127.0.0.1:1: "),
                "{failure}"
            );
            assert!(failure.message.contains(words), "{failure}");
            assert!(failure.message.contains("entryPoints.web.address"), "{failure}");
        }
    }

    #[tokio::test]
    async fn a_taken_control_port_names_its_owner() {
        let taken = bind_control("127.0.0.1:0".parse().unwrap(), None).await.unwrap();
        let failure = bind_control(taken.local_addr().unwrap(), None).await.unwrap_err();
        assert_eq!(failure.exit, Exit::Unavailable);
        let pid = format!("(pid {})", std::process::id());
        assert!(failure.message.contains(&pid), "{failure}");
        assert!(
            failure
                .message
                .contains("Free the address or change control.address"),
            "{failure}"
        );
    }
}
