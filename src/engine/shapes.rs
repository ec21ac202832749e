//! The shapes of the log's images, as the worker reads them.

use crate::log::segments;
use crate::sql::{self, Arg};
use change::shape::Shape;
use foldhash::HashMap;
use std::rc::Rc;

/// Shapes already read; they never change. One that was not there may yet come: its id is made of what
/// it says, so another session may store the same.
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

    /// Is this shape, which was asked for, nowhere to be found? What was captured under it may concern
    /// any table.
    pub fn is_lost(&self, id: i64) -> bool {
        matches!(self.known.get(&id), Some(None))
    }

    /// Has shapes that were not there looked for again.
    pub fn look_again(&mut self) {
        self.known.retain(|_, shape| shape.is_some());
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
