//! No two modules of a crate use each other, directly or by way of others.
//!
//! A module and what is inside it count as one: a parent may use its children and they may use it. What is compared is
//! siblings, at each level of the tree. A name that a module only passes on (`pub use`) counts as a use of
//! the module that defines it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use proc_macro2::{TokenStream, TokenTree};

use crate::{
    root,
    source::{SourceModule, product, targets},
};

/// How many re-exports in a row are followed.
const MOST_HOPS: usize = 8;

/// The modules of one target by their paths.
struct ModuleTree<'a> {
    modules: BTreeMap<&'a [String], &'a SourceModule>,
}

/// Who uses whom among the modules directly inside one module, with the first file and path that shows it.
type SiblingUses = BTreeMap<String, BTreeMap<String, String>>;

impl<'a> ModuleTree<'a> {
    fn new(modules: &'a [SourceModule]) -> Self {
        Self { modules: modules.iter().map(|module| (module.path.as_slice(), module)).collect() }
    }

    /// The module that defines what the path means in `at`, if that is in this crate.
    fn definer(&self, at: &[String], segments: &[String], hops: usize) -> Option<Vec<String>> {
        let mut here = at.to_vec();
        let mut rest = segments;
        let mut anchored = false;
        while let Some((first, after)) = rest.split_first() {
            match first.as_str() {
                "crate" => here.clear(),
                "self" => {}
                "super" => drop(here.pop()),
                _ => break,
            }
            anchored = true;
            rest = after;
        }
        while let Some((first, after)) = rest.split_first() {
            let inner = [here.clone(), vec![first.clone()]].concat();
            if self.modules.contains_key(inner.as_slice()) {
                here = inner;
            } else if let Some(import) = self.import(&here, first, hops) {
                let whole = [&import[..], after].concat();
                return self.definer(&here, &whole, hops - 1);
            } else {
                return (anchored || here != at).then_some(here);
            }
            anchored = true;
            rest = after;
        }
        anchored.then_some(here)
    }

    /// The path by which `module` imports `name`.
    fn import(&self, module: &[String], name: &str, hops: usize) -> Option<Vec<String>> {
        // A glob of another crate is looked up through the same glob, again and again.
        let hops = hops.checked_sub(1)?;
        let module = self.modules.get(module)?;
        if module.definitions.contains(name) {
            return None;
        }
        let named = module.imports.iter().find(|import| import.name == name);
        if let Some(import) = named.filter(|import| import.segments != [name]) {
            return Some(import.segments.clone());
        }
        module.imports.iter().filter(|import| import.name == "*").find_map(|glob| {
            let parent = &glob.segments[..glob.segments.len() - 1];
            let target = self.definer(&module.path, parent, hops)?;
            let defines = self.modules.get(target.as_slice())?.definitions.contains(name);
            defines.then(|| [parent, &[name.to_owned()]].concat())
        })
    }

    /// The uses among siblings, by the path of their parent.
    fn uses(&self) -> BTreeMap<Vec<String>, SiblingUses> {
        let mut found: BTreeMap<Vec<String>, SiblingUses> = BTreeMap::new();
        for module in self.modules.values() {
            let mut paths: Vec<Vec<String>> = module.imports.iter().map(|import| import.segments.clone()).collect();
            written_paths(module.tokens.iter().cloned().collect(), &mut paths);
            for segments in paths {
                let Some(target) = self.definer(&module.path, &segments, MOST_HOPS) else { continue };
                let shared = module.path.iter().zip(&target).take_while(|(own, theirs)| own == theirs).count();
                if let (Some(user), Some(used)) = (module.path.get(shared), target.get(shared)) {
                    let file = module.file.strip_prefix(root()).unwrap_or(&module.file);
                    let reason = format!("{} names {}", file.display(), segments.join("::"));
                    let level = found.entry(module.path[..shared].to_vec()).or_default();
                    level.entry(user.clone()).or_default().entry(used.clone()).or_insert(reason);
                }
            }
        }
        found
    }
}

