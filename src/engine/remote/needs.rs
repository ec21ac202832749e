//! What the syncs of a connection ask of the other side, by their documents: for a person who looks at it.

use crate::connection::{FieldNeed, Need};
use crate::engine::plan::{self, Stored};
use crate::sql::{self, Arg};
use crate::worker::transaction::Failure;
use document::{Config, Direction, Fields};
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
    let mut need = Need {
        sync: stored.name.clone(),
        object: stored.object.as_ref().map(|(_, object)| object.clone()).unwrap_or_default(),
        writes: sent(config.direction),
        fields: Vec::new(),
    };
    match &config.fields {
        Fields::AllSame { include, exclude } => {
            for name in include.iter().flatten().filter(|name| !exclude.contains(name)) {
                need.add(name, sent(config.direction));
            }
        }
        Fields::Mapped(fields) => {
            for field in fields {
                if !is_source {
                    need.add(&field.target, sent(field.direction));
                    continue;
                }
                // What comes back is written to the first.
                for (n, source) in field.sources.iter().enumerate() {
                    need.add(source, n == 0 && sent(field.direction));
                }
            }
        }
    }
    others(&config, is_source, &mut need);
    Ok(need)
}

/// The fields that a document names for other reasons than to have them synced.
fn others(config: &Config, is_source: bool, need: &mut Need) {
    for pair in &config.match_on {
        need.add(if is_source { &pair.source } else { &pair.target }, false);
    }
    if let Some(identity) = &config.identity {
        need.add(&identity.field, need.writes);
    }
}

impl Need {
    fn add(&mut self, name: &str, write: bool) {
        match self.fields.iter_mut().find(|field| field.name.eq_ignore_ascii_case(name)) {
            Some(field) => field.write |= write,
            None => self.fields.push(FieldNeed { name: name.to_owned(), write }),
        }
    }
}
