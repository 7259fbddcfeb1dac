//! Messages: queries taken apart, records encoded once, answers put together from encoded records.
//!
//! Contract: any bytes may come in; what is not a query with one question is refused by the code that DNS has for it, and
//! nothing panics. An answer repeats the question as it was asked, letter case included, names its records by pointing at
//! the question, never exceeds the limit, and sets TC when answers had to be left out. EDNS (OPT) is answered when asked.
//! Source: RFC 1035, 2181, 6891; rows D-16, D-20.

use super::name::NAME_BYTES_MAX;

pub const HEADER_BYTES: usize = 12;
/// Where the question's name lies in every message; answers point at it.
const QUESTION_NAME: [u8; 2] = [0xc0, HEADER_BYTES as u8];
/// The largest UDP answer, whatever a client says it can take: it must not be fragmented on any path.
pub const UDP_BYTES_MAX: usize = 1232;
/// What a client without EDNS can take.
const UDP_BYTES_PLAIN: usize = 512;
const OPT_BYTES: usize = 11;

pub mod kind {
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const CNAME: u16 = 5;
    pub const SOA: u16 = 6;
    pub const PTR: u16 = 12;
    pub const TXT: u16 = 16;
    pub const AAAA: u16 = 28;
    pub const SRV: u16 = 33;
    pub const OPT: u16 = 41;
    pub const ANY: u16 = 255;
}

const CLASS_IN: u16 = 1;
const CLASS_ANY: u16 = 255;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    NoError = 0,
    FormErr = 1,
    ServFail = 2,
    NxDomain = 3,
    NotImp = 4,
    Refused = 5,
    /// An EDNS version we do not speak; its upper bits travel in the OPT record.
    BadVers = 16,
}

/// How a query came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// A query with one question.
pub struct Query<'a> {
    message: &'a [u8],
    /// Where the question ends.
    end: usize,
    name: [u8; NAME_BYTES_MAX],
    name_len: usize,
    pub kind: u16,
    pub is_internet: bool,
    edns: Option<Edns>,
}

struct Edns {
    version: u8,
    udp_bytes: u16,
}

/// What is not a query to be answered.
#[derive(Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Answers, and what is too short to have an id: not to be answered at all, or two servers could talk for ever.
    Ignore,
    Refuse(Code),
}

impl<'a> Query<'a> {
    pub fn parse(message: &'a [u8]) -> Result<Query<'a>, Unfit> {
        let header = message.first_chunk::<HEADER_BYTES>().ok_or(Unfit::Ignore)?;
        if header[2] & 0x80 != 0 {
            return Err(Unfit::Ignore);
        }
        if header[2] & 0x78 != 0 {
            return Err(Unfit::Refuse(Code::NotImp));
        }
        let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        if count(4) != 1 {
            return Err(Unfit::Refuse(Code::FormErr));
        }
        let records = [count(6), count(8), count(10)].map(u32::from).iter().sum();
        Query::parse_question(message, records).ok_or(Unfit::Refuse(Code::FormErr))
    }

    fn parse_question(message: &'a [u8], records: u32) -> Option<Query<'a>> {
        let mut name = [0; NAME_BYTES_MAX];
        let mut at = HEADER_BYTES;
        loop {
            // A pointer in the first name of a message could only point into the header.
            let len = usize::from(*message.get(at)?);
            let used = at - HEADER_BYTES;
            if len > 63 || used + len + 1 > NAME_BYTES_MAX {
                return None;
            }
            let label = message.get(at..=at + len)?;
            name[used] = len as u8;
            for (to, from) in name[used + 1..].iter_mut().zip(&label[1..]) {
                *to = from.to_ascii_lowercase();
            }
            at += len + 1;
            if len == 0 {
                break;
            }
        }
        let fixed = message.get(at..at + 4)?;
        let (kind, class) = (u16::from_be_bytes([fixed[0], fixed[1]]), u16::from_be_bytes([fixed[2], fixed[3]]));
        let end = at + 4;
        let edns = find_edns(message, end, records)?;
        let is_internet = matches!(class, CLASS_IN | CLASS_ANY);
        Some(Query { message, end, name, name_len: at - HEADER_BYTES, kind, is_internet, edns })
    }

    /// The name in lower case.
    pub fn name(&self) -> &[u8] {
        &self.name[..self.name_len]
    }

    pub fn has_bad_edns(&self) -> bool {
        self.edns.as_ref().is_some_and(|e| e.version != 0)
    }

    pub fn id(&self) -> u16 {
        u16::from_be_bytes([self.message[0], self.message[1]])
    }

    /// Header and question, to be sent on or answered.
    pub fn question(&self) -> &'a [u8] {
        &self.message[..self.end]
    }

    pub fn limit(&self, transport: Transport) -> usize {
        match (transport, &self.edns) {
            (Transport::Tcp, _) => usize::from(u16::MAX),
            (Transport::Udp, None) => UDP_BYTES_PLAIN,
            (Transport::Udp, Some(e)) => usize::from(e.udp_bytes).clamp(UDP_BYTES_PLAIN, UDP_BYTES_MAX),
        }
    }
}

/// The OPT record among those behind the question. `None` when the records are not well formed.
fn find_edns(message: &[u8], start: usize, records: u32) -> Option<Option<Edns>> {
    let (mut at, mut found) = (start, None);
    for _ in 0..records {
        at = skip_name(message, at)?;
        let fixed = message.get(at..at + 10)?;
        let data_len = usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
        if u16::from_be_bytes([fixed[0], fixed[1]]) == kind::OPT {
            found = Some(Edns { version: fixed[5], udp_bytes: u16::from_be_bytes([fixed[2], fixed[3]]) });
        }
        at += 10 + data_len;
        if at > message.len() {
            return None;
        }
    }
    Some(found)
}

/// The position behind a name, which may end in a pointer.
pub fn skip_name(message: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            len if len < 64 => at += usize::from(len) + 1,
            len if len >= 0xc0 => return (at + 2 <= message.len()).then_some(at + 2),
            _ => return None,
        }
    }
}

