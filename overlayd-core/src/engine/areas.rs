//! The areas of the engine, each with its own state.

use std::sync::Arc;

use super::{
    attachments::{AttachmentPlugger, Attachments},
    context::Context,
    edges::Edges,
    global_device::GlobalDevice,
    leases::AddressLeases,
    names::{NameAnswers, NameRegistry},
    networks::ServiceNetworks,
    observer::DeviceObserver,
    overlay::Overlay,
    peer_sync::PeerSync,
    peers::Peers,
    services::Services,
    traversal::NatTraversal,
};

/// What requests are about. An area calls those that it was given, which were made before it, so that no two call each
/// other.
#[derive(Debug)]
pub(super) struct Areas {
    pub(super) overlay: Arc<Overlay>,
    pub(super) peers: Peers,
    pub(super) services: Services,
    pub(super) attachments: Attachments,
    pub(super) edges: Edges,
    pub(super) names: NameRegistry,
    pub(super) leases: AddressLeases,
    pub(super) traversal: NatTraversal,
}

impl Areas {
    /// From the bottom up.
    pub(super) fn new(context: &Arc<Context>, observer: &Arc<DeviceObserver>) -> Self {
        let device = Arc::new(GlobalDevice::new(context));
        let sync = Arc::new(PeerSync::new(context, &device, observer));
        let answers = Arc::new(NameAnswers::new(context));
        let networks = Arc::new(ServiceNetworks::new(context, &device, &sync));
        let plugger = Arc::new(AttachmentPlugger::new(context, &device, &sync, &answers));
        let overlay = Arc::new(Overlay::new(context, &device, observer, &sync, &networks, &answers));
        Self {
            peers: Peers::new(context, &sync, &networks, &overlay),
            services: Services::new(context, &networks, &plugger),
            attachments: Attachments::new(context, &sync, &answers, &plugger),
            edges: Edges::new(context, observer, &sync),
            names: NameRegistry::new(context, &device, &answers),
            leases: AddressLeases::new(context),
            traversal: NatTraversal::new(context),
            overlay,
        }
    }
}
