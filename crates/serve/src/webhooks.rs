//! Webhooks: the questions of decisions go out, the answers come back, and whoever waits goes on.
//!
//! Guarantees: nothing of this happens on the plane's thread; every question is answered within its own time, if only with why it
//! was not; a Service's ready endpoint is called straight, by what the published head says.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Uri};
use ring::rand::SecureRandom;
use stead_api::call::{Answer, Endpoint, Question, Said};
use stead_api::{Remarks, Request, Status};
use stead_apiserver::{CallPlan, Head, Reply};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::Server;
use crate::outbound::Peer;
use crate::trust::Trust;

/// The largest answer that is read: a patch of the largest object, in base64, and something around it.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Questions of one decision that are open at once: the deletion of a whole collection asks about each object.
const OPEN_MAX: usize = 32;

/// Asks all questions of a request, which then knows the answers.
pub async fn answered(server: &Arc<Server>, plan: CallPlan) -> Request {
    let mut answers = Vec::with_capacity(plan.questions.len());
    if let [question] = plan.questions.as_slice() {
        answers.push(ask(server, &within(question, plan.within)).await);
        return plan.answered(answers);
    }
    let places = Arc::new(Semaphore::new(OPEN_MAX));
    let mut tasks = JoinSet::new();
    for (index, question) in plan.questions.iter().map(|question| within(question, plan.within)).enumerate() {
        let (server, places) = (Arc::clone(server), Arc::clone(&places));
        tasks.spawn(async move {
            let _place = places.acquire().await;
            (index, ask(&server, &question).await)
        });
    }
    let mut said: Vec<Option<Answer>> = vec![None; plan.questions.len()];
    while let Some(done) = tasks.join_next().await {
        if let Ok((index, answer)) = done {
            said[index] = Some(answer);
        }
    }
    let lost = || Answer { uid: String::new(), said: Err("the call was broken off".into()) };
    answers.extend(said.into_iter().map(|one| one.unwrap_or_else(lost)));
    plan.answered(answers)
}

/// A question with no more time than is left, in whole seconds.
fn within(question: &Question, left: Duration) -> Question {
    let left = u32::try_from(left.as_millis().div_ceil(1000)).unwrap_or(u32::MAX);
    Question { seconds: question.seconds.min(left), ..question.clone() }
}

/// Answers a request that changes nothing, from one head, however often webhooks are to be asked.
pub async fn read(server: &Arc<Server>, head: &Head, request: &Request) -> Reply {
    let mut reply = stead_apiserver::serve_read(head, crate::clock::now(), request);
    while let Reply::Call(plan) = reply {
        let request = answered(server, *plan).await;
        reply = stead_apiserver::serve_read(head, crate::clock::now(), &request);
    }
    reply
}

/// Asks webhooks about a connection to another server; `remarks` is what they have to say of it.
///
/// # Errors
/// What the first one that refuses says.
pub async fn permit(server: &Arc<Server>, head: &Head, request: &Request, remarks: &mut Remarks) -> Result<(), Status> {
    let mut asked = |request: &Request| {
        *remarks = Remarks::about(request);
        stead_apiserver::permit_connection(head, crate::clock::now(), request, remarks)
    };
    let mut reply = asked(request);
    while let Some(Reply::Call(plan)) = reply {
        let request = answered(server, *plan).await;
        reply = asked(&request);
    }
    match reply.as_ref().and_then(Reply::status) {
        Some(status) => Err(status.clone()),
        None => Ok(()),
    }
}

/// Asks one question.
pub async fn ask(server: &Server, question: &Question) -> Answer {
    let uid = fresh_uid();
    let said = exchange(server, question, &uid).await;
    Answer { uid, said }
}

async fn exchange(server: &Server, question: &Question, uid: &str) -> Result<Said, String> {
    let url = question.url();
    let failed = |why: String| format!("Post \"{url}\": {why}");
    let peer = peer(server, question).map_err(failed)?;
    let place: Uri = url.parse().map_err(|error: http::uri::InvalidUri| failed(error.to_string()))?;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json, */*"));
    headers.insert(USER_AGENT, HeaderValue::from_static("kube-apiserver-admission"));
    let within = Duration::from_secs(question.seconds.into());
    let sent = (Method::POST, place, headers);
    let answer = server.outbound.exchange(&peer, sent, question.body(uid), within, ANSWER_BYTES_MAX).await;
    let (code, _, body) = answer.map_err(|error| error.to_string())?;
    Ok(Said { code: code.as_u16(), body })
}

fn peer(server: &Server, question: &Question) -> Result<Peer, String> {
    static TURN: AtomicUsize = AtomicUsize::new(0);
    let trust = Trust::bundle(&question.ca_bundle);
    match &question.endpoint {
        Endpoint::Url(url) => Ok(Peer { only_http1: !is_here(url), ..Peer::of_url(trust) }),
        Endpoint::Service { namespace, name, port, .. } => {
            let head = server.plane.head();
            let turn = TURN.fetch_add(1, Ordering::Relaxed);
            let found = stead_apiserver::resolve(&head.store.snapshot, namespace, name, (*port).into(), turn);
            let peer = |address| Peer { only_http1: true, ..Peer::of_service(trust, address) };
            found.map(peer).map_err(|status| status.message)
        }
    }
}

/// Whether a URL names this machine: others are asked over a connection per question, which whatever balances them can spread.
fn is_here(url: &str) -> bool {
    let Ok(url) = url.parse::<Uri>() else { return false };
    let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn fresh_uid() -> String {
    let mut bytes = [0; 16];
    // Without chance it is only a name that others have, too.
    let _ = ring::rand::SystemRandom::new().fill(&mut bytes);
    let hex = u128::from_be_bytes(bytes);
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        (hex >> 96) as u32,
        (hex >> 80) as u16,
        (hex >> 64) as u16 & 0xfff,
        0x8000 | ((hex >> 48) as u16 & 0x3fff),
        hex & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use super::is_here;

    #[test]
    fn this_machine_is_known_by_name_and_address() {
        for url in ["https://localhost:1/x", "https://127.0.0.1", "https://[::1]:8443/", "https://LOCALHOST"] {
            assert!(is_here(url), "{url}");
        }
        for url in ["https://hook.example/", "https://10.0.0.1:8443", "nonsense /"] {
            assert!(!is_here(url), "{url}");
        }
    }
}