/// The paths in expressions, types and macros that begin at the crate, the parent or a module.
fn written_paths(tokens: TokenStream, found: &mut Vec<Vec<String>>) {
    let mut current: Vec<String> = Vec::new();
    let mut colons = 0;
    for token in tokens {
        match token {
            TokenTree::Ident(word) => {
                if colons != 2 {
                    finish(&mut current, found);
                }
                current.push(word.to_string());
                colons = 0;
            }
            TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
            other => {
                finish(&mut current, found);
                colons = 0;
                if let TokenTree::Group(group) = other {
                    written_paths(group.stream(), found);
                }
            }
        }
    }
    finish(&mut current, found);
}

/// A single word is a name of the place itself, which is no use of another module.
fn finish(current: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    let path = std::mem::take(current);
    if path.len() > 1 {
        found.push(path);
    }
}

/// The groups of siblings that reach each other.
fn circles(uses: &SiblingUses) -> BTreeSet<Vec<String>> {
    let reach: BTreeMap<&String, BTreeSet<&String>> =
        uses.keys().map(|module| (module, reached(uses, module))).collect();
    let mut found = BTreeSet::new();
    for (module, others) in &reach {
        let mutual = others.iter().filter(|other| reach.get(**other).is_some_and(|back| back.contains(*module)));
        let circle: Vec<String> = mutual.map(ToString::to_string).collect();
        if circle.len() > 1 {
            found.insert(circle);
        }
    }
    found
}

/// All modules that `from` uses, itself or by way of others.
fn reached<'a>(uses: &'a SiblingUses, from: &'a String) -> BTreeSet<&'a String> {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(module) = open.pop() {
        for used in uses.get(module).into_iter().flat_map(BTreeMap::keys) {
            if seen.insert(used) {
                open.push(used);
            }
        }
    }
    seen
}

/// The folder of a level, for people: the crate and the path of the module.
fn level_name(source: &Path, parent: &[String]) -> String {
    let crate_folder = source.parent().unwrap();
    let crate_folder = crate_folder.strip_prefix(root()).unwrap_or(crate_folder);
    [vec![crate_folder.display().to_string()], parent.to_vec()].concat().join("::")
}

#[test]
fn no_modules_of_a_crate_go_in_circles() {
    let mut complaints = Vec::new();
    for source in product() {
        for target in targets(&source) {
            for (parent, uses) in ModuleTree::new(&target).uses() {
                let level = level_name(&source, &parent);
                for circle in &circles(&uses) {
                    complaints.push(format!("{level}: {}\n{}", circle.join(", "), reasons(&uses, circle)));
                }
            }
        }
    }
    assert!(complaints.is_empty(), "modules in circles:\n{}", complaints.join("\n"));
}

fn reasons(uses: &SiblingUses, circle: &[String]) -> String {
    let inside = uses.iter().filter(|(user, _)| circle.contains(user)).flat_map(|(user, used)| {
        used.iter().filter(|(name, _)| circle.contains(name)).map(move |(name, reason)| (user, name, reason))
    });
    inside.map(|(user, name, reason)| format!("    {user} -> {name}: {reason}\n")).collect()
}

#[test]
fn a_circle_is_found_through_a_re_export() {
    let module = |path: &[&str], text: &str| SourceModule::of_text(path, text);
    let modules = [
        module(&[], "pub use self::lower::Thing; mod lower; mod upper;"),
        module(&["lower"], "use crate::upper::Other; pub struct Thing;"),
        module(&["upper"], "pub struct Other; fn f() { let _: crate::Thing; }"),
    ];
    let uses = ModuleTree::new(&modules).uses();
    let found = circles(&uses[&Vec::new()]);
    assert_eq!(found.into_iter().collect::<Vec<_>>(), [["lower", "upper"]]);
}
