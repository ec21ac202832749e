use local_org::{LocalOrg, Options};
use serde_json::Value;
use std::collections::HashMap;
use std::time::Duration;

/// An org and a session of it.
pub(crate) struct Client {
    pub(crate) org: LocalOrg,
    pub(crate) token: String,
    agent: ureq::Agent,
}

/// An answer; `None` for a connection that ended without one is outside of it.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// The code of the first error.
    pub(crate) fn code(&self) -> String {
        self.json()[0]["errorCode"].as_str().unwrap_or_default().to_owned()
    }
}

pub(crate) const DATA: &str = "/services/data/v66.0";

pub(crate) fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_global(Some(Duration::from_secs(30)))
        .build();
    config.into()
}

impl Client {
    pub(crate) fn start() -> Self {
        Self::with(Options { objects: vec![local_org::specimen()], ..Options::default() })
    }

    pub(crate) fn with(options: Options) -> Self {
        let org = LocalOrg::start(options).expect("the org starts");
        let mut client = Self { org, token: String::new(), agent: agent() };
        client.log_in();
        client
    }

    pub(crate) fn log_in(&mut self) {
        let form = format!(
            "grant_type=client_credentials&client_id={}&client_secret={}",
            self.org.client_id(),
            self.org.client_secret()
        );
        let reply = self.token(&form);
        assert_eq!(reply.status, 200, "{}", reply.text);
        self.token = reply.json()["access_token"].as_str().expect("a token").to_owned();
    }

    pub(crate) fn token(&self, form: &str) -> Reply {
        let headers = [("Content-Type", "application/x-www-form-urlencoded")];
        self.send("POST", "/services/oauth2/token", &headers, form.as_bytes()).expect("an answer")
    }

    /// Any request, without a session of its own.
    pub(crate) fn send(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Reply, String> {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{target}", self.org.url()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.to_vec()).map_err(|e| e.to_string())?;
        let mut response = self.agent.run(request).map_err(|e| e.to_string())?;
        let headers = response.headers().iter();
        let headers = headers
            .map(|(n, v)| (n.to_string(), String::from_utf8_lossy(v.as_bytes()).into_owned()))
            .collect();
        let status = response.status().as_u16();
        let text = response.body_mut().with_config().limit(1 << 28).read_to_string();
        Ok(Reply { status, headers, text: text.map_err(|e| e.to_string())? })
    }

    /// A request below the data path; the error is a connection that broke.
    pub(crate) fn call(&self, method: &str, path: &str, body: &Value) -> Result<Reply, String> {
        self.call_with(method, path, &[], body)
    }

    pub(crate) fn call_with(
        &self,
        method: &str,
        path: &str,
        more: &[(&str, &str)],
        body: &Value,
    ) -> Result<Reply, String> {
        let bearer = format!("Bearer {}", self.token);
        let mut headers = vec![("Authorization", bearer.as_str())];
        headers.extend(more);
        let body = if body.is_null() {
            Vec::new()
        } else {
            headers.push(("Content-Type", "application/json"));
            body.to_string().into_bytes()
        };
        self.send(method, &format!("{DATA}{path}"), &headers, &body)
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.call("GET", path, &Value::Null).expect("an answer")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        self.call("POST", path, body).expect("an answer")
    }

    pub(crate) fn patch(&self, path: &str, body: &Value) -> Reply {
        self.call("PATCH", path, body).expect("an answer")
    }

    pub(crate) fn delete(&self, path: &str) -> Reply {
        self.call("DELETE", path, &Value::Null).expect("an answer")
    }

    pub(crate) fn query(&self, soql: &str) -> Reply {
        self.get(&format!("/query?q={}", encode(soql)))
    }

    /// The first selected field of each record found.
    pub(crate) fn found(&self, soql: &str) -> Vec<Value> {
        let reply = self.query(soql);
        assert_eq!(reply.status, 200, "{soql}: {}", reply.text);
        let records = reply.json()["records"].as_array().cloned().unwrap_or_default();
        records
            .iter()
            .map(|r| r.as_object().expect("a record").values().nth(1).cloned().unwrap_or_default())
            .collect()
    }

    pub(crate) fn control(&self, method: &str, path: &str, body: &Value) -> Reply {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        self.send(method, &format!("/control{path}"), &[], &body).expect("an answer")
    }

    /// The id of a new account.
    pub(crate) fn account(&self, name: &str) -> String {
        let reply = self.post("/sobjects/Account", &serde_json::json!({"Name": name}));
        assert_eq!(reply.status, 201, "{}", reply.text);
        reply.json()["id"].as_str().expect("an id").to_owned()
    }
}

pub(crate) fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' => (byte as char).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}
