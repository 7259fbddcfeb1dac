//! What goes over the wire: bodies and watch events in JSON or, as Go's controllers send and want them, in protobuf.

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use serde_json::{Value, json};
use stead_api::Format;
use stead_api::protobuf::{self, Envelope, MAGIC, Reader, Wire};

use crate::scan::{Frames, Lines};

/// What is accepted in answer: what is asked for, and JSON where there is no such form.
pub fn accept(format: Format) -> &'static str {
    match format {
        Format::Protobuf => "application/vnd.kubernetes.protobuf,application/json",
        Format::Json | Format::Yaml => "application/json",
    }
}

/// An object as a body.
pub fn encoded(format: Format, object: &Value) -> Result<Bytes> {
    if format != Format::Protobuf {
        return Ok(object.to_string().into());
    }
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let of = protobuf::message_of(api_version, kind).with_context(|| format!("{api_version} {kind} has no message"))?;
    Ok(Envelope::seal(api_version, kind, &protobuf::encode(of, object)?).into())
}

/// The object of a body, whichever its encoding.
pub fn decoded(body: &[u8]) -> Result<Value> {
    if !body.starts_with(&MAGIC) {
        return Ok(serde_json::from_slice(body)?);
    }
    let Envelope { api_version, kind, raw } = Envelope::open(body)?;
    let of =
        protobuf::message_of(&api_version, &kind).with_context(|| format!("{api_version} {kind} has no message"))?;
    let mut object = protobuf::decode(of, raw)?;
    object.insert("apiVersion".into(), api_version.into());
    object.insert("kind".into(), kind.into());
    Ok(Value::Object(object))
}

/// What every item of a list holds once: the name or the number of its uid, and how it begins.
pub fn item_mark(format: Format) -> &'static [u8] {
    match format {
        // Field 5 of ObjectMeta, 36 bytes long.
        Format::Protobuf => b"\x2a\x24",
        Format::Json | Format::Yaml => b"\"uid\":\"",
    }
}

/// The events of a watch, counted; the first and then each `every`th is decoded.
pub enum Events {
    Lines(Lines),
    Frames(Frames),
}

impl Events {
    pub fn of(format: Format, every: usize) -> Events {
        match format {
            Format::Protobuf => Events::Frames(Frames::every(every)),
            Format::Json | Format::Yaml => Events::Lines(Lines::every(every)),
        }
    }

    pub fn seen(&self) -> usize {
        match self {
            Events::Lines(lines) => lines.seen,
            Events::Frames(frames) => frames.seen,
        }
    }

    /// Takes a chunk, cut anywhere; `check` gets `{"type": …, "object": …}`.
    pub fn feed(&mut self, chunk: &[u8], mut check: impl FnMut(Value) -> Result<()>) -> Result<()> {
        match self {
            Events::Lines(lines) => lines.feed(chunk, |line| check(serde_json::from_slice(line)?)),
            Events::Frames(frames) => frames.feed(chunk, |frame| check(event(frame)?)),
        }
    }
}

/// A WatchEvent: its type, and a RawExtension that holds a body.
fn event(frame: &[u8]) -> Result<Value> {
    let (name, object) = (field(frame, 1)?, field(field(frame, 2)?, 1)?);
    ensure!(object.starts_with(&MAGIC), "an event without an object");
    Ok(json!({"type": std::str::from_utf8(name)?, "object": decoded(object)?}))
}

fn field(message: &[u8], wanted: u32) -> Result<&[u8]> {
    let mut reader = Reader::new(message);
    while let Some((number, wire)) = reader.field()? {
        if let (true, Wire::Bytes(bytes)) = (number == wanted, wire) {
            return Ok(bytes);
        }
    }
    bail!("a message without field {wanted}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_out_as_they_went_in_however_they_are_cut() {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}});
        let body = encoded(Format::Protobuf, &object).unwrap();
        assert_eq!(decoded(&body).unwrap()["data"]["k"], "v");
        let raw = Envelope::open(&body).unwrap().raw.to_vec();
        let stream: Vec<u8> = (0..5).flat_map(|_| protobuf::watch_frame("ADDED", "v1", "ConfigMap", &raw)).collect();
        for size in [1, 3, 64, 10_000] {
            let (mut events, mut told) = (Events::of(Format::Protobuf, 2), 0);
            for chunk in stream.chunks(size) {
                let check = |event: Value| {
                    assert_eq!((&event["type"], &event["object"]["data"]["k"]), (&json!("ADDED"), &json!("v")));
                    told += 1;
                    Ok(())
                };
                events.feed(chunk, check).unwrap();
            }
            assert_eq!((events.seen(), told), (5, 3));
        }
    }
}
