"""A working day of simple-salesforce: describe, rows, queries, composites, and all errors that it translates."""

import datetime
import org
from org import control, refused
from simple_salesforce import Salesforce
from simple_salesforce.exceptions import (
    SalesforceExpiredSession,
    SalesforceGeneralError,
    SalesforceMalformedRequest,
    SalesforceMoreThanOneRecord,
    SalesforceRefusedRequest,
    SalesforceResourceNotFound,
)


def log_in(**more):
    return Salesforce(
        consumer_key=org.CLIENT_ID,
        consumer_secret=org.CLIENT_SECRET,
        domain="example.my",
        session=org.session(),
        **more,
    )


def describing(sf):
    objects = {entry["name"]: entry for entry in sf.describe()["sobjects"]}
    assert objects["Account"]["keyPrefix"] == "001" and objects["Contact"]["queryable"] is True
    fields = {field["name"]: field for field in sf.Account.describe()["fields"]}
    assert fields["Name"]["nameField"] and fields["Name"]["length"] == 255
    assert fields["BillingCity"]["compoundFieldName"] == "BillingAddress"
    assert fields["BillingAddress"]["type"] == "address" and not fields["BillingAddress"]["updateable"]
    assert sf.Account.metadata()["objectDescribe"]["name"] == "Account"
    usage = sf.api_usage["api-usage"]
    assert 0 < usage.used <= usage.total == 15000, usage
    limits = sf.limits()
    assert limits["DailyApiRequests"]["Max"] == 15000
    assert limits["DailyApiRequests"]["Remaining"] < 15000


def rows(sf):
    made = sf.Account.create({"Name": " Acme ", "External_Id__c": "a-1/2"})
    assert made["success"] is True and made["errors"] == []
    account = sf.Account.get(made["id"])
    assert account["Name"] == "Acme" and account["attributes"]["type"] == "Account"
    assert account["SystemModstamp"].endswith(".000+0000")
    assert sf.Account.update(made["id"], {"Industry": "Energy"}) == 204
    assert sf.Account.get_by_custom_id("External_Id__c", "a-1/2")["Industry"] == "Energy"
    assert sf.Account.upsert("External_Id__c/u1", {"Name": "Upserted"}) == 201
    assert sf.Account.upsert("External_Id__c/u1", {"Name": "Upserted again"}) == 200
    contact = sf.Contact.create(
        {"LastName": "Doe", "FirstName": "Jo", "Account": {"External_Id__c": "u1"}}
    )
    found = sf.query(f"SELECT Name, Account.Name FROM Contact WHERE Id = '{contact['id']}'")
    assert found["records"][0]["Name"] == "Jo Doe"
    assert found["records"][0]["Account"]["Name"] == "Upserted again"
    assert sf.Contact.delete(contact["id"]) == 204
    gone = refused(SalesforceResourceNotFound, lambda: sf.Contact.delete(contact["id"]))
    assert gone.content[0]["errorCode"] == "ENTITY_IS_DELETED", gone.content
    deleted = sf.query(
        f"SELECT Id, IsDeleted FROM Contact WHERE Id = '{contact['id']}'", include_deleted=True
    )
    assert deleted["records"][0]["IsDeleted"] is True
    return made["id"]


def paging(sf):
    names = [{"LastName": f"N{number:04}"} for number in range(450)]
    control("POST", "/records/Contact", names)
    small = {"Sforce-Query-Options": "batchSize=200"}
    soql = "SELECT LastName FROM Contact ORDER BY LastName"
    first = sf.query(soql, headers=small)
    assert (first["totalSize"], first["done"], len(first["records"])) == (450, False, 200)
    second = sf.query_more(first["nextRecordsUrl"], identifier_is_url=True)
    third = sf.query_more(second["nextRecordsUrl"].split("/")[-1])
    assert third["done"] is True and "nextRecordsUrl" not in third
    every = [r["LastName"] for page in (first, second, third) for r in page["records"]]
    assert every == [record["LastName"] for record in names]
    assert [r["LastName"] for r in sf.query_all_iter(soql, headers=small)] == every
    assert sf.query_all(soql, headers=small)["totalSize"] == 450
    assert sf.query("SELECT count() FROM Contact")["totalSize"] == 450
    refused(SalesforceMalformedRequest, lambda: sf.query_more("0r8nothing-200"), "INVALID_QUERY_LOCATOR")


