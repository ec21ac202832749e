//! The SQL by which a value of one side becomes one of the other.

use super::fields::How;
use super::table::{Column, Table};
use crate::sql::{identifier, literal};
use crate::worker::transaction::{Failure, refuse};
use document::{Builtin, MappingOptions, TimestampFormat};
use pgrx::pg_sys;

const MOMENTS: [pg_sys::Oid; 2] = [pg_sys::TIMESTAMPOID, pg_sys::TIMESTAMPTZOID];
const TEXTS: [pg_sys::Oid; 3] = [pg_sys::TEXTOID, pg_sys::VARCHAROID, pg_sys::BPCHAROID];
const NUMBERS: [pg_sys::Oid; 2] = [pg_sys::INT8OID, pg_sys::NUMERICOID];

pub(super) fn is_text(column: &Column) -> bool {
    TEXTS.contains(&column.base_type)
}

/// How a value travels that nothing changes on its way.
fn plain(from: &Column, to: &Column, options: &MappingOptions) -> How {
    let name = identifier(&from.name);
    // A moment without a zone is one of UTC, unless the document says otherwise.
    if from.base_type != to.base_type
        && MOMENTS.contains(&from.base_type)
        && MOMENTS.contains(&to.base_type)
    {
        return How::Cast(format!("CAST({} AS {})", in_zone(&name, options), to.cast));
    }
    if let Some(format) = &options.timestamp_format {
        if is_moment(from) && (is_text(to) || NUMBERS.contains(&to.base_type)) {
            if let Some(written) = write_moment(from, &name, format, options) {
                return How::Cast(format!("CAST({written} AS {})", to.cast));
            }
        } else if is_moment(to)
            && (is_text(from) || NUMBERS.contains(&from.base_type))
            && let Some(read) = read_moment(to, &name, format, options)
        {
            return How::Cast(format!("CAST({read} AS {})", to.cast));
        }
    }
    let same_bytes = from.base_type == to.base_type
        && (from.typmod == to.typmod || to.typmod == -1 || to.base_type == pg_sys::VARCHAROID);
    let text = [pg_sys::TEXTOID, pg_sys::VARCHAROID];
    if same_bytes || (text.contains(&from.base_type) && text.contains(&to.base_type)) {
        How::Copy
    } else {
        How::Cast(format!("CAST({name} AS {})", to.cast))
    }
}

/// The same, where there is a way between the types.
///
/// # Errors
/// There is none.
pub(super) fn between(
    (table, from): (&Table, &Column),
    to: &Column,
    options: &MappingOptions,
) -> Result<How, Failure> {
    let how = plain(from, to, options);
    // What is not described yet is taken for a text.
    if table.remote.as_ref().is_some_and(|remote| remote.assumed) || !matches!(how, How::Cast(_)) {
        return Ok(how);
    }
    let written = options.timestamp_format.is_some() && (is_moment(from) || is_moment(to));
    // SAFETY: a question to the parser about two types.
    let leads = written
        || unsafe {
            pg_sys::can_coerce_type(
                1,
                &raw const from.base_type,
                &raw const to.base_type,
                pg_sys::CoercionContext::COERCION_EXPLICIT,
            )
        };
    if leads {
        return Ok(how);
    }
    Err(refuse(
        "42846",
        format!(
            "column \"{}\" of {} cannot be brought to column \"{}\" of the other side",
            from.name, table.name, to.name
        ),
        &format!("No cast leads from {} to {}.", from.cast, to.cast),
        "Give an expression in \"transformation\", or leave the field out with \"exclude_fields\".",
    ))
}

fn is_moment(column: &Column) -> bool {
    MOMENTS.contains(&column.base_type) || column.base_type == pg_sys::DATEOID
}

/// A timestamp with time zone from one without, or the other way round.
fn in_zone(value: &str, options: &MappingOptions) -> String {
    let zone = literal(options.time_zone.as_deref().unwrap_or("UTC"));
    format!("pg_catalog.timezone({zone}, {value})")
}

/// A moment as text or number; `None`: as its type writes it.
fn write_moment(
    from: &Column,
    value: &str,
    format: &TimestampFormat,
    options: &MappingOptions,
) -> Option<String> {
    let date = from.base_type == pg_sys::DATEOID;
    let instant = match from.base_type {
        pg_sys::TIMESTAMPTZOID => value.to_owned(),
        _ => in_zone(&format!("CAST({value} AS pg_catalog.timestamp)"), options),
    };
    Some(match format {
        TimestampFormat::Iso8601 if date => {
            format!("pg_catalog.to_char({value}, 'YYYY-MM-DD')")
        }
        TimestampFormat::Iso8601 => iso8601(&instant),
        TimestampFormat::EpochMs => format!(
            "CAST(pg_catalog.floor(EXTRACT(EPOCH FROM {instant}) OPERATOR(pg_catalog.*) 1000) AS pg_catalog.int8)"
        ),
        TimestampFormat::Picture(picture) if date => {
            format!("pg_catalog.to_char({value}, {})", literal(picture))
        }
        TimestampFormat::Picture(picture) => {
            format!("pg_catalog.to_char({}, {})", in_zone(&instant, options), literal(picture))
        }
    })
}

