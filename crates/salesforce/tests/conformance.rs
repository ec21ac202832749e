//! The client is what it says of itself, and the suite that says so notices a client that is not.

mod against;

use std::time::Duration;

use against::{client, org, text};
use conformance::{Broken, Other, Scratch, all};
use connector::{
    Account, Answer, Bulk, BulkJob, BulkLimits, BulkPage, BulkPages, BulkState, Capabilities,
    Column, Connector, Mark, Object, ObjectName, Outcome, Page, Record, Usage, WriteBatch,
};
use local_org::LocalOrg;
use salesforce::Salesforce;
use serde_json::json;

struct AnotherUser<'a>(&'a LocalOrg);

impl Other for AnotherUser<'_> {
    fn insert(&self, name: &str) -> String {
        self.0.insert("Account", json!({ "Name": name })).expect("an account")
    }

    fn insert_late(&self, name: &str, after: Duration) -> Option<String> {
        Some(self.0.insert_late("Account", json!({ "Name": name }), after).expect("an account"))
    }

    fn delete(&self, id: &str) {
        self.0.delete(id).expect("deleted");
    }
}

async fn tried(org: &LocalOrg, connector: &dyn Connector) -> Vec<Broken> {
    let other = AnotherUser(org);
    let scratch = Scratch {
        connector,
        object: "Account",
        name: text("Name"),
        note: text("Site"),
        identity: Some(text("External_Id__c")),
        other: &other,
    };
    all(&scratch).await
}

#[tokio::test]
async fn the_client_is_what_it_says_of_itself() {
    let org = org();
    assert_eq!(tried(&org, &client(&org)).await, []);
}

/// The client, with other things said of it.
struct Boaster {
    client: Salesforce,
    says: Capabilities,
    jobs: Option<Careless>,
}

impl Connector for Boaster {
    fn capabilities(&self) -> Capabilities {
        self.says
    }
    fn canonical(&self, column: &Column, value: Option<&str>) -> Option<String> {
        self.client.canonical(column, value)
    }
    fn usage(&self) -> Option<Usage> {
        self.client.usage()
    }
    fn calls(&self) -> u64 {
        self.client.calls()
    }
    fn check(&self) -> Answer<'_, Account> {
        self.client.check()
    }
    fn objects(&self) -> Answer<'_, Vec<ObjectName>> {
        self.client.objects()
    }
    fn describe<'a>(&'a self, object: &'a str, of_parents: &'a [String]) -> Answer<'a, Object> {
        self.client.describe(object, of_parents)
    }
    fn list<'a>(
        &'a self,
        object: &'a str,
        columns: &'a [Column],
        after: Option<&'a str>,
    ) -> Answer<'a, Page> {
        self.client.list(object, columns, after)
    }
    fn changes<'a>(
        &'a self,
        object: &'a str,
        columns: &'a [Column],
        since: &'a Mark,
    ) -> Answer<'a, Page> {
        self.client.changes(object, columns, since)
    }
    fn fetch<'a>(
        &'a self,
        object: &'a str,
        columns: &'a [Column],
        ids: &'a [String],
    ) -> Answer<'a, Vec<Option<Record>>> {
        self.client.fetch(object, columns, ids)
    }
    fn find<'a>(
        &'a self,
        object: &'a str,
        columns: &'a [Column],
        field: &'a str,
        values: &'a [String],
    ) -> Answer<'a, Vec<Record>> {
        self.client.find(object, columns, field, values)
    }
    fn created_since<'a>(
        &'a self,
        object: &'a str,
        columns: &'a [Column],
        since: &'a str,
    ) -> Answer<'a, Vec<Record>> {
        self.client.created_since(object, columns, since)
    }
    fn write<'a>(&'a self, batch: &'a WriteBatch) -> Answer<'a, Vec<Outcome>> {
        self.client.write(batch)
    }
    fn bulk(&self) -> Option<&dyn Bulk> {
        self.jobs.is_some().then_some(self)
    }
}

/// What is done wrongly with bulk jobs.
#[derive(Clone, Copy, PartialEq)]
enum Careless {
    OutcomesAsTheyCome,
    CommitsAtOnce,
    LosesALastPage,
    StartsAnew,
}

impl Boaster {
    fn jobs(&self) -> &dyn Bulk {
        self.client.bulk().expect("jobs")
    }
}

