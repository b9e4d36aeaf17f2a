//! Networks: their bridges, and what the host as a whole does for them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use ipnet::{IpNet, Ipv6Net};
use overlayd_core::contract::{Egress, Error, NetworkName, NetworkPlan, OverlayLink, Result};
use overlayd_netlink::{
    Link,
    address::{self, PrefixRoute},
    link::{self, Mac, NewBridge},
    route,
};

use crate::{
    forwarding::{self, Ipv6Switch},
    host::HostContext,
    mark::link_local,
    rules::NetworkElements,
    settings::HostSettings,
};

/// An address that no host route covers, to ask where the internet is (RFC 9637 keeps it for documentation).
const SOMEWHERE_V6: &str = "3fff::1";

/// All networks of the instance.
#[derive(Debug)]
pub(crate) struct BridgeNetworks {
    host: Arc<HostContext>,
    settings: HostSettings,
    switch: Ipv6Switch,
    /// Those this process was told of.
    known: BTreeMap<String, NetworkSpec>,
    /// Those that an earlier run left and the engine has not named yet, and what that run had put into the rules.
    inherited: BTreeSet<String>,
    inherited_elements: NetworkElements,
}

/// What the rules must know of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
struct NetworkSpec {
    egress: Egress,
    overlay: Option<OverlayLink>,
}

impl BridgeNetworks {
    /// Takes stock: finds the networks of an earlier run, and hands over what is to be deleted.
    pub(crate) fn found(shared: Arc<HostContext>, state_dir: &Path) -> Result<Self> {
        let netns = shared.rtnl.netns().try_clone()?;
        let settings = HostSettings::load(netns, state_dir, &shared.boot)?;
        let mut inherited = BTreeSet::new();
        for link in shared.rtnl.links()? {
            if shared.marks.is_network(&link) {
                inherited.insert(link.name);
            } else if shared.marks.is_half_made(&link) || shared.marks.is_reaped(&link) {
                shared.reap(link.index)?;
            }
        }
        let inherited_elements =
            if inherited.is_empty() { NetworkElements::default() } else { shared.rules().of_networks() };
        let switch = Ipv6Switch::of_kernel(&settings)?;
        Ok(Self { host: shared, settings, switch, known: BTreeMap::new(), inherited, inherited_elements })
    }

    /// Makes the network be as planned; a new one that cannot be made is taken away again.
    pub(crate) fn ensure(&mut self, plan: &NetworkPlan) -> Result<()> {
        check(plan)?;
        let present = self.host.bridge(&plan.name.0)?;
        let before = self.known.get(&plan.name.0).cloned();
        let is_new = present.is_none() && before.is_none();
        let outcome = self.make(plan, present);
        if outcome.is_err()
            && is_new
            && let Err(error) = self.remove(&plan.name)
        {
            tracing::warn!(network = %plan.name, %error, "a network that could not be made is not removed either");
        }
        outcome
    }

    /// Removes the network, and with the last one what the host did for them all.
    pub(crate) fn remove(&mut self, network: &NetworkName) -> Result<()> {
        let name = &network.0;
        if let Some(link) = self.host.link(name)?.filter(|link| self.host.marks.is_network(link)) {
            self.host.reaper.finish()?;
            self.host.delete(link.index)?;
            tracing::info!(%network, "removed a network");
        }
        let was_ours = self.known.remove(name).is_some() | self.inherited.remove(name);
        if !self.known.is_empty() || !self.inherited.is_empty() {
            return if was_ours { self.host.rules().install(&self.elements()) } else { Ok(()) };
        }
        self.host.rules().remove()?;
        self.settings.restore()
    }

    fn make(&mut self, plan: &NetworkPlan, present: Option<Link>) -> Result<()> {
        let name = &plan.name.0;
        self.known.insert(name.clone(), NetworkSpec { egress: plan.egress, overlay: plan.overlay.clone() });
        self.inherited.remove(name);
        // The fence first: no packet passes before it is known which may.
        self.host.rules().install(&self.elements())?;
        let bridge = match present {
            Some(link) => link,
            None => self.create(name)?,
        };
        self.configure(plan, &bridge)?;
        self.forward(plan)
    }

    fn create(&self, name: &str) -> Result<Link> {
        let rtnl = &self.host.rtnl;
        let marks = &self.host.marks;
        let bridge = NewBridge { name, mac: Some(marks.bridge_mac(name)), group: marks.network_group() };
        rtnl.run(bridge.request())?;
        tracing::info!(network = name, "created a network");
        self.host.bridge(name)?.ok_or_else(|| Error::NotFound(format!("bridge {name}, created just now,")))
    }

