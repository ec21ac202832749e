//! Striking secrets out of what the other side says.

use connector::{Fault, Secret};

/// So many characters at the end of a text that was cut are still a part of a secret, and no chance.
const PART: usize = 4;

/// Strikes secrets out of what a fault quotes: as they are, as a form carries them, and where the text was cut in
/// their middle. Hints are our own words: a gap in one would tell a secret that is one of them.
pub(crate) fn redact(fault: &mut Fault, secrets: &[Secret]) {
    let mut forms: Vec<Secret> = secrets
        .iter()
        .flat_map(|secret| {
            let encoded = form_urlencoded::byte_serialize(secret.reveal().as_bytes()).collect();
            [secret.clone(), Secret::new(encoded)]
        })
        .filter(|secret| !secret.reveal().is_empty())
        .collect();
    // The longest first: of a secret that holds another one nothing may be left.
    forms.sort_by_key(|secret| std::cmp::Reverse(secret.reveal().len()));
    let about = &mut *fault.about;
    let texts = [&mut fault.code, &mut fault.message];
    for text in texts.into_iter().chain(&mut about.fields).chain(&mut about.request_id) {
        for secret in &forms {
            strike(text, secret.reveal());
        }
    }
}

fn strike(text: &mut String, secret: &str) {
    if text.contains(secret) {
        *text = text.replace(secret, "***");
    }
    let Some(whole) = text.strip_suffix('…') else { return };
    let cut = secret
        .char_indices()
        .map(|(at, _)| &secret[..at])
        .skip(PART)
        .filter(|part| whole.ends_with(part))
        .last()
        .map(|part| whole.len() - part.len());
    if let Some(at) = cut {
        *text = format!("{}***…", &text[..at]);
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault, Secret, redact};
    use connector::FaultKind;

    fn redacted(message: &str, secrets: &[&str]) -> String {
        let secrets: Vec<Secret> = secrets.iter().map(|s| Secret::new((*s).to_owned())).collect();
        let mut fault = Fault::new(FaultKind::Credentials, "c", message);
        redact(&mut fault, &secrets);
        fault.message
    }

    #[test]
    fn secrets_are_struck_out_in_all_their_forms() {
        for (message, secrets, left) in [
            ("a pass word b", &["pass word"][..], "a *** b"),
            ("a pass+word%26 b", &["pass word&"], "a *** b"),
            ("pwtoken and pw", &["pw", "pwtoken"], "*** and ***"),
            ("so long secre…", &["secret"], "so long ***…"),
            ("so long sec…", &["secret"], "so long sec…"),
            ("ß geheimniß…", &["geheimnißvoll"], "ß ***…"),
            ("nothing", &["", "secret"], "nothing"),
        ] {
            assert_eq!(redacted(message, secrets), left);
        }
    }
}
