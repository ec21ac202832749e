//! Which columns hold which fields: the type of a column that is made for a field, and whether one that
//! is there takes and gives all its values.

use crate::connection::postgres_type;
use crate::engine::plan::Column;
use connector::{Field, Kind};
use pgrx::pg_sys::{self, Oid};

/// Can the values of a field travel into a column, and those of the column into the field, without being
/// changed on their way? What only does not fit is refused and not cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fit {
    pub pull: bool,
    pub push: bool,
    /// What stands in the way, or is worth knowing.
    pub why: String,
}

impl Fit {
    pub fn both() -> Self {
        Self { pull: true, push: true, why: String::new() }
    }

    fn only(pull: bool, push: bool, why: &str) -> Self {
        Self { pull, push, why: why.to_owned() }
    }

    /// Into a column of one of these types only.
    fn of(column: &Column, types: &[Oid], names: &str) -> Self {
        if types.contains(&column.base_type) {
            Self::both()
        } else {
            Self::only(false, false, &format!("the column would have to be {names}"))
        }
    }
}

/// The type of a column that is made for a field; an error says why none is.
pub fn sql_type(field: &Field) -> Result<String, String> {
    carried(field)?;
    Ok(match field.kind {
        // As the other side limits it, so that what is too long is refused where it is written.
        Kind::Id | Kind::Text | Kind::Choice if field.length > 0 => {
            format!("varchar({})", field.length)
        }
        _ => postgres_type(field).to_owned(),
    })
}

fn carried(field: &Field) -> Result<(), String> {
    match field.kind {
        Kind::Bytes | Kind::Structure => {
            Err(format!("values of type {} are not carried", field.native_type))
        }
        _ => Ok(()),
    }
}

/// How a field and a column that is there fit.
pub fn fit(field: &Field, column: &Column) -> Fit {
    if let Err(why) = carried(field) {
        return Fit::only(false, false, &why);
    }
    let scale = scale(column.typmod);
    match field.kind {
        Kind::Id | Kind::Text | Kind::Choice => {
            let mut fit =
                Fit::of(column, &[pg_sys::TEXTOID, pg_sys::VARCHAROID], "text or varchar");
            let longest = column.typmod - 4;
            if fit.pull && longest > 0 && (longest as u32) < field.length {
                fit.why = format!("values of more than {longest} characters are refused here");
            }
            fit
        }
        Kind::Choices => Fit::of(column, &[pg_sys::TEXTARRAYOID], "text[]"),
        Kind::Boolean => Fit::of(column, &[pg_sys::BOOLOID], "boolean"),
        Kind::Date => Fit::of(column, &[pg_sys::DATEOID], "date"),
        Kind::Time => Fit::of(column, &[pg_sys::TIMEOID], "time without time zone"),
        Kind::DateTime => {
            let types = [pg_sys::TIMESTAMPTZOID, pg_sys::TIMESTAMPOID];
            Fit::of(column, &types, "timestamp with time zone, or without, in UTC")
        }
        Kind::Integer => match column.base_type {
            pg_sys::NUMERICOID if scale == Some(0) => Fit::both(),
            pg_sys::NUMERICOID if scale.is_none_or(|s| s > 0) => {
                Fit::only(true, false, "the field holds whole numbers only")
            }
            _ => Fit::of(
                column,
                &[pg_sys::INT2OID, pg_sys::INT4OID, pg_sys::INT8OID],
                "integer or bigint",
            ),
        },
        // The digits after the point that the other side announces are what it shows, not what it holds.
        Kind::Number => match column.base_type {
            pg_sys::NUMERICOID => match scale {
                None => Fit::both(),
                Some(scale) if scale >= field.scale as i32 => Fit {
                    why: format!("values are rounded to {scale} digits after the point here"),
                    ..Fit::both()
                },
                Some(_) => Fit::only(false, true, "the column would round what the field holds"),
            },
            pg_sys::INT2OID | pg_sys::INT4OID | pg_sys::INT8OID => {
                Fit::only(false, true, "the column would round what the field holds")
            }
            pg_sys::FLOAT8OID => {
                Fit::only(true, false, "the last digits would be lost on the way back")
            }
            _ => Fit::of(column, &[], "numeric"),
        },
        Kind::Bytes | Kind::Structure => Fit::only(false, false, ""),
    }
}

/// The digits after the point of a `numeric` of this modifier; `None` where there is no limit.
fn scale(typmod: i32) -> Option<i32> {
    // NUMERIC_TYPMOD: 11 bits, with their sign.
    (typmod >= 4).then(|| (((typmod - 4) & 0x7FF) ^ 1024) - 1024)
}
