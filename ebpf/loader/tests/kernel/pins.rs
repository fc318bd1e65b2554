//! What a process leaves behind, and who may take it over.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use caps::Capability;
use constellation_ebpf_loader::steering::Attached;
use constellation_ebpf_loader::{
    Error, Lock, Namespace, Origin, Steering, detach, has_pins, remove_orphans, remove_other_versions, status,
};
use constellation_tests::require;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};

use crate::sandbox::{self, SERVICE};
use crate::sockets::{Named, PATIENCE, ask, dest, for_long, steering, tcp};

fn namespace() -> Namespace {
    Namespace::current().unwrap()
}

fn version_folder() -> PathBuf {
    namespace()
        .folder()
        .join(format!("v{}", constellation_ebpf_loader::abi::VERSION))
}

/// All that a start does.
fn start(steering: &mut Steering, edge: &Named) -> Attached {
    steering.set_binds(&[tcp("127.0.0.9/32", 80, 0)]).unwrap();
    steering.insert_listeners(dest(0), &[edge.fd()]).unwrap();
    let epoch = steering.granted().unwrap().epoch + 1;
    steering.grant(epoch, for_long()).unwrap();
    steering.attach().unwrap()
}

#[test]
fn a_successor_takes_over_without_a_gap() {
    require!(sandbox::run(|| {
        let lock = Lock::take(&namespace()).unwrap();
        let mut old = Steering::open(&lock).unwrap();
        assert_eq!(old.origin(), &Origin::New);
        let old_edge = Named::at("127.0.0.1:0", "old");
        assert_eq!(start(&mut old, &old_edge), Attached::New);
        let link = status(&namespace()).unwrap().links.remove(0);
        assert_eq!(ask("127.0.0.9:80", &[&old_edge]), Ok("old".into()));

        // Accepted by nobody yet: it is the old one's to serve.
        let waiting = std::net::TcpStream::connect("127.0.0.9:80").unwrap();

        let handed = lock.as_fd().try_clone_to_owned().unwrap();
        let inherited = Lock::inherit(&namespace(), handed).unwrap();
        let mut new = Steering::open(&inherited).unwrap();
        assert_eq!(new.origin(), &Origin::Pinned);
        let new_edge = Named::at("127.0.0.1:0", "new");
        assert_eq!(start(&mut new, &new_edge), Attached::Replaced);
        assert_eq!(ask("127.0.0.9:80", &[&old_edge, &new_edge]).as_deref(), Ok("new"));
        // Only what had waited and what was asked above went to the old one.
        drop(waiting);
        drop((old, lock));
        drop(old_edge);
        assert_eq!(ask("127.0.0.9:80", &[&new_edge]), Ok("new".into()));

        let replaced = status(&namespace()).unwrap().links.remove(0);
        assert_eq!(replaced.id, link.id, "the same link");
        assert_ne!(replaced.program, link.program, "another program");
        assert!(
            matches!(Lock::take(&namespace()), Err(Error::Busy(_))),
            "the lock went along"
        );
    }));
}

#[test]
fn a_second_owner_is_refused() {
    require!(sandbox::run(|| {
        let lock = Lock::take(&namespace()).unwrap();
        let error = Lock::take(&namespace()).unwrap_err();
        assert!(matches!(error, Error::Busy(_)), "{error}");
        assert!(error.to_string().contains("another node"), "{error}");
        // Something else is no lock.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = Lock::inherit(&namespace(), listener.as_fd().try_clone_to_owned().unwrap()).unwrap_err();
        assert!(matches!(error, Error::ForeignLock(_)), "{error}");
        drop(lock);
        Lock::take(&namespace()).unwrap();
    }));
}

#[test]
fn after_a_kill_clients_are_refused_until_the_restart() {
    require!(sandbox::run(|| {
        let (heard, says) = nix::unistd::pipe().unwrap();
        // SAFETY: the child calls nothing that other threads could hold a lock of but the allocator, which survives a
        // fork with glibc; and it ends by a signal.
        #[expect(unsafe_code, reason = "a process to kill, in this namespace")]
        let child = match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => child,
            ForkResult::Child => {
                // With the thread that made it, should a check below fail.
                nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).unwrap();
                let mut steering = steering();
                let edge = Named::at("127.0.0.1:0", "killed");
                start(&mut steering, &edge);
                nix::unistd::write(&says, b"1").unwrap();
                drop(says);
                loop {
                    edge.serve();
                    std::thread::yield_now();
                }
            }
        };
        nix::unistd::read(&heard, &mut [0]).unwrap();
        assert_eq!(ask("127.0.0.9:80", &[]), Ok("killed".into()));
        assert!(matches!(Lock::take(&namespace()), Err(Error::Busy(_))));
        let stranger = Named::at("127.0.0.9:80", "stranger");
        kill(child, Signal::SIGKILL).unwrap();
        waitpid(child, None).unwrap();
        assert_eq!(
            ask("127.0.0.9:80", &[&stranger]),
            Err(ErrorKind::ConnectionRefused),
            "refused, not hung"
        );

        let mut steering = steering();
        assert_eq!(steering.origin(), &Origin::Pinned);
        let edge = Named::at("127.0.0.1:0", "restarted");
        assert_eq!(start(&mut steering, &edge), Attached::Replaced);
        assert_eq!(ask("127.0.0.9:80", &[&edge, &stranger]), Ok("restarted".into()));
        assert_eq!(steering.granted().unwrap().epoch, 2, "epochs go on");
    }));
}

