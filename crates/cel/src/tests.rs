use serde_json::{Value as Json, json};
use stead_api::schema::Schema;

use crate::{Known, Value, Wanted, compile};

/// Evaluates with `self` of any shape and prints the result, or the error.
fn run(source: &str, own: &Json) -> String {
    let program = match compile(source, &[("self", Known::Dyn)], Wanted::Any) {
        Ok(program) => program,
        Err(why) => return why,
    };
    match program.evaluate(&[("self", Value::of(own, None))], 1_000_000).0 {
        Ok(value) => value.to_json().map_or_else(|| format!("{value:?}"), |json| json.to_string()),
        Err(error) => format!("error: {error}"),
    }
}

#[track_caller]
fn all_hold(sources: &[&str]) {
    for source in sources {
        assert_eq!(run(source, &json!({"a": 1, "list": [1, 2, 3], "map": {"x": "y"}})), "true", "{source}");
    }
}

#[test]
fn the_language_itself() {
    all_hold(&[
        "1 + 2 * 3 == 7",
        "-5 / 2 == -2",
        "-5 % 2 == -1",
        "7u / 2u == 3u",
        "1.5 + 1.5 == 3.0",
        "0x1F == 31",
        "'a' + \"b\" == 'ab'",
        "r'\\d' == '\\\\d'",
        "'''x\ny''' == 'x\\ny'",
        "b'\\xff' != b'\\377a'",
        "'\\u00e9' == 'é'",
        "!(1 > 2) && !!true",
        "true || 1 / 0 == 1",
        "1 / 0 == 1 || true",
        "!(false && 1 / 0 == 1)",
        "1 < 2 ? true : false",
        "2 in [1, 2]",
        "!('z' in {'a': 1})",
        "{'a': 1}.a == 1",
        "{'a': {'b': 2}}['a'].b == 2",
        "{1: 'x'}[1] == 'x'",
        "has(self.a) && !has(self.b)",
        "size('é') == 1 && 'abc'.size() == 3 && size([1]) == 1",
        "[1, 2, 3].all(x, x > 0)",
        "[1, 2].exists(x, x == 2)",
        "[1, 2].exists_one(x, x > 1)",
        "[1, 2].map(x, x * 2) == [2, 4]",
        "[1, 2].map(x, x > 1, x * 2) == [4]",
        "[1, 2, 3].filter(x, x != 2) == [1, 3]",
        "{'a': 1}.all(k, k == 'a')",
        "[1, 2].exists(x, x == 2 || 1 / 0 == 1)",
        "[[1], []].all(x, x.all(y, y == 1))",
        "self.list.exists(i, i == 3)",
        "self.map.exists(k, self.map[k] == 'y')",
        "type(1) == int && type('a') != int && type(timestamp('2020-01-01T00:00:00Z')) == google.protobuf.Timestamp",
        "int('12') == 12 && string(1.5) == '1.5' && double('1e3') == 1000.0 && uint(3) == 3u && bool('true')",
        "dyn(1) == dyn(1.0) && dyn(1u) == 1",
        "dyn(1) != dyn('1')",
        "timestamp('2023-05-01T10:00:00Z') + duration('1h') == timestamp('2023-05-01T11:00:00Z')",
        "duration('1h30m').getMinutes() == 90",
        "timestamp('2023-05-01T10:00:00Z').getHours('+02:00') == 12",
        "timestamp('2023-05-01T10:00:00Z').getDayOfWeek() == 1 && timestamp('2023-05-01T10:00:00Z').getMonth() == 4",
        "timestamp('2023-05-02T00:00:00Z') - timestamp('2023-05-01T00:00:00Z') == duration('24h')",
        "// a remark\n true",
    ]);
}

#[test]
fn optionals_bindings_and_two_variables() {
    all_hold(&[
        "self.?a.orValue(2) == 1 && self.?b.orValue(2) == 2",
        "self.?b.?c.hasValue() == false",
        "self.?map.x.value() == 'y'",
        "optional.of(1).optMap(x, x + 1).value() == 2",
        "!optional.none().hasValue()",
        "[1, ?self.?b] == [1]",
        "{'k': 1, ?'n': self.?b} == {'k': 1}",
        "self.list[?7].or(optional.of(9)).value() == 9",
        "optional.ofNonZeroValue('').hasValue() == false",
        "optional.of(1).optFlatMap(x, optional.none()).hasValue() == false",
        "cel.bind(x, 2, x * x) == 4",
        "[1, 2].all(i, v, i + 1 == v)",
        "{'a': 1}.exists(k, v, k == 'a' && v == 1)",
        "[1, 2].transformList(i, v, i * v) == [0, 2]",
        "{'a': 1, 'b': 2}.transformMap(k, v, v > 1, v * 10) == {'b': 20}",
        "['x'].transformMapEntry(i, v, {v: i}) == {'x': 0}",
        "[3, 1].sortBy(x, x) == [1, 3]",
    ]);
}

