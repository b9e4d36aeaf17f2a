//! The orders in which operations that were asked at the same time may have been done.

use std::net::IpAddr;

use overlayd_core::protocol::Response;

use super::{node::NodeModel, ops::ModelRequest};

/// A part of an operation that nothing comes between: its beginning, what its reply is about, and what is left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OrderPart {
    Beginning,
    Reply,
    End,
}

/// The node after the operations, if doing their parts in this order explains the replies.
pub(super) fn explain(
    mut model: NodeModel,
    asked: &[(&ModelRequest, Option<IpAddr>, &Response)],
    order: &[(usize, OrderPart)],
) -> Option<NodeModel> {
    for (number, part) in order {
        let (op, released, reply) = asked[*number];
        match part {
            OrderPart::Beginning => model.begin(op),
            OrderPart::Reply if model.explains(op, released, reply) => {}
            OrderPart::Reply => return None,
            OrderPart::End => model.finish(op),
        }
    }
    Some(model)
}

/// The parts of an operation in their order.
fn parts(op: &ModelRequest) -> &'static [OrderPart] {
    match op {
        ModelRequest::SetUpService(..) => &[OrderPart::Beginning, OrderPart::Reply],
        ModelRequest::Detach(_) => &[OrderPart::Reply, OrderPart::End],
        _ => &[OrderPart::Reply],
    }
}

/// One operation alone.
pub(super) fn whole(op: &ModelRequest) -> Vec<(usize, OrderPart)> {
    parts(op).iter().map(|part| (0, *part)).collect()
}

/// All orders of the parts of these operations.
pub(super) fn orders(ops: &[ModelRequest]) -> Vec<Vec<(usize, OrderPart)>> {
    let mut orders = vec![Vec::new()];
    for (number, op) in ops.iter().enumerate() {
        orders = orders.iter().flat_map(|order| merged(order, number, parts(op))).collect();
    }
    orders
}

/// The parts of one more operation, in their order, at all places in this one.
fn merged(order: &[(usize, OrderPart)], number: usize, parts: &[OrderPart]) -> Vec<Vec<(usize, OrderPart)>> {
    let Some((last, first)) = parts.split_last() else { return vec![order.to_vec()] };
    let mut merges = Vec::new();
    for at in 0..=order.len() {
        for mut merge in merged(&order[..at], number, first) {
            merge.push((number, *last));
            merge.extend_from_slice(&order[at..]);
            merges.push(merge);
        }
    }
    merges
}
