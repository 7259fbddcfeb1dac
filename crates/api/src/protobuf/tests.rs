//! Round trips and damaged bytes.

use proptest::prelude::*;
use proptest::test_runner::TestRng;
use serde_json::{Value, json};

use super::table::{Field, Many, Type, messages};
use super::*;

mod kinds;

const POD: &str = "io.k8s.api.core.v1.Pod";

fn of(name: &str) -> &'static Message {
    message(name).expect(name)
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pairs = digits.chunks(2).map(|pair| std::str::from_utf8(pair).expect("digits"));
    pairs.map(|pair| u8::from_str_radix(pair, 16).expect("a byte")).collect()
}

/// A ConfigMap as Go writes it, with the empty fields that are no pointers.
#[test]
fn a_body_of_a_typed_client_is_opened() {
    let body = bytes(
        "6b387300 0a0f 0a027631 1209436f6e6669674d6170 1222
         0a18 0a0161 1200 1a0764656661756c74 2200 2a00 3200 3800 4200 12060a016b120176",
    );
    let envelope = Envelope::open(&body).expect("an envelope");
    assert_eq!((envelope.api_version.as_str(), envelope.kind.as_str()), ("v1", "ConfigMap"));
    let map = decode(of("io.k8s.api.core.v1.ConfigMap"), envelope.raw).expect("a message");
    assert_eq!(Value::Object(map), json!({"metadata": {"name": "a", "namespace": "default"}, "data": {"k": "v"}}));
}

#[test]
fn zeros_stay_where_go_keeps_them() {
    // replicas (a pointer) 0, serviceName (kept though empty), minReadySeconds (left out), two structs.
    let spec = bytes("0800 2a00 4800 1a00 3a00");
    let map = decode(of("io.k8s.api.apps.v1.StatefulSetSpec"), &spec).expect("a message");
    assert_eq!(Value::Object(map), json!({"replicas": 0, "serviceName": "", "template": {}, "updateStrategy": {}}));
    // `minimum` (a pointer) 0 and `format` empty.
    let map = decode(of(SCHEMA), &bytes("5900000000 00000000 3200")).expect("a message");
    assert_eq!(Value::Object(map), json!({"minimum": 0}));
}

/// Chance, and how many more values may be made.
struct Maker {
    rng: TestRng,
    values_left: usize,
}

/// How many values an object is made of at most: schemas hold schemas without end.
const VALUES_MAX: usize = 300;

impl Maker {
    fn new(seed: &[u8; 32]) -> Maker {
        let rng = TestRng::from_seed(proptest::test_runner::RngAlgorithm::ChaCha, seed);
        Maker { rng, values_left: VALUES_MAX }
    }

    fn next_u32(&mut self) -> u32 {
        self.rng.next_u32()
    }

    fn whole(&mut self, of: &'static Message) -> Value {
        self.values_left = VALUES_MAX;
        Value::Object(object(of, self, GENERATED_DEPTH))
    }
}

/// Every message, by a generator that knows the table alone: what it makes has no zeros that JSON leaves out.
fn object(of: &'static Message, maker: &mut Maker, depth: usize) -> Map<String, Value> {
    let mut map = Map::new();
    for field in &of.layout().fields {
        if let (true, Type::Message(inner)) = (field.name.is_empty(), field.of) {
            map.extend(object(inner, maker, depth));
            continue;
        }
        if depth == 0 || maker.values_left == 0 || maker.next_u32() % 8 < 3 {
            continue;
        }
        maker.values_left -= 1;
        let count = 1 + maker.next_u32() as usize % 3;
        let value = match field.many {
            Many::One => value(field, maker, depth - 1),
            Many::List => (0..count).map(|_| value(field, maker, depth - 1)).collect(),
            Many::Map => (0..count).map(|index| (format!("k{index}"), value(field, maker, depth - 1))).collect(),
        };
        map.insert(field.name.to_owned(), value);
    }
    map
}

