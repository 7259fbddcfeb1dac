//! Answers in other forms than JSON: protobuf as `protoc` reads and writes it, OpenAPI as kubectl wants it, YAML and gzip.

use crate::cluster::Cluster;

/// Some of the published messages. What an envelope holds as bytes stands here as the message that it is: on the wire they are one.
const MESSAGES: &str = r#"
syntax = "proto2";
package k;
message TypeMeta { optional string apiVersion = 1; optional string kind = 2; }
message Time { optional int64 seconds = 1; optional int32 nanos = 2; }
message Quantity { optional string string = 1; }
message FieldsV1 { optional bytes Raw = 1; }
message ManagedFieldsEntry { optional string manager = 1; optional string operation = 2; optional string apiVersion = 3;
  optional Time time = 4; optional string fieldsType = 6; optional FieldsV1 fieldsV1 = 7; optional string subresource = 8; }
message ObjectMeta { optional string name = 1; optional string generateName = 2; optional string namespace = 3; optional string uid = 5;
  optional string resourceVersion = 6; optional int64 generation = 7; optional Time creationTimestamp = 8;
  map<string, string> labels = 11; map<string, string> annotations = 12; repeated ManagedFieldsEntry managedFields = 17; }
message ListMeta { optional string selfLink = 1; optional string resourceVersion = 2; optional string continue = 3; optional int64 remainingItemCount = 4; }
message ConfigMap { optional ObjectMeta metadata = 1; map<string, string> data = 2; map<string, bytes> binaryData = 3; optional bool immutable = 4; }
message ConfigMapList { optional ListMeta metadata = 1; repeated ConfigMap items = 2; }
message PartialObjectMetadata { optional ObjectMeta metadata = 1; }
message PartialObjectMetadataList { optional ListMeta metadata = 1; repeated PartialObjectMetadata items = 2; }
message StatusDetails { optional string name = 1; optional string group = 2; optional string kind = 3; optional string uid = 6; }
message Status { optional ListMeta metadata = 1; optional string status = 2; optional string message = 3; optional string reason = 4;
  optional StatusDetails details = 5; optional int32 code = 6; }
message LabelSelector { map<string, string> matchLabels = 1; }
message IntOrString { optional int64 type = 1; optional int32 intVal = 2; optional string strVal = 3; }
message HTTPGetAction { optional string path = 1; optional IntOrString port = 2; }
message ProbeHandler { optional HTTPGetAction httpGet = 2; }
message Probe { optional ProbeHandler handler = 1; optional int32 periodSeconds = 4; }
message Requirements { map<string, Quantity> limits = 1; map<string, Quantity> requests = 2; }
message Container { optional string name = 1; optional string image = 2; optional Requirements resources = 8; optional Probe readinessProbe = 11; }
message PodSpec { repeated Container containers = 2; optional string restartPolicy = 3; optional int64 terminationGracePeriodSeconds = 4; }
message PodTemplateSpec { optional ObjectMeta metadata = 1; optional PodSpec spec = 2; }
message StatefulSetSpec { optional int32 replicas = 1; optional LabelSelector selector = 2; optional PodTemplateSpec template = 3;
  optional string serviceName = 5; optional string podManagementPolicy = 6; optional int32 revisionHistoryLimit = 8; }
message StatefulSet { optional ObjectMeta metadata = 1; optional StatefulSetSpec spec = 2; }
message ConfigMapBody { optional TypeMeta typeMeta = 1; optional ConfigMap raw = 2; optional string contentEncoding = 3; optional string contentType = 4; }
message ConfigMapListBody { optional TypeMeta typeMeta = 1; optional ConfigMapList raw = 2; optional string contentEncoding = 3; optional string contentType = 4; }
message MetadataListBody { optional TypeMeta typeMeta = 1; optional PartialObjectMetadataList raw = 2; optional string contentEncoding = 3; optional string contentType = 4; }
message StatusBody { optional TypeMeta typeMeta = 1; optional Status raw = 2; optional string contentEncoding = 3; optional string contentType = 4; }
message StatefulSetBody { optional TypeMeta typeMeta = 1; optional StatefulSet raw = 2; optional string contentEncoding = 3; optional string contentType = 4; }
message RawExtension { optional bytes raw = 1; }
message WatchEvent { optional string type = 1; optional RawExtension object = 2; }
"#;

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[test]
fn answers_take_the_form_that_is_asked_for() {
    let cluster = Cluster::new("forms");
    cluster.start("--no-node").says("stead is up: https://127.0.0.1:");
    std::fs::write(cluster.dir.join("k.proto"), MESSAGES).unwrap();
    for (file, what) in [
        ("ca", ".clusters[0].cluster.certificate-authority-data"),
        ("crt", ".users[0].user.client-certificate-data"),
        ("key", ".users[0].user.client-key-data"),
    ] {
        cluster.sh(&format!("kubectl config view --raw -o jsonpath='{{{what}}}' | base64 -d > {file}")).ok();
    }
    cluster.tells(&[
        ("objects in protobuf", objects),
        ("lists and metadata in protobuf", lists),
        ("watches in protobuf", watches),
        ("custom resources", custom),
        ("OpenAPI", openapi),
        ("YAML, lines and gzip", for_people),
    ]);
}

