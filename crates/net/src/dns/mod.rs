//! What a name is: answers for the cluster's domain and its addresses, out of one snapshot.
//!
//! Start with [`Zone`]: [`Zone::follow`] brings it up to a head, [`Zone::answer`] turns a query's bytes into an answer's.
//!
//! Guarantees: a name is known as soon as the head that made it is followed; every record lies encoded, so a query costs one
//! look-up and a copy, and a change costs what changed. Other names are not ours: [`Outcome::Forward`]. A negative answer is
//! not to be kept (TTL 0), so that nobody waits for a name that is there by now (D-20); others are for five seconds (D-16).
//! Any bytes may come in; nothing panics.
//! Source: the Kubernetes DNS specification 1.1.0, CoreDNS where that leaves it open; rows D-01 to D-20.

mod alias;
mod name;
mod service;
mod wire;
mod zone;

pub use alias::Alias;
pub use name::Name;
pub use wire::{Code, Transport};
pub use zone::{Zone, ZoneConfig};

use wire::{Owner, Query, Reply, Unfit, kind};
use zone::{Found, Node};

/// How far names that lead to other names are followed inside the zone.
const ALIASES_MAX: usize = 8;

/// What becomes of a query.
#[derive(Debug)]
pub enum Outcome {
    /// The answer is written.
    Answered,
    /// Not ours: ask upstream and hand its answer back as it is.
    Forward,
    /// Ours, but it leads to a name outside: ask upstream for that and finish the answer with it (D-15).
    Alias(Box<Alias>),
    /// To be left without an answer.
    Ignore,
}

impl Zone {
    /// Answers the query in `message`; the answer is written to `out`.
    pub fn answer(&self, message: &[u8], transport: Transport, out: &mut Vec<u8>) -> Outcome {
        let query = match Query::parse(message) {
            Ok(query) => query,
            Err(Unfit::Ignore) => return Outcome::Ignore,
            Err(Unfit::Refuse(code)) => {
                wire::refuse(message, code, out);
                return Outcome::Answered;
            }
        };
        let refused = match () {
            _ if query.has_bad_edns() => Some(Code::BadVers),
            _ if !query.is_internet => Some(Code::Refused),
            _ => None,
        };
        if let Some(code) = refused {
            finish(Reply::new(&query, transport, out), code);
            return Outcome::Answered;
        }
        let found = self.find(query.name());
        if matches!(found, Found::Elsewhere) {
            return Outcome::Forward;
        }
        self.answer_found(&query, found, transport, out)
    }

    fn answer_found(&self, query: &Query, found: Found, transport: Transport, out: &mut Vec<u8>) -> Outcome {
        let mut reply = Reply::new(query, transport, out);
        let mut owner: Option<&Name> = None;
        let mut found = found;
        for _ in 0..ALIASES_MAX {
            let by = owner.map_or(Owner::Question, |name| Owner::Other(name.wire()));
            let node = match &found {
                Found::Node(node) => *node,
                Found::PodAddress(records, record_kind) => {
                    match matches!(query.kind, k if k == *record_kind || k == kind::ANY) {
                        true => reply.answer(by, records),
                        false => self.deny(&mut reply, query),
                    }
                    break;
                }
                Found::Nothing => {
                    reply.code(Code::NxDomain);
                    self.deny(&mut reply, query);
                    break;
                }
                Found::Elsewhere => break,
            };
            let Some((records, target)) = node.alias().filter(|_| query.kind != kind::CNAME) else {
                if !answer_node(&mut reply, by, node, query.kind) {
                    self.deny(&mut reply, query);
                }
                break;
            };
            reply.answer(by, records);
            found = self.find(target.wire());
            if matches!(found, Found::Elsewhere) {
                reply.finish();
                return Outcome::Alias(Box::new(Alias::new(target.clone(), query.kind, out)));
            }
            owner = Some(target);
        }
        reply.finish();
        Outcome::Answered
    }

    /// Says which zone knows that there is nothing, and for how long (D-19, D-20).
    fn deny(&self, reply: &mut Reply, query: &Query) {
        let apex = self.apex_of(query.name()).wire();
        let owner = match name::is_within(query.name(), apex) {
            true => Owner::QuestionTail(apex.len()),
            false => Owner::Other(apex),
        };
        reply.authority(owner, self.soa());
    }
}

/// Writes what the node has of this type, if anything.
fn answer_node(reply: &mut Reply, owner: Owner, node: &Node, asked: u16) -> bool {
    let mut any = false;
    for (record_kind, records) in node.records() {
        // To ANY, one type is answer enough (RFC 8482).
        if record_kind == asked || (asked == kind::ANY && !any) {
            reply.answer(owner, records);
            any = true;
        }
    }
    if asked == kind::SRV {
        for (name, records) in node.additional() {
            reply.additional(Owner::Other(name.wire()), records);
        }
    }
    any
}

fn finish(mut reply: Reply, code: Code) {
    reply.not_authoritative();
    reply.code(code);
    reply.finish();
}

/// Whether a message answers exactly this query: its id, and its question letter for letter or in another case.
pub fn is_answer_to(query: &[u8], message: &[u8]) -> bool {
    let Ok(asked) = Query::parse(query) else { return false };
    let question = asked.question();
    let is_answer = message.get(2).is_some_and(|flags| flags & 0x80 != 0);
    let same_id = message.get(..2) == Some(&query[..2]);
    let at = wire::HEADER_BYTES..question.len();
    let same_question = message.get(at.clone()).is_some_and(|other| other.eq_ignore_ascii_case(&question[at]));
    is_answer && same_id && same_question
}

/// The answer when upstream gives none.
pub fn server_failure(message: &[u8], transport: Transport, out: &mut Vec<u8>) {
    match Query::parse(message) {
        Ok(query) => finish(Reply::new(&query, transport, out), Code::ServFail),
        Err(_) => wire::refuse(message, Code::ServFail, out),
    }
}

/// An upstream's answer made fit for the client: cut to the header and the question with TC where it does not fit.
pub fn fit_forwarded(query: &[u8], transport: Transport, answer: &mut Vec<u8>) {
    let Ok(parsed) = Query::parse(query) else { return };
    if answer.len() <= parsed.limit(transport) || answer.len() < wire::HEADER_BYTES {
        return;
    }
    let (flags, code) = (answer[2], answer[3]);
    Reply::new(&parsed, transport, answer).finish();
    answer[2] = flags | 0x02;
    answer[3] = code;
}

#[cfg(test)]
mod tests;
