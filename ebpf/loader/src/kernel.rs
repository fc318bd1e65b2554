//! The calls of bpf(2) that aya does not offer: replacing the program of a pinned link of any kind, detaching it at once,
//! and running an `sk_lookup` program on made-up lookups.
#![expect(
    unsafe_code,
    reason = "bpf(2) takes a union of pointers and numbers; this is the one module that fills it"
)]

use std::ffi::CString;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::libc;

const BPF_OBJ_GET: libc::c_long = 7;
const BPF_PROG_TEST_RUN: libc::c_long = 10;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_LINK_UPDATE: libc::c_long = 29;
const BPF_LINK_DETACH: libc::c_long = 34;

/// `bpf_attr` of `BPF_OBJ_GET`.
#[repr(C)]
#[derive(Default)]
struct ObjGet {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// `bpf_attr` of `BPF_LINK_UPDATE`.
#[repr(C)]
#[derive(Default)]
struct LinkUpdate {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

/// `bpf_attr` of `BPF_PROG_TEST_RUN`.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    padding: u32,
}

/// Opens a pinned link.
pub(crate) fn open_link(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = ObjGet {
        pathname: address(path.as_ptr()),
        ..ObjGet::default()
    };
    let descriptor = bpf(BPF_OBJ_GET, &mut attributes)?;
    let descriptor = i32::try_from(descriptor).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Puts another program in the place of a link's present one, in one step for the traffic.
pub(crate) fn update_link(link: BorrowedFd<'_>, program: impl AsFd) -> io::Result<()> {
    let mut attributes = LinkUpdate {
        link_fd: number(link),
        new_prog_fd: number(program.as_fd()),
        ..LinkUpdate::default()
    };
    bpf(BPF_LINK_UPDATE, &mut attributes).map(drop)
}

/// Detaches a link's program now. Without it the program goes on until the kernel has cleared the last reference away,
/// which it does later on, when the last one was a pin.
pub(crate) fn detach_link(link: BorrowedFd<'_>) -> io::Result<()> {
    // Of this union only the first field counts here.
    let mut attributes = LinkUpdate {
        link_fd: number(link),
        ..LinkUpdate::default()
    };
    bpf(BPF_LINK_DETACH, &mut attributes).map(drop)
}

/// `bpf_attr` of `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct GetInfo {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// The head of `struct bpf_link_info`, with what it says about a link to a network namespace. Of a link to a device, the
/// device's index is where the namespace's number is.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    prog_id: u32,
    padding: u32,
    netns_ino: u32,
    attach_type: u32,
}

/// Whether a link was attached to a network namespace that is gone.
pub(crate) fn is_orphaned(link: BorrowedFd<'_>) -> io::Result<bool> {
    const BPF_LINK_TYPE_NETNS: u32 = 5;
    let info = link_info(link)?;
    Ok(info.kind == BPF_LINK_TYPE_NETNS && info.netns_ino == 0)
}

/// Whether a link was attached to a device that is gone, also where another one has its index now.
pub(crate) fn has_lost_device(link: BorrowedFd<'_>) -> io::Result<bool> {
    const BPF_LINK_TYPE_XDP: u32 = 6;
    const BPF_LINK_TYPE_TCX: u32 = 11;
    let info = link_info(link)?;
    Ok(matches!(info.kind, BPF_LINK_TYPE_XDP | BPF_LINK_TYPE_TCX) && info.netns_ino == 0)
}

fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let mut info = LinkInfo::default();
    let mut attributes = GetInfo {
        bpf_fd: number(link),
        info_len: u32::try_from(size_of::<LinkInfo>()).map_err(io::Error::other)?,
        info: address(&raw mut info),
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attributes)?;
    Ok(info)
}

/// A lookup as `BPF_PROG_TEST_RUN` takes it: `struct bpf_sk_lookup`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Lookup {
    /// Out: the cookie of the socket that was chosen, or 0. In: 0.
    pub cookie: u64,
    /// `AF_INET` or `AF_INET6`.
    pub family: u32,
    /// `IPPROTO_TCP` or `IPPROTO_UDP`.
    pub protocol: u32,
    /// In network order.
    pub remote_ip4: [u8; 4],
    /// In network order.
    pub remote_ip6: [u8; 16],
    /// In network order.
    pub remote_port: [u8; 2],
    /// Zero.
    pub reserved: [u8; 2],
    /// In network order.
    pub local_ip4: [u8; 4],
    /// In network order.
    pub local_ip6: [u8; 16],
    /// In host order.
    pub local_port: u32,
    /// Index of the device; kernels take 0 only.
    pub ingress_ifindex: u32,
    /// Zero.
    pub padding: u32,
}

const _: () = assert!(size_of::<Lookup>() == 72);

/// What came out of [`run_lookup`].
#[derive(Clone, Copy, Debug)]
pub struct LookupOutcome {
    /// Whether the program let the lookup go on (`SK_PASS`).
    pub passed: bool,
    /// The cookie of the socket it chose.
    pub cookie: Option<u64>,
    /// Nanoseconds of one run, as the kernel measured them.
    pub nanos: u32,
}

/// Runs an `sk_lookup` program `repeat` times on a made-up lookup, in the thread's network namespace.
///
/// # Errors
/// Whatever bpf(2) says; `EINVAL` also for a lookup that makes no sense.
pub(crate) fn run_lookup(program: impl AsFd, lookup: &Lookup, repeat: u32) -> io::Result<LookupOutcome> {
    let mut context = *lookup;
    let size = u32::try_from(size_of::<Lookup>()).map_err(io::Error::other)?;
    let at = address(&raw mut context);
    let mut attributes = TestRun {
        prog_fd: number(program.as_fd()),
        repeat,
        ctx_size_in: size,
        ctx_size_out: size,
        ctx_in: at,
        ctx_out: at,
        ..TestRun::default()
    };
    bpf(BPF_PROG_TEST_RUN, &mut attributes)?;
    Ok(LookupOutcome {
        passed: attributes.retval == 1,
        cookie: (context.cookie != 0).then_some(context.cookie),
        nanos: attributes.duration,
    })
}

fn bpf<A>(command: libc::c_long, attributes: &mut A) -> io::Result<libc::c_long> {
    // SAFETY: `A` is the prefix of `bpf_attr` that the command reads and writes, its size is passed along, and what its
    // pointers point to lives until the call returns.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<A>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

fn address<T>(pointer: *const T) -> u64 {
    pointer.addr() as u64
}

/// Descriptors are never negative while they are open.
fn number(descriptor: BorrowedFd<'_>) -> u32 {
    descriptor.as_raw_fd().unsigned_abs()
}

/// The kernel's release, such as `6.18.44`.
pub(crate) fn release() -> String {
    nix::sys::utsname::uname().map_or_else(
        |_| "unknown".to_owned(),
        |name| name.release().to_string_lossy().into_owned(),
    )
}
