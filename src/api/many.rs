//! `sync.alter_syncs`: the same change to many syncs at once, or to none.

use super::{border, or_raise, raise, refuse, syncs};
use crate::border::inwards;
use crate::speech;
use crate::sql::{self, Arg};
use pgrx::prelude::*;
use pgrx::{AnyArray, AnyElement};

/// `sync.alter_syncs(patch jsonb, names text[] DEFAULT NULL, matching text DEFAULT NULL) RETURNS TABLE (…)`
#[pg_extern(sql = false)]
fn alter_syncs(
    patch: Option<AnyElement>,
    names: Option<AnyArray>,
    matching: Option<&[u8]>,
) -> TableIterator<'static, (name!(sync, Vec<u8>), name!(outcome, Vec<u8>))> {
    let changed = speech::function(|| {
        let names = names.as_ref().map(border::texts);
        let matching = matching.map(inwards);
        let (Some(patch), true) = (&patch, names.is_some() || matching.is_some()) else {
            raise(&refuse(
                "22004",
                "alter_syncs needs a patch, and the syncs that it is for".to_owned(),
                "They are named by \"names\", by a pattern in \"matching\", or by both.",
                "SELECT * FROM sync.alter_syncs('{\"sync_type\": \"bidirectional\"}', matching => '%');",
            ))
        };
        let patch = border::document(patch.datum());
        let mut wanted = names.unwrap_or_default();
        if let Some(pattern) = &matching {
            wanted.extend(own_like(pattern));
        }
        let mut seen = Vec::new();
        for name in wanted {
            if seen.iter().all(|(known, _)| *known != name) {
                let outcome = or_raise(syncs::alter(&name, std::slice::from_ref(&patch)));
                seen.push((name, outcome));
            }
        }
        if seen.is_empty() {
            let pattern = matching.unwrap_or_default();
            raise(&refuse(
                "02000",
                format!("no sync is called like \"{pattern}\""),
                "Only those count that the caller may change.",
                "The pattern is one of LIKE, in which % stands for anything.",
            ));
        }
        seen
    });
    let row = |(name, outcome): (String, String)| (border::text(&name), border::text(&outcome));
    TableIterator::new(changed.into_iter().map(row).collect::<Vec<_>>())
}

/// The caller's syncs and hubs that are called so; what belongs to a hub is changed with it.
fn own_like(pattern: &str) -> Vec<String> {
    let found = sql::as_extension(|| {
        sql::read(
            "SELECT x.name, x.owner FROM (SELECT s.name, s.owner::pg_catalog.oid FROM sync._sync s WHERE s.hub IS NULL
                                          UNION ALL SELECT h.name, h.owner::pg_catalog.oid FROM sync._hub h) AS x (name, owner)
              WHERE x.name LIKE $1 ORDER BY x.name",
            &[Arg::Text(pattern)],
        )
    });
    let member = "SELECT pg_catalog.pg_has_role($1::pg_catalog.oid, 'USAGE')";
    found
        .into_iter()
        .filter_map(|row| {
            let (name, owner) = (row[0].clone()?, row[1].as_deref()?);
            (sql::one(member, &[Arg::Text(owner)]).as_deref() == Some("t")).then_some(name)
        })
        .collect()
}
