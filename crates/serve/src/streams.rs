//! exec, attach, port-forward, logs.

use std::sync::Arc;

use http::{HeaderMap, Response};
use hyper::body::Incoming;
use stead_api::{Request, Status};
use stead_apiserver::StreamPlan;

use crate::Server;
use crate::http::Out;

pub fn is_upgrade(_request: &Request) -> bool {
    false
}

pub async fn serve(
    _server: &Arc<Server>,
    _request: Request,
    _headers: &HeaderMap,
    _upgrade: Option<hyper::upgrade::OnUpgrade>,
    _body: Incoming,
) -> Result<Response<Out>, Status> {
    Err(Status::unavailable("wip"))
}

pub async fn read(_server: &Arc<Server>, _plan: StreamPlan) -> Result<Response<Out>, Status> {
    Err(Status::unavailable("wip"))
}
