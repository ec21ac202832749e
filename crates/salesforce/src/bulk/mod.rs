//! Bulk API 2.0 (Bulk API 2.0 and Bulk API guide) as [`Bulk`] jobs.
//!
//! ```text
//! job        the handle, and how far a job is
//! read       query jobs and their pages
//! sheet      CSV of the other side, taken apart strictly
//! write      ingest jobs
//! upload     a batch as CSV
//! outcome    result rows, in any order, matched to the records of the batch
//! ```

mod job;
mod outcome;
mod read;
mod sheet;
mod upload;
mod write;

use connector::{
    Answer, Bulk, BulkJob, BulkLimits, BulkPage, BulkPages, BulkState, Column, Outcome, WriteBatch,
};

use crate::client::Salesforce;

/// Salesforce takes 100 MB. The results repeat what was sent, and come in answers of at most 64 MB.
pub(crate) const MOST_BYTES: usize = 24 << 20;

/// As many as may well be lost and looked up again; a job has no limit of its own.
pub(crate) const MOST_RECORDS: usize = 100_000;

/// Records of a page: at a kilobyte each, well below the largest answer.
pub(crate) const PAGE: usize = 20_000;

impl Bulk for Salesforce {
    fn limits(&self) -> BulkLimits {
        BulkLimits { write_records: MOST_RECORDS, write_bytes: MOST_BYTES, page_records: PAGE }
    }

    fn start_read<'a>(&'a self, object: &'a str, columns: &'a [Column]) -> Answer<'a, BulkJob> {
        Box::pin(self.start_bulk_read(object, columns))
    }

    fn state<'a>(&'a self, job: &'a BulkJob) -> Answer<'a, BulkState> {
        Box::pin(self.bulk_state(job))
    }

    fn pages<'a>(&'a self, job: &'a BulkJob, from: Option<&'a str>) -> Answer<'a, BulkPages> {
        Box::pin(self.bulk_pages(job, from))
    }

    fn page<'a>(
        &'a self,
        job: &'a BulkJob,
        columns: &'a [Column],
        locator: Option<&'a str>,
        most: Option<usize>,
    ) -> Answer<'a, BulkPage> {
        Box::pin(self.bulk_page(job, columns, locator, most))
    }

    fn start_write<'a>(&'a self, batch: &'a WriteBatch) -> Answer<'a, BulkJob> {
        Box::pin(self.start_bulk_write(batch))
    }

    fn commit_write<'a>(&'a self, job: &'a BulkJob) -> Answer<'a, ()> {
        Box::pin(self.commit_bulk_write(job))
    }

    fn outcomes<'a>(&'a self, job: &'a BulkJob, batch: &'a WriteBatch) -> Answer<'a, Vec<Outcome>> {
        Box::pin(self.bulk_outcomes(job, batch))
    }

    fn end<'a>(&'a self, job: &'a BulkJob) -> Answer<'a, ()> {
        Box::pin(self.end_bulk(job))
    }
}
