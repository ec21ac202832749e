//! Cases, activities, campaigns and products (Object reference: Case, Task, Campaign, Product2).

use super::{list, lookup, master_record, text};
use crate::schema::{Field, FieldType, Object};
use FieldType::{Boolean, Currency, Date, DateTime, Double, Email, Percent, Phone, TextArea, Url};

pub(super) fn objects() -> Vec<Object> {
    vec![case(), task(), campaign(), product()]
}

/// Neither an account nor a contact can be deleted while it has cases.
fn case() -> Object {
    Object::new("Case", "500")
        .with(master_record("Case"))
        .with(text("CaseNumber", "Case Number", 30).auto_number("{00000000}").name_field())
        .with(lookup("ContactId", "Contact ID", &["Contact"]).children("Cases").restrict())
        .with(lookup("AccountId", "Account ID", &["Account"]).children("Cases").restrict())
        .with(lookup("ParentId", "Parent Case ID", &["Case"]).children("Cases"))
        .with(text("SuppliedName", "Name", 80))
        .with(Field::new("SuppliedEmail", Email).label("Email Address"))
        .with(Field::new("SuppliedPhone", Phone).label("Phone"))
        .with(text("SuppliedCompany", "Company", 80))
        .with(list("Type", "Case Type", &["Mechanical", "Electrical", "Electronic", "Other"]))
        .with(
            list("Status", "Status", &["New", "Working", "Escalated", "Closed"])
                .default_value("New"),
        )
        .with(list(
            "Reason",
            "Case Reason",
            &[
                "Installation",
                "Equipment Complexity",
                "Performance",
                "Breakdown",
                "Equipment Design",
                "Feedback",
                "Other",
            ],
        ))
        .with(list("Origin", "Case Origin", &["Phone", "Email", "Web"]))
        .with(list("Priority", "Priority", &["High", "Medium", "Low"]).default_value("Medium"))
        .with(text("Subject", "Subject", 255))
        .with(Field::new("Description", TextArea).label("Description").length(32_000))
        .with(Field::new("IsEscalated", Boolean).label("Escalated"))
}

fn task() -> Object {
    Object::new("Task", "00T")
        .with(lookup("WhoId", "Name ID", &["Contact", "Lead"]).children("Tasks"))
        .with(
            lookup("WhatId", "Related To ID", &["Account", "Campaign", "Case", "Opportunity"])
                .children("Tasks"),
        )
        .with(Field::new("Subject", FieldType::Combobox).label("Subject").name_field())
        .with(Field::new("ActivityDate", Date).label("Due Date Only"))
        .with(
            list("Status", "Status", &["Not Started", "In Progress", "Completed", "Deferred"])
                .required()
                .default_value("Not Started"),
        )
        .with(
            list("Priority", "Priority", &["High", "Normal", "Low"])
                .required()
                .default_value("Normal"),
        )
        .with(Field::new("Description", TextArea).label("Description").length(32_000))
        .with(Field::new("IsReminderSet", Boolean).label("Reminder Set"))
        .with(Field::new("ReminderDateTime", DateTime).label("Reminder Date/Time"))
}

fn campaign() -> Object {
    Object::new("Campaign", "701")
        .with(text("Name", "Name", 80).required().name_field())
        .with(lookup("ParentId", "Parent Campaign ID", &["Campaign"]).children("ChildCampaigns"))
        .with(list("Type", "Type", &["Conference", "Webinar", "Email", "Other"]))
        .with(
            list("Status", "Status", &["Planned", "In Progress", "Completed", "Aborted"])
                .default_value("Planned"),
        )
        .with(Field::new("StartDate", Date).label("Start Date"))
        .with(Field::new("EndDate", Date).label("End Date"))
        .with(Field::new("BudgetedCost", Currency).label("Budgeted Cost").digits(18, 0))
        .with(Field::new("ActualCost", Currency).label("Actual Cost").digits(18, 0))
        .with(Field::new("ExpectedResponse", Percent).label("Expected Response (%)").digits(10, 2))
        .with(Field::new("NumberSent", Double).label("Num Sent").digits(18, 0))
        .with(Field::new("IsActive", Boolean).label("Active"))
        .with(Field::new("Description", TextArea).label("Description").length(32_000))
}

fn product() -> Object {
    Object::new("Product2", "01t")
        .with(text("Name", "Product Name", 255).required().name_field())
        .with(text("ProductCode", "Product Code", 255))
        .with(Field::new("Description", TextArea).label("Product Description").length(4_000))
        .with(Field::new("IsActive", Boolean).label("Active"))
        .with(list("Family", "Product Family", &["None"]))
        .with(text("StockKeepingUnit", "Product SKU", 180))
        .with(text("QuantityUnitOfMeasure", "Quantity Unit Of Measure", 255))
        .with(Field::new("DisplayUrl", Url).label("Display URL").length(1_000))
}
