//! The objects that are there from the start, with the fields of a Developer Edition that a sync is
//! likely to meet (Object reference: Account, Contact, Lead, Opportunity, User; the modules have further ones).

mod sales;
mod service;
mod setup;

use crate::schema::{Field, FieldType, Object};
use FieldType::{
    Address, Boolean, Currency, Date, DateTime, Double, Email, Int, MultiPicklist, Percent, Phone,
    Picklist, Reference, String, TextArea, Url,
};
pub(crate) use setup::{of_profile, records};

const INDUSTRIES: [&str; 32] = [
    "Agriculture",
    "Apparel",
    "Banking",
    "Biotechnology",
    "Chemicals",
    "Communications",
    "Construction",
    "Consulting",
    "Education",
    "Electronics",
    "Energy",
    "Engineering",
    "Entertainment",
    "Environmental",
    "Finance",
    "Food & Beverage",
    "Government",
    "Healthcare",
    "Hospitality",
    "Insurance",
    "Machinery",
    "Manufacturing",
    "Media",
    "Not For Profit",
    "Recreation",
    "Retail",
    "Shipping",
    "Technology",
    "Telecommunications",
    "Transportation",
    "Utilities",
    "Other",
];
const SOURCES: [&str; 5] = ["Web", "Phone Inquiry", "Partner Referral", "Purchased List", "Other"];

/// Account has `External_Id__c`, unless it is not wanted.
pub(crate) fn objects(external_id: bool) -> Vec<Object> {
    let mut account = account();
    if external_id {
        account.put(
            Field::new("External_Id__c", String)
                .label("External Id")
                .length(80)
                .external_id()
                .unique(),
        );
    }
    let mut objects = vec![account, contact(), lead(), opportunity(), user()];
    objects.extend(service::objects());
    objects.extend(sales::objects());
    objects.extend(setup::objects());
    objects
}

fn text(name: &str, label: &str, length: u32) -> Field {
    Field::new(name, String).label(label).length(length)
}

fn list(name: &str, label: &str, values: &[&str]) -> Field {
    Field::new(name, Picklist).label(label).values(values)
}

fn lookup(name: &str, label: &str, objects: &[&str]) -> Field {
    Field::new(name, Reference).label(label).references(objects)
}

fn address(object: &mut Object, stem: &str, prefix: &str) {
    let compound = format!("{stem}Address");
    let part = |name: &str, kind, length| {
        let mut field = Field::new(format!("{stem}{name}"), kind).part_of(&compound);
        field.label = format!("{prefix}{name}");
        if length > 0 { field.length(length) } else { field }
    };
    object.put(part("Street", TextArea, 255));
    object.put(part("City", String, 40));
    object.put(part("State", String, 80));
    object.put(part("PostalCode", String, 20));
    object.put(part("Country", String, 80));
    object.put(part("Latitude", Double, 0).digits(18, 15));
    object.put(part("Longitude", Double, 0).digits(18, 15));
    object.put(Field::new(compound.clone(), Address).label(&format!("{prefix}Address")));
}

/// First and last name with the name that is made of both.
fn person(object: &mut Object) {
    object.put(text("LastName", "Last Name", 80).required().part_of("Name"));
    object.put(text("FirstName", "First Name", 40).part_of("Name"));
    object.put(
        Field::new("Salutation", Picklist)
            .label("Salutation")
            .length(40)
            .values(&["Mr.", "Ms.", "Mrs.", "Dr.", "Prof.", "Mx."])
            .part_of("Name"),
    );
    object.put(text("Name", "Full Name", 121).required().read_only().name_field());
}

/// What a record that was merged has become part of.
fn master_record(object: &str) -> Field {
    Field::new("MasterRecordId", Reference)
        .label("Master Record ID")
        .references(&[object])
        .read_only()
}

fn account() -> Object {
    let mut account = Object::new("Account", "001")
        .with(master_record("Account"))
        .with(text("Name", "Account Name", 255).required().name_field())
        .with(Field::new("Type", Picklist).label("Account Type").values(&[
            "Prospect",
            "Customer - Direct",
            "Customer - Channel",
            "Channel Partner / Reseller",
            "Other",
        ]))
        .with(
            Field::new("ParentId", Reference)
                .label("Parent Account ID")
                .references(&["Account"])
                .children("ChildAccounts"),
        )
        .with(Field::new("Phone", Phone).label("Account Phone"))
        .with(Field::new("Fax", Phone).label("Account Fax"))
        .with(text("AccountNumber", "Account Number", 40))
        .with(Field::new("Website", Url).label("Website"))
        .with(Field::new("Industry", Picklist).label("Industry").values(&INDUSTRIES))
        .with(Field::new("AnnualRevenue", Currency).label("Annual Revenue").digits(18, 0))
        .with(Field::new("NumberOfEmployees", Int).label("Employees"))
        .with(Field::new("Description", TextArea).label("Account Description").length(32_000))
        .with(
            Field::new("Rating", Picklist).label("Account Rating").values(&["Hot", "Warm", "Cold"]),
        )
        .with(text("Site", "Account Site", 80));
    address(&mut account, "Billing", "Billing ");
    address(&mut account, "Shipping", "Shipping ");
    account
}

