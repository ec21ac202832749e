/// A place in a stream of events. Opaque: only the connector that handed it out can read it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place(pub Vec<u8>);

/// Where events are to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Since {
    /// With what is committed from now on.
    Now,
    /// Behind this place.
    Place(Place),
}

/// What a request for events brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Events {
    /// What happened since, in the order in which it was committed; nothing, where nothing did in the time that
    /// was given. An event may come again, also one with an older state than has been read meanwhile.
    Next {
        events: Vec<Event>,
        /// Where to go on, if that has moved: behind the last event, or further on. To be kept with what the
        /// events led to, never before.
        place: Option<Place>,
    },
    /// Nobody can go on from this place: it is too old, or from before the other side was moved. What was missed
    /// has to be read in another way, after events were begun with [`Since::Now`].
    Lost { why: String },
}

/// Something that happened to records of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Changed(Change),
    /// These records changed, and what they hold now has to be read. One that is not found is deleted.
    Unknown {
        ids: Vec<String>,
    },
    /// Any record may have changed: the object has to be read as a whole.
    Everything {
        why: String,
    },
}

/// The same change of one or more records, as it was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub deed: Deed,
    pub ids: Vec<String>,
    /// Values by the place of their column among those that were asked for: of a record that is new or back all
    /// that the event tells, of one that was updated those that changed, of one that was deleted none.
    pub values: Vec<(usize, Option<String>)>,
    /// Columns that have, or may have, another value, which the event does not tell.
    pub untold: Vec<usize>,
    /// The moment of the commit in the form of [`Mark::at`](crate::Mark). It is not the record's version, which is
    /// older.
    pub committed_at: String,
    /// The id of the user that wrote.
    pub user: String,
    /// The name that the client gave itself that wrote, where it gave one.
    pub client: Option<String>,
    /// Changes with the same key were committed together, and are counted from 1.
    pub transaction: String,
    pub sequence: i64,
}

/// What was done to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Deed {
    Created,
    Updated,
    Deleted,
    Undeleted,
}
