//! Writes: the life of a change as named phases.

use stead_api::{Request, Status};

use crate::{Context, Reply};

pub(crate) fn serve(_ctx: &mut Context, _request: &Request) -> Reply {
    Reply::failure(Status::no_such_path())
}
