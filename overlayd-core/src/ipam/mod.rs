//! Addresses: which block of the cluster range a service has on this node, and which address a container gets.

mod blocks;
mod pool;

pub use blocks::{BlockError, block_mask, choose_block, isolation_hash, node_key};
pub use pool::{Pool, first_host};
