//! Rules of the project that no compiler knows.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("core is in the project")
        .to_owned()
}

/// All tracked files; all files outside `target` where there is no git.
fn files() -> Vec<PathBuf> {
    let listed = Command::new("git")
        .args(["ls-files"])
        .current_dir(root())
        .output();
    match listed {
        Ok(output) if output.status.success() && !output.stdout.is_empty() => {
            let names = String::from_utf8(output.stdout).expect("file names are UTF-8");
            names
                .lines()
                .map(|name| root().join(name))
                .filter(|path| path.exists())
                .collect()
        }
        _ => walk(&root()),
    }
}

fn walk(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a readable directory") {
        let path = entry.expect("a readable entry").path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if path.is_dir() {
            if name != "target" && name != ".git" {
                found.extend(walk(&path));
            }
        } else {
            found.push(path);
        }
    }
    found
}

fn sources() -> impl Iterator<Item = (PathBuf, String)> {
    let rust = files()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "rs"));
    rust.map(|path| {
        let text = fs::read_to_string(&path).expect("sources are UTF-8");
        (path, text)
    })
}

#[test]
fn lines_are_short_and_without_tabs() {
    let mut bad = Vec::new();
    for (path, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            if line.chars().count() > 100 || line.contains('\t') {
                bad.push(format!("{}:{}", path.display(), number + 1));
            }
        }
    }
    assert!(
        bad.is_empty(),
        "longer than 100 columns, or with a tab: {bad:#?}"
    );
}

#[test]
fn nothing_is_left_for_later() {
    let marks = [
        concat!("FIX", "ME"),
        concat!("TO", "DO"),
        concat!("XX", "X"),
    ];
    for (path, text) in sources() {
        for mark in marks {
            assert!(!text.contains(mark), "{}: {mark}", path.display());
        }
    }
}

#[test]
fn core_is_without_the_standard_library() {
    let core = root().join("core/src");
    for (path, text) in sources().filter(|(path, _)| path.starts_with(&core)) {
        // Tests of a file come last in it, and may use what they like.
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for line in code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
        {
            assert!(!line.contains("std::"), "{}: {line}", path.display());
        }
    }
}

#[test]
fn unsafe_code_is_forbidden_in_every_crate() {
    for (path, text) in sources() {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let in_src = path.parent().is_some_and(|parent| parent.ends_with("src"));
        if in_src && (name == "lib.rs" || name == "main.rs") {
            assert!(
                text.contains("#![forbid(unsafe_code)]"),
                "{}",
                path.display()
            );
        }
    }
}

#[test]
fn every_source_file_is_in_the_module_tree() {
    let all: Vec<_> = sources().collect();
    for (path, _) in &all {
        let name = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or_default();
        let in_src = path.ancestors().any(|part| part.ends_with("src"));
        if !in_src
            || matches!(name, "lib" | "main" | "mod")
            || path.parent().is_some_and(|p| p.ends_with("bin"))
        {
            continue;
        }
        let declared = all.iter().any(|(_, text)| {
            text.lines().any(|line| {
                let line = line.trim_start();
                let line = line.strip_prefix("pub(crate) ").unwrap_or(line);
                line.strip_prefix("pub ").unwrap_or(line) == format!("mod {name};")
            })
        });
        assert!(declared, "{} belongs to no module", path.display());
    }
}

#[test]
fn the_readme_maps_every_crate() {
    let readme = fs::read_to_string(root().join("README.md")).expect("a README");
    for member in ["core", "runtime", "sim", "server", "fuzz", "benches"] {
        assert!(
            readme.contains(&format!("`{member}/`")),
            "{member}/ is not in the code map"
        );
    }
}
