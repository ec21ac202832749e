//! Price books and events (Object reference: Pricebook2, PricebookEntry, Event).

use super::{list, lookup, text};
use crate::schema::{Field, FieldType, Object};
use FieldType::{Boolean, Combobox, Currency, Date, DateTime, Int, String, TextArea};

pub(super) fn objects() -> Vec<Object> {
    vec![price_book(), price_book_entry(), event()]
}

fn price_book() -> Object {
    Object::new("Pricebook2", "01s")
        .with(text("Name", "Price Book Name", 255).required().name_field())
        .with(text("Description", "Description", 255))
        .with(Field::new("IsActive", Boolean).label("Active"))
        .with(Field::new("IsArchived", Boolean).label("Is Archived").read_only())
        .with(Field::new("IsStandard", Boolean).label("Is Standard Price Book").read_only())
}

/// It stays with its product and its book.
fn price_book_entry() -> Object {
    let parent = |name: &str, label: &str, object: &str| {
        let mut field = lookup(name, label, &[object]).children("PricebookEntries").required();
        field.updateable = false;
        field
    };
    let of_product = |name: &str, label: &str| {
        Field::new(name, String).label(label).length(255).formula(&format!("Product2.{name}"))
    };
    Object::new("PricebookEntry", "01u")
        .with(of_product("Name", "Product Name").name_field())
        .with(parent("Pricebook2Id", "Price Book ID", "Pricebook2"))
        .with(parent("Product2Id", "Product ID", "Product2").cascade())
        .with(Field::new("UnitPrice", Currency).label("List Price").digits(16, 2).required())
        .with(Field::new("IsActive", Boolean).label("Active"))
        .with(Field::new("UseStandardPrice", Boolean).label("Use Standard Price"))
        .with(of_product("ProductCode", "Product Code"))
        .with(Field::new("IsArchived", Boolean).label("Is Archived").read_only())
}

fn event() -> Object {
    Object::new("Event", "00U")
        .with(lookup("WhoId", "Name ID", &["Contact", "Lead"]).children("Events"))
        .with(
            lookup("WhatId", "Related To ID", &["Account", "Campaign", "Case", "Opportunity"])
                .children("Events"),
        )
        .with(Field::new("Subject", Combobox).label("Subject").name_field())
        .with(text("Location", "Location", 255))
        .with(Field::new("IsAllDayEvent", Boolean).label("All-Day Event"))
        .with(Field::new("ActivityDateTime", DateTime).label("Due Date Time"))
        .with(Field::new("ActivityDate", Date).label("Due Date Only"))
        .with(Field::new("DurationInMinutes", Int).label("Duration"))
        .with(Field::new("StartDateTime", DateTime).label("Start Date Time"))
        .with(Field::new("EndDateTime", DateTime).label("End Date Time"))
        .with(Field::new("EndDate", Date).label("End Date").read_only())
        .with(Field::new("Description", TextArea).label("Description").length(32_000))
        .with(Field::new("IsPrivate", Boolean).label("Private"))
        .with(
            list("ShowAs", "Show Time As", &["Busy", "OutOfOffice", "Free"]).default_value("Busy"),
        )
        .with(Field::new("IsReminderSet", Boolean).label("Reminder Set"))
        .with(Field::new("ReminderDateTime", DateTime).label("Reminder Date/Time"))
}