#[test]
fn kubernetes_libraries() {
    all_hold(&[
        "'Hello'.lowerAscii() == 'hello' && 'a,b'.split(',') == ['a', 'b'] && ['a', 'b'].join('-') == 'a-b'",
        "'tacocat'.indexOf('ac') == 1 && 'tacocat'.lastIndexOf('c') == 4 && 'tacocat'.substring(4) == 'cat'",
        "'abab'.replace('a', 'x', 1) == 'xbab' && ' x '.trim() == 'x' && 'abc'.charAt(1) == 'b'",
        "'%s has %d, %.2f, %x'.format(['a', 2, 1.5, 255]) == 'a has 2, 1.50, ff'",
        "'%s'.format([['b', 'a']]) == '[b, a]'",
        "[1, 2].isSorted() && [1, 2].sum() == 3 && [2, 5].max() == 5 && [2, 5].min() == 2 && [1, 2].indexOf(2) == 1",
        "[1, 1, 2].distinct() == [1, 2] && [[1], [2]].flatten() == [1, 2] && [3, 1].sort() == [1, 3] && [1, 2, 3].slice(1, 2) == [2]",
        "sets.contains([1, 2], [2]) && sets.equivalent([1, 2], [2, 1]) && !sets.intersects([1], [2])",
        "'abc 123'.find('[0-9]+') == '123' && '1 2 3'.findAll('[0-9]', 2) == ['1', '2'] && 'abc'.matches('^a.c$')",
        "url('https://h.io:80/p%20q?k=v&k=w').getHostname() == 'h.io' && url('https://h.io:80/').getPort() == '80'",
        "url('https://h.io/p?k=v&k=w').getQuery() == {'k': ['v', 'w']} && isURL('/path') && !isURL('no url')",
        "quantity('1.5Gi').isGreaterThan(quantity('1Gi')) && quantity('50k').asInteger() == 50000",
        "quantity('1').add(2).compareTo(quantity('3')) == 0 && !isQuantity('x') && quantity('-1').sign() == -1",
        "ip('192.168.0.1').family() == 4 && isIP('::1') && ip('::1').isLoopback() && !ip.isCanonical('2001:DB8::1')",
        "cidr('10.0.0.0/8').containsIP('10.1.2.3') && cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8')",
        "string(ip('10.0.0.1')) == '10.0.0.1' && cidr('10.0.0.0/8').prefixLength() == 8",
        "format.dns1123Label().validate('ok').hasValue() == false && format.named('uuid').value().validate('x').hasValue()",
        "semver('1.2.3').minor() == 2 && semver('v1.0', true).isLessThan(semver('1.0.1')) && !isSemver('1.0') && semver('1.0.0-rc.1').isLessThan(semver('1.0.0'))",
        "jsonpatch.escapeKey('a/b~c') == 'a~1b~0c'",
    ]);
}

#[test]
fn failures_have_their_texts() {
    let own = json!({"a": 1, "list": [1]});
    for (source, expected) in [
        ("self.b", "error: no such key: b"),
        ("self.list[3]", "error: index out of bounds: 3"),
        ("1 / 0", "error: division by zero"),
        ("9223372036854775807 + 1", "error: integer overflow"),
        ("self.a.startsWith('x')", "error: no such overload"),
        ("optional.none().value()", "error: optional.none() dereference"),
        ("{'a': 1, 'a': 2}", "error: insert failed: key a already exists"),
        (
            "self.x == 1 && y",
            "compilation failed: ERROR: <input>:1:16: undeclared reference to 'y' (in container '')\n | self.x == 1 && y\n | ...............^",
        ),
        (
            "1 + 'a'",
            "compilation failed: ERROR: <input>:1:3: found no matching overload for '_+_' applied to '(int, string)'\n | 1 + 'a'\n | ..^",
        ),
        (
            "'a'.charAt('b')",
            "compilation failed: ERROR: <input>:1:11: found no matching overload for 'charAt' applied to 'string.(string)'\n | 'a'.charAt('b')\n | ..........^",
        ),
        (
            "[1, 'a']",
            "compilation failed: ERROR: <input>:1:5: expected type 'int' but found 'string'\n | [1, 'a']\n | ....^",
        ),
        (
            "'x'.matches('(')",
            "compilation failed: ERROR: <input>:1:13: invalid matches argument: error parsing regexp: `(`\n | 'x'.matches('(')\n | ............^",
        ),
    ] {
        assert_eq!(run(source, &own), expected, "{source}");
    }
    for source in [
        "",
        "1 +",
        "(",
        "a.",
        "'open",
        "[1",
        "{1}",
        "a b",
        "..",
        "`",
        "has(a)",
        "x.map(1, 2)",
        "🦀",
        "999999999999999999999",
    ] {
        assert!(
            run(source, &own).starts_with("compilation failed: ERROR: <input>:"),
            "{source}: {}",
            run(source, &own)
        );
    }
    for deep in [
        "(".repeat(90_000),
        "1+".repeat(40_000),
        "a".to_owned() + &".b".repeat(40_000),
        "[".repeat(90_000),
        "-".repeat(90_000),
    ] {
        assert!(run(&deep, &own).starts_with("compilation failed"));
    }
    assert_eq!(run(&format!("true{}", " && true".repeat(5_000)), &own), "true");
}

