//! The Linux hands shared by the Linux backends: links, addresses, routes, namespaces, nftables and sysctls.
