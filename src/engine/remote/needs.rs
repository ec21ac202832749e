//! What the syncs of a connection ask of the other side, by their documents: for a person who looks at it, and for the
//! descriptions of objects, which hold fields of parents only where they are asked for.

use crate::connection::{FieldNeed, Need, is_of_parent};
use crate::engine::plan::{self, Stored};
use crate::sql::{self, Arg};
use crate::worker::transaction::Failure;
use document::{Config, Direction};
use pgrx::pg_sys;

/// The needs of each sync, by its name; in the place of one whose document can't be read, why.
pub fn of(connection: &str) -> Vec<(String, Result<Need, Failure>)> {
    let rows = sql::as_extension(|| {
        sql::query(
            &format!(
                "SELECT {} FROM sync._sync s WHERE s.connection OPERATOR(pg_catalog.=) $1 ORDER BY s.name",
                plan::STORED
            ),
            &[Arg::Text(connection)],
        )
    });
    rows.iter()
        .filter_map(|row| Stored::of(row))
        .map(|stored| (stored.name.clone(), need(&stored)))
        .collect()
}

fn need(stored: &Stored) -> Result<Need, Failure> {
    let (config, _) = plan::read_document(&stored.document)?;
    let is_source = stored.source == pg_sys::InvalidOid;
    // Does it reach the other side?
    let sent = |direction: Direction| {
        if is_source { direction.to_source() } else { direction.to_target() }
    };
    Ok(Need {
        sync: stored.name.clone(),
        object: stored.object.as_ref().map(|(_, object)| object.clone()).unwrap_or_default(),
        writes: sent(config.direction),
        fields: fields(&config, is_source, sent),
    })
}

/// The fields of the other side that a document names; `sent` says whether a direction leads there.
fn fields(config: &Config, is_source: bool, sent: impl Fn(Direction) -> bool) -> Vec<FieldNeed> {
    let mut needs: Vec<FieldNeed> = Vec::new();
    let mut add = |name: &str, write: bool| match needs
        .iter_mut()
        .find(|field| field.name.eq_ignore_ascii_case(name))
    {
        Some(field) => field.write |= write,
        None => needs.push(FieldNeed { name: name.to_owned(), write }),
    };
    let alike = config.fields.alike.iter().flat_map(|alike| {
        alike.include.iter().flatten().filter(|name| !alike.exclude.contains(name))
    });
    for name in alike {
        add(name, sent(config.direction));
    }
    for field in &config.fields.mapped {
        if !is_source {
            add(&field.target, sent(field.direction));
            continue;
        }
        // What comes back is written to the first.
        for (n, source) in field.sources.iter().enumerate() {
            add(source, n == 0 && sent(field.direction));
        }
    }
    // What is named for other reasons than to be synced.
    for pair in &config.match_on {
        add(if is_source { &pair.source } else { &pair.target }, false);
    }
    if let Some(identity) = &config.identity {
        add(&identity.field, sent(config.direction));
    }
    needs
}

/// Those of them that are fields of parents, `Account.Key__c`: an object is described with no others.
pub fn of_parents(config: &Config, is_source: bool) -> Vec<String> {
    let named = fields(config, is_source, |_| false).into_iter().map(|field| field.name);
    named.filter(|name| is_of_parent(name)).collect()
}

/// The fields of parents that the syncs of an object name.
pub fn of_object(connection: &str, object: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let needs = of(connection).into_iter().filter_map(|(_, need)| need.ok());
    for need in needs.filter(|need| need.object.eq_ignore_ascii_case(object)) {
        need.add_of_parents(&mut names);
    }
    names
}
