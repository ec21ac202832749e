//! The org as a whole: everything that requests read and change.

use crate::bulk::Jobs;
use crate::calls::Calls;
use crate::duplicates::{DuplicateRule, Insistence};
use crate::events::{Author, Bus};
use crate::faults::Faults;
use crate::history::{self, Edit};
use crate::moment::{self, Clock};
use crate::options::Options;
use crate::rest::query::Cursors;
use crate::rollup::Stale;
use crate::rules::Rule;
use crate::schema::{Field, Object};
use crate::session::Sessions;
use crate::table::{Row, Table};
use crate::value::Manners;
use crate::{ApiError, id, person, standard};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Instant;

/// On whose behalf something is done.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) user: String,
    /// Field-level security and faults of single records hold for the API; the control endpoint is above them.
    pub(crate) api: bool,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) insistence: Insistence,
}

/// A write by somebody else that is not committed yet.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) due: Instant,
    pub(crate) object: String,
    pub(crate) row: Row,
}

/// A record that is gone for good, and when it was deleted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Purged {
    pub(crate) object: String,
    pub(crate) id: String,
    pub(crate) stamp: String,
}

pub(crate) struct Org {
    /// Where it can be reached.
    pub(crate) url: String,
    pub(crate) objects: Vec<Object>,
    pub(crate) schema_changed: moment::Millis,
    pub(crate) tables: HashMap<String, Table>,
    pub(crate) clock: Clock,
    pub(crate) sessions: Sessions,
    pub(crate) calls: Calls,
    pub(crate) faults: Faults,
    pub(crate) rules: Vec<Rule>,
    pub(crate) duplicate_rules: Vec<DuplicateRule>,
    pub(crate) stale: Stale,
    /// How often something changed that outlives the program.
    pub(crate) changes: u64,
    pub(crate) cursors: Cursors,
    pub(crate) jobs: Jobs,
    pub(crate) pending: Vec<Pending>,
    pub(crate) manners: Manners,
    /// The calls of a day, and how many are used.
    pub(crate) daily_limit: u64,
    pub(crate) used: u64,
    /// When the day began of which they are.
    pub(crate) day_began: moment::Millis,
    /// What was asked for and is not served, by name.
    pub(crate) unserved: BTreeMap<String, u64>,
    pub(crate) org_id: String,
    pub(crate) integration_user: String,
    pub(crate) other_user: String,
    security_token: String,
    /// What each row was before the writes of the running transaction, oldest first.
    journal: Vec<(String, String, Option<Row>)>,
    /// What was deleted and is not in the recycle bin any more.
    pub(crate) purged: Vec<Purged>,
    /// Every committed edit, if it was asked for.
    pub(crate) history: Option<Vec<Edit>>,
    pub(crate) events: Bus,
}

impl Org {
    pub(crate) fn new(url: String, options: Options) -> Result<Self, ApiError> {
        let mut org = Self {
            url,
            objects: Vec::new(),
            schema_changed: 0,
            tables: HashMap::new(),
            clock: Clock::default(),
            sessions: Sessions::new(),
            calls: Calls::default(),
            faults: Faults::default(),
            rules: Vec::new(),
            duplicate_rules: Vec::new(),
            stale: Stale::default(),
            changes: 0,
            cursors: Cursors::default(),
            jobs: Jobs::default(),
            pending: Vec::new(),
            manners: options.manners,
            daily_limit: options.daily_limit,
            used: 0,
            day_began: moment::system(),
            unserved: BTreeMap::new(),
            org_id: id::numbered("00D", 1),
            integration_user: id::numbered("005", 1),
            other_user: id::numbered("005", 2),
            security_token: options.security_token,
            journal: Vec::new(),
            purged: Vec::new(),
            history: options.history.then(Vec::new),
            events: Bus::new(),
        };
        org.sessions.set_client(&options.client_id, &options.client_secret);
        if let Some(certificate) = options.certificate {
            org.set_certificate(&options.client_id, certificate)?;
        }
        org.sessions.passwords.insert(org.integration_user.clone(), options.password);
        let mut objects = standard::objects(options.external_id);
        if options.person_accounts {
            person::enable(&mut objects);
        }
        for object in objects {
            org.define_object(object)?;
        }
        for object in options.objects {
            org.define_object(object)?;
        }
        for (object, field) in options.fields {
            org.define_field(&object, field)?;
        }
        for rule in options.duplicate_rules {
            org.add_duplicate_rule(rule)?;
        }
        let administrator = org.set_up()?;
        org.add_user("Integration", "integration@example.com", &administrator)?;
        org.add_user("Somebody Else", "somebody@example.com", &administrator)?;
        if options.seed_data {
            org.plant()?;
        }
        org.commit();
        org.select(&options.change_events)?;
        Ok(org)
    }

