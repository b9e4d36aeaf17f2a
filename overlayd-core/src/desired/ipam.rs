//! The pools behind the records: one for the slice, one per service block.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

use crate::ipam::Pool;

/// Knows which addresses of the slice and of the blocks are leased or rest. Blocks inside the slice's range lease
/// their addresses themselves.
#[derive(Debug, Default)]
pub(super) struct Ipam {
    slice: Option<Pool>,
    blocks: BTreeMap<String, Pool>,
    /// First address of each block to the block and its service, to find the block of an address.
    by_start: BTreeMap<IpAddr, (IpNet, String)>,
}

impl Ipam {
    pub(super) fn set_slice(&mut self, slice: IpNet) {
        self.slice = Some(Pool::above_first_host(slice));
    }

    pub(super) fn set_block(&mut self, service: &str, block: Option<IpNet>) {
        if let Some(old) = self.blocks.remove(service) {
            self.by_start.remove(&old.net().network());
            if let Some(slice) = &mut self.slice {
                slice.rewind();
            }
        }
        if let Some(block) = block {
            self.blocks.insert(service.to_owned(), Pool::above_first_host(block));
            self.by_start.insert(block.network(), (block.trunc(), service.to_owned()));
        }
    }

    pub(super) fn set_used(&mut self, ip: IpAddr, used: bool) {
        if let Some(pool) = self.pool_of(ip) {
            if used { pool.take(ip) } else { pool.give_back(ip) }
        }
    }

    pub(super) fn set_rest(&mut self, ip: IpAddr, until: Option<u64>) {
        if let Some(pool) = self.pool_of(ip) {
            match until {
                Some(until) => pool.rest(ip, until),
                None => pool.end_rest(ip),
            }
        }
    }

    pub(super) fn is_used(&self, ip: IpAddr) -> bool {
        let block = block_of(&self.by_start, ip).and_then(|(_, service)| self.blocks.get(service));
        block.or(self.slice.as_ref()).is_some_and(|pool| pool.is_used(ip))
    }

    pub(super) fn any_used_in(&self, net: &IpNet) -> bool {
        self.slice.as_ref().is_some_and(|slice| slice.any_used_in(net))
    }

    pub(super) fn pick_from_block(&mut self, service: &str, now: u64) -> Option<IpAddr> {
        self.blocks.get_mut(service)?.pick(now, |_| None)
    }

    pub(super) fn pick_from_slice(&mut self, now: u64) -> Option<IpAddr> {
        let Self { slice, by_start, .. } = self;
        slice.as_mut()?.pick(now, |ip| block_of(by_start, ip).map(|(block, _)| *block))
    }

    fn pool_of(&mut self, ip: IpAddr) -> Option<&mut Pool> {
        match block_of(&self.by_start, ip) {
            Some((_, service)) => self.blocks.get_mut(service),
            None => self.slice.as_mut().filter(|slice| slice.covers(ip)),
        }
    }
}

fn block_of(by_start: &BTreeMap<IpAddr, (IpNet, String)>, ip: IpAddr) -> Option<&(IpNet, String)> {
    by_start.range(..=ip).next_back().map(|(_, found)| found).filter(|(block, _)| block.contains(&ip))
}
