//! What may be named in one place alone: operating systems, and what belongs to them.

use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};

use crate::{
    root,
    source::{SourceModule, targets},
};

/// Texts that only make sense on one system.
const SYSTEM_TEXTS: [&str; 4] = ["/etc/", "/proc/", "eth0", "veth"];
/// Crates that make system calls.
const SYSTEM_CRATES: [&str; 4] = ["libc", "nix", "rustix", "socket2"];
/// The parts of the userspace backend that say what WireGuard does, not how a host does it.
const PURE_PARTS: [&str; 4] = ["device", "noise", "offload", "registry"];

#[test]
fn the_core_names_nothing_that_only_one_system_has() {
    for module in modules("overlayd-core/src") {
        for text in texts(module.tokens.iter().cloned().collect()) {
            let named = SYSTEM_TEXTS.iter().find(|system| text.contains(**system));
            assert!(named.is_none(), "{} names {text}", module.file.display());
        }
    }
}

#[test]
fn wireguard_itself_makes_no_system_calls() {
    for module in modules("backends/userspace-wg/src") {
        let is_pure = module.path.first().is_some_and(|part| PURE_PARTS.contains(&part.as_str()));
        for named in words(module.tokens.iter().cloned().collect()).into_iter().filter(|_| is_pure) {
            assert!(!SYSTEM_CRATES.contains(&named.as_str()), "{} names {named}", module.file.display());
        }
    }
}

fn modules(source: &str) -> Vec<SourceModule> {
    let found: Vec<SourceModule> = targets(&root().join(Path::new(source))).into_iter().flatten().collect();
    assert!(!found.is_empty(), "{source} has no modules");
    found
}

/// The literals of the code. Documentation, which the compiler turns into attributes, is left out.
fn texts(tokens: TokenStream) -> Vec<String> {
    let mut found = Vec::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Punct(hash) if hash.as_char() == '#' => {
                tokens.next_if(|next| matches!(next, TokenTree::Group(_)));
            }
            TokenTree::Literal(literal) => found.push(literal.to_string()),
            TokenTree::Group(group) => found.append(&mut texts(group.stream())),
            _ => {}
        }
    }
    found
}

fn words(tokens: TokenStream) -> Vec<String> {
    let mut found = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Ident(word) => found.push(word.to_string()),
            TokenTree::Group(group) => found.append(&mut words(group.stream())),
            _ => {}
        }
    }
    found
}