#[test]
fn half_written_and_foreign_pins_are_made_anew() {
    type Damage = (&'static str, fn(&PathBuf), bool);
    let damages: [Damage; 5] = [
        (
            "a map is missing",
            |folder| fs::remove_file(folder.join("maps/STEER_BINDS")).unwrap(),
            true,
        ),
        (
            "a map looks different",
            |folder| {
                fs::remove_file(folder.join("maps/STEER_GRANT")).unwrap();
                fs::rename(folder.join("maps/STEER_STATS"), folder.join("maps/STEER_GRANT")).unwrap();
            },
            true,
        ),
        (
            "a link stands where a map should",
            |folder| {
                fs::remove_file(folder.join("maps/STEER_GRANT")).unwrap();
                fs::rename(folder.join("links/edge_steer"), folder.join("maps/STEER_GRANT")).unwrap();
            },
            false,
        ),
        (
            "a map stands where the link should",
            |folder| fs::rename(folder.join("maps/STEER_STATS"), folder.join("links/edge_steer")).unwrap(),
            false,
        ),
        (
            "the maps' folder is a map",
            |folder| {
                fs::rename(folder.join("maps/STEER_STATS"), folder.join("stats")).unwrap();
                fs::remove_dir_all(folder.join("maps")).unwrap();
                fs::rename(folder.join("stats"), folder.join("maps")).unwrap();
            },
            true,
        ),
    ];
    for (what, damage, link_is_kept) in damages {
        require!(sandbox::run(|| {
            let edge = Named::at("127.0.0.1:0", "before");
            let mut before = steering();
            start(&mut before, &edge);
            drop(before);
            damage(&version_folder());
            let mut after = steering();
            let edge = Named::at("127.0.0.1:0", "after");
            let attached = start(&mut after, &edge);
            assert_eq!(attached == Attached::Replaced, link_is_kept, "{what}");
            if what.starts_with("a map") && link_is_kept {
                assert!(
                    matches!(after.origin(), Origin::Rebuilt(_)),
                    "{what}: {:?}",
                    after.origin()
                );
            }
            assert_eq!(ask("127.0.0.9:80", &[&edge]), Ok("after".into()), "{what}");
            assert_eq!(status(&namespace()).unwrap().links.len(), 1, "{what}");
        }));
    }
}

#[test]
fn pins_of_another_version_are_replaced_in_one_step_and_removed() {
    require!(sandbox::run(|| {
        let lock = Lock::take(&namespace()).unwrap();
        let mut old = Steering::open(&lock).unwrap();
        let old_edge = Named::at("127.0.0.1:0", "old");
        start(&mut old, &old_edge);
        // As if the old one's layouts had another version.
        fs::rename(version_folder(), namespace().folder().join("v0")).unwrap();

        let mut new = Steering::open(&lock).unwrap();
        assert_eq!(new.origin(), &Origin::New, "maps of its own");
        let new_edge = Named::at("127.0.0.1:0", "new");
        new.set_binds(&[tcp("127.0.0.9/32", 80, 0)]).unwrap();
        new.insert_listeners(dest(0), &[new_edge.fd()]).unwrap();
        new.grant(1, for_long()).unwrap();
        assert_eq!(
            ask("127.0.0.9:80", &[&old_edge, &new_edge]),
            Ok("old".into()),
            "not attached yet"
        );
        assert_eq!(new.attach().unwrap(), Attached::Replaced);
        assert_eq!(ask("127.0.0.9:80", &[&old_edge, &new_edge]), Ok("new".into()));
        remove_other_versions(&lock).unwrap();
        assert!(!namespace().folder().join("v0").exists());
        assert_eq!(ask("127.0.0.9:80", &[&old_edge, &new_edge]), Ok("new".into()));
    }));
}

#[test]
fn status_names_what_is_pinned_and_detach_removes_it() {
    require!(sandbox::run(|| {
        let lock = Lock::take(&namespace()).unwrap();
        let mut steering = Steering::open(&lock).unwrap();
        let edge = Named::at("127.0.0.1:0", "edge");
        start(&mut steering, &edge);
        drop(steering);
        let seen = status(&namespace()).unwrap();
        let names: Vec<_> = seen.maps.iter().map(|map| map.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "STEER_BINDS",
                "STEER_GRANT",
                "STEER_SOCKETS",
                "STEER_STATS",
                "STEER_WIDTHS"
            ]
        );
        assert!(seen.maps.iter().all(|map| map.id > 0 && map.max_entries > 0));
        assert_eq!(seen.links.len(), 1);
        assert!(seen.links[0].program > 0);

        let stranger = Named::at("127.0.0.9:80", "stranger");
        detach(&lock).unwrap();
        assert_eq!(status(&namespace()).unwrap(), Default::default());
        assert_eq!(
            ask("127.0.0.9:80", &[&stranger]),
            Ok("stranger".into()),
            "the port is free again"
        );
        detach(&lock).unwrap();
    }));
}

