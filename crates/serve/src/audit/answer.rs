//! The last stages of a request: its answer begins, and ends.

use http::{HeaderValue, Response};
use serde_json::json;
use stead_api::Notes;
use stead_apiserver::audit::Stage;

use super::{AUDIT_ID, Trail};
use crate::out::Out;

impl Trail {
    /// Writes the end, or for an answer that goes on the beginning: its end is written when it ends.
    pub fn finish(mut self, response: Response<Out>, notes: Notes) -> Response<Out> {
        for (key, text) in notes {
            self.event["annotations"][key] = json!(text);
        }
        let code = response.status().as_u16();
        let (mut head, body) = response.into_parts();
        if let Ok(id) = HeaderValue::from_str(&self.id) {
            head.headers.insert(AUDIT_ID, id);
        }
        if self.event["responseStatus"].is_null() {
            self.event["responseStatus"] = json!({"metadata": {}, "code": code});
        }
        let body = match body {
            Out::Watch(_) | Out::Stream(_) => {
                self.write(Stage::ResponseStarted, None);
                Out::Followed(Box::new(body), Box::new(self))
            }
            whole => {
                self.end();
                whole
            }
        };
        Response::from_parts(head, body)
    }
}
