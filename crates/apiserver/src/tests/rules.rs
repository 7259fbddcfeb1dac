//! Rules of custom resources: `x-kubernetes-validations`.

use serde_json::{Value, json};

use crate::fixture::Server;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const SHOPS: &str = "/apis/example.com/v1/namespaces/default/shops";

fn definition(spec: Value) -> Value {
    json!({"metadata": {"name": "shops.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "shops", "kind": "Shop"},
        "versions": [{"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}}]}})
}

fn server(spec: Value) -> Server {
    let mut server = Server::new();
    server.make(DEFINITIONS, definition(spec));
    server
}

fn shop(spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Shop", "metadata": {"name": "a"}, "spec": spec})
}

const INVALID: &str = "422 Invalid Shop.example.com \"a\" is invalid: ";

fn refused(server: &mut Server, line: &str, spec: Value) -> String {
    let told = server.refused(line, shop(spec));
    told.strip_prefix(INVALID).unwrap_or(&told).to_owned()
}

#[test]
fn a_rule_refuses_with_its_message_reason_and_path() {
    let mut server = server(json!({"type": "object",
        "x-kubernetes-validations": [
            {"rule": "self.min <= self.max", "message": "min is above max", "fieldPath": ".min"},
            {"rule": "self.max < 100", "messageExpression": "'max is ' + string(self.max)", "reason": "FieldValueForbidden"},
            {"rule": "self.min != 13"}],
        "properties": {"min": {"type": "integer"}, "max": {"type": "integer"},
            "tags": {"type": "array", "maxItems": 5, "items": {"type": "string", "maxLength": 9,
                "x-kubernetes-validations": [{"rule": "self.startsWith('t')"}]}}}}));
    let path = format!("POST {SHOPS}");
    assert_eq!(refused(&mut server, &path, json!({"min": 5, "max": 1})), "spec.min: Invalid value: min is above max");
    assert_eq!(
        refused(&mut server, &path, json!({"min": 13, "max": 200, "tags": ["t", "x"]})),
        "[spec: Forbidden: max is 200, spec: Invalid value: failed rule: self.min != 13, \
         spec.tags[1]: Invalid value: \"x\": failed rule: self.startsWith('t')]"
    );
    assert_eq!(
        refused(&mut server, &path, json!({"min": 1})),
        "[spec: Invalid value: \"object\": no such key: max evaluating rule: min is above max, \
         spec: Invalid value: \"object\": no such key: max evaluating rule: self.max < 100]"
    );
    assert_eq!(
        refused(&mut server, &path, json!({"min": "x", "max": 2})),
        "spec.min: Invalid value: \"string\": spec.min in body must be of type integer: \"string\""
            .replace("spec.min: Inv", "[spec.min: Inv")
            + ", <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; \
               correct the existing errors to complete validation]"
    );
    server.make(SHOPS, shop(json!({"min": 1, "max": 2})));
}

#[test]
fn transition_rules_see_the_old_value() {
    let item = json!({"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "n": {"type": "integer"}},
        "x-kubernetes-validations": [{"rule": "self.n >= oldSelf.n", "message": "n may only grow"}]});
    let mut server = server(json!({"type": "object", "properties": {
        "color": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "color is immutable"}]},
        "once": {"type": "string", "x-kubernetes-validations":
            [{"rule": "!oldSelf.hasValue() || oldSelf.value() == self", "optionalOldSelf": true, "message": "set once"}]},
        "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": item}}}));
    let first = json!({"color": "red", "list": [{"name": "a", "n": 1}, {"name": "b", "n": 5}]});
    server.make(SHOPS, shop(first));
    let patch = format!("PATCH:merge {SHOPS}/a");
    let told = server
        .refused(&patch, json!({"spec": {"color": "blue", "list": [{"name": "b", "n": 4}, {"name": "a", "n": 2}]}}));
    assert_eq!(
        told,
        format!(
            "{INVALID}[spec.color: Invalid value: \"blue\": color is immutable, \
                 spec.list[0]: Invalid value: n may only grow]"
        )
    );
    server.done(&patch, json!({"spec": {"once": "x", "list": [{"name": "c", "n": 0}, {"name": "b", "n": 5}]}}));
    let told = server.refused(&patch, json!({"spec": {"once": "y"}}));
    assert_eq!(told, format!("{INVALID}spec.once: Invalid value: \"y\": set once"));
}

#[test]
fn what_did_not_change_is_not_checked_again() {
    let mut server =
        server(json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}}));
    server.make(SHOPS, shop(json!({"a": "long", "b": 1})));
    let stricter = json!({"type": "object", "properties": {"b": {"type": "integer"},
        "a": {"type": "string", "maxLength": 2, "x-kubernetes-validations": [{"rule": "self != 'long'"}]}}});
    let path = format!("{DEFINITIONS}/shops.example.com");
    let versions = definition(stricter)["spec"]["versions"].clone();
    server.done(&format!("PATCH:merge {path}"), json!({"spec": {"versions": versions}}));
    let patch = format!("PATCH:merge {SHOPS}/a");
    server.done(&patch, json!({"spec": {"b": 2}}));
    let told = server.refused(&patch, json!({"spec": {"a": "longer"}}));
    assert!(told.contains("spec.a: Too long"), "{told}");
    assert!(server.refused(&format!("POST {SHOPS}"), shop(json!({"a": "long"}))).contains("spec.a: Too long"));
}

