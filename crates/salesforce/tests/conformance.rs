//! The client is what it says of itself, and the suite that says so notices a client that is not.

mod against;

use std::time::Duration;

use against::{client, org, text};
use conformance::{Broken, Other, Scratch, all};
use connector::{
    Account, Answer, Capabilities, Column, Connector, Mark, Object, ObjectName, Outcome, Page,
    Record, Usage, WriteBatch,
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
    fn describe<'a>(&'a self, object: &'a str) -> Answer<'a, Object> {
        self.client.describe(object)
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
        let broken = tried(&org, &Boaster { client, says }).await;
        let promises: Vec<&str> = broken.iter().map(|b| b.promise).collect();
        assert_eq!(promises, expected, "{broken:?}");
    }
}
