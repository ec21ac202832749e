//! Transactions of others that commit late: what they wrote has an older SystemModstamp than records that
//! were read before it became visible.

use crate::ApiError;
use crate::org::{Caller, Org, Pending};
use serde_json::{Map, Value};
use std::time::Instant;

impl Org {
    pub(crate) fn edit_late(
        &mut self,
        caller: &Caller,
        id: &str,
        body: &Map<String, Value>,
        due: Instant,
    ) -> Result<(), ApiError> {
        let row = self.changed(caller, id, body)?;
        let object = self.object_of(id).map(|o| o.name.clone()).unwrap_or_default();
        self.pending.push(Pending { due, object, row });
        Ok(())
    }

    pub(crate) fn insert_late(
        &mut self,
        caller: &Caller,
        object: &str,
        body: &Map<String, Value>,
        due: Instant,
    ) -> Result<String, ApiError> {
        let savepoint = self.savepoint();
        let id = self.create(caller, object, body)?;
        let row = self.row(&id).cloned();
        self.roll_back(savepoint);
        if let Some(row) = row {
            let object = self.object_of(&id).map(|o| o.name.clone()).unwrap_or_default();
            self.pending.push(Pending { due, object, row });
        }
        Ok(id)
    }

    pub(crate) fn set_access(
        &mut self,
        object: &str,
        field: &str,
        visible: bool,
        editable: bool,
    ) -> Result<(), ApiError> {
        let object = self.object_mut(object)?;
        let name = object.name.clone();
        let field = object.fields.iter_mut().find(|f| f.name.eq_ignore_ascii_case(field));
        let field = field.ok_or_else(ApiError::not_found)?;
        (field.visible, field.editable) = (visible, visible && editable);
        self.schema_touched(&name);
        Ok(())
    }
}