#[test]
fn rules_that_cannot_work_are_refused_with_the_definition() {
    let told = |spec: Value| Server::new().refused(&format!("POST {DEFINITIONS}"), definition(spec));
    let at = "spec.validation.openAPIV3Schema.properties[spec]";
    let with = |rule: Value| json!({"type": "object", "properties": {"n": {"type": "integer"}}, "x-kubernetes-validations": [rule]});
    let found = told(with(json!({"rule": "self.m > 1"})));
    assert!(
        found.contains(&format!(
            "{at}.x-kubernetes-validations[0].rule: Invalid value: {{\"Rule\":\"self.m \\u003e 1\",\"Message\":\"\",\
            \"MessageExpression\":\"\",\"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":null}}: compilation failed: \
            ERROR: <input>:1:5: undefined field 'm'\n | self.m > 1\n | ....^"
        )),
        "{found}"
    );
    let found = told(with(json!({"rule": "self.n"})));
    assert!(found.ends_with("cel expression must evaluate to a bool"), "{found}");
    let found = told(with(json!({"rule": "self.n > 1", "messageExpression": "1"})));
    assert!(found.ends_with("messageExpression must evaluate to a string"), "{found}");
    let found = told(with(json!({"rule": "self.n", "reason": "Bad", "fieldPath": ".x", "message": " "})));
    assert!(!found.contains("must evaluate to a bool"), "expressions come last: {found}");
    for text in [
        "[0].reason: Unsupported value: \"Bad\": supported values: \"FieldValueDuplicate\", \"FieldValueForbidden\", \
         \"FieldValueInvalid\", \"FieldValueRequired\"",
        "[0].fieldPath: Invalid value: \".x\": must be a valid path",
        "[0].message: Invalid value: \" \": must be non-empty if specified",
    ] {
        assert!(found.contains(text), "{text} is missing in {found}");
    }
    let list = |rule: &str| {
        json!({"type": "object", "properties": {"l": {"type": "array", "items": {"type": "array",
        "items": {"type": "string", "x-kubernetes-validations": [{"rule": rule}]}}}}})
    };
    let found = told(list("self.matches('a.*b')"));
    assert!(
        found.contains("rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x (try simplifying the rule, \
                        or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"),
        "{found}"
    );
    let found = told(list("self == oldSelf"));
    assert!(
        found.contains(&format!(
            "oldSelf cannot be used on the uncorrelatable portion of the schema within {at}.properties[l]"
        )),
        "{found}"
    );
}

#[test]
fn what_is_null_is_not_there() {
    let mut server = server(json!({"type": "object", "x-kubernetes-validations": [{"rule": "!has(self.a)"}],
        "properties": {"a": {"type": "string", "nullable": true}}}));
    server.make(SHOPS, shop(json!({"a": null})));
    assert!(server.refused(&format!("POST {SHOPS}"), shop(json!({"a": ""}))).ends_with("failed rule: !has(self.a)"));
}

#[test]
fn evaluation_stops_at_its_budget() {
    let numbers = json!({"type": "array", "maxItems": 100, "items": {"type": "integer"}});
    let mut server = server(json!({"type": "object", "properties": {"l": numbers}, "x-kubernetes-validations": [
        {"rule": "self.l.all(a, self.l.all(b, self.l.all(c, true)))"}]}));
    let told = refused(&mut server, &format!("POST {SHOPS}"), json!({"l": (0..100).collect::<Vec<_>>()}));
    assert_eq!(
        told,
        "spec: Invalid value: \"object\": 'operation cancelled: actual cost limit exceeded': no further validation rules will be \
         run due to call cost exceeds limit for rule: self.l.all(a, self.l.all(b, self.l.all(c, true)))"
    );
}