    /// The records that every org has; tells the id of the administrators' profile.
    fn set_up(&mut self) -> Result<String, ApiError> {
        let system = self.system(self.integration_user.clone());
        let mut profiles = Vec::new();
        for (object, values) in standard::records() {
            let id = self.create(&system, object, &values)?;
            if object == "Profile" {
                let set = standard::of_profile(&id, profiles.is_empty());
                self.create(&system, "PermissionSet", &set)?;
                profiles.push(id);
            }
        }
        profiles.into_iter().next().ok_or_else(ApiError::not_found)
    }

    fn add_user(&mut self, name: &str, username: &str, profile: &str) -> Result<(), ApiError> {
        let (first, last) = name.split_once(' ').unwrap_or(("", name));
        let first = if first.is_empty() { Value::Null } else { first.into() };
        let body = json!({
            "Username": username, "Email": username, "Alias": last.get(..5).unwrap_or(last),
            "IsActive": true, "FirstName": first, "LastName": last, "ProfileId": profile,
        });
        if let Value::Object(body) = body {
            let system = self.system(self.integration_user.clone());
            let user = self.create(&system, "User", &body)?;
            let sets = self.table("PermissionSet").into_iter().flat_map(|table| table.rows());
            let set = sets.filter(|row| row.text("ProfileId") == profile).map(|row| row.id.clone());
            let set = set.last().map_or(Value::Null, Value::from);
            let assigned = Map::from_iter([
                ("AssigneeId".to_owned(), user.into()),
                ("PermissionSetId".to_owned(), set),
            ]);
            self.create(&system, "PermissionSetAssignment", &assigned)?;
        }
        Ok(())
    }

    /// The certificate by which a client's assertions are checked from now on.
    pub(crate) fn set_certificate(&mut self, client: &str, pem: String) -> Result<(), ApiError> {
        let certificate = pem.try_into().map_err(ApiError::json)?;
        let app = self.sessions.apps.get_mut(client).ok_or_else(ApiError::not_found)?;
        app.certificate = Some(certificate);
        Ok(())
    }

    /// The id of the user with this username.
    pub(crate) fn user_named(&self, name: &str) -> Option<String> {
        let found = self.table("User")?.with_key("Username", &name.into())?;
        found.first().map(|id| (*id).to_owned())
    }

    pub(crate) fn is_active(&self, user: &str) -> bool {
        self.row(user).is_some_and(|row| *row.get("IsActive") == true)
    }

    /// The active user who may log in so. The security token is not needed: this machine's address is taken for a
    /// trusted one (Salesforce help, Set Trusted IP Ranges for Your Org).
    pub(crate) fn user_with_password(&self, name: &str, password: &str) -> Option<String> {
        let user = self.user_named(name).filter(|user| self.is_active(user))?;
        let right = self.sessions.passwords.get(&user)?;
        let rest = password.strip_prefix(right.as_str())?;
        (rest.is_empty() || rest == self.security_token).then_some(user)
    }

    pub(crate) fn system(&self, user: String) -> Caller {
        Caller {
            user,
            api: false,
            method: String::new(),
            path: String::new(),
            insistence: Insistence::default(),
        }
    }

    pub(crate) fn object(&self, name: &str) -> Option<&Object> {
        self.objects.iter().find(|o| o.name.eq_ignore_ascii_case(name))
    }

    pub(crate) fn object_mut(&mut self, name: &str) -> Result<&mut Object, ApiError> {
        self.objects
            .iter_mut()
            .find(|o| o.name.eq_ignore_ascii_case(name))
            .ok_or_else(ApiError::not_found)
    }

    /// The object and the field behind the name that records of an object have for their children: `Contacts`.
    pub(crate) fn child_relationship(&self, object: &str, name: &str) -> Option<(String, String)> {
        let of_child = |child: &Object| {
            let mut fields = child.fields.iter().filter(|f| f.visible);
            let field = fields.find(|f| {
                f.reference_to.iter().any(|o| o.eq_ignore_ascii_case(object))
                    && f.children.as_deref().is_some_and(|c| c.eq_ignore_ascii_case(name))
            })?;
            Some((child.name.clone(), field.name.clone()))
        };
        self.objects.iter().find_map(of_child)
    }

    /// The object that the first characters of an id tell.
    pub(crate) fn object_of(&self, id: &str) -> Option<&Object> {
        self.objects.iter().find(|o| id.starts_with(&o.key_prefix))
    }

    /// `object` by its own name, as [`Object::name`] has it.
    pub(crate) fn table(&self, object: &str) -> Option<&Table> {
        self.tables.get(object)
    }

    pub(crate) fn row(&self, id: &str) -> Option<&Row> {
        self.object_of(id).and_then(|object| self.tables.get(&object.name)?.get(id))
    }

    pub(crate) fn next_number(&mut self, object: &str) -> u64 {
        let table = self.tables.entry(object.to_owned()).or_default();
        table.last_number += 1;
        table.last_number
    }

    pub(crate) fn next_serial(&mut self, object: &str) -> u64 {
        let table = self.tables.entry(object.to_owned()).or_default();
        table.last_serial += 1;
        table.last_serial
    }

