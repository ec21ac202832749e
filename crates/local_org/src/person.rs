//! Person accounts: an account that is a person, with a contact as its other half (Salesforce help, Person Accounts;
//! Object reference, Account and Contact). An account that is created with a last name is one; there are no record
//! types here that would tell otherwise.

use crate::ApiError;
use crate::org::{Caller, Org};
use crate::save::closed_fields;
use crate::schema::{Field, FieldType, Object};
use crate::table::Row;
use serde_json::{Map, Value};

/// Fields that both halves have, by the names of the account and of the contact.
const SHARED: [(&str, &str); 19] = [
    ("LastName", "LastName"),
    ("FirstName", "FirstName"),
    ("Salutation", "Salutation"),
    ("PersonEmail", "Email"),
    ("PersonMobilePhone", "MobilePhone"),
    ("PersonTitle", "Title"),
    ("PersonDepartment", "Department"),
    ("PersonLeadSource", "LeadSource"),
    ("PersonBirthdate", "Birthdate"),
    ("PersonHasOptedOutOfEmail", "HasOptedOutOfEmail"),
    ("PersonDoNotCall", "DoNotCall"),
    ("PersonMailingStreet", "MailingStreet"),
    ("PersonMailingCity", "MailingCity"),
    ("PersonMailingState", "MailingState"),
    ("PersonMailingPostalCode", "MailingPostalCode"),
    ("PersonMailingCountry", "MailingCountry"),
    ("PersonMailingLatitude", "MailingLatitude"),
    ("PersonMailingLongitude", "MailingLongitude"),
    ("Phone", "Phone"),
];

/// Adds to both objects what they have once person accounts are enabled.
pub(crate) fn enable(objects: &mut [Object]) {
    let Some(contact) = objects.iter().find(|o| o.name == "Contact").cloned() else { return };
    let is_person =
        || Field::new("IsPersonAccount", FieldType::Boolean).label("Is Person Account").read_only();
    for object in objects {
        match object.name.as_str() {
            "Account" => {
                for (name, twin) in SHARED {
                    let Some(mut field) = contact.field(twin).filter(|_| name != "Phone").cloned()
                    else {
                        continue;
                    };
                    name.clone_into(&mut field.name);
                    (field.required, field.id_lookup) = (false, false);
                    let compound = field.compound.as_deref();
                    field.compound = match compound {
                        Some("MailingAddress") => Some("PersonMailingAddress".into()),
                        other => other.map(str::to_owned),
                    };
                    object.put(field);
                }
                object.put(
                    Field::new("PersonMailingAddress", FieldType::Address).label("Mailing Address"),
                );
                object.put(is_person());
                object.put(
                    Field::new("PersonContactId", FieldType::Reference)
                        .label("Contact ID")
                        .references(&["Contact"])
                        .read_only(),
                );
            }
            "Contact" => object.put(is_person()),
            _ => {}
        }
    }
}

pub(crate) fn is_person(row: &Row) -> bool {
    *row.get("IsPersonAccount") == true
}

/// Whether a new record becomes a person account.
pub(crate) fn is_wanted(object: &Object, given: &Map<String, Value>) -> bool {
    object.name == "Account"
        && object.field("IsPersonAccount").is_some()
        && given.get("LastName").is_some_and(|name| !name.is_null())
}

/// A person's name is made of its parts, and a business has nothing of a person.
pub(crate) fn check_fields(
    object: &Object,
    given: &Map<String, Value>,
    person: bool,
) -> Result<(), ApiError> {
    if object.name != "Account" || object.field("IsPersonAccount").is_none() {
        return Ok(());
    }
    let foreign = |name: &&str| {
        let of_person = SHARED.iter().any(|(n, _)| n == name) && *name != "Phone";
        if person { *name == "Name" } else { of_person && given[*name] != false }
    };
    let closed: Vec<&str> = given.keys().map(String::as_str).filter(foreign).collect();
    if closed.is_empty() { Ok(()) } else { Err(closed_fields(&closed)) }
}

impl Org {
    /// The API changes the contact of a person by way of the account alone.
    pub(crate) fn check_half(
        &self,
        caller: &Caller,
        object: &Object,
        row: &Row,
    ) -> Result<(), ApiError> {
        if !caller.api || object.name != "Contact" || !is_person(row) {
            return Ok(());
        }
        let message = "the contact of a person account is changed by way of the account";
        Err(ApiError::record("INSUFFICIENT_ACCESS_OR_READONLY", message, &[]))
    }

    /// Makes the other half of a person, or has it follow.
    pub(crate) fn mirror(&mut self, caller: &Caller, account: &str) -> Result<(), ApiError> {
        // The other half is marked as a person too.
        let row = self.table("Account").and_then(|table| table.get(account));
        let Some(row) = row.filter(|row| is_person(row)).cloned() else { return Ok(()) };
        let caller = Caller { api: false, ..caller.clone() };
        let contact = row.text("PersonContactId");
        let shared = SHARED.iter().map(|(own, twin)| (*twin, row.get(own).clone()));
        if let Some(half) = self.row(contact) {
            let moved = shared.filter(|(twin, value)| half.get(twin) != value);
            let moved: Map<String, Value> = moved.map(|(n, v)| (n.to_owned(), v)).collect();
            let contact = contact.to_owned();
            return if moved.is_empty() { Ok(()) } else { self.update(&caller, &contact, &moved) };
        }
        let shared = shared.filter(|(_, value)| !value.is_null());
        let mut values: Map<String, Value> = shared.map(|(n, v)| (n.to_owned(), v)).collect();
        values.insert("AccountId".into(), account.into());
        values.insert("IsPersonAccount".into(), true.into());
        let contact = self.create(&caller, "Contact", &values)?;
        let mut row = row;
        row.values.insert("PersonContactId".into(), contact.into());
        self.put("Account", account, Some(row));
        Ok(())
    }
}
