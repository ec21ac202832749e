//! A job and its data in one request (Bulk API guide, Upload Job Data in a Multipart Request).

use crate::ApiError;

/// Longest data of such a request, in characters.
const LONGEST: usize = 100_000;

/// The parts named `job` and `content`.
pub(super) fn parts(kind: &str, body: &[u8]) -> Result<(Vec<u8>, Vec<u8>), ApiError> {
    let wrong = |what: &str| {
        ApiError::new(400, "INVALIDJOB", format!("InvalidJob : The multipart request {what}"))
    };
    let boundary = kind
        .split(';')
        .filter_map(|part| part.trim().split_once('='))
        .find(|(name, _)| name.eq_ignore_ascii_case("boundary"))
        .map(|(_, value)| value.trim_matches('"'))
        .filter(|boundary| !boundary.is_empty())
        .ok_or_else(|| wrong("has no boundary"))?;
    let (mut job, mut content) = (None, None);
    for part in between(body, format!("--{boundary}").as_bytes()) {
        let Some(at) = find(part, b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&part[..at]).to_ascii_lowercase();
        let data = part[at + 4..].strip_suffix(b"\r\n").unwrap_or(&part[at + 4..]);
        if head.contains("name=\"job\"") {
            job = Some(data.to_vec());
        } else if head.contains("name=\"content\"") {
            content = Some(data.to_vec());
        }
    }
    let job = job.ok_or_else(|| wrong("has no part named job"))?;
    let content = content.ok_or_else(|| wrong("has no part named content"))?;
    if String::from_utf8_lossy(&content).chars().count() > LONGEST {
        return Err(wrong("has more data than 100000 characters"));
    }
    Ok((job, content))
}

/// What lies between two boundaries each.
fn between<'a>(mut rest: &'a [u8], boundary: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    let mut begun = false;
    while let Some(at) = find(rest, boundary) {
        if begun {
            parts.push(&rest[..at]);
        }
        begun = true;
        rest = &rest[at + boundary.len()..];
    }
    parts
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}
