//! Two or three records that are the same made one (SOAP API guide, merge()).

use crate::org::{Caller, Org};
use crate::save::touch;
use crate::table::Bin;
use crate::{ApiError, person};
use serde_json::{Map, Value};

/// What can be merged, and how many records can go into one at a time.
const MERGEABLE: [&str; 4] = ["Account", "Case", "Contact", "Lead"];
const MOST: usize = 2;

/// Whether records of this object can be merged.
pub(crate) fn is_mergeable(object: &str) -> bool {
    MERGEABLE.contains(&object)
}

impl Org {
    /// The losers go into the recycle bin with the id of the master, which takes their children and these values. Tells
    /// the records that have another parent now.
    pub(crate) fn merge(
        &mut self,
        caller: &Caller,
        master: &str,
        losers: &[String],
        values: &Map<String, Value>,
    ) -> Result<Vec<String>, ApiError> {
        let savepoint = self.savepoint();
        self.merge_all(caller, master, losers, values).inspect_err(|_| self.roll_back(savepoint))
    }

    fn merge_all(
        &mut self,
        caller: &Caller,
        master: &str,
        losers: &[String],
        values: &Map<String, Value>,
    ) -> Result<Vec<String>, ApiError> {
        let refused = |message: &str| Err(ApiError::record("INVALID_OPERATION", message, &[]));
        let object = self.object_of(master).ok_or_else(ApiError::not_found)?.name.clone();
        if !is_mergeable(&object) {
            return refused(&format!("{object} can't be merged"));
        }
        if losers.is_empty() || losers.len() > MOST {
            return refused("one or two records can be merged into a master");
        }
        let mut updated = Vec::new();
        for (place, loser) in losers.iter().enumerate() {
            if loser == master || losers[..place].contains(loser) {
                return refused("a record can't be merged into itself");
            }
            if self.object_of(loser).is_none_or(|o| o.name != object) {
                return refused("records of one type alone can be merged");
            }
            updated.extend(self.lose(caller, &object, loser, master)?);
        }
        self.update(caller, master, values)?;
        updated.sort_unstable();
        updated.dedup();
        Ok(updated)
    }

    fn lose(
        &mut self,
        caller: &Caller,
        object: &str,
        loser: &str,
        master: &str,
    ) -> Result<Vec<String>, ApiError> {
        let schema = self.object(object).ok_or_else(ApiError::not_found)?.clone();
        let mut row = self.row(loser).cloned().ok_or_else(ApiError::not_found)?;
        if row.deleted {
            return Err(ApiError::deleted());
        }
        if person::is_person(&row) {
            self.count_unserved("merge of person accounts");
            let message = "person accounts can't be merged here";
            return Err(ApiError::record("INVALID_OPERATION", message, &[]));
        }
        self.strike(caller, &schema, Some(loser))?;
        let now = self.now();
        let mut updated = Vec::new();
        for child in self.children(object, loser) {
            let Some(mut row) = self.row(&child.id).cloned() else { continue };
            // A record is no parent of its own.
            let parent = if child.id == master { Value::Null } else { master.into() };
            row.values.insert(child.field, parent);
            row.values.insert("SystemModstamp".into(), now.clone().into());
            self.put(&child.object, &child.id, Some(row));
            updated.push(child.id);
        }
        row.deleted = true;
        row.bin = Some(Box::new(Bin::default()));
        row.values.insert("MasterRecordId".into(), master.into());
        touch(&mut row.values, &now, &caller.user);
        self.put(object, loser, Some(row));
        Ok(updated)
    }
}
