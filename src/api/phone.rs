//! `sync.format_phone`: phone numbers in one form.

use crate::border::inwards;
use crate::speech;
use crate::worker::transaction::refuse;
use pgrx::prelude::*;
use phonenumber::{Mode, country, metadata::DATABASE};

/// Digits of a number in E.164, country code included; with fewer it is a short code of some network.
const DIGITS: std::ops::RangeInclusive<usize> = 7..=15;

/// `sync.format_phone(value text, region text) RETURNS text`: the number in E.164. What is none, or holds more than a
/// number, such as an extension, stays as it is. `region` is the country of numbers without a country code.
#[pg_extern(sql = false)]
fn format_phone(value: Option<&[u8]>, region: Option<&[u8]>) -> Option<Vec<u8>> {
    let value = value?;
    speech::function(|| {
        let region = region.map(|region| country_of(&inwards(region)));
        let formatted = in_e164(&inwards(value), region);
        Some(formatted.map_or_else(|| value.to_vec(), String::into_bytes))
    })
}

fn country_of(region: &str) -> country::Id {
    let known = region.parse::<country::Id>().ok();
    known.filter(|id| DATABASE.by_id(id.as_ref()).is_some()).unwrap_or_else(|| {
        super::raise(&refuse(
            "22023",
            format!("\"{region}\" is no country with phone numbers"),
            "A region is a country of ISO 3166-1, in two letters.",
            "For example: CH.",
        ))
    })
}

fn in_e164(value: &str, region: Option<country::Id>) -> Option<String> {
    let number = phonenumber::parse(region, value).ok()?;
    if number.extension().is_some() {
        return None;
    }
    let text = number.format().mode(Mode::E164).to_string();
    let digits = text.strip_prefix('+')?;
    (digits.bytes().all(|b| b.is_ascii_digit()) && DIGITS.contains(&digits.len())).then_some(text)
}
