//! What the manifests say: who uses whom, by which compiler, under which lints.

use super::*;

#[test]
fn every_member_of_the_workspace_is_entered_here() {
    let members = manifest(".")["workspace"]["members"].as_array().unwrap().clone();
    let mut named: BTreeMap<String, String> = BTreeMap::new();
    for member in members {
        let folder = member.as_str().unwrap().to_owned();
        let name = manifest(&folder)["package"]["name"].as_str().unwrap().to_owned();
        named.insert(name, folder);
    }
    let entered: BTreeMap<String, String> =
        CRATES.iter().map(|(name, folder, _)| ((*name).to_owned(), (*folder).to_owned())).collect();
    assert_eq!(named, entered, "enter the crate in CRATES, with what it may use");
}

#[test]
fn crates_use_each_other_in_one_direction() {
    let ours: Vec<&str> = CRATES.iter().map(|(name, _, _)| *name).collect();
    let mut broken = Vec::new();
    for (name, folder, allowed) in CRATES {
        let manifest = manifest(folder);
        for section in ["dependencies", "build-dependencies"] {
            for dependency in dependencies(&manifest, section) {
                if ours.contains(&dependency.as_str()) && !allowed.contains(&dependency.as_str()) {
                    broken.push(format!("{name} -> {dependency} in [{section}]"));
                }
            }
        }
    }
    assert_none(&broken, "these dependencies point the wrong way:");
}

/// A version as numbers that can be compared.
fn version(text: &str) -> Vec<u64> {
    let mut numbers: Vec<u64> = text.split('.').map(|part| part.parse().unwrap()).collect();
    numbers.resize(3, 0);
    numbers
}

/// The target that programs are built for here.
fn host() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let told = std::process::Command::new(rustc).arg("-vV").output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    told.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned()
}

#[test]
fn no_dependency_needs_a_newer_compiler_than_ours() {
    let workspace: toml::Table =
        fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap();
    let ours = workspace["workspace"]["package"]["rust-version"].as_str().unwrap();
    // What Cargo.lock names for this kind of machine, without asking anybody: what only others need
    // was never fetched.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = std::process::Command::new(cargo);
    command.args(["metadata", "--format-version", "1", "--locked", "--offline"]);
    command.args(["--filter-platform", &host()]);
    let found = command.current_dir(root()).output().unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&found.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > CRATES.len(), "no dependencies are listed");
    let newer = packages.iter().filter_map(|package| {
        let needs = package["rust_version"].as_str()?;
        let name = format!("{} {}", package["name"], package["version"]);
        (version(needs) > version(ours)).then(|| format!("{name} needs Rust {needs}"))
    });
    let newer: Vec<String> = newer.collect();
    assert_none(&newer, &format!("rust-version says {ours}; take an older one or raise it:"));
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    let mut broken = Vec::new();
    for (name, folder, _) in CRATES {
        let manifest = manifest(folder);
        let inherits = manifest.get("lints").and_then(|lints| lints.get("workspace"));
        if inherits.and_then(toml::Value::as_bool) != Some(true) {
            broken.push((*name).to_owned());
        }
    }
    assert_none(&broken, "add [lints] workspace = true to:");
}
