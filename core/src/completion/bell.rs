//! A file descriptor that is readable while it rings: what poll, epoll and event loops can watch.
//!
//! Keeps true: raising and lowering never block; the descriptor is closed in a program that is executed, and by the drop.

#[cfg(not(all(test, any(loom, shuttle))))]
pub(super) use real::Bell;

#[cfg(all(test, any(loom, shuttle)))]
pub(super) use model::Bell;

#[cfg(not(all(test, any(loom, shuttle))))]
mod real {
    use std::io;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

    #[derive(Debug)]
    pub(crate) struct Bell(OwnedFd);

    impl Bell {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        pub(crate) fn new() -> io::Result<Bell> {
            // SAFETY: a system call without pointers.
            let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: just made, and nobody else's.
            Ok(Bell(unsafe { OwnedFd::from_raw_fd(fd) }))
        }

        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        pub(crate) fn new() -> io::Result<Bell> {
            Err(io::Error::from(io::ErrorKind::Unsupported))
        }

        pub(crate) fn fd(&self) -> RawFd {
            self.0.as_raw_fd()
        }

        /// Makes it readable. It is not.
        pub(crate) fn raise(&self) {
            let one = 1u64;
            // SAFETY: the descriptor is open, and eight bytes are there. It fails only at 2^64 - 2 raises.
            unsafe { libc::write(self.fd(), (&raw const one).cast(), size_of::<u64>()) };
        }

        /// Makes it not readable. It is.
        pub(crate) fn lower(&self) {
            let mut raised = 0u64;
            // SAFETY: the descriptor is open, and there is room for eight bytes. It fails only if somebody else has read it.
            unsafe { libc::read(self.fd(), (&raw mut raised).cast(), size_of::<u64>()) };
        }
    }
}

/// Models look at the level, and that nobody raises or lowers what is.
#[cfg(all(test, any(loom, shuttle)))]
mod model {
    use crate::sync::{AtomicBool, Ordering};
    use std::io;
    use std::os::fd::RawFd;

    pub(crate) struct Bell(AtomicBool);

    impl Bell {
        pub(crate) fn new() -> io::Result<Bell> {
            Ok(Bell(AtomicBool::new(false)))
        }

        pub(crate) fn fd(&self) -> RawFd {
            -1
        }

        pub(crate) fn raise(&self) {
            assert!(!self.0.swap(true, Ordering::AcqRel), "raised twice");
        }

        pub(crate) fn lower(&self) {
            assert!(self.0.swap(false, Ordering::AcqRel), "lowered twice");
        }

        #[cfg(loom)]
        pub(crate) fn rings(&self) -> bool {
            self.0.load(Ordering::Acquire)
        }
    }
}
