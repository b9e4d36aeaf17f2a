//! The orders in which operations that were asked at the same time may have been done.

use std::net::IpAddr;

use overlayd_core::protocol::Response;

use super::{node::Model, ops::Op};

/// A part of an operation that nothing comes between: its beginning, what its reply is about, and what is left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Beginning,
    Reply,
    End,
}

/// The node after the operations, if doing their parts in this order explains the replies.
pub(super) fn explain(
    mut model: Model,
    asked: &[(&Op, Option<IpAddr>, &Response)],
    order: &[(usize, Part)],
) -> Option<Model> {
    for (number, part) in order {
        let (op, released, reply) = asked[*number];
        match part {
            Part::Beginning => model.begin(op),
            Part::Reply if model.explains(op, released, reply) => {}
            Part::Reply => return None,
            Part::End => model.finish(op),
        }
    }
    Some(model)
}

/// The parts of an operation in their order.
fn parts(op: &Op) -> &'static [Part] {
    match op {
        Op::SetUpService(..) => &[Part::Beginning, Part::Reply],
        Op::Detach(_) => &[Part::Reply, Part::End],
        _ => &[Part::Reply],
    }
}

/// One operation alone.
pub(super) fn whole(op: &Op) -> Vec<(usize, Part)> {
    parts(op).iter().map(|part| (0, *part)).collect()
}

/// All orders of the parts of these operations.
pub(super) fn orders(ops: &[Op]) -> Vec<Vec<(usize, Part)>> {
    let mut orders = vec![Vec::new()];
    for (number, op) in ops.iter().enumerate() {
        orders = orders.iter().flat_map(|order| merged(order, number, parts(op))).collect();
    }
    orders
}

/// The parts of one more operation, in their order, at all places in this one.
fn merged(order: &[(usize, Part)], number: usize, parts: &[Part]) -> Vec<Vec<(usize, Part)>> {
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
