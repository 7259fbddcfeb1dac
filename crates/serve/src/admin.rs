//! What only the administrator on this machine may ask: `/-/status` and `/-/down`, over the data directory's socket.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use serde_json::json;
use tokio::sync::oneshot;

use crate::Server;
use crate::out::Out;

mod down;

pub use down::{Admin, Containers, Down};

/// Answers a path of the administrator's, or None.
pub async fn serve(server: &Server, path: &str, query: Option<&str>) -> Option<Response<Out>> {
    match path {
        "/-/status" => Some(json_response(status(server))),
        "/-/down" => {
            let Some(containers) = Containers::of_query(query) else {
                return Some(refusal(http::StatusCode::BAD_REQUEST, "the query is not understood"));
            };
            let (done, finished) = oneshot::channel();
            let connections = Arc::clone(&server.admin.connections);
            let sent = server.admin.down.send(Down { containers, done, connections }).await;
            let outcome = match sent {
                Ok(()) => finished.await.unwrap_or_else(|_| Err("the server ended before its containers".into())),
                Err(_) => Err("the server is stopping already".into()),
            };
            Some(match outcome {
                Ok(()) => json_response(json!({"stopped": true})),
                Err(why) => refusal(http::StatusCode::INTERNAL_SERVER_ERROR, &why),
            })
        }
        _ => None,
    }
}

fn status(server: &Server) -> serde_json::Value {
    let seconds = server.admin.started.elapsed().as_secs();
    let uptime = match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86400, seconds % 86400 / 3600),
    };
    json!({"server": server.admin.url, "uptime": uptime, "pid": std::process::id(), "memoryMegabytes": resident_megabytes(),
        "trouble": server.plane.trouble().map(|why| why.to_string())})
}

fn resident_megabytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) / 1024
}

fn refusal(code: http::StatusCode, why: &str) -> Response<Out> {
    let mut response = json_response(json!({"message": why}));
    *response.status_mut() = code;
    response
}

fn json_response(value: serde_json::Value) -> Response<Out> {
    let mut response = Response::new(Out::pieces(vec![Bytes::from(value.to_string())]));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
