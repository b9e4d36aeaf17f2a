//! The product code of a crate as its compiler sees it: a tree of modules, each with its tokens, without what is built
//! for tests alone.

use std::{
    collections::BTreeSet,
    fs, mem,
    path::{Path, PathBuf},
};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

use crate::root;

/// One module of a crate.
pub(crate) struct SourceModule {
    /// Names from the root of the crate; the root itself has none.
    pub(crate) path: Vec<String>,
    /// The file that holds the module.
    pub(crate) file: PathBuf,
    /// What the module says, without the bodies of the modules inside it.
    pub(crate) tokens: Vec<TokenTree>,
    /// Imports, which may also be re-exports.
    pub(crate) imports: Vec<UsedPath>,
    /// Types, functions, constants and macros that the module defines itself.
    pub(crate) definitions: BTreeSet<String>,
}

/// One path of a `use`, without braces.
#[derive(Clone)]
pub(crate) struct UsedPath {
    /// The path as it is written.
    pub(crate) segments: Vec<String>,
    /// The name it has here, `*` for everything.
    pub(crate) name: String,
}

impl SourceModule {
    /// A module that a test writes itself.
    pub(crate) fn of_text(path: &[&str], text: &str) -> Self {
        let tokens: Vec<TokenTree> = text.parse::<TokenStream>().unwrap().into_iter().collect();
        Self {
            path: path.iter().map(ToString::to_string).collect(),
            file: PathBuf::new(),
            imports: imports(&tokens),
            definitions: definitions(&tokens),
            tokens,
        }
    }
}

/// The modules of each target below a folder `src`: the library, and every binary.
pub(crate) fn targets(source: &Path) -> Vec<Vec<SourceModule>> {
    let mut roots = vec![source.join("lib.rs"), source.join("main.rs")];
    if let Ok(entries) = fs::read_dir(source.join("bin")) {
        roots.extend(entries.map(|entry| entry.unwrap().path()));
    }
    roots.retain(|path| path.is_file());
    roots.iter().map(|path| modules(path)).collect()
}

/// The folders with the source of each crate that is the product, not a tool for tests.
pub(crate) fn product() -> Vec<PathBuf> {
    let manifests = crate::tree::files("toml").into_iter().filter(|path| path.ends_with("Cargo.toml"));
    let sources = manifests.map(|path| path.with_file_name("src"));
    sources.filter(|source| source.is_dir() && !source.starts_with(root().join("testkit"))).collect()
}

fn modules(root: &Path) -> Vec<SourceModule> {
    let text = fs::read_to_string(root).unwrap();
    let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("{}: {error}", root.display()));
    let mut found = Vec::new();
    let folder = root.parent().unwrap().to_owned();
    ModuleReader { file: root.to_owned(), folder, path: Vec::new(), found: &mut found }.read(tokens);
    found
}

/// Reads one module, and then those inside it.
struct ModuleReader<'a> {
    file: PathBuf,
    /// Where the files of the modules inside this one are.
    folder: PathBuf,
    path: Vec<String>,
    found: &'a mut Vec<SourceModule>,
}

