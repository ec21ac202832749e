//! Mistakes to be made on purpose.

/// A mistake that others have made, or that we nearly did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The merge takes the row that it saw last, whatever was agreed on.
    MergeIgnoresBase,
    /// At the same time each side thinks its own change the later one.
    TieWithoutOrder,
    /// That a record was deleted is forgotten; it is found on the other side and created again.
    LostTombstone,
    /// The log has the number of the subtransaction (A1).
    SubtransactionId,
    /// The end of a batch is taken in the transaction that writes (A2).
    TickWhileWriting,
    /// Inside a transaction the log is read in the order of its numbers (A3).
    OrderBySequence,
    /// The cursor is saved before what it stands for is done.
    CursorFirst,
    /// What we wrote ourselves is never looked at again (A8).
    SkipOwnWrites,
    /// What was read before an answer is taken for newer than it.
    StalePages,
    /// A write that was not answered is sent again as it is (A9).
    BlindRepeat,
    /// What is on its way is remembered in memory only.
    ForgottenIntents,
    /// Who overwrites does not look at what is there.
    NoExpectedValue,
}

impl Bug {
    pub const ALL: [Bug; 12] = [
        Bug::MergeIgnoresBase,
        Bug::TieWithoutOrder,
        Bug::LostTombstone,
        Bug::SubtransactionId,
        Bug::TickWhileWriting,
        Bug::OrderBySequence,
        Bug::CursorFirst,
        Bug::SkipOwnWrites,
        Bug::StalePages,
        Bug::BlindRepeat,
        Bug::ForgottenIntents,
        Bug::NoExpectedValue,
    ];
}
