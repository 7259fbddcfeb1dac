//! `Halt`: why a request comes to no answer of its own: it is refused, or somebody must be asked first.
//!
//! Contract: whoever halts to ask has stored nothing, so that the same request can be decided again from the start.

use stead_api::call::{Answer, Question};
use stead_api::{Request, Status};

#[derive(Debug)]
pub(crate) enum Halt {
    Refused(Status),
    Asks(Vec<Question>),
}

impl From<Status> for Halt {
    fn from(status: Status) -> Halt {
        Halt::Refused(status)
    }
}

impl Halt {
    /// The refusal of a change that nobody is asked about.
    pub(crate) fn into_status(self) -> Status {
        match self {
            Halt::Refused(status) => status,
            Halt::Asks(_) => Status::internal("a change of the server's own waits for an answer"),
        }
    }
}

/// What is known of a question already.
pub(crate) fn answer_to<'a>(request: &'a Request, question: &Question) -> Option<&'a Answer> {
    request.replay.as_ref()?.answer(question)
}

/// Whether webhooks are passed over.
pub(crate) fn asks_nobody(request: &Request) -> bool {
    request.replay.as_ref().is_some_and(|replay| replay.asks_nobody)
}
