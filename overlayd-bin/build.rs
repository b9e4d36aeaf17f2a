//! Computes the build id: one SHA-256 over the sources this binary is made of, so that identical sources give the
//! same id on every machine and at every rebuild.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

/// What the binary is made of, relative to the workspace.
const SOURCES: &[&str] = &["Cargo.toml", "Cargo.lock", "overlayd-core", "backends", "overlayd-bin"];

fn main() -> io::Result<()> {
    // Cargo runs this in the directory of the package; the directory it was compiled in may be another by now.
    let workspace = Path::new("..");
    let mut files = Vec::new();
    for source in SOURCES {
        let path = workspace.join(source);
        println!("cargo::rerun-if-changed={}", path.display());
        collect(&path, &mut files)?;
    }
    println!("cargo::rustc-env=OVERLAYD_BUILD_ID={}", digest(workspace, files)?);
    Ok(())
}

/// Adds the source files at and below `path`: Rust and manifests, but no tests and no build output.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if path.is_dir() {
        if path.ends_with("tests") || path.ends_with("target") {
            return Ok(());
        }
        for entry in fs::read_dir(path)? {
            collect(&entry?.path(), files)?;
        }
    } else if matches!(path.extension().and_then(|e| e.to_str()), Some("rs" | "toml" | "lock")) {
        files.push(path.to_path_buf());
    }
    Ok(())
}

/// Hashes name and content of each file, in the order of the names, each part preceded by its length.
fn digest(workspace: &Path, mut files: Vec<PathBuf>) -> io::Result<String> {
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        let name = file.strip_prefix(workspace).unwrap_or(&file).as_os_str().as_encoded_bytes();
        let content = fs::read(&file)?;
        for part in [name, &content] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
