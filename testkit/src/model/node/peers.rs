//! Peers and their ranges: a range belongs to the peer that was given it last.

use std::collections::BTreeSet;

use super::{ExpectedRefusal, NodeModel};
use crate::model::ops::ModelRequest;

impl NodeModel {
    pub(super) fn change_peer(&mut self, op: &ModelRequest) -> Result<(), ExpectedRefusal> {
        let (number, new): (u8, BTreeSet<String>) = match op {
            ModelRequest::AddPeer(number, ranges) => {
                (*number, ranges.iter().map(|range| (*range).to_owned()).collect())
            }
            ModelRequest::AddRange(number, range) => {
                let mut ranges = self.view.peers.get(number).cloned().ok_or(ExpectedRefusal)?;
                ranges.insert((*range).to_owned());
                (*number, ranges)
            }
            ModelRequest::RemoveRange(number, range) => {
                self.view.peers.entry(*number).and_modify(|ranges| ranges.retain(|known| known != range));
                return Ok(());
            }
            ModelRequest::RemovePeer(number) => {
                self.view.peers.remove(number);
                return Ok(());
            }
            _ => return Err(ExpectedRefusal),
        };
        self.view.peers.values_mut().for_each(|ranges| ranges.retain(|range| !new.contains(range)));
        self.view.peers.insert(number, new);
        Ok(())
    }
}
