//! The end of an answer that leads outside: an ExternalName's CNAME with what upstream says about its target.
//!
//! Contract: [`Alias::question`] is what to ask upstream; [`Alias::finish`] adds upstream's records to the CNAME, however
//! upstream compressed them. Without an answer from upstream the CNAME alone is the answer, so a client that can follow it
//! itself still may.
//! Source: row D-15; RFC 1034 section 3.6.2.

use super::name::{NAME_BYTES_MAX, Name};
use super::wire::{self, Code, HEADER_BYTES, Owner, Query, Records, Reply, Transport, kind};

/// An answer that wants upstream's records.
#[derive(Debug)]
pub struct Alias {
    target: Name,
    kind: u16,
    /// Our answer so far: header, question, and the CNAMEs from the question to the target.
    so_far: Vec<u8>,
}

impl Alias {
    pub(super) fn new(target: Name, asked: u16, so_far: &[u8]) -> Alias {
        Alias { target, kind: asked, so_far: so_far.to_vec() }
    }

    /// The query for upstream.
    pub fn question(&self, id: u16) -> Vec<u8> {
        let mut out = id.to_be_bytes().to_vec();
        out.extend([0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        out.extend(self.target.wire());
        out.extend(self.kind.to_be_bytes());
        out.extend(1u16.to_be_bytes());
        out
    }

    /// Writes the whole answer to `query`.
    pub fn finish(&self, query: &[u8], upstream: Option<&[u8]>, transport: Transport, out: &mut Vec<u8>) {
        let Ok(query) = Query::parse(query) else { return out.clear() };
        let mut reply = Reply::new(&query, transport, out);
        if upstream.and_then(|answer| answer.get(3)).is_some_and(|flags| flags & 15 == Code::NxDomain as u8) {
            reply.code(Code::NxDomain);
        }
        let mut all = read_answers(&self.so_far).unwrap_or_default();
        all.extend(upstream.and_then(read_answers).unwrap_or_default());
        for (owner, records) in &all {
            reply.answer(Owner::Other(owner), records);
        }
        reply.finish();
    }
}

/// The answer records of a message with all names written out. `None` when it is not well formed.
fn read_answers(message: &[u8]) -> Option<Vec<(Vec<u8>, Records)>> {
    let header = message.first_chunk::<HEADER_BYTES>()?;
    let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let mut at = HEADER_BYTES;
    for _ in 0..count(4) {
        at = wire::skip_name(message, at)? + 4;
    }
    let mut answers = Vec::new();
    for _ in 0..count(6) {
        let owner = expand(message, at)?;
        at = wire::skip_name(message, at)?;
        let fixed = message.get(at..at + 10)?;
        let record_kind = u16::from_be_bytes([fixed[0], fixed[1]]);
        let ttl = u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]);
        let (start, len) = (at + 10, usize::from(u16::from_be_bytes([fixed[8], fixed[9]])));
        let data = message.get(start..start + len)?;
        at = start + len;
        let data = match record_kind {
            kind::CNAME | kind::NS | kind::PTR => expand(message, start)?,
            kind::A | kind::AAAA | kind::TXT => data.to_vec(),
            kind::SRV => [data.get(..6)?, &expand(message, start + 6)?].concat(),
            // Others may hold compressed names that would be wrong elsewhere.
            _ => continue,
        };
        let mut records = Records::default();
        records.push(record_kind, ttl, &data);
        answers.push((owner, records));
    }
    Some(answers)
}

/// A name with its pointers followed.
fn expand(message: &[u8], start: usize) -> Option<Vec<u8>> {
    let (mut out, mut at) = (Vec::new(), start);
    // Every pointer must lead back, so this ends.
    let mut before = start;
    loop {
        let len = *message.get(at)?;
        match len {
            0 => {
                out.push(0);
                return (out.len() <= NAME_BYTES_MAX).then_some(out);
            }
            1..=63 => {
                out.extend(message.get(at..=at + usize::from(len))?);
                at += usize::from(len) + 1;
            }
            _ if len >= 0xc0 => {
                let to = usize::from(u16::from_be_bytes([len & 0x3f, *message.get(at + 1)?]));
                if to >= before {
                    return None;
                }
                (at, before) = (to, to);
            }
            _ => return None,
        }
        if out.len() > NAME_BYTES_MAX {
            return None;
        }
    }
}