/// Records of one name and type, encoded from the type on: the owner is written where they are used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records {
    bytes: Vec<u8>,
    /// Where each record ends.
    ends: Vec<usize>,
}

impl Records {
    pub fn push(&mut self, kind: u16, ttl_seconds: u32, data: &[u8]) {
        self.bytes.extend(kind.to_be_bytes());
        self.bytes.extend(CLASS_IN.to_be_bytes());
        self.bytes.extend(ttl_seconds.to_be_bytes());
        self.bytes.extend((data.len() as u16).to_be_bytes());
        self.bytes.extend(data);
        self.ends.push(self.bytes.len());
    }

    fn len(&self) -> usize {
        self.ends.len()
    }

    fn get(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[index]]
    }
}

/// Whose records these are: the name that was asked for, or another one given as bytes.
#[derive(Clone, Copy)]
pub enum Owner<'a> {
    Question,
    /// The last bytes of the question's name, this many.
    QuestionTail(usize),
    Other(&'a [u8]),
}

#[derive(Clone, Copy)]
enum Section {
    Answer = 6,
    Authority = 8,
    Additional = 10,
}

/// An answer in the making.
pub struct Reply<'o> {
    out: &'o mut Vec<u8>,
    /// What may still be used, room for OPT already taken off.
    limit: usize,
    name_len: usize,
    code: Code,
    edns: bool,
    id: u16,
}

impl<'o> Reply<'o> {
    /// Begins an answer that we are the authority for.
    pub fn new(query: &Query, transport: Transport, out: &'o mut Vec<u8>) -> Reply<'o> {
        out.clear();
        out.extend_from_slice(query.question());
        // QR, AA, and the query's RD; RA, for other names are asked on.
        out[2] = 0x84 | (query.message[2] & 0x01);
        out[3] = 0x80;
        out[6..HEADER_BYTES].fill(0);
        let edns = query.edns.is_some();
        let limit = query.limit(transport) - if edns { OPT_BYTES } else { 0 };
        Reply { out, limit, name_len: query.name_len, code: Code::NoError, edns, id: query.id() }
    }

    /// For answers that somebody else is the authority for.
    pub fn not_authoritative(&mut self) {
        self.out[2] &= !0x04;
    }

    pub fn code(&mut self, code: Code) {
        self.code = code;
    }

    /// Answers begin at another record each time (by the query's id, which is random), so that clients spread.
    pub fn answer(&mut self, owner: Owner, records: &Records) {
        let first = usize::from(self.id) % records.len().max(1);
        for index in 0..records.len() {
            let record = records.get((first + index) % records.len());
            if !self.push(owner, record, Section::Answer) {
                self.out[2] |= 0x02;
                return;
            }
        }
    }

    pub fn authority(&mut self, owner: Owner, records: &Records) {
        for index in 0..records.len() {
            self.push(owner, records.get(index), Section::Authority);
        }
    }

    /// Left out without a word where there is no room.
    pub fn additional(&mut self, owner: Owner, records: &Records) {
        for index in 0..records.len() {
            self.push(owner, records.get(index), Section::Additional);
        }
    }

    fn push(&mut self, owner: Owner, record: &[u8], section: Section) -> bool {
        let pointer;
        let owner = match owner {
            Owner::Question => &QUESTION_NAME,
            Owner::QuestionTail(len) => {
                let at = (HEADER_BYTES + self.name_len - len) as u16;
                pointer = (0xc000 | at).to_be_bytes();
                &pointer[..]
            }
            Owner::Other(name) => name,
        };
        let count = u16::from_be_bytes([self.out[section as usize], self.out[section as usize + 1]]);
        if self.out.len() + owner.len() + record.len() > self.limit || count == u16::MAX {
            return false;
        }
        self.out.extend_from_slice(owner);
        self.out.extend_from_slice(record);
        self.out[section as usize..section as usize + 2].copy_from_slice(&(count + 1).to_be_bytes());
        true
    }

    pub fn finish(self) {
        let code = self.code as u16;
        self.out[3] |= (code & 15) as u8;
        if self.edns {
            let count = u16::from_be_bytes([self.out[10], self.out[11]]) + 1;
            self.out[10..12].copy_from_slice(&count.to_be_bytes());
            self.out.push(0);
            self.out.extend(kind::OPT.to_be_bytes());
            self.out.extend((UDP_BYTES_MAX as u16).to_be_bytes());
            self.out.extend([(code >> 4) as u8, 0, 0, 0, 0, 0]);
        }
    }
}

/// The header alone, with a code: for what could not be understood.
pub fn refuse(message: &[u8], code: Code, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&message[..HEADER_BYTES.min(message.len())]);
    out.resize(HEADER_BYTES, 0);
    out[2] = 0x80 | (out[2] & 0x79);
    out[3] = 0x80 | code as u8;
    out[4..].fill(0);
}
