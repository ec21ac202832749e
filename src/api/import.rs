//! What `sync.import_objects` goes through: objects of the other side, parents first. The procedure itself is SQL, for
//! it commits after each.

#![allow(clippy::type_complexity, reason = "the columns of a table")]

use super::{border, or_raise, refuse};
use crate::border::inwards;
use crate::connection;
use crate::speech;
use crate::sql::{self, Arg, identifier};
use crate::worker::transaction::Failure;
use connector::naming::snake;
use connector::order::parents_first;
use pgrx::AnyArray;
use pgrx::prelude::*;

/// One object, in its turn.
struct Step {
    object: String,
    /// The table that is to hold it, as SQL writes names.
    relation: String,
    /// The sync that has it already.
    sync: Option<String>,
    note: Option<String>,
    failure: Option<Failure>,
}

/// `sync._import_order(connection text, objects text[], schema text) RETURNS TABLE (…)`
#[pg_extern(sql = false)]
fn import_order(
    connection: &[u8],
    objects: AnyArray,
    schema: &[u8],
) -> TableIterator<
    'static,
    (
        name!(object, Vec<u8>),
        name!(relation, Vec<u8>),
        name!(sync, Option<Vec<u8>>),
        name!(note, Option<Vec<u8>>),
        name!(problem, Option<Vec<u8>>),
        name!(detail, Option<Vec<u8>>),
        name!(hint, Option<Vec<u8>>),
    ),
> {
    let rows = speech::function(|| {
        let objects = border::texts(&objects);
        let steps = or_raise(steps(&inwards(connection), &objects, &inwards(schema)));
        let text = |t: Option<&String>| t.map(|t| border::text(t));
        let row = |step: Step| {
            let failure = step.failure.as_ref();
            (
                border::text(&step.object),
                border::text(&step.relation),
                text(step.sync.as_ref()),
                text(step.note.as_ref()),
                text(failure.map(|f| &f.message)),
                text(failure.and_then(|f| f.detail.as_ref())),
                text(failure.and_then(|f| f.hint.as_ref())),
            )
        };
        steps.into_iter().map(row).collect::<Vec<_>>()
    });
    TableIterator::new(rows)
}

fn steps(connection: &str, objects: &[String], schema: &str) -> Result<Vec<Step>, Failure> {
    let connection = connection::usable(connection)?;
    let mut wanted: Vec<String> = Vec::new();
    for object in objects.iter().map(|object| object.trim()) {
        if !object.is_empty() && !wanted.iter().any(|w| w.eq_ignore_ascii_case(object)) {
            wanted.push(object.to_owned());
        }
    }
    if wanted.is_empty() {
        return Err(refuse(
            "22023",
            "import_objects needs the objects to import".into(),
            "",
            &format!(
                "For example: objects => '{{Account,Contact}}'. SELECT * FROM sync.objects({}) lists them.",
                sql::literal(&connection.name)
            ),
        ));
    }
    let step = |object: &str| Step {
        object: object.to_owned(),
        relation: format!("{}.{}", identifier(schema), identifier(&snake(object))),
        sync: sync_of(&connection.name, object),
        note: None,
        failure: None,
    };
    let (mut described, mut steps) = (Vec::new(), Vec::new());
    for (name, object) in wanted.iter().zip(connection::describe_each(&connection, &wanted, &[])?) {
        match object {
            Ok(object) => described.push(object),
            Err(failure) => steps.push(Step { failure: Some(failure), ..step(name) }),
        }
    }
    steps.extend(parents_first(&described).into_iter().map(|placed| {
        let note = (!placed.before.is_empty()).then(|| {
            format!(
                "before {}, to which it refers: they refer to each other",
                placed.before.join(", ")
            )
        });
        Step { note, ..step(&described[placed.place].name) }
    }));
    Ok(steps)
}

/// The sync that has an object already.
pub(super) fn sync_of(connection: &str, object: &str) -> Option<String> {
    sql::as_extension(|| {
        sql::one(
            "SELECT s.name FROM sync._sync s
              WHERE s.connection OPERATOR(pg_catalog.=) $1 AND pg_catalog.lower(s.object) OPERATOR(pg_catalog.=) pg_catalog.lower($2)
              ORDER BY s.id LIMIT 1",
            &[Arg::Text(connection), Arg::Text(object)],
        )
    })
}
