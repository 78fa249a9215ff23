//! The copy of the tree that bugs are planted in.
//!
//! Keeps true: a file of the copy is written only when it differs from the tree's, so what was built before is still
//! fresh; what a run that was interrupted left planted is undone by the next copy.

use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use walkdir::{DirEntry, WalkDir};

/// Built or installed, not part of the tree.
const LEFT_OUT: [&str; 5] = ["target", "build", "dist", "node_modules", "__pycache__"];

/// A copy of the tree.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) root: PathBuf,
}

/// A bug stands in the copy as long as this lives.
#[derive(Debug)]
pub(crate) struct Planted {
    file: PathBuf,
    original: String,
}

impl Tree {
    /// Makes `to` the same as `from`.
    pub(crate) fn copy(from: &Path, to: &Path) -> Result<Tree> {
        let mut here = BTreeSet::new();
        for entry in WalkDir::new(from)
            .into_iter()
            .filter_entry(|entry| belongs(from, entry))
        {
            let entry = entry?;
            let path = entry.path().strip_prefix(from)?;
            if entry.file_type().is_file() {
                write(&to.join(path), &fs::read(entry.path())?)?;
                here.insert(path.to_owned());
            }
        }
        for entry in WalkDir::new(to) {
            let entry = entry?;
            if entry.file_type().is_file() && !here.contains(entry.path().strip_prefix(to)?) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Tree { root: to.to_owned() })
    }

    /// Plants a bug: `text` is its file with the bug in it.
    pub(crate) fn plant(&self, file: &Path, text: &str) -> Result<Planted> {
        let file = self.root.join(file);
        let original = fs::read_to_string(&file)?;
        fs::write(&file, text)?;
        Ok(Planted { file, original })
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        if let Err(error) = fs::write(&self.file, &self.original) {
            // What comes next would run with two bugs.
            panic!("{} could not be restored: {error}", self.file.display());
        }
    }
}

fn belongs(root: &Path, entry: &DirEntry) -> bool {
    let name = entry.file_name().to_string_lossy();
    let hidden = name.starts_with('.') && name != ".cargo" && entry.path() != root;
    let left_out = entry.file_type().is_dir() && LEFT_OUT.contains(&&*name) && entry.depth() > 0;
    !hidden && !left_out
}

/// Writes what differs. What is the same keeps its time, by which cargo tells what is fresh.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    let folder = path.parent().context("a file stands in a folder")?;
    fs::create_dir_all(folder)?;
    fs::write(path, bytes).with_context(|| format!("{} could not be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_like_the_tree_and_a_planted_bug_is_undone() {
        let here = tempfile::tempdir().unwrap();
        let (from, to) = (here.path().join("from"), here.path().join("to"));
        for (path, text) in [
            ("src/a.rs", "a"),
            ("target/x", "x"),
            (".git/y", "y"),
            (".cargo/config.toml", "c"),
        ] {
            write(&from.join(path), text.as_bytes()).unwrap();
        }
        write(&to.join("gone.rs"), b"no longer there").unwrap();
        let tree = Tree::copy(&from, &to).unwrap();
        let there = |path: &str| fs::read_to_string(to.join(path)).ok();
        assert_eq!(there("src/a.rs").as_deref(), Some("a"));
        assert_eq!(there(".cargo/config.toml").as_deref(), Some("c"));
        assert_eq!(
            (there("target/x"), there(".git/y"), there("gone.rs")),
            (None, None, None)
        );
        let planted = tree.plant(Path::new("src/a.rs"), "bug").unwrap();
        assert_eq!(there("src/a.rs").as_deref(), Some("bug"));
        drop(planted);
        assert_eq!(there("src/a.rs").as_deref(), Some("a"));
        // Interrupted: the next copy undoes it.
        std::mem::forget(tree.plant(Path::new("src/a.rs"), "bug").unwrap());
        Tree::copy(&from, &to).unwrap();
        assert_eq!(there("src/a.rs").as_deref(), Some("a"));
    }
}