fn curl(cluster: &Cluster, path: &str) -> String {
    format!("curl -s --max-time 20 --cacert ca --cert crt --key key 'https://127.0.0.1:{}{path}'", cluster.api_port)
}

/// What `protoc` reads of a protobuf answer.
fn read(cluster: &Cluster, accept: &str, path: &str, message: &str) -> String {
    let ask = curl(cluster, path);
    cluster.sh(&format!("{ask} -H 'Accept: {accept}' | tail -c +5 | protoc --decode=k.{message} k.proto")).ok()
}

/// Sends what `protoc` writes of a text.
fn send(cluster: &Cluster, more: &str, path: &str, message: &str, text: &str) -> String {
    cluster.feed(&format!("protoc --encode=k.{message} k.proto > body"), text).ok();
    let ask = curl(cluster, path);
    cluster
        .sh(&format!(
            "(printf 'k8s\\0'; cat body) | {ask} {more} --data-binary @- -H 'Content-Type: {PROTOBUF}' -H 'Accept: {PROTOBUF}' | tail -c +5 \
             | protoc --decode=k.{message} k.proto"
        ))
        .ok()
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

fn objects(cluster: &Cluster) {
    let text = "typeMeta { apiVersion: 'v1' kind: 'ConfigMap' } raw { metadata { name: 'a' annotations { key: 'l' value: 'ä' } } \
        data { key: 'k' value: 'v' } binaryData { key: 'b' value: '\\000\\377' } immutable: false }";
    let made = send(cluster, "", MAPS, "ConfigMapBody", text);
    has(&made, &["kind: \"ConfigMap\"", "uid: \"", "seconds: 1", "value: \"\\000\\377\"", "immutable: false"]);
    cluster
        .kubectl("get cm a -o jsonpath='{.data.k} {.binaryData.b} {.immutable} {.metadata.annotations.l}'")
        .says("v AP8= false ä");
    assert_eq!(read(cluster, PROTOBUF, &format!("{MAPS}/a"), "ConfigMapBody"), made);
    let missing = read(cluster, PROTOBUF, &format!("{MAPS}/none"), "StatusBody");
    has(&missing, &["message: \"configmaps \\\"none\\\" not found\"", "reason: \"NotFound\"", "code: 404"]);

    let text = "typeMeta { apiVersion: 'apps/v1' kind: 'StatefulSet' } raw { metadata { name: 'web' } spec { replicas: 0 \
        selector { matchLabels { key: 'app' value: 'web' } } serviceName: 'web' template { metadata { labels { key: 'app' value: 'web' } } \
        spec { containers { name: 'c' image: 'i' resources { requests { key: 'cpu' value { string: '100m' } } } \
        readinessProbe { handler { httpGet { path: '/' port { type: 1 strVal: 'http' } } } } } } } } }";
    let made = send(cluster, "", "/apis/apps/v1/namespaces/default/statefulsets", "StatefulSetBody", text);
    has(
        &made,
        &[
            "replicas: 0",
            "string: \"100m\"",
            "strVal: \"http\"",
            "podManagementPolicy: \"OrderedReady\"",
            "periodSeconds: 10",
        ],
    );
    cluster.kubectl("get sts web -o jsonpath='{.spec.replicas} {.spec.template.spec.containers[0].readinessProbe.httpGet.port}'").says("0 http");
}

fn lists(cluster: &Cluster) {
    cluster.kubectl("create cm b --from-literal=k=w").ok();
    let list = read(cluster, PROTOBUF, MAPS, "ConfigMapListBody");
    has(&list, &["kind: \"ConfigMapList\"", "name: \"a\"", "name: \"b\"", "value: \"w\"", "fieldsType: \"FieldsV1\""]);
    let accept = format!("{PROTOBUF};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
    let list = read(cluster, &accept, MAPS, "MetadataListBody");
    has(&list, &["apiVersion: \"meta.k8s.io/v1\"", "name: \"b\""]);
    assert!(!list.contains("value: \"w\""), "{list}");
}

fn watches(cluster: &Cluster) {
    let ask = curl(cluster, &format!("{MAPS}?watch=1&fieldSelector=metadata.name%3Db&timeoutSeconds=1"));
    cluster.sh(&format!("{ask} -D head -H 'Accept: {PROTOBUF}' > frames")).ok();
    cluster.sh("cat head").says("content-type: application/vnd.kubernetes.protobuf;stream=watch");
    cluster.sh("cat head").says("cache-control: no-cache, private");
    // One frame: four bytes that tell the length of the rest.
    cluster.sh("test $(($(od -An -tu1 -j2 -N1 frames) * 256 + $(od -An -tu1 -j3 -N1 frames))) = $(($(stat -c %s frames) - 4))").ok();
    let event = cluster.sh("tail -c +5 frames | protoc --decode=k.WatchEvent k.proto").ok();
    has(&event, &["type: \"ADDED\"", "raw: \"k8s\\000\\n"]);
}

fn custom(cluster: &Cluster) {
    cluster.apply(
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: tabs.example.com}\n\
         spec: {group: example.com, scope: Namespaced, names: {plural: tabs, kind: Tab}, versions: [{name: v1, served: true, storage: true, \
         schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: integer}}}}}}}]}",
    );
    cluster.wait("crd/tabs.example.com", "condition=Established");
    cluster.apply("apiVersion: example.com/v1\nkind: Tab\nmetadata: {name: t}\nspec: {size: 1}");
    let tab = "/apis/example.com/v1/namespaces/default/tabs/t";
    let refused = read(cluster, PROTOBUF, tab, "StatusBody");
    has(&refused, &["code: 406", "only the following media types are accepted: application/json, application/yaml"]);
    let ask = curl(cluster, tab);
    cluster.sh(&format!("{ask} -H 'Accept: {PROTOBUF},application/json'")).says("\"size\": 1");
    let accept = format!("{PROTOBUF};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
    has(&read(cluster, &accept, "/apis/example.com/v1/tabs", "MetadataListBody"), &["name: \"t\""]);
    let ask = curl(cluster, "/apis/example.com/v1/namespaces/default/tabs");
    cluster
        .sh(&format!("printf 'k8s\\0' | {ask} --data-binary @- -H 'Content-Type: {PROTOBUF}'"))
        .says("the body of the request was in an unknown format - accepted media types include: application/json, application/yaml");
}

