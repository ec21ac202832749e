//! Looking at the other side of a connection.

#![allow(clippy::type_complexity, reason = "the columns of a table")]

use super::{border, or_raise};
use crate::border::inwards;
use crate::connection;
use crate::engine::remote::needs;
use crate::speech;
use pgrx::prelude::*;

/// `sync.test_connection(name text) RETURNS TABLE (what text, ok bool, detail text, remedy text)`
#[pg_extern(sql = false)]
fn test_connection(
    name: &[u8],
) -> TableIterator<
    'static,
    (name!(what, Vec<u8>), name!(ok, bool), name!(detail, Vec<u8>), name!(remedy, Option<Vec<u8>>)),
> {
    let rows = speech::function(|| {
        let connection = or_raise(connection::usable(&inwards(name)));
        let findings = or_raise(connection::test(&connection, &needs::of(&connection.name)));
        let row = |f: connection::Finding| {
            (
                border::text(&f.what),
                f.ok,
                border::text(&f.detail),
                f.remedy.as_deref().map(border::text),
            )
        };
        findings.into_iter().map(row).collect::<Vec<_>>()
    });
    TableIterator::new(rows)
}

/// `sync.objects(connection text) RETURNS TABLE (…)`
#[pg_extern(sql = false)]
fn connection_objects(
    connection: &[u8],
) -> TableIterator<
    'static,
    (
        name!(name, Vec<u8>),
        name!(label, Vec<u8>),
        name!(createable, bool),
        name!(updateable, bool),
        name!(deletable, bool),
    ),
> {
    let rows = speech::function(|| {
        let connection = or_raise(connection::usable(&inwards(connection)));
        let objects = or_raise(connection::objects(&connection));
        let row = |o: connector::ObjectName| {
            (border::text(&o.name), border::text(&o.label), o.createable, o.updateable, o.deletable)
        };
        objects.into_iter().map(row).collect::<Vec<_>>()
    });
    TableIterator::new(rows)
}

/// `sync.fields(connection text, object text) RETURNS TABLE (…)`
#[pg_extern(sql = false)]
fn connection_fields(
    connection: &[u8],
    object: &[u8],
) -> TableIterator<
    'static,
    (
        name!(name, Vec<u8>),
        name!(label, Vec<u8>),
        name!(native_type, Vec<u8>),
        name!(postgres_type, Vec<u8>),
        name!(length, Option<i32>),
        name!(nillable, bool),
        name!(createable, bool),
        name!(updateable, bool),
        name!(external_id, bool),
        name!(refers_to, Option<Vec<u8>>),
    ),
> {
    let rows = speech::function(|| {
        let connection = or_raise(connection::usable(&inwards(connection)));
        let object = or_raise(connection::describe(&connection, &inwards(object), &[]));
        let row = |f: connector::Field| {
            (
                border::text(&f.name),
                border::text(&f.label),
                border::text(&f.native_type),
                border::text(connection::postgres_type(&f)),
                i32::try_from(f.length).ok().filter(|&length| length > 0),
                f.nillable,
                f.createable,
                f.updateable,
                f.external_id,
                (!f.reference_to.is_empty()).then(|| border::text(&f.reference_to.join(", "))),
            )
        };
        object.fields.into_iter().map(row).collect::<Vec<_>>()
    });
    TableIterator::new(rows)
}