fn contact() -> Object {
    let mut contact = Object::new("Contact", "003")
        .with(master_record("Contact"))
        .with(
            Field::new("AccountId", Reference)
                .label("Account ID")
                .references(&["Account"])
                .children("Contacts")
                .cascade(),
        )
        .with(Field::new("Phone", Phone).label("Business Phone"))
        .with(Field::new("MobilePhone", Phone).label("Mobile Phone"))
        .with(Field::new("Email", Email).label("Email").id_lookup())
        .with(text("Title", "Title", 128))
        .with(text("Department", "Department", 80))
        .with(Field::new("ReportsToId", Reference).label("Reports To ID").references(&["Contact"]))
        .with(Field::new("LeadSource", Picklist).label("Lead Source").values(&SOURCES))
        .with(Field::new("Birthdate", Date).label("Birthdate"))
        .with(Field::new("HasOptedOutOfEmail", Boolean).label("Email Opt Out"))
        .with(Field::new("DoNotCall", Boolean).label("Do Not Call"))
        .with(Field::new("Description", TextArea).label("Contact Description").length(32_000));
    person(&mut contact);
    address(&mut contact, "Mailing", "Mailing ");
    contact
}

fn lead() -> Object {
    let mut lead = Object::new("Lead", "00Q")
        .with(master_record("Lead"))
        .with(text("Title", "Title", 128))
        .with(text("Company", "Company", 255).required())
        .with(Field::new("Phone", Phone).label("Phone"))
        .with(Field::new("Email", Email).label("Email").id_lookup())
        .with(Field::new("Website", Url).label("Website"))
        .with(Field::new("LeadSource", Picklist).label("Lead Source").values(&SOURCES))
        .with(
            Field::new("Status", Picklist)
                .label("Status")
                .values(&[
                    "Open - Not Contacted",
                    "Working - Contacted",
                    "Closed - Converted",
                    "Closed - Not Converted",
                ])
                .required()
                .default_value("Open - Not Contacted"),
        )
        .with(Field::new("Industry", Picklist).label("Industry").values(&INDUSTRIES))
        .with(Field::new("AnnualRevenue", Currency).label("Annual Revenue").digits(18, 0))
        .with(Field::new("NumberOfEmployees", Int).label("Employees"))
        .with(Field::new("Description", TextArea).label("Description").length(32_000))
        .with(Field::new("IsConverted", Boolean).label("Converted").read_only());
    person(&mut lead);
    lead
}

fn opportunity() -> Object {
    Object::new("Opportunity", "006")
        .with(
            Field::new("AccountId", Reference)
                .label("Account ID")
                .references(&["Account"])
                .children("Opportunities")
                .cascade(),
        )
        .with(text("Name", "Name", 120).required().name_field())
        .with(Field::new("Description", TextArea).label("Description").length(32_000))
        .with(
            Field::new("StageName", Picklist)
                .label("Stage")
                .values(&[
                    "Prospecting",
                    "Qualification",
                    "Needs Analysis",
                    "Value Proposition",
                    "Id. Decision Makers",
                    "Perception Analysis",
                    "Proposal/Price Quote",
                    "Negotiation/Review",
                    "Closed Won",
                    "Closed Lost",
                ])
                .required(),
        )
        .with(Field::new("Amount", Currency).label("Amount").digits(18, 2))
        .with(Field::new("Probability", Percent).label("Probability (%)").digits(3, 0))
        .with(Field::new("CloseDate", Date).label("Close Date").required())
        .with(
            Field::new("Type", Picklist)
                .label("Opportunity Type")
                .values(&["Existing Business", "New Business"]),
        )
        .with(text("NextStep", "Next Step", 255))
        .with(Field::new("LeadSource", Picklist).label("Lead Source").values(&SOURCES))
        .with(Field::new("IsPrivate", Boolean).label("Private"))
}

fn user() -> Object {
    let mut user = Object::new("User", "005")
        .with(text("Username", "Username", 80).required().unique().id_lookup())
        .with(Field::new("Email", Email).label("Email").length(128).required())
        .with(text("Alias", "Alias", 8).required())
        .with(Field::new("IsActive", Boolean).label("Active"))
        .with(lookup("ProfileId", "Profile ID", &["Profile"]).required())
        .with(Field::new("LastLoginDate", DateTime).label("Last Login").read_only());
    person(&mut user);
    user.fields.retain(|field| field.name != "Salutation");
    (user.createable, user.deletable) = (false, false);
    user
}

/// One field of each kind that the standard objects lack, for tests.
pub fn specimen() -> Object {
    Object::new("Specimen__c", "a00")
        .with(text("Code__c", "Code", 40).external_id().unique())
        .with(text("Group__c", "Group", 40).external_id())
        .with(Field::new("Number__c", Double).digits(8, 2))
        .with(Field::new("Flag__c", Boolean).default_value(true))
        .with(Field::new("Day__c", Date))
        .with(Field::new("Moment__c", DateTime))
        .with(Field::new("Time__c", FieldType::Time))
        .with(Field::new("Colour__c", Picklist).values(&["Red", "Green", "Blue"]).restricted())
        .with(Field::new("Tags__c", MultiPicklist).values(&["One", "Two", "Three"]).restricted())
        .with(Field::new("Notes__c", TextArea).length(131_072))
        .with(Field::new("Title__c", String).formula(r#"Name & "/" & Code__c"#))
        .with(Field::new("Serial__c", String).length(30).auto_number("S-{0000}"))
        .with(Field::new("Account__c", Reference).references(&["Account"]))
}
