//! Get and list, and the way to everything else that changes nothing.

use jiff::Timestamp;
use stead_api::{Request, Status};

use crate::{Head, Reply};

pub(crate) fn serve(_head: &Head, _now: Timestamp, _request: &Request) -> Result<Reply, Status> {
    Err(Status::no_such_path())
}
