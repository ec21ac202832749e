//! The changes of several objects for the price of one call: five queries fit into a composite request (REST API guide,
//! Composite, limits).

use connector::{ChangesOf, Fault, Page};
use serde_json::{Value, json};

use crate::call::Call;
use crate::client::Salesforce;
use crate::describe::unexpected;
use crate::json;
use crate::read::{changes_path, of_read, page};
use crate::refusal;
use crate::soql::LONGEST_PATH;
use crate::write::status;

/// Most queries of one composite request.
pub(crate) const MOST_QUERIES: usize = 5;

impl Salesforce {
    /// Each object has an answer of its own; a question that does not fit into the request of the others is asked
    /// alone.
    pub(crate) async fn changes_of_each(
        &self,
        asked: &[ChangesOf],
    ) -> Result<Vec<Result<Page, Fault>>, Fault> {
        let mut answers: Vec<Option<Result<Page, Fault>>> = vec![None; asked.len()];
        let mut joint = Vec::new();
        for (place, of) in asked.iter().enumerate() {
            match changes_path(self, &of.object, &of.columns, &of.since) {
                Ok(path) if path.len() <= LONGEST_PATH => joint.push((place, path)),
                Ok(_) => {
                    let alone = self.changes_page(&of.object, &of.columns, &of.since).await;
                    answers[place] = Some(alone);
                }
                Err(fault) => answers[place] = Some(Err(fault)),
            }
        }
        for joint in joint.chunks(MOST_QUERIES) {
            for ((place, _), answer) in joint.iter().zip(self.together(joint).await?) {
                let columns = &asked[*place].columns;
                answers[*place] = Some(answer.and_then(|body| page(columns, &body)));
            }
        }
        let unanswered = || Err(unexpected("the answer to several queries"));
        Ok(answers.into_iter().map(|answer| answer.unwrap_or_else(unanswered)).collect())
    }

    async fn together(
        &self,
        joint: &[(usize, String)],
    ) -> Result<Vec<Result<Value, Fault>>, Fault> {
        let requests: Vec<Value> = joint
            .iter()
            .map(|(place, path)| {
                json!({ "method": "GET", "url": path, "referenceId": format!("object{place}") })
            })
            .collect();
        let body = json!({ "allOrNone": false, "compositeRequest": requests });
        let answer = self.answer(&Call::read(self.path("/composite"), body)).await;
        let answer = answer.map_err(of_read)?;
        let body =
            json::read(&answer.body).ok_or_else(|| unexpected("the answer to several queries"))?;
        let parts = body.get("compositeResponse").and_then(Value::as_array);
        let parts = parts.filter(|parts| parts.len() == joint.len());
        let parts = parts.ok_or_else(|| unexpected("the answer to several queries"))?;
        let of_part = |part: &Value| {
            let status = status(part);
            let body = part.get("body").cloned().unwrap_or(Value::Null);
            if status.is_success() {
                return Ok(body);
            }
            let mut fault = of_read(refusal::of_body(status, &body));
            fault.about.request_id = refusal::request_id(&answer.headers);
            Err(self.redacted(fault, None))
        };
        Ok(parts.iter().map(of_part).collect())
    }
}
