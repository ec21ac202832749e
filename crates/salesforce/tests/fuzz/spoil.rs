//! Answers as no org should give them: a whole one, with one thing in it that is wrong.

use serde_json::{Value, json};

use crate::random::Random;

/// An answer of the server.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(body: &Value) -> Self {
        let kind = ("content-type", "application/json;charset=UTF-8".to_owned());
        let usage = ("sforce-limit-info", "api-usage=18/15000".to_owned());
        Self { status: 200, headers: vec![kind, usage], body: body.to_string().into_bytes() }
    }

    pub(crate) fn csv(text: &str, headers: &[(&'static str, &str)]) -> Self {
        let mut all = vec![("content-type", "text/csv".to_owned())];
        all.extend(headers.iter().map(|(name, value)| (*name, (*value).to_owned())));
        Self { status: 200, headers: all, body: text.as_bytes().to_vec() }
    }

    /// As it goes over the wire.
    pub(crate) fn whole(&self) -> Vec<u8> {
        self.with_length(Some(self.body.len().to_string()))
    }

    fn with_length(&self, length: Option<String>) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} x\r\nconnection: close\r\n", self.status);
        if let Some(length) = length {
            head += &format!("content-length: {length}\r\n");
        }
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        [format!("{head}\r\n").as_bytes(), &self.body].concat()
    }
}

/// What was sent in an answer's stead.
#[derive(Clone, Debug)]
pub(crate) struct Spoiled {
    pub(crate) wire: Vec<u8>,
    /// What a reader can make of it, where head and length are as they should be.
    pub(crate) answer: Option<Answer>,
}

pub(crate) fn spoil(random: &mut Random, answer: &Answer) -> Spoiled {
    let mut answer = answer.clone();
    match random.below(10) {
        0..5 => match serde_json::from_slice::<Value>(&answer.body) {
            Ok(body) if random.below(3) == 0 => answer.body = unlike(random, &body.to_string()),
            Ok(mut body) => {
                value(random, &mut body);
                answer.body = body.to_string().into_bytes();
            }
            Err(_) => sheet(random, &mut answer.body),
        },
        5..8 => bytes(random, &mut answer.body),
        8 => header(random, &mut answer),
        _ => return Spoiled { wire: framing(random, &answer), answer: None },
    }
    Spoiled { wire: answer.whole(), answer: Some(answer) }
}

/// One place of a JSON value, changed into what nobody expects there.
fn value(random: &mut Random, body: &mut Value) {
    let places = count(body);
    let mut at = random.below(places);
    change(random, body, &mut at);
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum::<usize>(),
        _ => 0,
    }
}

fn change(random: &mut Random, value: &mut Value, at: &mut usize) -> bool {
    if *at == 0 {
        *value = changed(random, value);
        return true;
    }
    *at -= 1;
    match value {
        Value::Array(items) => items.iter_mut().any(|item| change(random, item, at)),
        Value::Object(fields) => fields.values_mut().any(|item| change(random, item, at)),
        _ => false,
    }
}

fn changed(random: &mut Random, value: &Value) -> Value {
    match value {
        Value::Array(items) if !items.is_empty() && random.below(4) > 0 => {
            let mut items = items.clone();
            let at = random.below(items.len());
            match random.below(4) {
                0 => drop(items.remove(at)),
                1 => items.insert(at, items[at].clone()),
                2 => items.rotate_left(1),
                _ => items[at] = items[(at + 1) % items.len()].clone(),
            }
            return Value::Array(items);
        }
        Value::Object(fields) if !fields.is_empty() && random.below(4) > 0 => {
            let mut fields = fields.clone();
            let names: Vec<String> = fields.keys().cloned().collect();
            let name = random.one(&names);
            let old = fields.remove(name).unwrap_or_default();
            if random.below(2) == 0 {
                fields.insert(format!("{name}x"), old);
            }
            return Value::Object(fields);
        }
        _ => {}
    }
    let others = [
        Value::Null,
        json!(true),
        json!(false),
        json!(-1),
        json!(0),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(1.5e308),
        json!(""),
        json!("\u{0}"),
        json!("NaN"),
        json!("Infinity"),
        json!("é\u{202e}\u{10ffff}"),
        json!("x".repeat(70_000)),
        json!("001000000000009AAA"),
        json!("9999-99-99T99:99:99.999+9999"),
        json!("../../..//evil"),
        json!([]),
        json!({}),
        json!([null]),
        json!([[[[{}]]]]),
        json!({ "records": [] }),
    ];
    random.one(&others).clone()
}