/// K-22, K-24.
fn openapi(cluster: &Cluster) {
    let unknown = "apiVersion: bar.example.com/v1\nkind: Foo\nmetadata: {name: x}";
    for verb in ["apply", "create", "apply --validate=false", "delete"] {
        let told = cluster.feed(&format!("kubectl {verb} -f -"), unknown).fails();
        has(
            &told,
            &["no matches for kind \"Foo\" in version \"bar.example.com/v1\"", "ensure CRDs are installed first"],
        );
    }
    cluster.kubectl("explain sts.spec.replicas").says("FIELD: replicas <integer>");
    // The form that is asked for in protobuf, read by kubectl's own models.
    let old = cluster.kubectl("explain pod.spec.containers.ports --output=plaintext-openapiv2").ok();
    has(&old, &["RESOURCE: ports <[]Object>", "containerPort", "Number of port to expose on the pod's IP address"]);
    cluster.kubectl("explain tab.spec --output=plaintext-openapiv2").says("size\t<integer>");
    let wrong = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: w}\ndatas: {a: b}";
    let told = cluster.feed("kubectl apply --validate=strict -f -", wrong).fails();
    has(&told, &["strict decoding error: unknown field \"datas\""]);
    let ask = curl(cluster, "/openapi/v3");
    cluster.sh(&format!("{ask} -D head -o /dev/null")).ok();
    cluster
        .sh(&format!(
            "{ask} -o /dev/null -w '%{{http_code}}' -H \"If-None-Match: $(sed -n 's/^etag: //Ip' head | tr -d '\\r')\""
        ))
        .says("304");
}

fn for_people(cluster: &Cluster) {
    let ask = curl(cluster, &format!("{MAPS}/b"));
    cluster
        .sh(&format!("{ask} -H 'Accept: application/yaml'"))
        .says("apiVersion: v1\ndata:\n  k: w\nkind: ConfigMap\n");
    cluster.sh(&ask).says("\n  \"kind\": \"ConfigMap\",\n");
    assert_eq!(cluster.kubectl(&format!("get --raw {MAPS}/b")).ok().trim().lines().count(), 1);
    cluster.sh("head -c 150000 /dev/zero | tr '\\0' x > large; kubectl create cm large --from-file=large").ok();
    let large = curl(cluster, &format!("{MAPS}/large"));
    for (asked, is_packed) in [(&large, true), (&ask, false)] {
        cluster.sh(&format!("{asked} --compressed -D head -o packed; {asked} -o plain; cmp packed plain")).ok();
        let head = cluster.sh("cat head").ok().to_lowercase();
        assert_eq!(head.contains("content-encoding: gzip"), is_packed, "{head}");
    }
}
