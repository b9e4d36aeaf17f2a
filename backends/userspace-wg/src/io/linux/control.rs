//! Errors as the control socket of a device reports them: by the numbers of this system.

use std::io;

/// The error of a request for a device that is gone.
pub(crate) fn no_such_device() -> io::Error {
    io::Error::from_raw_os_error(libc::ENODEV)
}

/// The number of an error. One that is not the system's is reported as an invalid request.
pub(crate) fn number(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EINVAL)
}
