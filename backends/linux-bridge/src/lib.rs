//! Attacher for Linux: bridges, veth pairs, network namespaces, egress and nftables.
