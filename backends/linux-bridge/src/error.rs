//! From the kernel's words to the contract's meanings.

use overlayd_core::contract::Error;

/// A failed step on the host.
pub(crate) fn host(error: overlayd_netlink::Error) -> Error {
    let (action, source) = error.into_parts();
    Error::host(action, source)
}