#[test]
fn evaluation_is_bounded() {
    let own = json!({"list": (0..1000).collect::<Vec<i32>>()});
    let source = "self.list.all(a, self.list.all(b, self.list.all(c, true)))";
    assert_eq!(run(source, &own), "error: operation cancelled: actual cost limit exceeded");
}

fn schema(json: Json) -> Schema {
    Schema::from_crd(&json!({"type": "object", "properties": {"spec": json}}), false).expect("a schema")
}

#[test]
fn schemas_give_types() {
    let schema = schema(json!({"type": "object", "properties": {
        "n": {"type": "integer"}, "d": {"type": "number"}, "at": {"type": "string", "format": "date-time"},
        "x-y": {"type": "string"}, "namespace": {"type": "string"}, "iors": {"x-kubernetes-int-or-string": true},
        "any": {"x-kubernetes-preserve-unknown-fields": true}, "m": {"type": "object", "additionalProperties": {"type": "integer"}},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "keyed": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}}}}}));
    let object = json!({"metadata": {"name": "a"}, "spec": {"n": 1, "d": 1, "at": "2024-01-01T00:00:00Z", "x-y": "z",
        "namespace": "ns", "iors": "5%", "m": {"a-b": 1}, "set": ["b", "a"], "keyed": [{"k": "a", "v": 1}, {"k": "b", "v": 2}]}});
    let run = |source: &str| {
        let program = match compile(source, &[("self", Known::Schema(&schema))], Wanted::Bool) {
            Ok(program) => program,
            Err(why) => return why.lines().next().unwrap_or_default().to_owned(),
        };
        format!("{:?}", program.evaluate(&[("self", Value::of(&object, Some(&schema)))], 1_000_000).0)
    };
    for source in [
        "self.spec.n == 1 && self.spec.d == 1.0",
        "self.spec.at.getFullYear() == 2024",
        "self.spec.x__dash__y == 'z'",
        "self.spec.__namespace__ == 'ns'",
        "self.spec.iors == '5%'",
        "type(self.spec.iors) == string",
        "self.spec.m['a-b'] == 1",
        "self.spec.set == ['b', 'a'] && self.metadata.name == 'a'",
        "['a', 'b'] == self.spec.set.map(x, x).sort()",
        "self.spec.set + ['a', 'c'] == ['b', 'a', 'c']",
        "self.spec.keyed.exists(e, e.k == 'b' && e.v == 2)",
        "!has(self.spec.any)",
    ] {
        let expected = if source.contains("self.spec.any") {
            "compilation failed: ERROR: <input>:1:5: undefined field 'any'"
        } else {
            "Ok(bool(true))"
        };
        assert_eq!(run(source), expected, "{source}");
    }
    assert_eq!(run("self.spec.n"), "cel expression must evaluate to a bool");
    assert_eq!(run("self.spec.none == 1"), "compilation failed: ERROR: <input>:1:10: undefined field 'none'");
    assert_eq!(run("self.metadata.labels == {}"), "compilation failed: ERROR: <input>:1:14: undefined field 'labels'");
    assert_eq!(
        run("self.spec.n == 'a'"),
        "compilation failed: ERROR: <input>:1:13: found no matching overload for '_==_' applied to '(int, string)'"
    );
}

#[test]
fn costs_are_estimated_from_sizes() {
    let cost = |items: Json| {
        let schema = schema(items);
        compile("self.spec.all(x, x.contains('a'))", &[("self", Known::Schema(&schema))], Wanted::Bool)
            .expect("compiles")
            .cost_max()
    };
    let open = cost(json!({"type": "array", "items": {"type": "string"}}));
    let closed = cost(json!({"type": "array", "maxItems": 10, "items": {"type": "string", "maxLength": 20}}));
    assert!(open > 10_000_000 && closed < 1_000, "{open} {closed}");
}