#[test]
fn what_a_namespace_that_is_gone_left_behind_is_removed() {
    // With the right to make another namespace.
    let kept: Vec<_> = SERVICE
        .iter()
        .copied()
        .chain([Capability::CAP_SYS_ADMIN])
        .collect();
    require!(sandbox::run_with(&kept, &[], || {
        let leave = || {
            let folder = namespace().folder().to_owned();
            let mut steering = steering();
            let edge = Named::at("127.0.0.1:0", "edge");
            start(&mut steering, &edge);
            drop((steering, edge));
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            folder
        };
        let left = leave();
        // The kernel takes the namespace away in its own time.
        let until = |what: &str, mut done: Box<dyn FnMut() -> bool>| {
            let started = Instant::now();
            while !done() {
                assert!(started.elapsed() < PATIENCE, "{what}");
                std::thread::yield_now();
            }
        };
        until(
            "the orphan is found",
            Box::new(|| remove_orphans(&namespace()).unwrap() == 1),
        );
        assert!(!left.exists());

        // The same, where the number of the old namespace is given to the new one.
        let left = leave();
        fs::rename(left.join(version_folder().file_name().unwrap()), version_folder()).unwrap();
        until(
            "nothing of the other life is read",
            Box::new(|| {
                let steering = Steering::open(&Lock::take(&namespace()).unwrap()).unwrap();
                *steering.origin() == Origin::New && steering.granted().unwrap().epoch == 0
            }),
        );
    }));
}

#[test]
fn no_connection_fails_while_owners_change() {
    const OWNERS: usize = 10;
    require!(sandbox::run(|| {
        let mut lock = Lock::take(&namespace()).unwrap();
        let over = AtomicBool::new(false);
        let own = |lock: &Lock| {
            let mut steering = Steering::open(lock).unwrap();
            let edge = Named::at("127.0.0.1:0", "edge");
            start(&mut steering, &edge);
            edge
        };
        let first = own(&lock);
        let answered = std::thread::scope(|scope| {
            // Threads of this one are in the same namespace.
            let client = scope.spawn(|| {
                let mut answered = 0;
                while !over.load(Ordering::Relaxed) {
                    assert_eq!(ask("127.0.0.9:80", &[]), Ok("edge".into()), "after {answered}");
                    answered += 1;
                }
                answered
            });
            let serve = |edge: Named, until: mpsc::Receiver<()>| {
                while until.try_recv() == Err(mpsc::TryRecvError::Empty) {
                    edge.serve();
                    std::thread::yield_now();
                }
                // What was given to it before its successor came is still in its queue, or about to be.
                let drained = Instant::now() + Duration::from_millis(50);
                while Instant::now() < drained {
                    edge.serve();
                    std::thread::yield_now();
                }
            };
            let (mut stop, stopped) = mpsc::channel();
            let mut serving = scope.spawn(move || serve(first, stopped));
            for _ in 0..OWNERS {
                let handed = lock.as_fd().try_clone_to_owned().unwrap();
                lock = Lock::inherit(&namespace(), handed).unwrap();
                let next = own(&lock);
                let (stop_next, stopped) = mpsc::channel();
                let serving_next = scope.spawn(move || serve(next, stopped));
                drop(std::mem::replace(&mut stop, stop_next));
                std::mem::replace(&mut serving, serving_next).join().unwrap();
            }
            over.store(true, Ordering::Relaxed);
            let answered: usize = client.join().unwrap();
            drop(stop);
            serving.join().unwrap();
            answered
        });
        println!("{answered} connections while {OWNERS} owners changed");
        assert!(answered > OWNERS);
    }));
}

#[test]
fn without_a_bpf_file_system_the_error_says_what_to_do() {
    let error = Namespace::below("/tmp".as_ref()).unwrap_err();
    assert!(error.to_string().contains("mount -t bpf bpf /tmp"), "{error}");
}

#[test]
fn a_look_makes_nothing_and_shows_the_grant() {
    require!(sandbox::run(|| {
        assert!(Namespace::find().unwrap().is_none());
        let mut steering = steering();
        let edge = Named::at("127.0.0.1:0", "edge");
        start(&mut steering, &edge);
        assert_eq!(steering.destinations(), [dest(0)].into());
        let found = Namespace::find().unwrap().unwrap();
        assert!(has_pins(&found).unwrap());
        let grant = status(&found).unwrap().grant.unwrap();
        assert_eq!(grant, steering.granted().unwrap());
        drop(steering);
        detach(&Lock::take(&found).unwrap()).unwrap();
        assert_eq!(status(&found).unwrap().grant, None);
        assert!(!has_pins(&found).unwrap());
    }));
}
