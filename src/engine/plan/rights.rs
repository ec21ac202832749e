//! What a sync's owner has to be allowed to do.

use super::Plan;
use crate::connection;
use crate::sql::{self, Arg, identifier};
use crate::worker::transaction::{Failure, refuse};
use merge::Side;

/// The first right that the sync's owner lacks, as a sentence with a remedy.
pub fn missing_rights(plan: &Plan) -> Option<Failure> {
    let owner = sql::one(
        "SELECT r.rolname FROM pg_catalog.pg_roles r WHERE r.oid OPERATOR(pg_catalog.=) $1",
        &[Arg::Oid(plan.owner)],
    );
    let Some(owner) = owner else {
        return Some(refuse(
            "42704",
            "the role that owns the sync is gone".into(),
            "A sync works with the rights of the role that created it.",
            "End the sync with sync.drop_sync and create it again as the role that is to own it.",
        ));
    };
    for side in Side::BOTH {
        let table = plan.side(side);
        if let Some(remote) = &table.remote {
            if let Some(failure) = connection::missing_right(&remote.connection, &owner, plan.owner)
            {
                return Some(failure);
            }
            continue;
        }
        let schema = sql::one(
            "SELECT pg_catalog.quote_ident(n.nspname) FROM pg_catalog.pg_class c
               JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
              WHERE c.oid OPERATOR(pg_catalog.=) $1 AND NOT pg_catalog.has_schema_privilege($2, n.oid, 'USAGE')",
            &[Arg::Oid(table.oid), Arg::Oid(plan.owner)],
        );
        if let Some(schema) = schema {
            return Some(refuse(
                "42501",
                format!("permission denied: role \"{owner}\" lacks USAGE on schema {schema}"),
                "A sync works with the rights of the role that created it.",
                &format!("GRANT USAGE ON SCHEMA {schema} TO {};", identifier(&owner)),
            ));
        }
        let mut rights = vec!["SELECT"];
        if plan.flows_from(side.other()) {
            rights.extend(["INSERT", "UPDATE", "DELETE"]);
        }
        for right in rights {
            let held = sql::one(
                "SELECT pg_catalog.has_table_privilege($1, $2, $3)",
                &[Arg::Oid(plan.owner), Arg::Oid(table.oid), Arg::Text(right)],
            );
            if held.as_deref() != Some("t") {
                return Some(refuse(
                    "42501",
                    format!("permission denied: role \"{owner}\" lacks {right} on {}", table.name),
                    "A sync works with the rights of the role that created it.",
                    &format!("GRANT {right} ON {} TO {};", table.name, identifier(&owner)),
                ));
            }
        }
        // Its statements refuse to see a part of a table: what is hidden would be inserted again, or
        // taken for deleted.
        let filtered = sql::one(
            "SELECT 1 FROM pg_catalog.pg_class c, pg_catalog.pg_roles r
              WHERE c.oid OPERATOR(pg_catalog.=) $1 AND r.oid OPERATOR(pg_catalog.=) $2
                AND c.relrowsecurity AND NOT r.rolsuper AND NOT r.rolbypassrls
                AND (c.relforcerowsecurity OR NOT pg_catalog.pg_has_role(r.oid, c.relowner, 'USAGE'))",
            &[Arg::Oid(table.oid), Arg::Oid(plan.owner)],
        );
        if filtered.is_some() {
            return Some(refuse(
                "42501",
                format!("the row security of {} applies to role \"{owner}\"", table.name),
                "A sync works on all rows of its tables, with the rights of the role that created it.",
                "Let a role own the sync that owns the table or has BYPASSRLS, or ALTER TABLE … NO FORCE ROW LEVEL SECURITY.",
            ));
        }
    }
    None
}
