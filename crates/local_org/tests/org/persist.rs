//! An org in a file, by way of the program.

use crate::client::{Reply, agent, encode};
use crate::program::start;
use local_org::{LocalOrg, Options};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A file that is gone with the test.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }

    fn file(&self) -> String {
        self.0.join("org.state").to_str().expect("a path").to_owned()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The program with a session of it.
struct Running {
    child: Child,
    url: String,
    token: String,
}

impl Running {
    fn start(file: &str) -> Self {
        let (child, url) = start(&["--persist", file, "--change-events", "Account"]);
        let form = "grant_type=client_credentials&client_id=local-org-client&client_secret=local-org-secret";
        let mut reply =
            agent().post(format!("{url}/services/oauth2/token")).send(form).expect("a login");
        let reply: Value =
            serde_json::from_str(&reply.body_mut().read_to_string().expect("text")).expect("JSON");
        let token = reply["access_token"].as_str().expect("a token").to_owned();
        Self { child, url, token }
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> Reply {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("Authorization", format!("Bearer {}", self.token))
            .header("Content-Type", "application/json");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut response = agent().run(request.body(body).expect("a request")).expect("an answer");
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string().expect("text");
        Reply { status, headers: Default::default(), text }
    }

    fn data(&self, method: &str, path: &str, body: &Value) -> Reply {
        self.send(method, &format!("/services/data/v66.0{path}"), body)
    }

    fn control(&self, method: &str, path: &str, body: &Value) -> Value {
        let reply = self.send(method, &format!("/control{path}"), body);
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.json()
    }

    fn account(&self, body: &Value) -> String {
        let reply = self.data("POST", "/sobjects/Account", body);
        assert_eq!(reply.status, 201, "{}", reply.text);
        reply.json()["id"].as_str().expect("an id").to_owned()
    }

    fn all(&self, soql: &str) -> Value {
        self.data("GET", &format!("/queryAll?q={}", encode(soql)), &Value::Null).json()["records"]
            .clone()
    }

    fn end(mut self, signal: &str) -> bool {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status().expect("a signal");
        assert!(sent.success());
        self.child.wait().expect("an end").success()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what} took too long");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_org_that_was_stopped_goes_on_where_it_was() {
    let place = Place::new("persist-stopped");
    let org = Running::start(&place.file());
    let field = json!({"name": "Score__c", "type": "double", "precision": 18, "scale": 4});
    org.control("POST", "/objects/Account/fields", &field);
    let title = json!({"name": "Title__c", "type": "string", "formula": "Name & '!'"});
    org.control("POST", "/objects/Account/fields", &title);
    org.control("POST", "/settings", &json!({"clock_skew_ms": 3_600_000}));
    org.control("POST", "/duplicate_rules", &json!({"object": "Account", "fields": ["Phone"]}));
    org.control("POST", "/clients", &json!({"client_id": "other", "client_secret": "s"}));
    let kept = org.account(
        &json!({"Name": "Kept", "Score__c": 0.1234567890123, "Phone": "1", "External_Id__c": "k"}),
    );
    let gone = org.account(&json!({"Name": "Gone"}));
    let contact = json!({"LastName": "King", "Account": {"External_Id__c": "k"}});
    let contact = org.data("POST", "/sobjects/Contact", &contact).json()["id"].clone();
    let contact = contact.as_str().expect("an id").to_owned();
    org.control("POST", &format!("/records/{gone}/purge"), &Value::Null);
    org.data("DELETE", &format!("/sobjects/Account/{kept}"), &Value::Null);
    let soql =
        "SELECT Id, Name, Score__c, Title__c, IsDeleted, SystemModstamp, CreatedById FROM Account";
    let (before, state) = (org.all(soql), org.control("GET", "", &Value::Null));
    let events = org.control("GET", "/events", &Value::Null);
    assert!(org.end("-TERM"));

    let org = Running::start(&place.file());
    assert_eq!(org.all(soql), before);
    let again = org.control("GET", "", &Value::Null);
    for same in ["org_id", "integration_user", "clock_skew_ms", "records"] {
        assert_eq!(again[same], state[same], "{same}");
    }
    assert!(again["now"].as_str() >= state["now"].as_str());
    let told = org.control("GET", "/events", &Value::Null);
    assert_eq!((&told["latest"], &told["objects"]), (&events["latest"], &events["objects"]));
    // What went together comes back together, rules hold, and no id is given twice.
    org.control("POST", &format!("/records/{kept}/undelete"), &Value::Null);
    let back = org.data("GET", &format!("/sobjects/Contact/{contact}"), &Value::Null).json();
    assert_eq!(back["AccountId"], json!(kept));
    let duplicate = org.data("POST", "/sobjects/Account", &json!({"Name": "B", "Phone": "1"}));
    assert_eq!(duplicate.code(), "DUPLICATES_DETECTED");
    let by_key = org.data("PATCH", "/sobjects/Account/External_Id__c/K", &json!({"Name": "Found"}));
    assert_eq!((by_key.status, &by_key.json()["id"]), (200, &json!(kept)));
    let new = org.account(&json!({"Name": "New"}));
    assert!(new > gone, "{new} {gone}");
    let form = "grant_type=client_credentials&client_id=other&client_secret=s";
    let reply = agent().post(format!("{}/services/oauth2/token", org.url)).send(form);
    assert_eq!(reply.expect("an answer").status(), 200);
}

#[test]
fn what_was_saved_is_found_after_a_kill() {
    let place = Place::new("persist-killed");
    let file = place.file();
    let org = Running::start(&file);
    let first = org.account(&json!({"Name": "Saved record"}));
    let saved = || fs::read_to_string(&file).is_ok_and(|text| text.contains("Saved record"));
    until("saving", saved);
    let latest = org.control("GET", "/events", &Value::Null)["latest"].clone();
    let lost = org.account(&json!({"Name": "Lost, maybe"}));
    assert!(!org.end("-KILL"));

    let org = Running::start(&file);
    let found = org.all("SELECT Id, Name FROM Account ORDER BY Name DESC");
    assert_eq!((&found[0]["Id"], &found[0]["Name"]), (&json!(first), &json!("Saved record")));
    // Nobody else gets the id or the place in the stream that may have been seen.
    let next = org.account(&json!({"Name": "Next"}));
    assert!(next > lost, "{next} {lost}");
    let now = org.control("GET", "/events", &Value::Null)["latest"].clone();
    assert!(now.as_str().is_some() && now != latest, "{now} {latest}");
    // Killed again before anything else was saved: the file still says that it had not stopped.
    assert!(!org.end("-KILL"));
    let org = Running::start(&file);
    let again = org.account(&json!({"Name": "Again"}));
    assert!(again > next, "{again} {next}");
}

#[test]
fn a_file_that_is_no_org_s_is_refused_by_its_name() {
    let place = Place::new("persist-refused");
    let file = place.file();
    let org = Running::start(&file);
    org.account(&json!({"Name": "A"}));
    // Nobody else may have the file meanwhile.
    let refused = |reason: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_local-org"))
            .args(["--persist", &file, "--until-stdin-closes"])
            .stdin(Stdio::null())
            .output()
            .expect("the program starts");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains(&file), "{told}");
        assert!(told.contains(reason), "{told}");
    };
    refused("another org uses");
    assert!(org.end("-TERM"));
    let whole = fs::read(&file).expect("a state");
    for (bytes, reason) in [
        (&whole[..whole.len() / 2], "torn"),
        (&whole[..30], "ends in its first line"),
        (&b""[..], "does not begin like one"),
        (&b"{\"name\": \"something else\"}"[..], "does not begin like one"),
    ] {
        fs::write(&file, bytes).expect("written");
        refused(reason);
        // It is left as it was.
        assert_eq!(fs::read(&file).expect("a file"), bytes);
    }
    let mut changed = whole.clone();
    if let Some(byte) = changed.last_mut() {
        *byte ^= 1;
    }
    fs::write(&file, &changed).expect("written");
    refused("torn");
    fs::write(&file, &whole).expect("written");
    let org = Running::start(&file);
    assert_eq!(org.all("SELECT Name FROM Account")[0]["Name"], "A");
}

#[test]
fn every_object_of_a_full_org_comes_back_as_it_was() {
    let place = Place::new("persist-full");
    let options = || Options {
        persist: Some(place.file().into()),
        seed_data: true,
        person_accounts: true,
        objects: vec![local_org::specimen()],
        ..Options::default()
    };
    let org = LocalOrg::start(options()).expect("an org");
    let values = json!({"Number__c": 0.1 + 0.2, "Tags__c": "Two;One", "Notes__c": "a\r\nb\u{1F600}", "Moment__c": "2026-05-01T07:25:37.000Z"});
    org.insert("Specimen__c", values).expect("a specimen");
    org.insert("Account", json!({"LastName": "King"})).expect("a person");
    let names =
        ["Account", "Contact", "Case", "Lead", "Opportunity", "User", "Profile", "Specimen__c"];
    let all = |org: &LocalOrg| names.map(|name| org.all_records(name));
    let before = all(&org);
    org.stop().expect("saved");
    let org = LocalOrg::start(options()).expect("an org");
    assert_eq!(all(&org), before);
    assert_eq!(org.count("Account"), 13);
}
