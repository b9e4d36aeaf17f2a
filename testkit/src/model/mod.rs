//! Random sequences of requests, and a model that says which replies and records are right: a few maps, told apart from the
//! engine's means. What is asked at the same time may be done in any order that explains all replies.

mod node;
mod ops;
mod orders;
mod view;

use std::{collections::BTreeMap, net::IpAddr};

use overlayd_core::protocol::Response;

use self::{
    node::NodeModel,
    orders::{explain, orders, whole},
};
pub use self::{
    node::address_in,
    ops::{CONTAINERS, ModelRequest, ModelStep, steps},
    view::ModelView,
};

/// All that the node may be according to the replies so far: which of two peers that were added at the same time got the
/// range that both were to have, for one, no reply says.
#[derive(Debug, Clone)]
pub struct PossibleStates(Vec<NodeModel>);

impl PossibleStates {
    /// Of a node that nothing was asked of yet, at this Unix second, where addresses rest for so many; all containers run.
    pub fn new(now: u64, cool_down: u64) -> Self {
        let mut model = NodeModel::at(now, cool_down);
        CONTAINERS.for_each(|pid| model.start(pid));
        Self(vec![model])
    }

    /// The allocated addresses, in order.
    pub fn allocated(&self) -> Vec<IpAddr> {
        self.0[0].allocated()
    }

    /// A container starts, in the place of the one before.
    pub fn starts(&mut self, pid: u32) {
        self.0.iter_mut().for_each(|model| model.start(pid));
    }

    /// A container ends.
    pub fn ends(&mut self, pid: u32) {
        self.0.iter_mut().for_each(|model| model.end(pid));
    }

    /// So many seconds pass.
    pub fn wait(&mut self, seconds: u64) {
        self.0.iter_mut().for_each(|model| model.now += seconds);
    }

    /// The daemon looks after drift, or starts anew.
    pub fn settle(&mut self) {
        self.0.iter_mut().for_each(NodeModel::settle);
    }

    /// The containers that each service may have, by the services' names.
    pub fn memberships(&self) -> Vec<BTreeMap<String, usize>> {
        self.0.iter().map(|model| model.view().memberships()).collect()
    }

    /// These were asked at the same time: some order of them explains all replies. `allocated` is what was allocated before.
    pub fn answered(&mut self, ops: &[ModelRequest], allocated: &[IpAddr], replies: &[Response]) -> Result<(), String> {
        let asked: Vec<_> = ops.iter().zip(replies).map(|(op, reply)| (op, op.released(allocated), reply)).collect();
        let orders = orders(ops);
        let explained =
            |model: &NodeModel| orders.iter().filter_map(|order| explain(model.clone(), &asked, order)).collect();
        self.narrow(explained, || format!("answered {replies:?}"))
    }

    /// The daemon ended during the operation, with or without a reply; the next one looked after what was half-done, and has
    /// `found` on record.
    pub fn crashed(
        &mut self,
        op: &ModelRequest,
        allocated: &[IpAddr],
        reply: Option<&Response>,
        found: &ModelView,
    ) -> Result<(), String> {
        let released = op.released(allocated);
        let becomes = |model: &NodeModel| {
            let mut states: Vec<NodeModel> = match reply {
                Some(reply) => explain(model.clone(), &[(op, released, reply)], &whole(op)).into_iter().collect(),
                None => {
                    let told = found.reply_to(op, model.view());
                    model.after_a_crash(op, released, told.as_ref().and_then(address_in))
                }
            };
            states.iter_mut().for_each(NodeModel::settle);
            states.retain(|state| state.view() == found);
            states
        };
        self.narrow(becomes, || format!("answered {reply:?}, and on record is {found:#?}"))
    }

    /// The request was repeated, as an orchestrator does that got no answer the first time: an edge is revoked before it is
    /// minted again.
    pub fn repeated(&mut self, op: &ModelRequest, allocated: &[IpAddr], reply: &Response) -> Result<(), String> {
        let released = op.released(allocated);
        let becomes = |model: &NodeModel| {
            let mut model = model.clone();
            if let ModelRequest::Mint(name, _) = op
                && model.has_edge(name)
            {
                model.explains(&ModelRequest::Revoke(name), None, &Response::Ok);
            }
            explain(model, &[(op, released, reply)], &whole(op)).into_iter().collect()
        };
        self.narrow(becomes, || format!("the repeated request was answered {reply:?}"))
    }

    /// This is on record.
    pub fn holds(&mut self, found: &ModelView) -> Result<(), String> {
        let becomes = |model: &NodeModel| if model.view() == found { vec![model.clone()] } else { Vec::new() };
        self.narrow(becomes, || format!("on record is {found:#?}"))
    }

    /// What the node may be from now on, of each thing it may have been; the reason is for when that is nothing.
    fn narrow(
        &mut self,
        becomes: impl Fn(&NodeModel) -> Vec<NodeModel>,
        reason: impl FnOnce() -> String,
    ) -> Result<(), String> {
        let mut next: Vec<NodeModel> = Vec::new();
        for model in self.0.iter().flat_map(becomes) {
            if !next.contains(&model) {
                next.push(model);
            }
        }
        if next.is_empty() {
            return Err(format!("{}; the model was {:#?}", reason(), self.0));
        }
        self.0 = next;
        Ok(())
    }
}