impl Bulk for Boaster {
    fn limits(&self) -> BulkLimits {
        self.jobs().limits()
    }
    fn start_read<'a>(&'a self, object: &'a str, columns: &'a [Column]) -> Answer<'a, BulkJob> {
        self.jobs().start_read(object, columns)
    }
    fn state<'a>(&'a self, job: &'a BulkJob) -> Answer<'a, BulkState> {
        self.jobs().state(job)
    }
    fn pages<'a>(&'a self, job: &'a BulkJob, from: Option<&'a str>) -> Answer<'a, BulkPages> {
        Box::pin(async move {
            let mut pages = self.jobs().pages(job, from).await?;
            if self.jobs == Some(Careless::LosesALastPage) {
                pages.locators.pop();
            }
            Ok(pages)
        })
    }
    fn page<'a>(
        &'a self,
        job: &'a BulkJob,
        columns: &'a [Column],
        locator: Option<&'a str>,
        most: Option<usize>,
    ) -> Answer<'a, BulkPage> {
        self.jobs().page(job, columns, locator, most)
    }
    fn start_write<'a>(&'a self, batch: &'a WriteBatch) -> Answer<'a, BulkJob> {
        Box::pin(async move {
            let job = self.jobs().start_write(batch).await?;
            if self.jobs == Some(Careless::CommitsAtOnce) {
                self.jobs().commit_write(&job).await?;
            }
            Ok(job)
        })
    }
    fn commit_write<'a>(&'a self, job: &'a BulkJob) -> Answer<'a, ()> {
        self.jobs().commit_write(job)
    }
    fn outcomes<'a>(&'a self, job: &'a BulkJob, batch: &'a WriteBatch) -> Answer<'a, Vec<Outcome>> {
        Box::pin(async move {
            if self.jobs == Some(Careless::StartsAnew) {
                let job = self.jobs().start_write(batch).await?;
                self.jobs().commit_write(&job).await?;
                while !self.jobs().state(&job).await?.has_ended() {}
                return self.jobs().outcomes(&job, batch).await;
            }
            let mut outcomes = self.jobs().outcomes(job, batch).await?;
            if self.jobs == Some(Careless::OutcomesAsTheyCome) {
                outcomes.reverse();
            }
            Ok(outcomes)
        })
    }
    fn end<'a>(&'a self, job: &'a BulkJob) -> Answer<'a, ()> {
        self.jobs().end(job)
    }
}

/// A promise about jobs that does not hold is found out too.
#[tokio::test]
async fn carelessness_with_bulk_jobs_is_found_out() {
    for (careless, expected) in [
        (Careless::OutcomesAsTheyCome, &["bulk outcomes in order"][..]),
        (Careless::CommitsAtOnce, &["bulk writes begin with the commit"]),
        (Careless::LosesALastPage, &["bulk pages at once"]),
        (Careless::StartsAnew, &["bulk outcomes in order", "bulk writes begin with the commit"]),
    ] {
        let org = org();
        let client = client(&org);
        let mut says = client.capabilities();
        // Small, for speed: less than it can do is no lie.
        (says.max_write, says.max_fetch) = (100, 100);
        let broken = tried(&org, &Boaster { client, says, jobs: Some(careless) }).await;
        let promises: Vec<&str> = broken.iter().map(|b| b.promise).collect();
        assert_eq!(promises, expected, "{broken:?}");
    }
}

/// A capability that does not hold is found out, and by its name.
#[tokio::test]
async fn what_is_said_wrongly_is_found_out() {
    type Change = fn(&mut Capabilities);
    let wrong: [(&[&str], Change); 5] = [
        (&["write_step"], |can| can.write_step += 1),
        (&["write_step"], |can| can.write_step /= 2),
        // Without the read a call holds more.
        (&["write_step", "reads_before_write"], |can| can.reads_before_write = false),
        (&["sees_deletes"], |can| can.sees_deletes = false),
        (&["overlap_seconds"], |can| can.overlap_seconds = 0),
    ];
    for (expected, change) in wrong {
        let org = org();
        let client = client(&org);
        let mut says = client.capabilities();
        // Small, for speed: less than it can do is no lie.
        (says.max_write, says.max_fetch) = (900, 900);
        change(&mut says);
        let broken = tried(&org, &Boaster { client, says, jobs: None }).await;
        let promises: Vec<&str> = broken.iter().map(|b| b.promise).collect();
        assert_eq!(promises, expected, "{broken:?}");
    }
}
