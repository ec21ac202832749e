"""simple-salesforce reads and writes in bulk, by Bulk API 2.0."""

import csv
import functools
import io
import tempfile
from simple_salesforce import Salesforce
from simple_salesforce.exceptions import SalesforceMalformedRequest
from org import CLIENT_ID, CLIENT_SECRET, URL, control, refused, session

import requests

token = requests.post(
    f"{URL}/services/oauth2/token",
    data={"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET},
    timeout=30,
).json()["access_token"]
sf = Salesforce(instance="example.my.salesforce.com", session_id=token, session=session())
accounts = sf.bulk2.Account
# Jobs here are done at the second look.
for call in ("insert", "upsert", "update", "delete", "query", "query_all", "download"):
    setattr(accounts, call, functools.partial(getattr(accounts, call), wait=0.02))


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


# Many records in, some of them refused; the client cuts them into several jobs.
records = [{"Name": f"In bulk {n}", "External_Id__c": f"k{n}", "Site": 'a "quoted", site'} for n in range(450)]
records[7]["Name"] = ""
jobs = accounts.insert(records=records, batch_size=200, concurrency=1)
assert [job["numberRecordsTotal"] for job in jobs] == [200, 200, 50], jobs
assert sum(job["numberRecordsProcessed"] for job in jobs) == 450, jobs
assert sum(job["numberRecordsFailed"] for job in jobs) == 1, jobs
failed = rows(accounts.get_failed_records(jobs[0]["job_id"]))
assert [row["External_Id__c"] for row in failed] == ["k7"], failed
assert failed[0]["sf__Error"].startswith("REQUIRED_FIELD_MISSING:"), failed
done = rows(accounts.get_successful_records(jobs[0]["job_id"]))
assert len(done) == 199 and all(row["sf__Created"] == "true" for row in done)
assert done[0]["Site"] == 'a "quoted", site', done[0]
assert rows(accounts.get_unprocessed_records(jobs[0]["job_id"])) == []
ids = {row["External_Id__c"]: row["sf__Id"] for row in done}

# By key and by id, with #N/A for null.
results = accounts.upsert(
    records=[{"External_Id__c": "k0", "Name": "Known"}, {"External_Id__c": "new", "Name": "New"}],
    external_id_field="External_Id__c",
)
assert results[0]["numberRecordsFailed"] == 0, results
accounts.update(records=[{"Id": ids["k0"], "Site": "#N/A"}])
record = control("GET", f"/records/{ids['k0']}")
assert (record["Name"], record["Site"]) == ("Known", None), record
accounts.delete(records=[{"Id": ids["k1"]}])
assert control("GET", f"/records/{ids['k1']}")["IsDeleted"] is True

# Out again, page by page.
soql = "SELECT Id, Name, External_Id__c, Site FROM Account"
pages = list(accounts.query(soql, max_records=100))
read = [row for page in pages for row in rows(page)]
assert len(pages) == 5 and len(read) == 449, (len(pages), len(read))
assert {row["Name"] for row in read if row["External_Id__c"] == "k0"} == {"Known"}
assert [row["Site"] for row in read if row["External_Id__c"] == "k0"] == [""]
deleted = [row for page in accounts.query_all("SELECT Id FROM Account WHERE IsDeleted = true") for row in rows(page)]
assert [row["Id"] for row in deleted] == [ids["k1"]], deleted
with tempfile.TemporaryDirectory() as folder:
    files = accounts.download(soql, path=folder, max_records=300)
    assert [file["number_of_records"] for file in files] == [300, 149], files

# What a query cannot is refused when the job is made.
refused(SalesforceMalformedRequest, lambda: list(accounts.query("SELECT BillingAddress FROM Account")),
        "FUNCTIONALITY_NOT_ENABLED", 400)

print("bulk.py passed")
