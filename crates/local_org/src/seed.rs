//! The records that a new Developer Edition comes with: accounts with their contacts, opportunities and cases, and
//! leads. Parents are named in the tables; here they become ids.

use crate::ApiError;
use crate::org::Org;
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Each table comes behind those that it points to.
const TABLES: [(&str, &str); 5] = [
    ("Account", include_str!("seed/Account.csv")),
    ("Contact", include_str!("seed/Contact.csv")),
    ("Opportunity", include_str!("seed/Opportunity.csv")),
    ("Case", include_str!("seed/Case.csv")),
    ("Lead", include_str!("seed/Lead.csv")),
];

impl Org {
    pub(crate) fn plant(&mut self) -> Result<(), ApiError> {
        let caller = self.system(self.other_user.clone());
        let mut ids: HashMap<String, String> = HashMap::new();
        for (object, table) in TABLES {
            let mut reader = csv::Reader::from_reader(table.as_bytes());
            let wrong = |error: csv::Error| ApiError::json(format!("{object}.csv: {error}"));
            let names = reader.headers().map_err(wrong)?.clone();
            for line in reader.records() {
                let line = line.map_err(wrong)?;
                let filled = names.iter().zip(&line).filter(|(_, value)| !value.is_empty());
                let mut values = Map::new();
                for (name, value) in filled {
                    let value = match name {
                        "AccountId" | "ContactId" | "ParentId" => {
                            ids.get(value).ok_or_else(|| {
                                ApiError::json(format!("{object}.csv: there is no {value} yet"))
                            })?
                        }
                        _ => value,
                    };
                    values.insert(name.to_owned(), Value::from(value));
                }
                let id = self.create(&caller, object, &values)?;
                if let Some(name) = self.row(&id).map(|row| row.text("Name").to_owned()) {
                    ids.insert(name, id);
                }
            }
        }
        Ok(())
    }
}
