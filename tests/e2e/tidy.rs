//! What the project's pages and borders promise: the reference is what the program says, and no member uses what it must not.
//!
//! `UPDATE_DOCS=1 cargo test --release --test e2e tidy` writes the reference anew.

use clap::CommandFactory;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Given the configuration's types, the detectors' leading docs and the commands' arguments, then the pages of the reference say
/// just that.
#[test]
fn the_reference_is_fresh() {
    let pages =
        [("configuration.md", configuration()), ("detectors.md", detectors()), ("commands.md", commands())];
    for (name, text) in pages {
        let path = root().join("docs/reference").join(name);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::create_dir_all(root().join("docs/reference")).expect("made");
            std::fs::write(&path, &text).expect("written");
        }
        let there = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(there == text, "{name} is stale: UPDATE_DOCS=1 cargo test --release --test e2e tidy");
    }
}

const GENERATED: &str = "<!-- Generated from the sources; a test keeps it true. -->\n";

// ---- configuration ---------------------------------------------------------------------------------------------------

fn configuration() -> String {
    let schema = serde_json::to_value(schemars::schema_for!(truegauge::config::FileConfig)).expect("JSON");
    let mut page = Page { defs: &schema["$defs"], text: String::new(), seen: BTreeSet::new() };
    let head = "# Configuration\n\nOne TOML file. Unknown keys are refused. Durations are a number and a unit: \
                `\"250ms\"`, `\"5s\"`, `\"10m\"`, `\"1d\"`.\n";
    page.text = format!("{GENERATED}{head}");
    page.section("", &schema);
    page.text
}

struct Page<'a> {
    defs: &'a Value,
    text: String,
    seen: BTreeSet<String>,
}

impl Page<'_> {
    fn section(&mut self, path: &str, schema: &Value) {
        let Some(keys) = schema["properties"].as_object() else { return };
        if !path.is_empty() {
            let about = line(schema["description"].as_str().unwrap_or_default());
            let _ = write!(self.text, "\n## `{path}`\n\n{about}\n");
        }
        self.text.push_str("\n| key | value | default | meaning |\n| --- | --- | --- | --- |\n");
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut below = Vec::new();
        for (key, value) in keys {
            let (name, inner) = resolve(self.defs, value);
            let array = inner["type"] == "array";
            let (item_name, item) = if array { resolve(self.defs, &inner["items"]) } else { (name, inner) };
            let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let at = if array && path.is_empty() { format!("[[{key}]]") } else { at };
            let default = match &value["default"] {
                Value::Null if required.contains(&key.as_str()) => "required".to_owned(),
                Value::Null => String::new(),
                other if other.to_string().len() > 60 => "see below".to_owned(),
                other => format!("`{other}`"),
            };
            let meaning = value["description"].as_str().or(inner["description"].as_str()).unwrap_or_default();
            let _ =
                writeln!(self.text, "| `{key}` | {} | {default} | {} |", kind(item, array), line(meaning));
            below.push((at, item_name, item.clone()));
        }
        for (at, name, schema) in below {
            self.below(&at, name, &schema);
        }
    }

    /// Sections of what a key holds: a table, or one of several.
    fn below(&mut self, path: &str, name: Option<String>, schema: &Value) {
        let variants = [&schema["oneOf"], &schema["anyOf"]].into_iter().filter_map(Value::as_array).flatten();
        let variants: Vec<Value> = variants.cloned().collect();
        let table = schema["properties"].is_object();
        if !table && variants.is_empty() {
            return;
        }
        if let Some(name) = name
            && !self.seen.insert(name)
        {
            return;
        }
        if table {
            return self.section(path, schema);
        }
        for variant in variants {
            let (name, inner) = resolve(self.defs, &variant);
            let (inner, keys) = (inner.clone(), inner["properties"].as_object().cloned());
            match keys {
                // `detect.range = { … }`: one key, whose value is the table.
                Some(keys)
                    if keys.len() == 1 && inner["required"].as_array().is_some_and(|r| r.len() == 1) =>
                {
                    for (key, value) in keys {
                        let (name, table) = resolve(self.defs, &value);
                        let table = table.clone();
                        self.below(&format!("{path}.{key}"), name, &table);
                    }
                }
                _ => self.below(path, name, &inner),
            }
        }
    }
}

/// The schema that a reference or an optional value stands for, and the name it has.
fn resolve<'v>(defs: &'v Value, schema: &'v Value) -> (Option<String>, &'v Value) {
    if let Some(name) = schema["$ref"].as_str().and_then(|r| r.rsplit('/').next()) {
        return (Some(name.to_owned()), &defs[name]);
    }
    let some = |v: &&Value| v["type"] != "null";
    match schema["anyOf"].as_array().map(|all| all.iter().filter(some).collect::<Vec<_>>()) {
        Some(all) if all.len() == 1 => resolve(defs, all[0]),
        _ => (None, schema),
    }
}

