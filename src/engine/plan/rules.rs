//! Who decides the conflicts of a sync, field by field.

use super::fields::Field;
use super::table::Table;
use crate::worker::transaction::{Failure, refuse};
use document::{Authority, Config, Conflicts, DeletePolicy};
use merge::{Deletes, Rule, Side};

/// Who decides the conflicts of each field, and with which others it is decided.
///
/// # Errors
/// Where a rule or a group names no field of the sync, or two of them, or a field has two groups.
pub(super) fn rules(
    config: &Config,
    fields: &[Field],
    tables: [&Table; 2],
) -> Result<Vec<(Rule, Option<usize>)>, Failure> {
    let conflicts = &config.conflicts;
    let mut rules = vec![(rule(conflicts.authority), None); fields.len()];
    for (n, group) in conflicts.groups.iter().enumerate() {
        for (m, name) in group.fields.iter().enumerate() {
            let path = format!("conflict_resolution.column_groups[{n}].fields[{m}]");
            let field = field_named(fields, tables, name, &path)?;
            if rules[field].1.is_some() {
                return Err(refuse(
                    "22023",
                    format!("the field \"{name}\" is in a column group already"),
                    &format!("\"{path}\" names it once more, and it can be decided with one only."),
                    "Leave it out of one of them, or join the groups.",
                ));
            }
            rules[field].1 = Some(n);
        }
    }
    for (n, given) in conflicts.rules.iter().enumerate() {
        let path = format!("conflict_resolution.field_rules[{n}]");
        match conflicts.groups.iter().position(|group| group.name == given.field) {
            Some(group) => {
                for of in rules.iter_mut().filter(|(_, of)| *of == Some(group)) {
                    of.0 = rule(given.authority);
                }
            }
            None => {
                let field = field_named(fields, tables, &given.field, &path)?;
                if let Some(group) = rules[field].1 {
                    return Err(refuse(
                        "22023",
                        format!("the field \"{}\" has a rule apart from its group", given.field),
                        &format!(
                            "\"{path}\" is of one field of the group \"{}\", whose fields are decided together.",
                            conflicts.groups[group].name
                        ),
                        "Give the rule to the group, by its name.",
                    ));
                }
                rules[field].0 = rule(given.authority);
            }
        }
    }
    if conflicts.strict {
        rules.iter_mut().for_each(|(_, group)| *group = Some(0));
    }
    Ok(rules)
}

/// The field that a document means outside of its mappings: by its exact name, else ignoring case; on the target, else
/// on the source.
fn field_named(
    fields: &[Field],
    tables: [&Table; 2],
    name: &str,
    path: &str,
) -> Result<usize, Failure> {
    let called = |side: Side, field: &Field| {
        field.column[side as usize].map(|c| tables[side as usize].columns[c].name.as_str())
    };
    let same: [fn(&str, &str) -> bool; 2] = [|a, b| a == b, |a, b| a.eq_ignore_ascii_case(b)];
    let found = same.into_iter().find_map(|same| {
        [Side::Target, Side::Source].into_iter().find_map(|side| {
            let is = |&n: &usize| called(side, &fields[n]).is_some_and(|other| same(other, name));
            let all: Vec<usize> = (0..fields.len()).filter(is).collect();
            (!all.is_empty()).then_some(all)
        })
    });
    match found.as_deref() {
        Some(&[field]) => Ok(field),
        Some(_) => Err(refuse(
            "42702",
            format!("\"{name}\" is more than one field of the sync"),
            &format!("\"{path}\" says how its conflicts are decided."),
            "Name the field as it is called on the target.",
        )),
        None => {
            let known: Vec<&str> = fields
                .iter()
                .filter_map(|f| called(Side::Target, f).or_else(|| called(Side::Source, f)))
                .collect();
            Err(refuse(
                "42703",
                format!("the sync has no field \"{name}\""),
                &format!(
                    "\"{path}\" says how its conflicts are decided. The fields are: {}.",
                    known.join(", ")
                ),
                "Name one of these, or leave it out.",
            ))
        }
    }
}

const fn rule(authority: Authority) -> Rule {
    match authority {
        Authority::LastUpdated => Rule::Later,
        Authority::Source => Rule::Prefer(Side::Source),
        Authority::Target => Rule::Prefer(Side::Target),
        Authority::Review => Rule::Review,
    }
}

/// What a delete against an edit comes to. Where a person is to decide conflicts, nothing is deleted over an edit.
pub(super) const fn deletes(conflicts: &Conflicts) -> Deletes {
    match (conflicts.deletes, conflicts.authority) {
        (Some(DeletePolicy::DeleteWins), _) => Deletes::Delete,
        (Some(DeletePolicy::EditWins), _) | (None, Authority::Review) => Deletes::Edit,
        (None, Authority::LastUpdated) => Deletes::Later,
        (None, Authority::Source) => Deletes::Prefer(Side::Source),
        (None, Authority::Target) => Deletes::Prefer(Side::Target),
    }
}
