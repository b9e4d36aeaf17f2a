//! Mocks of the four traits, for tests that state their expectations call by call.
//!
//! They are written out here, and not derived in the core, so that no build of the core contains the mock library.

use async_trait::async_trait;
use overlayd_core::{
    contract::{
        AttachPlan, Attached, Attacher, AttachmentId, Candidate, DeviceInfo, DevicePlan, DeviceStatus, Dns, DnsChange,
        DnsPlan, HostNetworks, Nat, NatPlan, NetworkInfo, NetworkName, NetworkPlan, OverlayBackend, PathChoice,
        PeerChange, PeerPaths, Result,
    },
    names::LinkName,
};

mockall::mock! {
    /// Mock of [`OverlayBackend`].
    pub OverlayBackend {}

    #[async_trait]
    impl OverlayBackend for OverlayBackend {
        fn name(&self) -> &'static str;
        async fn ensure_device(&self, plan: &DevicePlan) -> Result<DeviceInfo>;
        async fn change_peers(&self, device: &LinkName, changes: &[PeerChange]) -> Result<()>;
        async fn observe(&self) -> Result<Vec<DeviceStatus>>;
        async fn remove_device(&self, device: &LinkName) -> Result<()>;
    }
}

mockall::mock! {
    /// Mock of [`Attacher`].
    pub Attacher {}

    #[async_trait]
    impl Attacher for Attacher {
        fn name(&self) -> &'static str;
        async fn ensure_network(&self, plan: &NetworkPlan) -> Result<NetworkInfo>;
        async fn remove_network(&self, network: &NetworkName) -> Result<()>;
        async fn attach(&self, plan: &AttachPlan) -> Result<Attached>;
        async fn detach(&self, id: &AttachmentId) -> Result<()>;
        async fn observe(&self) -> Result<HostNetworks>;
    }
}

mockall::mock! {
    /// Mock of [`Dns`].
    pub Dns {}

    #[async_trait]
    impl Dns for Dns {
        fn name(&self) -> &'static str;
        async fn apply(&self, plan: &DnsPlan) -> Result<()>;
        async fn change_records(&self, changes: &[DnsChange]) -> Result<()>;
        async fn clear(&self) -> Result<()>;
    }
}

mockall::mock! {
    /// Mock of [`Nat`].
    pub Nat {}

    #[async_trait]
    impl Nat for Nat {
        fn name(&self) -> &'static str;
        async fn discover(&self, plan: &NatPlan) -> Result<Vec<Candidate>>;
        async fn paths(&self, plan: &NatPlan, peers: &[PeerPaths]) -> Result<Vec<PathChoice>>;
        async fn clear(&self) -> Result<()>;
    }
}