/// What a value is, in a few words.
fn kind(schema: &Value, array: bool) -> String {
    let words = |all: &Value| -> Vec<String> {
        let mut words: Vec<String> =
            all["enum"].as_array().into_iter().flatten().map(|w| format!("`{w}`")).collect();
        for one in all["oneOf"].as_array().into_iter().flatten() {
            if one["const"].is_string() {
                words.push(format!("`{}`", one["const"]));
            }
            words.extend(one["enum"].as_array().into_iter().flatten().map(|w| format!("`{w}`")));
        }
        words
    };
    let choice = words(schema);
    let word = match schema["type"].as_str().or(schema["type"][0].as_str()) {
        _ if !choice.is_empty() => choice.join(", "),
        Some("string") if schema["pattern"].as_str().is_some_and(|p| p.contains("(ns|us|ms")) => {
            "duration".into()
        }
        Some("string") => "text".into(),
        Some("integer") => "whole number".into(),
        Some("number") => "number".into(),
        Some("boolean") => "true, false".into(),
        Some("object") => "table".into(),
        Some("array") => "list".into(),
        _ => "one of several".into(),
    };
    if array { format!("list of {word}") } else { word }
}

/// One line of a table.
fn line(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}

// ---- detectors, voters, forecasts ------------------------------------------------------------------------------------

/// The leading doc comment of a file.
fn leading(path: &Path) -> String {
    let text = std::fs::read_to_string(path).expect("readable");
    let lines = text.lines().take_while(|l| l.starts_with("//!"));
    lines.map(|l| l.trim_start_matches("//!").trim_start_matches(' ').to_owned() + "\n").collect()
}

fn detectors() -> String {
    let mut text = format!(
        "{GENERATED}# Detectors, voters, fallback models\n\nParameters are in [configuration.md](configuration.md).\n"
    );
    for (folder, what) in [("detect", "Detectors"), ("vote", "Voters"), ("forecast", "Fallback models")] {
        let dir = root().join("detectors/src").join(folder);
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(&dir).expect("readable").map(|e| e.expect("readable").path()).collect();
        files.sort();
        let _ = write!(text, "\n## {what}\n");
        for file in files {
            let name = file.file_stem().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
            if name != "mod" {
                let _ = write!(text, "\n### `{name}`\n\n{}", leading(&file));
            }
        }
    }
    text
}

// ---- commands --------------------------------------------------------------------------------------------------------

fn commands() -> String {
    let mut text =
        format!("{GENERATED}# Commands\n\nExit codes: 0 done, 1 failed, 2 wrong usage or configuration.\n");
    let mut cli = truegauge::cmd::Cli::command().term_width(100);
    cli.build();
    for command in cli.get_subcommands().filter(|c| c.get_name() != "help") {
        help_of(command, &format!("truegauge {}", command.get_name()), &mut text);
    }
    text
}

/// The help of a command, then that of its own commands.
fn help_of(command: &clap::Command, name: &str, text: &mut String) {
    let help = command.clone().term_width(100).render_long_help().to_string();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    let _ = write!(text, "\n## `{name}`\n\n```text\n{}\n```\n", help.join("\n").trim_end());
    for own in command.get_subcommands().filter(|c| c.get_name() != "help") {
        help_of(own, &format!("{name} {}", own.get_name()), text);
    }
}

// ---- borders ---------------------------------------------------------------------------------------------------------

/// Given the manifests, then each member depends on those that the house allows and no other.
#[test]
fn members_use_only_what_they_may() {
    let allowed = [
        ("detectors", vec![]),
        ("engine", vec!["detectors"]),
        ("connectors", vec![]),
        ("datasets", vec![]),
        ("server", vec!["engine"]),
    ];
    let members = ["detectors", "engine", "connectors", "datasets", "server"];
    for (member, allowed) in allowed {
        let text = std::fs::read_to_string(root().join(member).join("Cargo.toml")).expect("a manifest");
        let manifest: toml::Table = toml::from_str(&text).expect("TOML");
        let used = manifest.get("dependencies").and_then(toml::Value::as_table).expect("a table");
        let used: Vec<&str> = members.into_iter().filter(|m| used.contains_key(*m)).collect();
        assert_eq!(used, allowed, "{member} may not use another member: see ARCHITECTURE.md");
        for runtime in ["tokio", "rdkafka", "datafusion"] {
            let home = match runtime {
                "tokio" => "server",
                "rdkafka" => "connectors",
                _ => "",
            };
            let has = manifest["dependencies"].as_table().is_some_and(|d| d.contains_key(runtime));
            assert!(!has || member == home, "{runtime} lives in `{home}`, not in `{member}`");
        }
    }
}

/// Given the sources, then clocks, threads, files and sockets are only where they may be.
#[test]
fn clocks_and_threads_stay_where_they_belong() {
    let bans = [
        ("detectors/src", vec!["std::time", "std::fs", "std::net", "std::thread"]),
        ("engine/src", vec!["SystemTime", "Instant::now", "std::fs", "std::net", "std::thread", "println!"]),
        ("connectors/src", vec!["thread::spawn", "use engine", "use detectors"]),
        ("server/src", vec!["engine::Pipeline", "engine::driver"]),
    ];
    for (folder, words) in bans {
        for file in sources(&root().join(folder)) {
            let text = std::fs::read_to_string(&file).expect("readable");
            // Tests may do as they please.
            let text = text.split("#[cfg(test)]").next().unwrap_or_default();
            for word in &words {
                assert!(!text.contains(word), "{} has `{word}`", file.display());
            }
        }
    }
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            all.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            all.push(path);
        }
    }
    all
}
