//! `LogQuery`: which part of a container's log is asked for (K-06), checked before the pod is looked for.

use jiff::Timestamp;
use stead_api::{Errors, FieldPath, Request, Status};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    pub follow: bool,
    pub timestamps: bool,
    pub previous: bool,
    pub tail_lines: Option<u64>,
    pub limit_bytes: Option<u64>,
    pub since_seconds: Option<i64>,
    pub since_time: Option<Timestamp>,
}

impl LogQuery {
    /// # Errors
    /// 400 for what is no number or time, 422 for numbers that mean nothing and options that exclude each other.
    pub fn of(request: &Request) -> Result<LogQuery, Status> {
        let param = |name: &str| request.options.param(name).filter(|text| !text.is_empty());
        let number = |name: &str| -> Result<Option<i64>, Status> {
            let Some(text) = param(name) else { return Ok(None) };
            let wrong = |_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"));
            text.parse::<i64>().map(Some).map_err(wrong)
        };
        let (tail_lines, limit_bytes) = (number("tailLines")?, number("limitBytes")?);
        let since_seconds = number("sinceSeconds")?;
        let since_time = match param("sinceTime") {
            Some(text) => Some(text.parse().map_err(|_| Status::bad_request(format!("sinceTime {text} is no time")))?),
            None => None,
        };
        let mut errors = Errors::default();
        if let Some(lines) = tail_lines.filter(|lines| *lines < 0) {
            errors.invalid(&FieldPath::new("tailLines"), lines, "must be greater than or equal to 0");
        }
        if let Some(bytes) = limit_bytes.filter(|bytes| *bytes < 1) {
            errors.invalid(&FieldPath::new("limitBytes"), bytes, "must be greater than 0");
        }
        match (since_seconds, since_time) {
            (Some(_), Some(_)) => {
                let why = "at most one of `sinceTime` or `sinceSeconds` may be specified";
                errors.forbidden(&FieldPath::default(), why);
            }
            (Some(seconds), None) if seconds < 1 => {
                errors.invalid(&FieldPath::new("sinceSeconds"), seconds, "must be greater than 0");
            }
            _ => {}
        }
        // Logs keep both streams together until Kubernetes tells them apart for everybody.
        if param("stream").is_some() {
            errors.forbidden(&FieldPath::new("stream"), "may not be specified");
        }
        if !errors.is_empty() {
            let name = request.resource().map_or("", |resource| resource.name.as_str());
            return Err(Status::invalid("", "PodLogOptions", name, errors));
        }
        let is = |name: &str| matches!(param(name), Some("true" | "1"));
        let unsigned = |value: Option<i64>| value.and_then(|number| u64::try_from(number).ok());
        Ok(LogQuery {
            follow: is("follow"),
            timestamps: is("timestamps"),
            previous: is("previous"),
            tail_lines: unsigned(tail_lines),
            limit_bytes: unsigned(limit_bytes),
            since_seconds,
            since_time,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stead_api::Verb;

    fn told(query: &str) -> Result<(), (u16, String)> {
        let mut request = Request::of(Default::default(), Verb::Get, Default::default(), Default::default());
        request.target = stead_api::request::target("/api/v1/namespaces/default/pods/web/log");
        request.options = stead_api::request::options(query).expect("options");
        LogQuery::of(&request).map(|_| ()).map_err(|status| (status.code, status.message))
    }

    #[test]
    fn options_of_logs_are_checked_before_anything_is_read() {
        assert_eq!(told("tailLines=0&limitBytes=1&sinceSeconds=1&follow=true"), Ok(()));
        let refused = |why: &str| Err((422, format!("PodLogOptions \"web\" is invalid: {why}")));
        assert_eq!(told("tailLines=-1"), refused("tailLines: Invalid value: -1: must be greater than or equal to 0"));
        assert_eq!(told("limitBytes=0"), refused("limitBytes: Invalid value: 0: must be greater than 0"));
        assert_eq!(told("stream=Stdout"), refused("stream: Forbidden: may not be specified"));
        let both = told("sinceSeconds=0&sinceTime=2026-01-01T00:00:00Z");
        let why = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        assert!(both.is_err_and(|(code, text)| code == 422 && text.ends_with(why) && !text.contains("greater than")));
        assert_eq!(told("tailLines=x").map_err(|(code, _)| code), Err(400));
    }
}
