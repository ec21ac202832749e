//! Making, changing and ending connections, and storing their secrets.

use super::{border, or_raise, raise, refuse};
use crate::border::inwards;
use crate::connection::{self, Given, Patch, discretion};
use crate::engine::statement::render_datum;
use crate::speech;
use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;
use pgrx::{AnyArray, AnyElement};
use serde_json::{Map, Value as Json};

/// `sync._validate_options(options text[], catalog oid) RETURNS void`: the wrapper's validator.
#[pg_extern(sql = false)]
fn validate_options(options: AnyArray, catalog: Oid) {
    speech::function(|| {
        // SAFETY: the function is declared with text[].
        let options = unsafe { connection::pairs(options.datum()) };
        or_raise(connection::validate(&options, catalog));
    });
}

/// `sync.create_connection(name text, settings jsonb) RETURNS text`
#[pg_extern(sql = false)]
fn create_connection(name: &[u8], settings: AnyElement) -> Vec<u8> {
    speech::function(|| {
        let name = inwards(name);
        let (system, settings) = or_raise(connection::described(&read(&settings), false));
        let system = system.unwrap_or_default();
        let settings = match settings {
            Patch::Change(settings) => settings,
            Patch::Keep | Patch::Clear => Map::new(),
        };
        or_raise(connection::create(&name, &system, &settings));
        let system = system.to_ascii_lowercase();
        border::text(&format!("connection \"{name}\" created: {system}"))
    })
}

/// `sync.alter_connection(name text, patch jsonb) RETURNS text`
#[pg_extern(sql = false)]
fn alter_connection(name: &[u8], patch: AnyElement) -> Vec<u8> {
    speech::function(|| {
        let connection = or_raise(connection::by_name(&inwards(name)));
        or_raise(connection::alter(&connection, &read(&patch)));
        border::text(&format!("connection \"{}\" changed", connection.name))
    })
}

/// `sync.drop_connection(name text) RETURNS void`
#[pg_extern(sql = false)]
fn drop_connection(name: &[u8]) {
    speech::function(|| {
        let connection = or_raise(connection::by_name(&inwards(name)));
        or_raise(connection::drop(&connection));
    });
}

/// `sync.set_secret(connection text, client_id text, client_secret text, client_secret_file text, private_key text,
/// private_key_file text, refresh_token text, password text, password_file text, security_token text) RETURNS text`
#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments, reason = "those of the SQL function")]
fn set_secret(
    connection: Option<&[u8]>,
    client_id: Option<&[u8]>,
    client_secret: Option<&[u8]>,
    client_secret_file: Option<&[u8]>,
    private_key: Option<&[u8]>,
    private_key_file: Option<&[u8]>,
    refresh_token: Option<&[u8]>,
    password: Option<&[u8]>,
    password_file: Option<&[u8]>,
    security_token: Option<&[u8]>,
) -> Vec<u8> {
    discretion::inside("SELECT sync.set_secret(...)", || {
        speech::function(|| {
            let Some(name) = connection else {
                raise(&refuse("22004", "no connection was named".into(), "", ""))
            };
            let connection = or_raise(connection::by_name(&inwards(name)));
            let texts: Vec<(&str, String)> = [
                ("client_id", client_id),
                ("client_secret", client_secret),
                ("client_secret_file", client_secret_file),
                ("private_key", private_key),
                ("private_key_file", private_key_file),
                ("refresh_token", refresh_token),
                ("password", password),
                ("password_file", password_file),
                ("security_token", security_token),
            ]
            .into_iter()
            .filter_map(|(name, text)| Some((name, inwards(text?))))
            .collect();
            let given: Vec<(&str, &str)> =
                texts.iter().map(|(name, text)| (*name, text.as_str())).collect();
            border::text(&or_raise(connection::set(&connection, &Given(&given))))
        })
    })
}

/// `sync._settle_secret(connection text, refused text) RETURNS void`: what the worker does once it has
/// tried a new secret, by hand. For superusers.
#[pg_extern(sql = false)]
fn settle_secret(connection: Option<&[u8]>, refused: Option<&[u8]>) {
    speech::function(|| {
        let Some(name) = connection else { return };
        let connection = or_raise(connection::by_name(&inwards(name)));
        match refused {
            None => connection::promote(connection.server),
            Some(why) => connection::refuse_new(connection.server, &inwards(why)),
        }
    });
}

fn read(document: &AnyElement) -> Json {
    // SAFETY: the functions are declared with jsonb.
    let text = unsafe { render_datum(document.datum(), pg_sys::JSONBOID) };
    serde_json::from_str(&text).unwrap_or_else(|error| {
        raise(&refuse("22032", "the settings cannot be read".into(), &format!("{error}."), ""))
    })
}
