//! How fast the functions are, without disk and network: `cargo test --release -p stead-apiserver -- --ignored --nocapture speed`.

use std::time::Instant;

use serde_json::json;

use crate::fixture::Server;
use crate::{is_read, serve_read};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const COUNT: usize = 20_000;

fn told(what: &str, count: usize, begun: Instant) -> f64 {
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    println!("{what}: {rate:.0}/s");
    rate
}

#[test]
#[ignore = "measures; meaningful in release builds on a quiet machine"]
fn speed_of_creates_patches_lists_and_watches() {
    let mut server = Server::new();
    let text = "x".repeat(512);
    let requests: Vec<_> = (0..COUNT)
        .map(|index| {
            let body =
                json!({"metadata": {"name": format!("m{index:06}"), "labels": {"app": "bench"}}, "data": {"k": text}});
            server.request(&format!("POST {MAPS}"), &body.to_string()).expect("a request")
        })
        .collect();
    let begun = Instant::now();
    for request in &requests {
        assert!(server.perform(request).status().is_none());
    }
    let creates = told("creates", COUNT, begun);

    let patches: Vec<_> = (0..COUNT)
        .map(|index| {
            let body = json!({"data": {"n": index.to_string()}}).to_string();
            server.request(&format!("PATCH:merge {MAPS}/m{index:06}"), &body).expect("a request")
        })
        .collect();
    let mut plan = server.watch(&format!("GET {MAPS}?watch=1&resourceVersion={}", server.store.snapshot().revision()));
    let begun = Instant::now();
    for request in &patches {
        assert!(server.perform(request).status().is_none());
    }
    told("patches", COUNT, begun);
    let begun = Instant::now();
    assert_eq!(server.frame_values(&mut plan).len(), COUNT);
    told("first watcher's frames (and parsing them)", COUNT, begun);

    let list = server.request(&format!("GET {MAPS}"), "").expect("a request");
    assert!(is_read(&list));
    let begun = Instant::now();
    let bytes = serve_read(&server.head(), server.now, &list).flat().1.len();
    let megabytes = bytes as f64 / 1e6;
    println!("list: {megabytes:.0} MB at {:.0} MB/s", megabytes / begun.elapsed().as_secs_f64());
    assert!(creates > 1.0);
}