    fn configure(&self, plan: &NetworkPlan, bridge: &Link) -> Result<()> {
        let rtnl = &self.host.rtnl;
        let mut requests = Vec::new();
        let mark = self.host.marks.network();
        if bridge.alias.as_deref() != Some(mark.as_str()) {
            requests.push(link::change(bridge.index).alias(&mark).request());
        }
        if bridge.mtu != u32::from(plan.mtu) {
            requests.push(link::change(bridge.index).mtu(plan.mtu.into()).request());
        }
        if !bridge.up {
            requests.push(link::change(bridge.index).no_link_local().request());
            requests.push(link::up(bridge.index));
        }
        let wanted = addresses(plan, self.host.marks.bridge_mac(&plan.name.0));
        let have = rtnl.addresses(bridge.index)?.into_iter().map(|address| address.net);
        let have: Vec<IpNet> = have.collect();
        let gone = have.iter().filter(|net| !wanted.contains(net));
        requests.extend(gone.map(|net| address::delete(bridge.index, *net)));
        if bridge.up && !have.is_empty() {
            let routes = rtnl.routes_by(bridge.index)?;
            let kept: Vec<IpNet> = have.iter().filter(|net| plan.gateways.contains(net)).copied().collect();
            requests.extend(route::reconnect(&routes, &kept, bridge.index));
        }
        let new = wanted.iter().filter(|net| !have.contains(net));
        requests.extend(new.map(|net| address::add(bridge.index, *net, PrefixRoute::Connected)));
        Ok(rtnl.run_all(requests)?)
    }

    /// Passes packets on between the network and where the plan lets it reach.
    fn forward(&mut self, plan: &NetworkPlan) -> Result<()> {
        let has = |v4: bool| plan.gateways.iter().any(|net| net.addr().is_ipv4() == v4);
        if has(true) {
            forwarding::hold_ipv4(&mut self.settings)?;
        }
        if !has(false) {
            return Ok(());
        }
        let mut arriving: Vec<String> = Vec::new();
        arriving.extend(plan.overlay.iter().flat_map(|overlay| &overlay.devices).map(ToString::to_string));
        if plan.egress != Egress::None {
            arriving.extend(self.uplink_v6()?);
        }
        forwarding::hold_ipv6(&mut self.settings, self.switch, &arriving)?;
        forwarding::pass_from(&self.settings, self.switch, &plan.name.0)
    }

    /// The interface toward the rest of the world, where the host has one for IPv6.
    fn uplink_v6(&self) -> Result<Option<String>> {
        let rtnl = &self.host.rtnl;
        let somewhere = SOMEWHERE_V6.parse().expect("a constant address");
        let route = rtnl.route_to(somewhere)?;
        let Some(index) = route.and_then(|route| route.link) else { return Ok(None) };
        Ok(rtnl.link(index)?.map(|link| link.name))
    }

    /// What the rules' sets must hold. Until all inherited networks are spoken of, what they had stays.
    fn elements(&self) -> NetworkElements {
        let mut elements = NetworkElements::default();
        let mut ranges: Vec<IpNet> = Vec::new();
        for (name, spec) in &self.known {
            elements.bridges.insert(name.clone());
            if spec.egress != Egress::None {
                elements.egress.insert(name.clone());
            }
            let Some(overlay) = &spec.overlay else { continue };
            elements.overlays.extend(overlay.devices.iter().map(ToString::to_string));
            ranges.extend(overlay.ranges.iter().map(IpNet::trunc));
        }
        if !self.inherited.is_empty() {
            let old = &self.inherited_elements;
            elements.bridges.extend(self.inherited.iter().cloned());
            elements.egress.extend(old.egress.intersection(&self.inherited).cloned());
            elements.overlays.extend(old.overlays.iter().cloned());
            ranges.extend(&old.ranges);
        }
        elements.ranges = IpNet::aggregate(&ranges).into_iter().collect();
        elements
    }
}

/// The addresses of the bridge. A network with IPv6 has a link-local one of a fixed value: without any the host does not look for
/// containers that packets are passed on to, and the kernel's own takes a second to become usable.
fn addresses(plan: &NetworkPlan, mac: Mac) -> Vec<IpNet> {
    let mut wanted = plan.gateways.clone();
    if wanted.iter().any(|net| net.addr().is_ipv6()) {
        wanted.push(Ipv6Net::new_assert(link_local(mac), 64).into());
    }
    wanted
}

fn check(plan: &NetworkPlan) -> Result<()> {
    let problem = if plan.gateways.is_empty() {
        "it has no gateway"
    } else if overlayd_core::names::LinkName::new(plan.name.0.clone()).is_err() {
        "its name is no interface name"
    } else {
        return Ok(());
    };
    Err(Error::Invalid(format!("network {}: {problem}", plan.name)))
}
