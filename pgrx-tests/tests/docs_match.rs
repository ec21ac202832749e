//! `docs/reference.md` names what the catalogs hold, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use cluster::Workspace;
use pgrx_tests::{db, query_one, rows};

/// The page, cut at its headings of the third degree: what such a heading names, and what follows.
fn sections() -> BTreeMap<String, String> {
    let path = Workspace::locate().unwrap().root.join("docs/reference.md");
    let page = std::fs::read_to_string(path).unwrap();
    let mut sections = BTreeMap::new();
    for part in page.split("\n### `").skip(1) {
        let (name, text) = part.split_once("`\n").expect("a heading is one name");
        let text = text.split("\n## ").next().unwrap_or_default();
        assert!(sections.insert(name.to_owned(), text.to_owned()).is_none(), "{name} stands twice");
    }
    sections
}

/// The first cells of a section's table, without their quotes.
fn first_cells(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name.to_owned())
        .collect()
}

#[test]
fn every_function_has_its_section_with_its_arguments_and_results() {
    let db = db();
    let functions = rows(
        &mut db.connect(),
        "SELECT format('sync.%s(%s)', p.proname, pg_get_function_arguments(p.oid)),
                (SELECT string_agg(a.name, ' ') FROM unnest(p.proargnames, p.proargmodes) AS a (name, mode)
                  WHERE a.mode IN ('o', 't'))
           FROM pg_proc p WHERE p.pronamespace = 'sync'::regnamespace AND p.proname !~ '^_'
          ORDER BY 1",
    );
    let sections = sections();
    let mut signatures = Vec::new();
    for function in &functions {
        let (signature, results) = function.rsplit_once('|').unwrap();
        let Some(text) = sections.get(signature) else { panic!("no section ### `{signature}`") };
        for result in results.split_whitespace() {
            assert!(text.contains(&format!("`{result}`")), "{signature} does not name {result}");
        }
        signatures.push(signature);
    }
    let mut named: Vec<&str> =
        sections.keys().map(String::as_str).filter(|name| name.contains('(')).collect();
    signatures.sort_unstable();
    named.sort_unstable();
    assert_eq!(named, signatures);
}

#[test]
fn every_view_has_its_section_with_its_columns() {
    let db = db();
    let views = rows(
        &mut db.connect(),
        "SELECT 'sync.' || c.relname, string_agg(a.attname, ' ' ORDER BY a.attnum)
           FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
          WHERE c.relnamespace = 'sync'::regnamespace AND c.relkind = 'v' GROUP BY c.relname",
    );
    let mut views: Vec<(String, String)> = views
        .iter()
        .map(|row| row.split_once('|').map(|(v, c)| (v.to_owned(), c.to_owned())).unwrap())
        .collect();
    let mut named: Vec<(String, String)> = sections()
        .into_iter()
        .filter(|(name, _)| !name.contains('('))
        .map(|(name, text)| (name, first_cells(&text).join(" ")))
        .collect();
    views.sort();
    named.sort();
    assert_eq!(named, views);
}

#[test]
fn every_setting_is_named_with_its_default() {
    let db = db();
    let mut client = db.connect();
    // Known to this session once the library is loaded.
    query_one(&mut client, "SELECT count(*) FROM sync.status");
    let mut settings = rows(
        &mut client,
        "SELECT name, concat_ws(' ', nullif(boot_val, ''), unit) FROM pg_settings
          WHERE name LIKE 'sync\\_ext.%' ORDER BY name",
    );
    let path = Workspace::locate().unwrap().root.join("docs/reference.md");
    let page = std::fs::read_to_string(path).unwrap();
    let mut named: Vec<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `sync_ext."))
        .map(|line| {
            let mut cells = line.split('|');
            let name = cells.next().unwrap_or_default().trim().trim_end_matches('`');
            format!("sync_ext.{name}|{}", cells.next().unwrap_or_default().trim())
        })
        .collect();
    named.sort();
    settings.sort();
    assert_eq!(named, settings);
}

/// The sources of the extension and of the crates, without their tests.
fn sources(folder: &Path, texts: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "tests") {
            sources(&path, texts);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            texts.push(text.split("#[cfg(test)]").next().unwrap_or_default().to_owned());
        }
    }
}

#[test]
fn every_sqlstate_is_told() {
    let root = Workspace::locate().unwrap().root;
    let mut texts = Vec::new();
    for folder in ["src", "crates/document/src", "crates/salesforce/src", "crates/connector/src"] {
        sources(&root.join(folder), &mut texts);
    }
    let page = fs::read_to_string(root.join("docs/reference.md")).unwrap();
    let told = page.split("\n## SQLSTATEs\n").nth(1).expect("a section of SQLSTATEs");
    let is_state = |text: &str| {
        text.len() == 5
            && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
            && text.bytes().any(|b| b.is_ascii_digit())
    };
    let mut raised = BTreeSet::new();
    for text in &texts {
        for before in ["refuse(", "Failure::new(", "sqlstate: ", "=> "] {
            for (at, _) in text.match_indices(before) {
                let rest = text[at + before.len()..].trim_start();
                let literal = rest.strip_prefix('"').and_then(|rest| rest.split('"').next());
                raised.extend(literal.filter(|literal| is_state(literal)).map(str::to_owned));
            }
        }
    }
    assert!(raised.len() > 40, "{raised:?}");
    let missing: Vec<_> = raised.iter().filter(|state| !told.contains(state.as_str())).collect();
    assert!(missing.is_empty(), "not in docs/reference.md: {missing:?}");
}
