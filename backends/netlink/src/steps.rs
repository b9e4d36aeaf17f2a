//! Steps that can be seen from outside. A test hears of them, and ends the process after one of them to see what happens.
//!
//! In release builds, and without the feature `crash-points`, no listener can be set, and the functions below are empty.

#[cfg(all(feature = "crash-points", debug_assertions))]
mod told {
    use std::sync::OnceLock;

    static LISTENER: OnceLock<fn(&str)> = OnceLock::new();

    /// Has `listener` called after every step from now on; the first one stays.
    pub fn tell(listener: fn(&str)) {
        LISTENER.get_or_init(|| listener);
    }

    /// Whether there is a listener. Requests to the kernel are then made one by one.
    pub(crate) fn are_told() -> bool {
        LISTENER.get().is_some()
    }

    /// A step is done: this one, in the words of errors.
    pub fn done(what: &str) {
        if let Some(listener) = LISTENER.get() {
            listener(what);
        }
    }
}

#[cfg(not(all(feature = "crash-points", debug_assertions)))]
mod told {
    /// Would have `listener` called after every step.
    #[inline(always)]
    pub fn tell(_: fn(&str)) {}

    /// Whether there is a listener.
    #[inline(always)]
    pub(crate) fn are_told() -> bool {
        false
    }

    /// A step is done.
    #[inline(always)]
    pub fn done(_: &str) {}
}

pub(crate) use told::are_told;
pub use told::{done, tell};
