//! The recycle bin: what goes into it with a record, what comes out of it, and what stays behind (Salesforce help,
//! Recycle Bin; Apex guide, Restoring Deleted Records).

use crate::ApiError;
use crate::org::{Caller, Org};
use crate::save::{no_access, touch};
use crate::schema::{Object, plural};
use crate::table::{Bin, Row};
use serde_json::Value;

/// A record that points to another.
pub(crate) struct Child {
    pub(crate) object: String,
    pub(crate) id: String,
    pub(crate) field: String,
    /// It is deleted with the other.
    pub(crate) goes_along: bool,
}

impl Org {
    /// Into the recycle bin, with those that go when their parent goes; all of them or none.
    pub(crate) fn delete(&mut self, caller: &Caller, id: &str) -> Result<(), ApiError> {
        let savepoint = self.savepoint();
        self.delete_with_children(caller, id, None).inspect_err(|_| self.roll_back(savepoint))
    }

    fn delete_with_children(
        &mut self,
        caller: &Caller,
        id: &str,
        with: Option<&str>,
    ) -> Result<(), ApiError> {
        let object = self.object_of(id).ok_or_else(ApiError::not_found)?.clone();
        if caller.api && !object.deletable {
            return Err(no_access());
        }
        let mut row = self.row(id).cloned().ok_or_else(ApiError::not_found)?;
        if row.deleted {
            return Err(ApiError::deleted());
        }
        self.check_half(caller, &object, &row)?;
        self.strike(caller, &object, Some(id))?;
        self.check_restricted(&object, &row)?;
        let now = self.now();
        row.deleted = true;
        touch(&mut row.values, &now, &caller.user);
        let children = self.children(&object.name, id);
        let loosened = children.iter().filter(|child| !child.goes_along);
        let loosened = loosened.map(|child| (child.id.clone(), child.field.clone())).collect();
        row.bin = Some(Box::new(Bin { with: with.map(str::to_owned), loosened }));
        self.put(&object.name, id, Some(row));
        for child in children {
            // One that is a child in two ways may have gone already.
            let Some(mut row) = self.row(&child.id).filter(|row| !row.deleted).cloned() else {
                continue;
            };
            if child.goes_along {
                let caller = Caller { api: false, ..caller.clone() };
                self.delete_with_children(&caller, &child.id, Some(with.unwrap_or(id)))?;
            } else {
                // The org's own work: LastModifiedDate stays.
                row.values.insert(child.field, Value::Null);
                row.values.insert("SystemModstamp".into(), now.clone().into());
                self.put(&child.object, &child.id, Some(row));
            }
        }
        Ok(())
    }

    /// Refuses to let a record go that others hold.
    fn check_restricted(&self, object: &Object, row: &Row) -> Result<(), ApiError> {
        let restricting = self.objects.iter().flat_map(|child| {
            let fields = child.fields.iter();
            fields
                .filter(|f| f.restrict && f.reference_to.contains(&object.name))
                .map(move |f| (child, f))
        });
        for (child, field) in restricting {
            let name = |object: &Object, row: &Row| {
                let field = object.fields.iter().find(|f| f.name_field);
                field.map_or_else(|| row.id.clone(), |f| row.text(&f.name).to_owned())
            };
            let holding = self.pointing(&child.name, &field.name, &row.id).filter(|r| !r.deleted);
            let holding: Vec<String> = holding.map(|r| name(child, r)).collect();
            if !holding.is_empty() {
                let message = format!(
                    "Your attempt to delete {} could not be completed because it is associated with the following {}.: {}\n",
                    name(object, row),
                    plural(&child.label).to_lowercase(),
                    holding.join(", ")
                );
                return Err(ApiError::record("DELETE_FAILED", message, &[]));
            }
        }
        Ok(())
    }