/// JSON with what no value can hold.
fn unlike(random: &mut Random, text: &str) -> Vec<u8> {
    let (sign, what) = *random.one(&[
        // Keys that come twice: which of them counts?
        ('{', r#""id":null,"#),
        ('{', r#""success":false,"Id":"001000000000009AAA","#),
        ('"', r"\ud800"),
        ('"', r"\u0000"),
        (':', "NaN"),
        (':', "-1e99999"),
        (':', "123456789012345678901234567890"),
        (':', r#"[{"a":"#),
    ]);
    let places: Vec<usize> = text.match_indices(sign).map(|(at, _)| at + 1).collect();
    if places.is_empty() {
        return what.as_bytes().to_vec();
    }
    let (before, behind) = text.split_at(*random.one(&places));
    [before, what, behind].concat().into_bytes()
}

/// CSV with one thing wrong.
fn sheet(random: &mut Random, body: &mut Vec<u8>) {
    let text = String::from_utf8_lossy(body).into_owned();
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    if lines.is_empty() {
        *body = b"\"".to_vec();
        return;
    }
    let at = random.below(lines.len());
    match random.below(10) {
        0 => drop(lines.remove(at)),
        1 => lines.insert(at, lines[at].clone()),
        2 => lines[at] = lines[at].replacen('"', "", 1),
        3 => lines[at] = lines[at].replacen(',', "", 1),
        4 => lines[at] = lines[at].replacen(',', ",,", 1),
        5 => lines[at] = lines[at].replace('\n', "\r\n"),
        6 => lines[at] = lines[at].replace('\n', "\r"),
        7 => lines.insert(0, "\u{feff}".to_owned()),
        8 => lines.insert(at, "\n".to_owned()),
        _ => lines[at] = lines[at].replace(',', ";"),
    }
    *body = lines.concat().into_bytes();
}

fn bytes(random: &mut Random, body: &mut Vec<u8>) {
    let at = random.below(body.len());
    match random.below(12) {
        0..4 if !body.is_empty() => body[at] ^= 1 << random.below(8),
        4..6 => body.truncate(at),
        6 => body.extend_from_within(..),
        7 => body.extend_from_within(at..),
        8 => body.splice(at..at, [0xff, 0xfe, 0xc3]).for_each(drop),
        9 => body.splice(0..0, [0xef, 0xbb, 0xbf]).for_each(drop),
        10 if random.below(20) == 0 => *body = b"[".repeat(10 << 20),
        10 => body.clear(),
        _ => *body = b"<html><body>Down for maintenance</body></html>".to_vec(),
    }
}

fn header(random: &mut Random, answer: &mut Answer) {
    match random.below(6) {
        0 => answer.status = *random.one(&[100, 202, 204, 206, 300, 302, 304, 400, 404, 500, 503]),
        1 => answer.headers.retain(|(name, _)| *name == "content-type"),
        2 => answer.headers.retain(|(name, _)| *name != "content-type"),
        3 => answer.headers.push(("content-encoding", "gzip".into())),
        4 => answer.headers.push(("retry-after", "18446744073709551616".into())),
        _ => {
            let nonsense = ["", "api-usage=", "api-usage=-1/x", "api-usage=9e9/0", "\u{e9};;=/"];
            let nonsense = (*random.one(&nonsense)).to_owned();
            for (name, value) in &mut answer.headers {
                if *name != "content-type" {
                    value.clone_from(&nonsense);
                }
            }
        }
    }
}

/// A head or a length that is none.
fn framing(random: &mut Random, answer: &Answer) -> Vec<u8> {
    let length = answer.body.len();
    match random.below(8) {
        0 => answer.with_length(Some((length + 7).to_string())),
        1 => answer.with_length(Some("18446744073709551616".into())),
        2 => answer.with_length(Some("-1".into())),
        3 => answer.with_length(Some(format!("{length}\r\ncontent-length: 1"))),
        4 => answer.with_length(Some("1\r\ntransfer-encoding: chunked".into())),
        5 => {
            let mut answer = answer.clone();
            answer.headers.push(("transfer-encoding", "chunked".into()));
            answer.body = b"5\r\n[null\r\nfffffffffffffffff\r\n".to_vec();
            answer.with_length(None)
        }
        6 => {
            let mut whole = answer.whole();
            whole.truncate(random.below(whole.len()));
            whole
        }
        _ => b"HTTP/9.9 abc\r\n\r\n".to_vec(),
    }
}
