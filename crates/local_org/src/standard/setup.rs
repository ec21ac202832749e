//! What an org knows of itself and of who may do what (Object reference: Organization, Profile, PermissionSet,
//! PermissionSetAssignment), and the records that are there from the start.

use super::text;
use crate::schema::{Field, FieldType, Object};
use FieldType::{Boolean, Date, Phone, Picklist, Reference};
use serde_json::{Map, Value, json};

/// Permissions of a user that a client may ask for, each a field.
const PERMISSIONS: [&str; 6] = [
    "PermissionsApiEnabled",
    "PermissionsBulkApiHardDelete",
    "PermissionsEditTask",
    "PermissionsModifyAllData",
    "PermissionsViewAllData",
    "PermissionsViewSetup",
];

pub(super) fn objects() -> Vec<Object> {
    vec![organization(), profile(), permission_set(), permission_set_assignment()]
}

fn closed(name: &str, prefix: &str) -> Object {
    let mut object = Object::new(name, prefix);
    (object.createable, object.updateable, object.deletable) = (false, false, false);
    object
}

fn organization() -> Object {
    closed("Organization", "00D")
        .with(text("Name", "Name", 80).required().name_field())
        .with(text("Division", "Division", 80))
        .with(Field::new("Phone", Phone).label("Phone"))
        .with(text("PrimaryContact", "Primary Contact", 80))
        .with(Field::new("DefaultLocaleSidKey", Picklist).label("Locale").length(40))
        .with(Field::new("LanguageLocaleKey", Picklist).label("Language").length(40))
        .with(Field::new("TimeZoneSidKey", Picklist).label("Time Zone").length(40))
        .with(text("NamespacePrefix", "Namespace Prefix", 15).read_only())
        .with(text("InstanceName", "Instance Name", 5).read_only())
        .with(Field::new("IsSandbox", Boolean).label("Is Sandbox").read_only())
        .with(
            Field::new("OrganizationType", Picklist)
                .label("Edition")
                .length(40)
                .values(&["Developer Edition", "Enterprise Edition", "Unlimited Edition"])
                .read_only(),
        )
        .with(Field::new("TrialExpirationDate", FieldType::DateTime).label("Trial End").read_only())
        .with(text("WebToCaseDefaultOrigin", "Web to Cases Default Origin", 40))
}

fn with_permissions(mut object: Object) -> Object {
    for name in PERMISSIONS {
        object.put(Field::new(name, Boolean).label(name.trim_start_matches("Permissions")));
    }
    object
}

fn profile() -> Object {
    let profile = closed("Profile", "00e")
        .with(text("Name", "Name", 255).required().name_field())
        .with(text("Description", "Description", 255))
        .with(Field::new("UserType", Picklist).label("User Type").length(40).read_only());
    with_permissions(profile)
}

fn permission_set() -> Object {
    let set = closed("PermissionSet", "0PS")
        .with(text("Name", "Permission Set Name", 80).required().name_field())
        .with(text("Label", "Permission Set Label", 80).required())
        .with(text("Description", "Description", 255))
        .with(Field::new("ProfileId", Reference).label("Profile ID").references(&["Profile"]))
        .with(Field::new("IsOwnedByProfile", Boolean).label("Is Owned By Profile").read_only())
        .with(Field::new("IsCustom", Boolean).label("Custom").read_only());
    with_permissions(set)
}

fn permission_set_assignment() -> Object {
    closed("PermissionSetAssignment", "0Pa")
        .with(
            Field::new("AssigneeId", Reference)
                .label("Assignee ID")
                .references(&["User"])
                .required(),
        )
        .with(
            Field::new("PermissionSetId", Reference)
                .label("PermissionSet ID")
                .references(&["PermissionSet"])
                .children("Assignments")
                .required(),
        )
        .with(Field::new("ExpirationDate", Date).label("Expires On"))
}

fn permissions(all: bool) -> Map<String, Value> {
    let given =
        |name: &str| all || ["PermissionsApiEnabled", "PermissionsEditTask"].contains(&name);
    PERMISSIONS.iter().map(|name| ((*name).to_owned(), given(name).into())).collect()
}

/// The records of these objects, in an order in which each finds those that it points to, with the ones that
/// others point to.
pub(crate) fn records() -> Vec<(&'static str, Map<String, Value>)> {
    let organization = json!({
        "Name": "Local Org", "OrganizationType": "Developer Edition", "InstanceName": "LOC0", "IsSandbox": false,
        "DefaultLocaleSidKey": "en_US", "LanguageLocaleKey": "en_US", "TimeZoneSidKey": "Etc/UTC",
    });
    let profile = |name: &str| json!({"Name": name, "UserType": "Standard"});
    let price_book = json!({"Name": "Standard Price Book", "IsActive": true, "IsStandard": true});
    let list = [
        ("Organization", organization, Map::new()),
        ("Profile", profile("System Administrator"), permissions(true)),
        ("Profile", profile("Standard User"), permissions(false)),
        ("Pricebook2", price_book, Map::new()),
    ];
    list.into_iter()
        .map(|(object, values, more)| {
            let values = values.as_object().cloned().unwrap_or_default();
            (object, values.into_iter().chain(more).collect())
        })
        .collect()
}

/// Each profile has a permission set of its own, which its users are assigned to.
pub(crate) fn of_profile(profile: &str, all: bool) -> Map<String, Value> {
    let name = format!("X{profile}");
    let set = json!({"Name": name, "Label": name, "ProfileId": profile, "IsOwnedByProfile": true});
    set.as_object().cloned().unwrap_or_default().into_iter().chain(permissions(all)).collect()
}
