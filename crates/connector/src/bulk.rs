//! Reading and writing many records as jobs of the other side.
//!
//! A job outlives the process that started it. Its handle is stored before anything depends on it, and from
//! then on tells what became of it: no call here has to be repeated blindly.

use std::time::Duration;

use crate::{Answer, Column, Fault, Outcome, Record, WriteBatch};

/// The handle of a job: a text that the connector alone understands, without a secret, to be stored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BulkJob(pub String);

/// The code of a fault that says that the other side does not know a job, any more.
pub const GONE: &str = "JOB_GONE";

/// How far a job is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BulkState {
    /// A write that was not committed: nothing has been carried out, and nothing will.
    Open,
    /// So many records are done.
    Running { records: u64 },
    /// All are done, those that were refused too.
    Complete { records: u64 },
    /// It ended before its end. Of a write, some records may have been written: the outcomes tell.
    Failed(Fault),
    /// The other side does not know it, any more.
    Gone,
}

impl BulkState {
    pub fn has_ended(&self) -> bool {
        matches!(self, Self::Complete { .. } | Self::Failed(_) | Self::Gone)
    }
}

/// Records of a job that reads, and where to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkPage {
    pub records: Vec<Record>,
    /// The next page's locator, to be stored with what was done with this one; nothing behind the last.
    pub next: Option<String>,
}

/// Where pages begin that can be read at the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkPages {
    pub locators: Vec<String>,
    /// For asking where further ones begin.
    pub next: Option<String>,
}

/// What one job can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BulkLimits {
    /// Most records and bytes of one job that writes.
    pub write_records: usize,
    pub write_bytes: usize,
    /// Most records of one page that are well asked for.
    pub page_records: usize,
}

/// A connector's jobs. [`Connector::bulk`](crate::Connector::bulk) says whether there are any.
pub trait Bulk: Send + Sync {
    fn limits(&self) -> BulkLimits;

    /// Starts reading all records of an object; deleted ones are not among them. The values of a record are of some
    /// moment after this call, and the records come in no particular order.
    fn start_read<'a>(&'a self, object: &'a str, columns: &'a [Column]) -> Answer<'a, BulkJob>;

    /// How far a job is. The caller waits between calls: see [`pause`].
    fn state<'a>(&'a self, job: &'a BulkJob) -> Answer<'a, BulkState>;

    /// Where the pages of a complete job begin, from the first or from [`BulkPages::next`] on, so that several can
    /// be read at once, each whole. `NOT_SERVED` where pages can only be read one after the other.
    fn pages<'a>(&'a self, job: &'a BulkJob, from: Option<&'a str>) -> Answer<'a, BulkPages>;

    /// One page of a complete job, from the first or from a locator on. Object and columns are those that the job was
    /// started with. The same page can be read again. `most` is a number of records, or the other side's choice.
    fn page<'a>(
        &'a self,
        job: &'a BulkJob,
        columns: &'a [Column],
        locator: Option<&'a str>,
        most: Option<usize>,
    ) -> Answer<'a, BulkPage>;

    /// Hands over records that are all created, all updated or all deleted. Nothing is carried out before the job is
    /// committed, so that its handle can be stored first; if this fails, nothing has happened.
    fn start_write<'a>(&'a self, batch: &'a WriteBatch) -> Answer<'a, BulkJob>;

    /// Lets the other side begin. Can be repeated; where the answer was lost, the state tells whether it has begun.
    fn commit_write<'a>(&'a self, job: &'a BulkJob) -> Answer<'a, ()>;

    /// What came of a job that writes and has ended: one outcome for each record of the batch that it was started
    /// with, in its order. Can be repeated as long as the job is known.
    fn outcomes<'a>(&'a self, job: &'a BulkJob, batch: &'a WriteBatch) -> Answer<'a, Vec<Outcome>>;

    /// Forgets a job whose results are not needed any more; one that is gone already is no fault. A write that is under
    /// way is left alone, and is a fault.
    fn end<'a>(&'a self, job: &'a BulkJob) -> Answer<'a, ()>;
}

/// How long to wait after so many looks at a job: 2 seconds and half as much again each time, up to 30.
pub fn pause(looks: u32) -> Duration {
    let seconds = 2.0 * 1.5f64.powi(looks.min(20) as i32);
    Duration::from_secs_f64(seconds.min(30.0))
}

#[cfg(test)]
mod tests {
    use super::pause;
    use std::time::Duration;

    #[test]
    fn pauses_grow_to_half_a_minute() {
        let seconds: Vec<u64> = (0..9).map(|looks| pause(looks).as_secs()).collect();
        assert_eq!(seconds, [2, 3, 4, 6, 10, 15, 22, 30, 30]);
        assert_eq!(pause(u32::MAX), Duration::from_secs(30));
    }
}
