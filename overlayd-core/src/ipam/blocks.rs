//! The block of a (service, node) pair: a hash says where to look first, so that other tooling can derive it.

use std::hash::Hasher;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Why a service gets no block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// The cluster range is not larger than one block.
    #[error("the cluster range {cluster} is too small: services need blocks of /{mask}, so it must be wider than that")]
    ClusterTooSmall {
        /// The range in question.
        cluster: IpNet,
        /// Prefix length of one block.
        mask: u8,
    },
    /// Every block is taken.
    #[error("No available IP addresses: every /{mask} block of the cluster range {cluster} is taken")]
    Exhausted {
        /// The range in question.
        cluster: IpNet,
        /// Prefix length of one block.
        mask: u8,
    },
}

/// Prefix length of a service block: /26 for IPv4, /120 for IPv6.
pub const fn block_mask(cluster: &IpNet) -> u8 {
    match cluster {
        IpNet::V4(_) => 26,
        IpNet::V6(_) => 120,
    }
}

/// The node's part of the hash: the decimal node id, `0` until it is set.
pub fn node_key(node_id: Option<u64>) -> String {
    node_id.unwrap_or(0).to_string()
}

/// The first block from the hashed start on, wrapping around, that `is_free` accepts.
pub fn choose_block(
    cluster: IpNet,
    service: &str,
    node_key: &str,
    mut is_free: impl FnMut(&IpNet) -> bool,
) -> Result<IpNet, BlockError> {
    let mask = block_mask(&cluster);
    let count = match mask.checked_sub(cluster.prefix_len()) {
        None | Some(0) => return Err(BlockError::ClusterTooSmall { cluster, mask }),
        Some(bits) if bits >= 64 => u64::MAX,
        Some(bits) => 1 << bits,
    };
    let start = hash(service, node_key) % count;
    // A range this large has a free block within any number of steps that services could have taken.
    let steps = count.min(1 << 20);
    (0..steps)
        .map(|step| block_at(&cluster, mask, (start.wrapping_add(step)) % count))
        .find(|block| is_free(block))
        .ok_or(BlockError::Exhausted { cluster, mask })
}

/// SipHash-1-3 (zero key) of an isolation network's name and a terminating `0xFF`.
pub fn isolation_hash(network: &str) -> u64 {
    let mut hasher = siphasher::sip::SipHasher13::new();
    hasher.write(network.as_bytes());
    hasher.write_u8(0xff);
    hasher.finish()
}

fn hash(service: &str, node_key: &str) -> u64 {
    let mut hasher = fnv::FnvHasher::default();
    hasher.write(service.as_bytes());
    hasher.write(&[0x1f]);
    hasher.write(node_key.as_bytes());
    hasher.finish()
}

fn block_at(cluster: &IpNet, mask: u8, index: u64) -> IpNet {
    match cluster {
        IpNet::V4(net) => {
            let base = u32::from(net.network());
            let offset = u32::try_from(index).unwrap_or(u32::MAX) << (32 - u32::from(mask));
            Ipv4Net::new_assert((base | offset).into(), mask).into()
        }
        IpNet::V6(net) => {
            let base = u128::from(net.network());
            let offset = u128::from(index) << (128 - u32::from(mask));
            Ipv6Net::new_assert((base | offset).into(), mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::ipam::first_host;

    fn golden(file: &str) -> Vec<Value> {
        let path = format!("{}/tests/golden/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn blocks_are_chosen_as_the_golden_vectors_say() {
        for registry in golden("service_subnets.jsonl") {
            let cluster: IpNet = registry["cluster_cidr"].as_str().unwrap().parse().unwrap();
            let node_ip = registry["reserved_node_ip"].as_str().map(|ip| ip.parse().unwrap());
            let mut taken: Vec<(String, String, IpNet)> = Vec::new();
            for step in registry["assign_in_order"].as_array().unwrap() {
                let (service, node) = (step["service"].as_str().unwrap(), step["node"].as_str().unwrap());
                let known = taken.iter().find(|(s, n, _)| s == service && n == node).map(|(_, _, block)| *block);
                let block = known.unwrap_or_else(|| {
                    choose_block(cluster, service, node, |block| {
                        taken.iter().all(|(_, _, other)| other != block)
                            && node_ip.is_none_or(|ip: std::net::IpAddr| !block.contains(&ip))
                    })
                    .unwrap()
                });
                assert_eq!(block.to_string(), step["subnet"].as_str().unwrap(), "{service} on {node}");
                assert_eq!(first_host(&block).to_string(), step["gateway"].as_str().unwrap());
                taken.push((service.into(), node.into(), block));
            }
        }
    }

    #[test]
    fn isolation_networks_hash_as_the_golden_vectors_say() {
        for line in golden("hashed_names.jsonl").iter().filter(|line| line.get("network").is_some()) {
            let hash = format!("{:016x}", isolation_hash(line["network"].as_str().unwrap()));
            assert_eq!(hash, line["siphash13"].as_str().unwrap());
        }
    }

    #[test]
    fn a_full_or_too_small_range_says_so() {
        let small = "10.0.0.0/26".parse().unwrap();
        assert!(matches!(choose_block(small, "a", "0", |_| true), Err(BlockError::ClusterTooSmall { .. })));
        let full = "10.0.0.0/24".parse().unwrap();
        assert!(matches!(choose_block(full, "a", "0", |_| false), Err(BlockError::Exhausted { .. })));
    }
}
