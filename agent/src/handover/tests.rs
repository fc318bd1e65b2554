use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::OwnedFd;

use super::*;

fn listener() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()
}

fn bequest(control: &TcpListener, web: &TcpListener) -> Sockets {
    let copy = |socket: &TcpListener| OwnedFd::from(socket.try_clone().unwrap());
    Sockets::of_node(copy(control), None, None, None, vec![("web".into(), copy(web))])
}

#[test]
fn what_a_predecessor_has_comes_over_with_its_queue() {
    let directory = tempfile::tempdir().unwrap();
    let (control, web) = (listener(), listener());
    let sockets = bequest(&control, &web);
    // Connected before the handover, accepted after it.
    let mut waiting = TcpStream::connect(control.local_addr().unwrap()).unwrap();
    // The new process of this test is this one: a program that only stays alive stands in for it.
    let program = Program::new("/bin/sleep", &["60"]);
    let address = control.local_addr().unwrap();
    let root = directory.path().to_owned();
    let newcomer = std::thread::spawn(move || {
        let socket = root.join(format!("handover-{}/socket", std::process::id()));
        while !socket.exists() {
            std::thread::yield_now();
        }
        // Bound, perhaps not yet listening.
        let (predecessor, sockets) = loop {
            match Predecessor::meet_at(&socket) {
                Ok(met) => break met,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
                Err(error) => panic!("{error}"),
            }
        };
        assert_eq!(sockets.names(), ["control", "entry-point.web"]);
        let (control, _) = sockets.sort(address);
        predecessor.serves("1.2.3").unwrap();
        control.unwrap()
    });
    let successor = replace(&program, &sockets, directory.path()).unwrap();
    assert_eq!(successor.version, "1.2.3");
    let taken = newcomer.join().unwrap();
    drop((control, web, sockets));
    let (mut accepted, _) = taken.accept().unwrap();
    accepted.write_all(b"hello").unwrap();
    drop(accepted);
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "hello");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(successor.pid).unwrap()),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
}

#[test]
fn a_process_that_ends_at_once_replaces_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let (control, web) = (listener(), listener());
    let sockets = bequest(&control, &web);
    let failed = replace(&Program::new("/bin/false", &[]), &sockets, directory.path()).unwrap_err();
    assert!(
        matches!(failed, ReplaceError::Ended(status) if status.code() == Some(1)),
        "{failed}"
    );
    let failed = replace(&Program::new("/does/not/exist", &[]), &sockets, directory.path()).unwrap_err();
    assert!(failed.to_string().contains("/does/not/exist"), "{failed}");
    TcpStream::connect(web.local_addr().unwrap()).unwrap();
}

#[test]
fn a_control_listener_elsewhere_is_not_used() {
    let (control, web) = (listener(), listener());
    let here = control.local_addr().unwrap();
    let asked = |address: SocketAddr| bequest(&control, &web).sort(address).0.is_some();
    assert!(asked(here) && asked((here.ip(), 0).into()));
    assert!(!asked((here.ip(), 1).into()) && !asked((Ipv4Addr::UNSPECIFIED, here.port()).into()));
}
