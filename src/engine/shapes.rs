//! The shapes of the log's images, as the worker reads them.

use crate::log::segments;
use crate::sql::{self, Arg};
use change::shape::Shape;
use foldhash::HashMap;
use std::rc::Rc;

/// Shapes already read; they never change.
#[derive(Default)]
pub struct Shapes {
    known: HashMap<i64, Option<Rc<Shape>>>,
}

impl Shapes {
    /// The shape with this id; `None` where its row is missing or unreadable, in which case the
    /// images under it cannot be read either.
    pub fn get(&mut self, id: i64) -> Option<Rc<Shape>> {
        self.known.entry(id).or_insert_with(|| read(id).map(Rc::new)).clone()
    }

    /// Makes sure the shape is stored.
    pub fn store(shape: &Shape) -> i64 {
        let id = shape.id();
        if let Some(log) = segments::relations() {
            segments::store_shape(&log, id, shape);
        }
        id
    }
}

/// Reads one shape.
pub fn read(id: i64) -> Option<Shape> {
    let hex = sql::as_extension(|| {
        sql::one(
            "SELECT pg_catalog.encode(content, 'hex') FROM sync._shape
              WHERE id OPERATOR(pg_catalog.=) $1 LIMIT 1",
            &[Arg::Int(id)],
        )
    })?;
    Shape::from_bytes(&sql::from_hex(&hex)?)
}
