//! Who decides the conflicts of a sync, field by field.

use super::fields::Field;
use super::table::Table;
use crate::sql::{self, Arg, identifier};
use crate::worker::transaction::{Failure, refuse};
use document::{Authority, Config, Conflicts, DeletePolicy};
use merge::{Deletes, Rule, Side};

/// Who decides the conflicts of a field.
#[derive(Clone)]
pub(super) struct Decider {
    pub rule: Rule,
    /// With which others it is decided.
    pub group: Option<usize>,
    /// The function that chooses, as SQL names it.
    pub function: Option<String>,
}

impl Decider {
    fn of(authority: &Authority, group: Option<usize>) -> Self {
        let (rule, function) = match authority {
            Authority::LastUpdated => (Rule::Later, None),
            Authority::Source => (Rule::Prefer(Side::Source), None),
            Authority::Target => (Rule::Prefer(Side::Target), None),
            Authority::Review => (Rule::Review, None),
            Authority::Function { schema, name } => {
                let schema = schema.iter().map(|schema| format!("{}.", identifier(schema)));
                (Rule::Function, Some(schema.collect::<String>() + &identifier(name)))
            }
        };
        Self { rule, group, function }
    }
}

/// Who decides the conflicts of each field.
///
/// # Errors
/// Where a rule or a group names no field of the sync, or two of them, or a field has two groups, or a function cannot
/// choose its value.
pub(super) fn rules(
    config: &Config,
    fields: &[Field],
    tables: [&Table; 2],
) -> Result<Vec<Decider>, Failure> {
    let conflicts = &config.conflicts;
    let mut rules = vec![Decider::of(&conflicts.authority, None); fields.len()];
    for (n, group) in conflicts.groups.iter().enumerate() {
        for (m, name) in group.fields.iter().enumerate() {
            let path = format!("conflict_resolution.column_groups[{n}].fields[{m}]");
            let field = field_named(fields, tables, name, &path)?;
            if rules[field].group.is_some() {
                return Err(refuse(
                    "22023",
                    format!("the field \"{name}\" is in a column group already"),
                    &format!("\"{path}\" names it once more, and it can be decided with one only."),
                    "Leave it out of one of them, or join the groups.",
                ));
            }
            rules[field].group = Some(n);
        }
    }
    for (n, given) in conflicts.rules.iter().enumerate() {
        let path = format!("conflict_resolution.field_rules[{n}]");
        match conflicts.groups.iter().position(|group| group.name == given.field) {
            Some(group) => {
                for of in rules.iter_mut().filter(|of| of.group == Some(group)) {
                    *of = Decider::of(&given.authority, Some(group));
                }
            }
            None => {
                let field = field_named(fields, tables, &given.field, &path)?;
                if let Some(group) = rules[field].group {
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
                rules[field] = Decider::of(&given.authority, None);
            }
        }
    }
    if conflicts.strict {
        rules.iter_mut().for_each(|of| of.group = Some(0));
    }
    for (field, of) in fields.iter().zip(&mut rules) {
        if of.function.is_none() {
            continue;
        }
        // What goes one way is never disputed.
        if !field.how.iter().all(Option::is_some) {
            (of.rule, of.function) = (Rule::Later, None);
            continue;
        }
        check_function(field, of, tables)?;
    }
    Ok(rules)
}

/// The field that a document means outside of its mappings: by its exact name, else ignoring case; on the target, else
/// on the source.
pub(super) fn field_named(
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
            &format!("\"{path}\" names it."),
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
                &format!("\"{path}\" names it. The fields are: {}.", known.join(", ")),
                "Name one of these, or leave it out.",
            ))
        }
    }
}

/// Can the function choose a value of the field?
///
/// # Errors
/// It does not exist, or the field is decided with others.
fn check_function(field: &Field, of: &Decider, tables: [&Table; 2]) -> Result<(), Failure> {
    let function = of.function.as_deref().unwrap_or_default();
    let side = ours(tables);
    let Some(column) = field.column[side as usize].map(|c| &tables[side as usize].columns[c])
    else {
        return Ok(());
    };
    if of.group.is_some() {
        return Err(refuse(
            "22023",
            format!("the function {function} cannot decide \"{}\"", column.name),
            "The field is decided together with others, and a function chooses one value.",
            "Leave the field out of the column group and \"strict\", or let a system decide.",
        ));
    }
    let call = format!("{function}({})", [column.cast.as_str(); 3].join(", "));
    let text = format!("SELECT pg_catalog.to_regproc({})::pg_catalog.text", sql::literal(function));
    if sql::one(&text, &[]).is_none()
        && sql::one("SELECT pg_catalog.to_regprocedure($1)::pg_catalog.text", &[Arg::Text(&call)])
            .is_none()
    {
        return Err(refuse(
            "42883",
            format!("function {call} does not exist"),
            &format!(
                "\"conflict_resolution\" names it to choose the value of \"{}\" where both sides changed it.",
                column.name
            ),
            "Its arguments are what was agreed on, our value and the other side's; what it returns goes to both.",
        ));
    }
    Ok(())
}

/// The side whose values a function is given: our table, or of two the target.
pub(super) fn ours(tables: [&Table; 2]) -> Side {
    if tables[1].remote.is_some() { Side::Source } else { Side::Target }
}

/// What a delete against an edit comes to. Where a person is to decide conflicts, nothing is deleted over an edit.
pub(super) fn deletes(conflicts: &Conflicts) -> Deletes {
    match (conflicts.deletes, &conflicts.authority) {
        (Some(DeletePolicy::DeleteWins), _) => Deletes::Delete,
        (Some(DeletePolicy::EditWins), _) | (None, Authority::Review) => Deletes::Edit,
        (Some(DeletePolicy::Review), _) => Deletes::Review,
        (None, Authority::LastUpdated | Authority::Function { .. }) => Deletes::Later,
        (None, Authority::Source) => Deletes::Prefer(Side::Source),
        (None, Authority::Target) => Deletes::Prefer(Side::Target),
    }
}