    /// Puts a row in, or takes it out, inside the running transaction.
    pub(crate) fn put(&mut self, object: &str, id: &str, row: Option<Row>) {
        let table = self.tables.entry(object.to_owned()).or_default();
        let old = table.replace(id, row);
        self.stale.note(object, old.as_ref(), table.get(id));
        self.journal.push((object.to_owned(), id.to_owned(), old));
    }

    /// Where the running transaction is, for going back to.
    pub(crate) fn savepoint(&self) -> usize {
        self.journal.len()
    }

    pub(crate) fn roll_back(&mut self, savepoint: usize) {
        while self.journal.len() > savepoint
            && let Some((object, id, old)) = self.journal.pop()
        {
            self.tables.entry(object).or_default().replace(&id, old);
        }
    }

    pub(crate) fn commit(&mut self) {
        self.roll_up();
        let journal = std::mem::take(&mut self.journal);
        self.changes += u64::from(!journal.is_empty());
        self.publish(&journal);
        self.note_purged(&journal);
        let Some(kept) = &mut self.history else { return };
        let mut seen = HashSet::new();
        for (object, id, old) in &journal {
            // Several writes of a record in one transaction are one edit.
            if !seen.insert(id) {
                continue;
            }
            let new = self.tables.get(object).and_then(|table| table.get(id));
            kept.extend(history::edits(object, id, old.as_ref(), new));
        }
    }

    fn note_purged(&mut self, journal: &[(String, String, Option<Row>)]) {
        for (object, id, old) in journal {
            let gone = self.tables.get(object).is_none_or(|table| table.get(id).is_none());
            if let Some(old) = old.as_ref().filter(|_| gone) {
                let stamp = if old.deleted { old.stamp().to_owned() } else { self.now() };
                self.purged.push(Purged { object: object.clone(), id: id.clone(), stamp });
            }
        }
    }

    /// Makes the writes of others visible whose time has come.
    pub(crate) fn settle(&mut self, all: bool) {
        let now = Instant::now();
        let mut index = 0;
        while index < self.pending.len() {
            if all || self.pending[index].due <= now {
                let Pending { object, row, .. } = self.pending.remove(index);
                self.changes += 1;
                let id = row.id.clone();
                let author = Author::person(row.text("LastModifiedById"));
                let table = self.tables.entry(object.clone()).or_default();
                let old = table.replace(&id, Some(row));
                self.stale.note(&object, old.as_ref(), table.get(&id));
                let running = self.events.author.replace(author);
                self.publish(&[(object, id, old)]);
                self.events.author = running;
            } else {
                index += 1;
            }
        }
        if !self.stale.is_empty() {
            self.commit();
        }
    }

    /// The org's time in whole seconds, as records have it.
    pub(crate) fn now(&mut self) -> String {
        let now = self.clock.now();
        moment::text(now.div_euclid(1000) * 1000)
    }

    pub(crate) fn count_unserved(&mut self, what: impl Into<String>) {
        *self.unserved.entry(what.into()).or_default() += 1;
    }

    /// A stored or computed value of a row.
    pub(crate) fn value(&self, object: &Object, row: &Row, field: &Field) -> Value {
        if let Some(expression) = &field.expression {
            return expression.value(self, object, row, field);
        }
        if field.kind == crate::FieldType::Address {
            return address(object, row, field);
        }
        match field.name.as_str() {
            "Id" => row.id.clone().into(),
            "IsDeleted" => row.deleted.into(),
            name if field.kind == crate::FieldType::Boolean => {
                row.values.get(name).cloned().unwrap_or(Value::Bool(false))
            }
            name => row.get(name).clone(),
        }
    }

    /// A record with all its fields, for tests and the control endpoint.
    pub(crate) fn record(&self, row: &Row) -> Value {
        let mut map = Map::new();
        if let Some(object) = self.object_of(&row.id) {
            for field in &object.fields {
                map.insert(field.name.clone(), self.value(object, row, field));
            }
        }
        Value::Object(map)
    }

    /// `attributes`, as each record on the wire has them.
    pub(crate) fn attributes(&self, object: &str, id: &str, version: &str) -> Value {
        json!({"type": object, "url": format!("/services/data/v{version}/sobjects/{object}/{id}")})
    }
}

/// An address of its parts; null where all of them are (Object reference, Address Compound Fields).
fn address(object: &Object, row: &Row, field: &Field) -> Value {
    let stem = field.name.trim_end_matches("Address");
    let part = |name: &str| {
        let name = format!("{stem}{name}");
        object.visible(&name).map_or(Value::Null, |f| row.get(&f.name).clone())
    };
    let parts = [
        ("city", part("City")),
        ("country", part("Country")),
        ("geocodeAccuracy", Value::Null),
        ("latitude", part("Latitude")),
        ("longitude", part("Longitude")),
        ("postalCode", part("PostalCode")),
        ("state", part("State")),
        ("street", part("Street")),
    ];
    if parts.iter().all(|(_, value)| value.is_null()) {
        return Value::Null;
    }
    Value::Object(parts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}