/// A moment from text or number; `None`: as its type reads it.
fn read_moment(
    to: &Column,
    value: &str,
    format: &TimestampFormat,
    options: &MappingOptions,
) -> Option<String> {
    // What a picture says is in the document's zone, as far as it names none.
    let local = match format {
        TimestampFormat::Iso8601 => return None,
        TimestampFormat::EpochMs => {
            let instant = format!(
                "pg_catalog.to_timestamp(0) OPERATOR(pg_catalog.+) (CAST({value} AS pg_catalog.int8) OPERATOR(pg_catalog.*) pg_catalog.make_interval(secs => 0.001))"
            );
            in_zone(&format!("({instant})"), options)
        }
        TimestampFormat::Picture(picture) => format!(
            "CAST(pg_catalog.to_timestamp(CAST({value} AS pg_catalog.text), {}) AS pg_catalog.timestamp)",
            literal(picture)
        ),
    };
    Some(if to.base_type == pg_sys::TIMESTAMPTZOID { in_zone(&local, options) } else { local })
}

/// With all the digits that PostgreSQL has, so that it is the same moment when it is read again.
fn iso8601(instant: &str) -> String {
    format!(
        "pg_catalog.to_char(pg_catalog.timezone('UTC', {instant}), 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
    )
}

/// A transformation that comes along, of a column.
pub(super) fn builtin(
    builtin: Builtin,
    (from, to): (&Column, &Column),
    options: &MappingOptions,
    path: &str,
) -> Result<String, Failure> {
    let name = identifier(&from.name);
    Ok(match builtin {
        Builtin::Trim => format!("pg_catalog.btrim({name})"),
        Builtin::Lower => format!("pg_catalog.lower({name})"),
        Builtin::Upper => format!("pg_catalog.upper({name})"),
        Builtin::EmailNorm => email_norm(&name),
        Builtin::FormatPhone => format_phone(&name, options),
        Builtin::Iso8601 if is_text(from) => {
            let instant = format!("CAST({name} AS pg_catalog.timestamptz)");
            match to.base_type {
                // On its way back.
                pg_sys::TIMESTAMPTZOID => instant,
                pg_sys::TIMESTAMPOID => in_zone(&instant, options),
                pg_sys::DATEOID => name,
                _ => iso8601(&instant),
            }
        }
        Builtin::Iso8601 => write_moment(from, &name, &TimestampFormat::Iso8601, options)
            .filter(|_| is_moment(from))
            .ok_or_else(|| {
                refuse(
                    "22023",
                    format!(
                        "column \"{}\" holds no moment that \"iso8601\" could write",
                        from.name
                    ),
                    &format!("\"{path}\" applies it."),
                    "It takes a timestamp, a date, or a text that is one.",
                )
            })?,
    })
}

pub(super) fn email_norm(value: &str) -> String {
    format!("pg_catalog.lower(pg_catalog.btrim({value}))")
}

pub(super) fn format_phone(value: &str, options: &MappingOptions) -> String {
    let region = options.phone_region.as_deref().map_or("NULL".to_owned(), literal);
    format!("sync.format_phone({value}, {region})")
}

/// The value, or what stands in the place of a null.
pub(super) fn or_default(how: How, column: Option<&Column>, to: &Column, default: &str) -> How {
    let (value, expression) = match (how, column) {
        (How::Copy | How::Refer, Some(from)) => (identifier(&from.name), false),
        (How::Cast(text), _) => (text, false),
        (How::Evaluate(text), _) => (text, true),
        (how, None) => return how,
    };
    let text =
        format!("COALESCE(CAST({value} AS {0}), CAST({1} AS {0}))", to.cast, literal(default));
    if expression { How::Evaluate(text) } else { How::Cast(text) }
}

/// A zone that the server knows, as the document names it.
///
/// # Errors
/// It does not.
pub(super) fn check_zone(options: &MappingOptions) -> Result<(), Failure> {
    let Some(zone) = &options.time_zone else { return Ok(()) };
    let name = crate::border::exact(zone);
    // SAFETY: looks in the server's files of zones.
    if unsafe { pg_sys::pg_tzset(name.as_ptr()) }.is_null() {
        return Err(refuse(
            "22023",
            format!("time zone \"{zone}\" is not known"),
            "It is named in \"mapping_options.time_zone\".",
            "Name one of pg_timezone_names, such as Europe/Zurich.",
        ));
    }
    Ok(())
}