    /// Out of the recycle bin, with those that went along; all of them or none.
    pub(crate) fn undelete(&mut self, caller: &Caller, id: &str) -> Result<(), ApiError> {
        let row = self.row(id).ok_or_else(ApiError::not_found)?;
        let with = row.bin.as_ref().and_then(|bin| bin.with.as_ref());
        // What went along comes back with what it went with.
        if !row.deleted || with.is_some_and(|with| self.row(with).is_some_and(|r| r.deleted)) {
            let message = "Entity is not in the recycle bin";
            return Err(ApiError::record("UNDELETE_FAILED", message, &[]));
        }
        let savepoint = self.savepoint();
        self.restore(caller, id, id).inspect_err(|_| self.roll_back(savepoint))
    }

    fn restore(&mut self, caller: &Caller, id: &str, top: &str) -> Result<(), ApiError> {
        let object = self.object_of(id).ok_or_else(ApiError::not_found)?.clone();
        let mut row = self.row(id).cloned().ok_or_else(ApiError::not_found)?;
        if !row.deleted {
            return Ok(());
        }
        self.check_unique(&object, &row.values, Some(id))?;
        let now = self.now();
        let bin = row.bin.take().unwrap_or_default();
        row.deleted = false;
        row.values.remove("MasterRecordId");
        touch(&mut row.values, &now, &caller.user);
        self.put(&object.name, id, Some(row));
        for id in self.gone_along(&object.name, id, top) {
            self.restore(caller, &id, top)?;
        }
        for (other, field) in &bin.loosened {
            let Some(mut row) = self.row(other).filter(|row| !row.deleted).cloned() else {
                continue;
            };
            // What was put in its place since then stays.
            if row.get(field).is_null() {
                row.values.insert(field.clone(), id.into());
                row.values.insert("SystemModstamp".into(), now.clone().into());
                let object = self.object_of(other).map(|o| o.name.clone()).unwrap_or_default();
                self.put(&object, other, Some(row));
            }
        }
        Ok(())
    }

    /// Gone for good, without a trace that a query could find, with those that had gone into the bin along with it.
    pub(crate) fn purge(&mut self, id: &str) -> Result<(), ApiError> {
        self.purge_with(id, id)
    }

    fn purge_with(&mut self, id: &str, top: &str) -> Result<(), ApiError> {
        let object = self.object_of(id).ok_or_else(ApiError::not_found)?.name.clone();
        if self.row(id).is_none() {
            return if id == top { Err(ApiError::not_found()) } else { Ok(()) };
        }
        for id in self.gone_along(&object, id, top) {
            self.purge_with(&id, top)?;
        }
        self.put(&object, id, None);
        Ok(())
    }

    /// The children of a record that went into the bin with `top`.
    fn gone_along(&self, object: &str, id: &str, top: &str) -> Vec<String> {
        let mut ids = Vec::new();
        for child in &self.objects {
            let fields = child.fields.iter();
            for field in fields.filter(|f| f.cascade && f.reference_to.iter().any(|o| o == object))
            {
                let along = self.pointing(&child.name, &field.name, id).filter(|row| {
                    row.deleted && row.bin.as_ref().is_some_and(|b| b.with.as_deref() == Some(top))
                });
                ids.extend(along.map(|row| row.id.clone()));
            }
        }
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// The live records that point to this one.
    pub(crate) fn children(&self, object: &str, id: &str) -> Vec<Child> {
        let mut children = Vec::new();
        // Users are never deleted, and every record points to them.
        for child in self.objects.iter().filter(|_| object != "User") {
            let pointing =
                child.fields.iter().filter(|f| f.reference_to.iter().any(|o| o == object));
            for field in pointing {
                let rows = self.pointing(&child.name, &field.name, id).filter(|r| !r.deleted);
                children.extend(rows.map(|row| Child {
                    object: child.name.clone(),
                    id: row.id.clone(),
                    field: field.name.clone(),
                    goes_along: field.cascade,
                }));
            }
        }
        children
    }
}