fn value(field: &Field, maker: &mut Maker, depth: usize) -> Value {
    const WORDS: &[&str] = &[
        "a",
        "ä€😀",
        "x\u{0}y",
        "a string that is longer than others: \
        one byte of length cannot hold how long it is, so that a second byte is needed, and the first one moves on",
    ];
    let number = maker.next_u32();
    let word = WORDS[number as usize % WORDS.len()];
    match field.of {
        Type::String => word.into(),
        Type::Bytes => ["AA==", "aGVsbG8=", "/+7/"][number as usize % 3].into(),
        Type::Bool => true.into(),
        Type::Int32 => [1, -1, i32::MIN, i32::MAX][number as usize % 4].into(),
        Type::Int64 => [1, -1, i64::MIN, i64::MAX][number as usize % 4].into(),
        Type::Double => [json!(0.5), json!(-3), json!(1e300)][number as usize % 3].clone(),
        Type::Message(inner) if inner.layout().is_list => json!([word]),
        Type::Message(inner) => Value::Object(object(inner, maker, depth)),
        Type::Quantity => ["1", "500m", "1Gi", "-2e3"][number as usize % 4].into(),
        Type::IntOrString => [json!(80), json!("http"), json!("25%"), json!(-1)][number as usize % 4].clone(),
        Type::Time => ["2024-01-02T03:04:05Z", "1969-12-31T23:59:59Z"][number as usize % 2].into(),
        Type::MicroTime => ["2024-01-02T03:04:05.000006Z", "1969-12-31T23:59:59.999999Z"][number as usize % 2].into(),
        Type::Json => [json!({"f:a": {"b": [1, null, "x"]}}), json!([0]), json!("x")][number as usize % 3].clone(),
        Type::SchemaOrArray if number.is_multiple_of(2) => json!([{"type": "string"}, {}]),
        Type::SchemaOrBool if number.is_multiple_of(2) => json!(number.is_multiple_of(4)),
        Type::SchemaOrStrings if number.is_multiple_of(2) => json!(["a", "b"]),
        Type::SchemaOrArray | Type::SchemaOrBool | Type::SchemaOrStrings => {
            Value::Object(object(of(SCHEMA), maker, depth.min(2)))
        }
    }
}

const SCHEMA: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
/// The deepest way through a pod: spec, containers, lifecycle, postStart, httpGet, httpHeaders, name.
const GENERATED_DEPTH: usize = 8;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn every_message_makes_a_round_trip(seed in any::<[u8; 32]>()) {
        let mut maker = Maker::new(&seed);
        for one in messages().iter().filter(|one| !one.layout().is_list) {
            let made = maker.whole(one);
            let encoded = encode(one, &made).map_err(|error| TestCaseError::fail(format!("{}: {error}", one.name)))?;
            let of_text = encode_json(one, made.to_string().as_bytes());
            prop_assert_eq!(of_text.as_ref(), Ok(&encoded), "{}", one.name);
            let decoded = decode(one, &encoded).map_err(|error| TestCaseError::fail(format!("{}: {error}", one.name)))?;
            prop_assert_eq!(Value::Object(decoded), made, "{}", one.name);
        }
    }

    #[test]
    fn damaged_bytes_are_errors_or_other_objects(seed in any::<[u8; 32]>()) {
        let mut maker = Maker::new(&seed);
        let pod = maker.whole(of(POD));
        let whole = encode(of(POD), &pod).map_err(|error| TestCaseError::fail(error.to_string()))?;
        for _ in 0..64 {
            let mut damaged = whole.clone();
            for _ in 0..1 + maker.next_u32() % 4 {
                let at = maker.next_u32() as usize % damaged.len().max(1);
                match maker.next_u32() % 3 {
                    0 => damaged.truncate(at),
                    1 => damaged.insert(at.min(damaged.len()), maker.next_u32() as u8),
                    _ => damaged.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (maker.next_u32() % 8)),
                }
            }
            if let Ok(map) = decode(of(POD), &damaged) {
                // What was decoded can be sent again.
                let again = Value::Object(map);
                prop_assert!(serde_json::from_str::<Value>(&again.to_string()).is_ok());
                prop_assert!(encode(of(POD), &again).is_ok(), "{again}");
            }
            let _ = Envelope::open(&damaged);
        }
    }
}

#[test]
fn a_message_cannot_nest_without_end() {
    let schema = of(SCHEMA);
    let mut bytes = Vec::new();
    for _ in 0..10_000 {
        // `not` is field 28.
        let mut writer = wire::Writer::default();
        writer.slice(28, &bytes);
        bytes = writer.bytes;
    }
    assert_eq!(decode(schema, &bytes), Err(DecodeError::Depth));
}