def errors(sf, account):
    bad = SalesforceMalformedRequest
    refused(bad, lambda: sf.query("SELECT Id FROM Account WHERE"), "MALFORMED_QUERY", 400)
    refused(bad, lambda: sf.query("SELECT Nothing__c FROM Account"), "INVALID_FIELD", 400)
    refused(bad, lambda: sf.query("SELECT Id FROM Nothing__c"), "INVALID_TYPE", 400)
    missing = refused(bad, lambda: sf.Contact.create({"FirstName": "Jo"}), "REQUIRED_FIELD_MISSING")
    assert missing.content[0]["fields"] == ["LastName"], missing.content
    refused(bad, lambda: sf.Account.create({"Nothing__c": 1}), "INVALID_FIELD")
    refused(bad, lambda: sf.Account.create({"Name": "x" * 256}), "STRING_TOO_LONG")
    refused(bad, lambda: sf.Contact.create({"LastName": "D", "Email": "x"}), "INVALID_EMAIL_ADDRESS")
    double = refused(bad, lambda: sf.Account.create({"Name": "B", "External_Id__c": "a-1/2"}), "DUPLICATE_VALUE")
    assert account[:15] in double.content[0]["message"], double.content
    nobody = "001000000000000AAA"
    refused(SalesforceResourceNotFound, lambda: sf.Account.get(nobody), "NOT_FOUND", 404)
    refused(SalesforceResourceNotFound, lambda: sf.Nothing__c.describe(), "NOT_FOUND", 404)
    refused(
        SalesforceResourceNotFound, lambda: sf.Account.upsert("Nothing__c/1", {"Name": "B"}), "NOT_FOUND"
    )
    control("POST", "/objects/Contact/fields", {"name": "Group__c", "type": "string", "external_id": True})
    control("POST", "/records/Contact", [{"LastName": "A", "Group__c": "g"}, {"LastName": "B", "Group__c": "g"}])
    several = refused(SalesforceMoreThanOneRecord, lambda: sf.Contact.get_by_custom_id("Group__c", "g"))
    assert len(several.content) == 2, several.content
    control("POST", "/duplicate_rules", {"object": "Contact", "fields": ["LastName", "Email"]})
    ada = {"LastName": "King", "Email": "ada@example.com"}
    first = sf.Contact.create(ada)["id"]
    twice = refused(bad, lambda: sf.Contact.create(ada), "DUPLICATES_DETECTED", 400)
    found = twice.content[0]["duplicateResult"]["matchResults"][0]["matchRecords"][0]["record"]
    assert found["Id"] == first, found
    insists = {"Sforce-Duplicate-Rule-Header": "allowSave=true"}
    assert sf.Contact.create(ada, headers=insists)["success"] is True
    control("DELETE", "/duplicate_rules")
    down = {"kind": "error", "status": 503, "code": "SERVER_UNAVAILABLE", "message": "Server too busy"}
    control("POST", "/faults", {"times": 1, "fault": down})
    refused(SalesforceGeneralError, lambda: sf.Account.get(account), "SERVER_UNAVAILABLE", 503)
    locked = {"kind": "record", "code": "UNABLE_TO_LOCK_ROW", "message": "unable to obtain exclusive access"}
    control("POST", "/faults", {"times": 1, "match": {"object": "Account"}, "fault": locked})
    refused(bad, lambda: sf.Account.update(account, {"Name": "C"}), "UNABLE_TO_LOCK_ROW")


def sessions(sf, account):
    """A session that has died is renewed by itself where the client can log in, else told."""
    before = sf.session_id
    control("DELETE", "/sessions")
    assert sf.query("SELECT Id FROM Account LIMIT 1")["totalSize"] == 1
    assert sf.session_id != before
    control("DELETE", "/sessions")
    assert sf.Account.get(account)["Id"] == account
    bare = Salesforce(session_id="dead", instance_url=org.URL, session=org.session())
    refused(SalesforceExpiredSession, lambda: bare.Account.get(account), "INVALID_SESSION_ID", 401)
    control("POST", "/settings", {"daily_limit": 0})
    refused(SalesforceRefusedRequest, lambda: sf.Account.get(account), "REQUEST_LIMIT_EXCEEDED", 403)
    control("POST", "/settings", {"daily_limit": 15000})


