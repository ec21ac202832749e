//! A request and its answer, as everything behind the socket sees them.

use crate::ApiError;
use serde_json::Value;

/// A request that was read to its end.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// As it came, without the query: still percent-encoded.
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// How long the path and the query are as they came.
    pub(crate) target_length: usize,
}

impl Request {
    pub(crate) fn new(method: &str, target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut request = Self {
            method: method.to_ascii_uppercase(),
            path: path.to_owned(),
            query: parse_form(query),
            headers: Vec::new(),
            body: Vec::new(),
            target_length: target.len(),
        };
        // REST API guide, sObject Rows: a POST can stand for another method.
        if request.method == "POST"
            && let Some(method) = request.parameter("_HttpMethod")
        {
            request.method = method.to_ascii_uppercase();
        }
        request
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The parts of the path, decoded; a slash at its end makes none.
    pub(crate) fn segments(&self) -> Vec<String> {
        self.path
            .split('/')
            .filter(|part| !part.is_empty())
            .map(|part| decode(part, false))
            .collect()
    }

    pub(crate) fn json(&self) -> Result<Value, ApiError> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let what = if self.body.is_empty() {
                "No content to map to Object due to end of input"
            } else {
                "Unexpected character"
            };
            ApiError::json(format!("{what} at [line:{line}, column:{column}]"))
        })
    }

    /// Whether JSON can be expected. Other kinds of body are another part of the API.
    pub(crate) fn check_content_type(&self) -> Result<(), ApiError> {
        let kind = self.header("content-type").unwrap_or("application/json");
        if kind.to_ascii_lowercase().starts_with("application/json") {
            return Ok(());
        }
        let message =
            format!("Content-Type header specified in HTTP request is not supported: {kind}");
        Err(ApiError::new(415, "UNSUPPORTED_MEDIA_TYPE", message))
    }
}

/// Percent-decoding; in a form a plus is a blank.
pub(crate) fn decode(text: &str, form: bool) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let mut ahead = rest.clone();
        let hex = |digit: Option<u8>| digit.and_then(|d| (d as char).to_digit(16));
        match byte {
            b'+' if form => bytes.push(b' '),
            b'%' => match (hex(ahead.next()), hex(ahead.next())) {
                (Some(high), Some(low)) => {
                    bytes.push((high * 16 + low) as u8);
                    rest = ahead;
                }
                _ => bytes.push(byte),
            },
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Percent-encoding of all but letters, digits and `-._~`.
pub(crate) fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// `a=1&b=2`, in its order.
pub(crate) fn parse_form(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name, true), decode(value, true))
        })
        .collect()
}

/// What goes back.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Body,
}

#[derive(Clone, Debug)]
pub(crate) enum Body {
    Empty,
    Json(Value),
    Html(String),
    Csv(Vec<u8>),
    Xml(String),
}

impl Answer {
    pub(crate) fn json(status: u16, body: Value) -> Self {
        Self { status, headers: Vec::new(), body: Body::Json(body) }
    }

    pub(crate) fn csv(body: Vec<u8>) -> Self {
        Self { status: 200, headers: Vec::new(), body: Body::Csv(body) }
    }

    pub(crate) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Body::Empty }
    }

    pub(crate) fn html(status: u16, title: &str) -> Self {
        let page = format!(
            "<!DOCTYPE html>\n<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>\n"
        );
        Self { status, headers: Vec::new(), body: Body::Html(page) }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl From<ApiError> for Answer {
    fn from(error: ApiError) -> Self {
        Self::json(error.status, Value::Array(vec![error.body()]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_forms_are_decoded() {
        let request = Request::new("post", "/a%2Fb//c%20d/?q=x+y%2B1&_HttpMethod=PATCH&q=2");
        assert_eq!(request.segments(), ["a/b", "c d"]);
        assert_eq!((request.method.as_str(), request.parameter("q")), ("PATCH", Some("x y+1")));
        assert_eq!(decode("%zz%4", false), "%zz%4");
        assert_eq!(decode(&encode("ä b/+~"), true), "ä b/+~");
        assert_eq!(decode("%C3%A4%20b%2f%40", false), "ä b/@");
    }
}