#[test]
fn what_is_wrong_is_told() {
    for (hex, expected) in [
        ("0a05", DecodeError::End),
        ("0a", DecodeError::End),
        ("80", DecodeError::End),
        ("ffffffffffffffffff7f", DecodeError::Overflow),
        ("02", DecodeError::Tag(0, 2)),
        ("0b", DecodeError::Tag(1, 3)),
        ("0801", DecodeError::WireType("metadata".into(), 0)),
        ("0a030a01ff", DecodeError::Value { field: "name".into(), what: "UTF-8" }),
        ("0a0442021007", DecodeError::End),
    ] {
        assert_eq!(decode(of(POD), &bytes(hex)).err(), (hex != "0a0442021007").then_some(expected), "{hex}");
    }
    let wrong = encode(of(POD), &json!({"spec": {"containers": 1}})).expect_err("no list");
    assert_eq!(wrong.to_string(), "invalid type: integer `1`, expected a list for field containers");
}

/// A pod as a StatefulSet's is in a cluster, status and managed fields included: three kilobytes.
fn real_pod() -> Value {
    let owned = |path: &str| json!({"f:metadata": {"f:labels": {".": {}, "f:app": {}}}, "f:spec": {path: {"f:image": {}, "f:name": {}, "f:resources": {}}}});
    let entry = |manager: &str, path: &str| {
        json!({"manager": manager, "operation": "Update", "apiVersion": "v1", "time": "2026-01-02T03:04:05Z",
            "fieldsType": "FieldsV1", "fieldsV1": owned(path)})
    };
    let condition = |name: &str| json!({"type": name, "status": "True", "lastProbeTime": null, "lastTransitionTime": "2026-01-02T03:04:05Z"});
    let conditions = ["PodScheduled", "Initialized", "ContainersReady", "Ready"].map(condition);
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web-0", "generateName": "web-", "namespace": "default", "uid": "5c2d4a51-4c35-4e0f-9e1c-000000000001",
            "resourceVersion": "12345", "creationTimestamp": "2026-01-02T03:04:05Z",
            "labels": {"app": "web", "controller-revision-hash": "web-6b4f9f", "statefulset.kubernetes.io/pod-name": "web-0"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "u", "controller": true, "blockOwnerDeletion": true}],
            "managedFields": [entry("controller", "f:containers"), entry("agent", "f:status")]},
        "spec": {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data-web-0"}},
                {"name": "token", "projected": {"defaultMode": 420, "sources": [{"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}]}}],
            "containers": [{"name": "web", "image": "stead.local/demo:1", "args": ["counter"],
                "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
                "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                "readinessProbe": {"httpGet": {"path": "/", "port": "http", "scheme": "HTTP"}, "periodSeconds": 1},
                "terminationMessagePath": "/dev/termination-log", "imagePullPolicy": "IfNotPresent"}],
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst", "nodeName": "node-1",
            "serviceAccountName": "default", "hostname": "web-0", "subdomain": "web", "schedulerName": "default-scheduler",
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]},
        "status": {"phase": "Running", "podIP": "10.244.0.7", "hostIP": "192.168.1.2", "startTime": "2026-01-02T03:04:05Z",
            "conditions": conditions,
            "containerStatuses": [{"name": "web", "image": "stead.local/demo:1", "imageID": "sha256:0", "ready": true, "restartCount": 0,
                "state": {"running": {"startedAt": "2026-01-02T03:04:05Z"}}}]}})
}

/// `cargo test --release -p stead-api -- --ignored --nocapture speed_of_protobuf`
#[test]
#[ignore = "measures; meaningful in release builds on a quiet machine"]
fn speed_of_protobuf() {
    const COUNT: u32 = 20_000;
    let text = real_pod().to_string();
    let made = encode_json(of(POD), text.as_bytes()).expect("a message");
    println!("{} bytes of JSON are {} of protobuf", text.len(), made.len());
    let told = |what: &str, run: &mut dyn FnMut()| {
        let begun = std::time::Instant::now();
        (0..COUNT).for_each(|_| run());
        let each = begun.elapsed() / COUNT;
        println!("{what}: {each:?} each, {:.0} MB of JSON a second", text.len() as f64 / each.as_secs_f64() / 1e6);
    };
    told("JSON to protobuf", &mut || assert!(encode_json(of(POD), text.as_bytes()).is_ok()));
    told("JSON to a tree", &mut || assert!(serde_json::from_str::<Value>(&text).is_ok()));
    let tree = real_pod();
    told("a tree to protobuf", &mut || assert!(encode(of(POD), &tree).is_ok()));
    told("protobuf to a tree", &mut || assert!(decode(of(POD), &made).is_ok()));
    told("a copy", &mut || assert!(!std::hint::black_box(made.clone()).is_empty()));
}