def composites(sf):
    data = f"/services/data/v{sf.sf_version}"
    parts = [
        {"method": "POST", "url": f"{data}/sobjects/Account", "referenceId": "a", "body": {"Name": "Parent"}},
        {
            "method": "POST",
            "url": f"{data}/sobjects/Contact",
            "referenceId": "c",
            "body": {"LastName": "Child", "AccountId": "@{a.id}"},
        },
        {"method": "GET", "url": f"{data}/sobjects/Contact/@{{c.id}}", "referenceId": "r"},
    ]
    answer = sf.restful("composite", method="POST", json={"allOrNone": True, "compositeRequest": parts})
    parts = {part["referenceId"]: part for part in answer["compositeResponse"]}
    assert [part["httpStatusCode"] for part in parts.values()] == [201, 201, 200], answer
    assert parts["r"]["body"]["AccountId"] == parts["a"]["body"]["id"]
    records = [
        {"attributes": {"type": "Account"}, "Name": "One"},
        {"attributes": {"type": "Contact"}, "FirstName": "Nameless"},
    ]
    both = sf.restful("composite/sobjects", method="POST", json={"records": records})
    assert both[0]["success"] is True and both[1]["errors"][0]["statusCode"] == "REQUIRED_FIELD_MISSING"


def replication(sf):
    """What changed and what went, in a span that ends a little later than now."""
    start = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=2)
    end = start + datetime.timedelta(minutes=4)
    stays = sf.Lead.create({"LastName": "Stays", "Company": "C"})["id"]
    goes = sf.Lead.create({"LastName": "Goes", "Company": "C"})["id"]
    sf.Lead.delete(goes)
    updated = sf.Lead.updated(start, end)
    assert updated["ids"] == [stays] and updated["latestDateCovered"], updated
    deleted = sf.Lead.deleted(start, end)
    assert [record["id"] for record in deleted["deletedRecords"]] == [goes], deleted
    refused(SalesforceMalformedRequest, lambda: sf.Lead.updated(end, start), "INVALID_REPLICATION_DATE")


def families(sf):
    """Graph, tree and batch."""
    version = f"v{sf.sf_version}"
    url = f"/services/data/{version}/sobjects"
    parts = [
        {"method": "POST", "url": f"{url}/Account", "referenceId": "a", "body": {"Name": "Graph"}},
        {"method": "POST", "url": f"{url}/Contact", "referenceId": "c", "body": {"LastName": "G", "AccountId": "@{a.id}"}},
    ]
    graphs = {"graphs": [{"graphId": "1", "compositeRequest": parts}]}
    answer = sf.restful("composite/graph", method="POST", json=graphs)["graphs"][0]
    assert answer["isSuccessful"] is True, answer
    child = {"attributes": {"type": "Contact", "referenceId": "c"}, "LastName": "T"}
    parent = {"attributes": {"type": "Account", "referenceId": "p"}, "Name": "Tree", "Contacts": {"records": [child]}}
    answer = sf.restful("composite/tree/Account/", method="POST", json={"records": [parent]})
    assert answer["hasErrors"] is False and len(answer["results"]) == 2, answer
    parent["Contacts"]["records"][0]["LastName"] = None
    error = refused(
        SalesforceMalformedRequest,
        lambda: sf.restful("composite/tree/Account", method="POST", json={"records": [parent]}),
    )
    assert error.content["results"][0]["errors"][0]["statusCode"] == "REQUIRED_FIELD_MISSING", error.content
    batch = [
        {"method": "GET", "url": f"{version}/query/?q=SELECT+Name+FROM+Account+WHERE+Name='Tree'"},
        {"method": "GET", "url": f"{version}/sobjects/Account/001000000000000AAA"},
    ]
    answer = sf.restful("composite/batch", method="POST", json={"batchRequests": batch})
    assert [result["statusCode"] for result in answer["results"]] == [200, 404], answer
    assert answer["hasErrors"] is True and answer["results"][0]["result"]["totalSize"] == 1


sf = log_in()
describing(sf)
account = rows(sf)
paging(sf)
errors(sf, account)
composites(sf)
replication(sf)
families(sf)
sessions(sf, account)
print("session.py passed")
