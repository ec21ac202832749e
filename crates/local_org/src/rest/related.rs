//! Records by way of others (REST API guide, sObject Relationships).

use super::{known, query, rows};
use crate::exchange::{Answer, Request};
use crate::org::Org;
use crate::soql::{Condition, Literal, Operator, Query};
use crate::{ApiError, id};

/// Whether a part of a path is the id of a record, and not the name of a field.
pub(super) fn is_record(org: &Org, object: &str, part: &str) -> bool {
    let prefix = org.object(object).map(|o| o.key_prefix.as_str());
    prefix.is_some_and(|prefix| id::long(part).is_some_and(|id| id.starts_with(prefix)))
}

/// The parent of a record, or all of its children.
pub(super) fn read(
    org: &mut Org,
    request: &Request,
    object: &str,
    id: &str,
    name: &str,
    version: &str,
) -> Result<Answer, ApiError> {
    let object = known(org, object)?;
    let id = id::long(id).ok_or_else(ApiError::not_found)?;
    let row = org.table(&object).and_then(|table| table.live(&id));
    let row = row.ok_or_else(ApiError::not_found)?;
    let schema = org.object(&object).ok_or_else(ApiError::not_found)?;
    if let Some(field) = schema.relationship(name).filter(|f| f.visible) {
        let parent = row.text(&field.name);
        let target = org.object_of(parent).ok_or_else(ApiError::not_found)?;
        return rows::read(org, request, &target.name, parent, version);
    }
    let (child, field) = org.child_relationship(&object, name).ok_or_else(ApiError::not_found)?;
    let fields: Vec<Vec<String>> = match request.parameter("fields") {
        Some(names) => names.split(',').map(|name| vec![name.trim().to_owned()]).collect(),
        None => {
            let fields = org.object(&child).into_iter().flat_map(|o| &o.fields);
            fields.filter(|f| f.visible).map(|f| vec![f.name.clone()]).collect()
        }
    };
    let condition = Condition::Compare {
        path: vec![field],
        operator: Operator::Equal,
        literal: Literal::Text(id),
    };
    let query = Query {
        fields,
        object: child,
        condition: Some(condition),
        order: Vec::new(),
        limit: None,
        offset: 0,
        all_rows: false,
    };
    query::run(org, request, &query, version)
}
