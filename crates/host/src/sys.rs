//! The only unsafe code of the project: system calls that no safe wrapper offers.
//!
//! Guarantees: every call states why it is sound; errors are `io::Error`.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Which side of [`fork`] this is.
pub enum Fork {
    Parent,
    Child,
}

/// Duplicates a process that has exactly one thread.
pub fn fork_single_threaded() -> io::Result<Fork> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    assert_eq!(threads, 1, "fork is only sound in a process of one thread");
    // SAFETY: with one thread no lock can be held by a thread that the child lacks (asserted above).
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        _ => Ok(Fork::Parent),
    }
}

/// Leaves namespaces for fresh ones: of the calling thread alone for ipc, uts and net.
pub fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: takes no pointers; callers use a thread of their own that ends afterwards.
    check(unsafe { libc::unshare(flags) }).map(drop)
}

/// Enters the namespace behind `fd` with the calling thread.
pub fn setns(fd: BorrowedFd<'_>, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open for the length of the call; callers use a thread of their own.
    check(unsafe { libc::setns(fd.as_raw_fd(), kind) }).map(drop)
}

/// Closes every descriptor from `first` on. Only for a process that owns none of them in Rust values.
pub fn close_from(first: RawFd) {
    // SAFETY: called right after the start of the re-executed shim, before it opens anything.
    unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
}

/// Marks every descriptor from `first` on to be closed over exec.
pub fn close_on_exec_from(first: RawFd) {
    // SAFETY: changes a flag of descriptors, closes none.
    unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}

/// A descriptor that the parent process promised to hand over under this number.
pub fn inherited_fd(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC makes a new descriptor or fails; the new one is owned by nobody else.
    let fd = check(unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 10) })?;
    // SAFETY: just made, see above.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The allocator of every program that holds this crate. A write makes and frees some hundreds of small values on one thread; the
/// C library's allocator took a third of that thread's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Gives back to the kernel what is not needed while nothing happens: after a start, a burst.
pub fn trim_memory() {
    // SAFETY: no arguments that could be wrong; the allocator takes its own locks.
    unsafe { libmimalloc_sys::mi_collect(true) };
    // SAFETY: the callback has the type that is asked for and keeps no pointer.
    unsafe { libc::dl_iterate_phdr(Some(forget_code), std::ptr::null_mut()) };
}

/// Lets go of the pages of this program's code and constants, of which a start touches many that nothing touches again: what is needed
/// comes back from the file, a few pages at a time.
unsafe extern "C" fn forget_code(
    object: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    _data: *mut libc::c_void,
) -> libc::c_int {
    const PAGE: usize = 4096;
    // SAFETY: the C library calls with its description of a loaded object, which lives as long as the object.
    let (base, segments) = unsafe {
        let object = &*object;
        (object.dlpi_addr as usize, std::slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into()))
    };
    let constant = segments.iter().filter(|s| s.p_type == libc::PT_LOAD && s.p_flags & libc::PF_W == 0);
    for segment in constant {
        let start = (base + segment.p_vaddr as usize).next_multiple_of(PAGE);
        let end = (base + segment.p_vaddr as usize + segment.p_filesz as usize) / PAGE * PAGE;
        if start < end {
            // SAFETY: whole pages of a private mapping of a file that are never writable, and that nothing was written to before
            // either (what is relocated is in segments with PF_W): reading them again gives the same bytes.
            unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
        }
    }
    // The first object is the program itself, and the only one in a static binary.
    1
}

/// Ignores SIGPIPE (a client that went must not end the shim) or restores the default (which children inherit over exec).
pub fn ignore_sigpipe(ignore: bool) {
    // SAFETY: both dispositions are constants of libc, no handler is installed.
    unsafe { libc::signal(libc::SIGPIPE, if ignore { libc::SIG_IGN } else { libc::SIG_DFL }) };
}

/// Gives every signal its default, and blocks none: what is ignored is inherited over exec, and who started the server may have had some
/// ignored, as a script's background job or `nohup` does. A shell that starts so cannot even trap them.
pub fn default_signals() {
    // SAFETY: the disposition is a constant of libc, no handler is installed; those that cannot be set stay as they are. The set is
    // initialised before use.
    unsafe {
        for signal in 1..=libc::SIGRTMAX() {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

/// Sends any signal, real-time ones included, which safe wrappers do not name.
pub fn pidfd_kill(pidfd: BorrowedFd<'_>, signal: libc::c_int) -> io::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open for the length of the call; a null siginfo means "as kill(2)".
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, 0) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The life of a namespace's first process: the kernel delivers it no signal that it does not handle but SIGKILL from outside.
pub fn reap_for_ever() -> ! {
    // SAFETY: the set is initialised before use; blocking a signal in a process of one thread affects nobody else.
    let children = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGCHLD);
        // Blocked first: a child that ends between the two calls below is then still told by the second.
        libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        set
    };
    loop {
        // SAFETY: a null status is allowed, and the set lives.
        unsafe {
            if libc::waitpid(-1, std::ptr::null_mut(), 0) == -1 {
                libc::sigwaitinfo(&children, std::ptr::null_mut());
            }
        }
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
