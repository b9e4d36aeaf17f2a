//! What one client may hold of something that all clients share, so that a flood from one leaves room for the others.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex},
};

use overlayd_core::sync::lock;

/// How many places there are, and who holds them.
#[derive(Debug)]
pub(crate) struct ClientShares {
    total_limit: usize,
    client_limit: usize,
    held: Mutex<HeldShares>,
}

#[derive(Debug, Default)]
struct HeldShares {
    total: usize,
    by_client: HashMap<IpAddr, usize>,
}

/// One place; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct ClientShare {
    shares: Arc<ClientShares>,
    client: IpAddr,
}

impl ClientShares {
    /// So many places in all, and at most so many for each client.
    pub(crate) fn new(total_limit: usize, client_limit: usize) -> Arc<Self> {
        Arc::new(Self { total_limit, client_limit, held: Mutex::default() })
    }

    /// A place for the client, if there is one for it.
    pub(crate) fn take(self: &Arc<Self>, client: IpAddr) -> Option<ClientShare> {
        let mut held = lock(&self.held);
        let own = held.by_client.get(&client).copied().unwrap_or(0);
        // A refusal must leave no entry behind: addresses can be forged, and each would stay for ever.
        if held.total >= self.total_limit || own >= self.client_limit {
            return None;
        }
        held.total += 1;
        held.by_client.insert(client, own + 1);
        Some(ClientShare { shares: Arc::clone(self), client })
    }
}

impl Drop for ClientShare {
    fn drop(&mut self) {
        let mut held = lock(&self.shares.held);
        held.total -= 1;
        if let Some(own) = held.by_client.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                held.by_client.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_leaves_room_for_others_and_a_refusal_leaves_nothing() {
        let shares = ClientShares::new(3, 2);
        let first: IpAddr = [10, 77, 1, 1].into();
        let second: IpAddr = [10, 77, 1, 2].into();
        let third: IpAddr = [10, 77, 1, 3].into();
        let held = [shares.take(first).unwrap(), shares.take(first).unwrap()];
        assert!(shares.take(first).is_none(), "its share is used up");
        let other = shares.take(second).unwrap();
        assert!(shares.take(third).is_none(), "all are used up");
        assert!(!lock(&shares.held).by_client.contains_key(&third));
        drop(held);
        let again = shares.take(third).unwrap();
        drop((other, again));
        assert!(lock(&shares.held).by_client.is_empty());
        assert_eq!(lock(&shares.held).total, 0);
    }
}