impl ModuleReader<'_> {
    fn read(&mut self, tokens: TokenStream) {
        let mut own = Vec::new();
        let mut rest = tokens.into_iter().peekable();
        let mut attributes: Vec<Group> = Vec::new();
        while let Some(token) = rest.next() {
            match (&token, rest.peek()) {
                (TokenTree::Punct(hash), Some(TokenTree::Group(group))) if hash.as_char() == '#' => {
                    attributes.push(group.clone());
                    rest.next();
                }
                (TokenTree::Ident(word), Some(TokenTree::Ident(_))) if word == "mod" => {
                    let name = rest.next().unwrap().to_string();
                    let body = rest.next().unwrap();
                    self.read_inner(&name, &body, &mem::take(&mut attributes));
                }
                _ if is_for_tests(&attributes) => {
                    attributes.clear();
                    let mut last = token;
                    while !ends_item(&last) {
                        last = rest.next().unwrap();
                    }
                }
                // A visibility stands between the attributes and what they belong to.
                (TokenTree::Ident(word), _) if word == "pub" => own.push(token),
                (TokenTree::Group(group), _) if group.delimiter() == Delimiter::Parenthesis => own.push(token),
                _ => {
                    attributes.clear();
                    own.push(token);
                }
            }
        }
        let module = SourceModule {
            path: self.path.clone(),
            file: self.file.clone(),
            imports: imports(&own),
            definitions: definitions(&own),
            tokens: own,
        };
        self.found.push(module);
    }

    fn read_inner(&mut self, name: &str, body: &TokenTree, attributes: &[Group]) {
        if is_for_tests(attributes) {
            return;
        }
        let path = [self.path.clone(), vec![name.to_owned()]].concat();
        if let TokenTree::Group(inline) = body {
            let (file, folder) = (self.file.clone(), self.folder.join(name));
            ModuleReader { file, folder, path, found: self.found }.read(inline.stream());
            return;
        }
        let beneath = self.folder.join(name);
        let candidates = match path_attribute(attributes) {
            // Relative to the folder of the file that declares the module, not to that of its modules.
            Some(written) => vec![self.file.parent().unwrap().join(written)],
            None => vec![beneath.with_extension("rs"), beneath.join("mod.rs")],
        };
        let file = candidates.into_iter().find(|path| path.is_file());
        let file = file.unwrap_or_else(|| panic!("{}: no file for `mod {name}`", self.file.display()));
        let is_head = file.ends_with("mod.rs") || path_attribute(attributes).is_some();
        let folder = if is_head { file.parent().unwrap().to_owned() } else { beneath };
        let tokens = fs::read_to_string(&file).unwrap().parse().unwrap();
        ModuleReader { file, folder, path, found: self.found }.read(tokens);
    }
}

fn ends_item(token: &TokenTree) -> bool {
    match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(punct) => punct.as_char() == ';',
        _ => false,
    }
}

/// `#[cfg(test)]`, also as a part of `all`, and what is built for mocks or crash points.
fn is_for_tests(attributes: &[Group]) -> bool {
    attributes.iter().any(|attribute| {
        let text: String = attribute.stream().to_string().split_whitespace().collect();
        text == "cfg(test)" || text.starts_with("cfg(all(test,") || text == "test"
    })
}

fn path_attribute(attributes: &[Group]) -> Option<String> {
    attributes.iter().find_map(|attribute| {
        let text = attribute.stream().to_string();
        let written = text.strip_prefix("path")?.trim_start().strip_prefix('=')?;
        Some(written.trim().trim_matches('"').to_owned())
    })
}

/// The paths of all `use` of the module itself.
fn imports(tokens: &[TokenTree]) -> Vec<UsedPath> {
    let mut found = Vec::new();
    let mut rest = tokens.iter();
    while let Some(token) = rest.next() {
        if matches!(token, TokenTree::Ident(word) if word == "use") {
            let tree: Vec<TokenTree> = rest.by_ref().take_while(|token| !ends_item_at(token)).cloned().collect();
            expand(&tree, &[], &mut found);
        }
    }
    found
}

fn ends_item_at(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == ';')
}

/// Writes out `a::{b, c as d, e::*}` as one path each.
fn expand(tree: &[TokenTree], before: &[String], found: &mut Vec<UsedPath>) {
    let is_comma = |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',');
    for branch in tree.split(is_comma).filter(|branch| !branch.is_empty()) {
        let mut segments = before.to_vec();
        let mut alias = None;
        let mut words = branch.iter();
        while let Some(token) = words.next() {
            match token {
                TokenTree::Ident(word) if word == "as" => alias = words.next().map(ToString::to_string),
                TokenTree::Ident(word) => segments.push(word.to_string()),
                TokenTree::Punct(punct) if punct.as_char() == '*' => segments.push("*".to_owned()),
                TokenTree::Group(group) => {
                    let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                    expand(&inner, &segments, found);
                    segments.clear();
                }
                _ => {}
            }
        }
        if segments.len() > 1 && segments.last().is_some_and(|last| last == "self") {
            segments.pop();
        }
        if let Some(last) = segments.last() {
            found.push(UsedPath { name: alias.unwrap_or_else(|| last.clone()), segments });
        }
    }
}

fn definitions(tokens: &[TokenTree]) -> BTreeSet<String> {
    const KEYWORDS: [&str; 8] = ["const", "enum", "fn", "macro_rules", "static", "struct", "trait", "type"];
    let words: Vec<String> = tokens.iter().filter(|token| token.to_string() != "!").map(ToString::to_string).collect();
    let pairs = words.windows(2).filter(|pair| KEYWORDS.contains(&pair[0].as_str()));
    pairs.map(|pair| pair[1].clone()).collect()
}
