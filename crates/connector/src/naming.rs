//! What a field of another system is called as a column, and which columns are called like which fields.

/// A longer name of a column would be cut.
const LONGEST: usize = 63;

/// Names that could mean more than one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ambiguous {
    pub fields: Vec<String>,
    pub columns: Vec<String>,
}

/// `AnnualRevenue` as `annual_revenue`, `SLAExpirationDate__c` as `sla_expiration_date__c`, and a parent's `Account.Key__c`
/// as `account_key__c`.
pub fn snake(name: &str) -> String {
    let bytes = name.as_bytes();
    let mut snake = String::with_capacity(name.len() + 8);
    for (n, c) in name.char_indices() {
        let before = n.checked_sub(1).map(|b| bytes[b]);
        let after = bytes.get(n + 1);
        let begins = c.is_ascii_uppercase()
            && before.is_some_and(|b| {
                b.is_ascii_lowercase()
                    || b.is_ascii_digit()
                    || b.is_ascii_uppercase() && after.is_some_and(u8::is_ascii_lowercase)
            });
        if begins {
            snake.push('_');
        }
        snake.push(if c == '.' { '_' } else { c.to_ascii_lowercase() });
    }
    snake
}

/// A column name for each field, no two alike: in lower case with underscores, or without where two
/// would be the same or one too long.
///
/// # Errors
/// Fields that would still be called alike, or like a name that is `taken`.
pub fn column_names(fields: &[&str], taken: &[&str]) -> Result<Vec<String>, Ambiguous> {
    let snakes: Vec<String> = fields.iter().map(|f| snake(f)).collect();
    let names: Vec<String> = snakes
        .iter()
        .zip(fields)
        .map(|(name, field)| {
            let alone = snakes.iter().filter(|other| *other == name).count() == 1
                && !taken.contains(&name.as_str());
            if alone && name.len() <= LONGEST { name.clone() } else { field.to_ascii_lowercase() }
        })
        .collect();
    for name in &names {
        let alike: Vec<String> = names
            .iter()
            .zip(fields)
            .filter(|(other, _)| *other == name)
            .map(|(_, field)| (*field).to_owned())
            .collect();
        if alike.len() > 1 || taken.contains(&name.as_str()) {
            return Err(Ambiguous { fields: alike, columns: vec![name.clone()] });
        }
    }
    Ok(names)
}

/// How well a column's name fits a field's, 0 best: the same; but for case; with underscores; the same
/// without the ending of a custom field.
fn likeness(field: &str, column: &str) -> Option<u8> {
    let (lower, snake) = (column.to_ascii_lowercase(), snake(field));
    let stem = |name: &str| name.strip_suffix("__c").map(str::to_owned);
    match () {
        () if field == column => Some(0),
        () if field.eq_ignore_ascii_case(column) => Some(1),
        () if snake == lower => Some(2),
        () if stem(&snake).as_ref() == Some(&lower)
            || stem(&field.to_ascii_lowercase()).as_ref() == Some(&lower) =>
        {
            Some(3)
        }
        () => None,
    }
}

/// For each field the column that is called like it. `may` says of which pairs there can be talk at all.
///
/// # Errors
/// Where names fit equally well in more than one way.
pub fn pair(
    fields: &[&str],
    columns: &[&str],
    may: impl Fn(usize, usize) -> bool,
) -> Result<Vec<Option<usize>>, Ambiguous> {
    let mut found: Vec<Option<usize>> = vec![None; fields.len()];
    for rank in 0..=3 {
        let pairs: Vec<(usize, usize)> = (0..fields.len())
            .filter(|&f| found[f].is_none())
            .flat_map(|f| (0..columns.len()).map(move |c| (f, c)))
            .filter(|&(f, c)| {
                !found.contains(&Some(c))
                    && may(f, c)
                    && likeness(fields[f], columns[c]) == Some(rank)
            })
            .collect();
        for &(f, c) in &pairs {
            let rivals: Vec<&(usize, usize)> =
                pairs.iter().filter(|(of, oc)| *of == f || *oc == c).collect();
            if rivals.len() > 1 {
                let names = |list: &[&str], of: fn(&(usize, usize)) -> usize| {
                    let mut names: Vec<String> =
                        rivals.iter().map(|pair| list[of(pair)].to_owned()).collect();
                    names.dedup();
                    names
                };
                return Err(Ambiguous {
                    fields: names(fields, |pair| pair.0),
                    columns: names(columns, |pair| pair.1),
                });
            }
            found[f] = Some(c);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{Ambiguous, column_names, pair, snake};

    #[test]
    fn names_get_their_underscores() {
        let cases = [
            ("AnnualRevenue", "annual_revenue"),
            ("Id", "id"),
            ("AccountId", "account_id"),
            ("SLAExpirationDate__c", "sla_expiration_date__c"),
            ("External_Id__c", "external_id__c"),
            ("Field2Name", "field2_name"),
            ("HTML", "html"),
            ("Account.ERP_Id__c", "account_erp_id__c"),
            ("_X", "_x"),
            ("", ""),
        ];
        for (field, expected) in cases {
            assert_eq!(snake(field), expected);
        }
    }

    #[test]
    fn columns_are_found_by_the_best_name_that_fits() {
        let any = |_: usize, _: usize| true;
        let fields = ["Name", "AnnualRevenue", "Colour__c", "Colour", "Missing"];
        let columns = ["annual_revenue", "NAME", "colour", "other"];
        assert_eq!(pair(&fields, &columns, any).unwrap(), [Some(1), Some(0), None, Some(2), None]);
        assert_eq!(pair(&["Colour__c"], &["colour"], any).unwrap(), [Some(0)]);
        assert_eq!(pair(&["MyColour__c"], &["mycolour"], any).unwrap(), [Some(0)]);
        assert_eq!(pair(&["Id"], &["id"], |_, _| false).unwrap(), [None]);
    }

    #[test]
    fn what_fits_twice_is_not_guessed() {
        let any = |_: usize, _: usize| true;
        let of = |fields: &[&str], columns: &[&str]| Ambiguous {
            fields: fields.iter().map(|&f| f.to_owned()).collect(),
            columns: columns.iter().map(|&c| c.to_owned()).collect(),
        };
        assert_eq!(
            pair(&["MyName", "My_Name"], &["my_name"], any),
            Ok(vec![None, Some(0)]),
            "the same but for case fits better"
        );
        assert_eq!(pair(&["Name"], &["NAME", "name"], any), Err(of(&["Name"], &["NAME", "name"])));
        assert_eq!(
            pair(&["AbCd__c", "Ab_Cd__c"], &["ab_cd"], any),
            Err(of(&["AbCd__c", "Ab_Cd__c"], &["ab_cd"]))
        );
    }

    #[test]
    fn made_names_differ_and_fit() {
        assert_eq!(
            column_names(&["Name", "MyField__c", "My_Field__c"], &["id"]).unwrap(),
            ["name", "myfield__c", "my_field__c"]
        );
        let long = format!("{}__c", "Ab".repeat(21));
        assert_eq!(column_names(&[&long], &[]).unwrap(), [long.to_ascii_lowercase()]);
        assert_eq!(
            column_names(&["ID"], &["id"]).unwrap_err().columns,
            ["id"],
            "a name that is taken"
        );
    }
}
