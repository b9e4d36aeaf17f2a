//! OverlayBackend in user space: the Noise core of boringtun in our own device loop over TUN and UDP.

pub mod noise;
