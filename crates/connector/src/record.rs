use crate::Column;

/// A record of the other side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub id: String,
    /// The moment that it was last touched, in the form of [`Mark::at`].
    pub version: String,
    /// In the order of the columns asked for. Of a deleted one what it held last, or nothing at all.
    pub values: Vec<Option<String>>,
    pub deleted: bool,
}

/// A place in the stream of an object's changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// A moment of the other side's clock: `2026-11-26T10:20:57.000Z`, so that texts compare as moments.
    pub at: String,
    /// Only records with a higher id, of those of that moment; empty: all of them.
    pub id: String,
}

/// Records that were read, and where to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub records: Vec<Record>,
    /// Is there more behind the last of them?
    pub more: bool,
}

/// A question for the changes of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangesOf {
    pub object: String,
    pub columns: Vec<Column>,
    pub since: Mark,
}
