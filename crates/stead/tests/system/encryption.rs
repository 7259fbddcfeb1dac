//! Secrets on disk: the store's files are searched for what must not be in it.

use crate::cluster::Cluster;

const WORDS: [&str; 3] = ["made-before-any-key", "made-under-the-first-key", "made-under-the-second-key"];

fn configuration(cluster: &Cluster, providers: &str) -> String {
    let path = cluster.dir.join("encryption.yaml");
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n\
         - resources: [secrets]\n  providers:\n{providers}"
    );
    std::fs::write(&path, text).expect("the scratch directory is writable");
    format!("--no-node --encryption-provider-config {}", path.display())
}

fn key(name: &str, letter: char) -> String {
    format!("{{name: {name}, secret: '{}='}}", letter.to_string().repeat(42) + "A")
}

/// Which of the words stand in the store's files.
fn found(cluster: &Cluster) -> Vec<&'static str> {
    let files = std::fs::read_dir(cluster.data().join("store")).expect("the store's directory");
    let bytes: Vec<u8> = files.flat_map(|file| std::fs::read(file.expect("a name").path()).expect("a file")).collect();
    let encoded = |word: &str| cluster.feed("base64 -w0", word).ok();
    let is_there = |word: &&&str| {
        let words = [(**word).to_owned(), encoded(word)];
        words.iter().any(|word| bytes.windows(word.len()).any(|window| window == word.as_bytes()))
    };
    WORDS.iter().filter(is_there).copied().collect()
}

fn make(cluster: &Cluster, number: usize) {
    cluster.kubectl(&format!("create secret generic s{number} --from-literal word={}", WORDS[number])).ok();
}

fn read(cluster: &Cluster, number: usize) {
    let word = format!("kubectl get secret s{number} -o jsonpath='{{.data.word}}' | base64 -d");
    assert_eq!(cluster.sh(&word).ok(), WORDS[number]);
}

#[test]
fn the_disk_has_no_plain_text_once_there_is_a_key() {
    let cluster = Cluster::new("encryption");
    cluster.start("--no-node").ok();
    make(&cluster, 0);
    assert_eq!(found(&cluster), [WORDS[0]], "the search finds what is plain");
    cluster.stead("down").ok();

    let aesgcm = |keys: &str| format!("  - aesgcm: {{keys: [{keys}]}}\n  - identity: {{}}\n");
    cluster.start(&configuration(&cluster, &aesgcm(&key("one", 'B')))).ok();
    make(&cluster, 1);
    cluster.sh("kubectl get secrets -A -o json | kubectl replace -f -").ok();
    assert!(found(&cluster).is_empty(), "{:?}", found(&cluster));
    cluster.kubectl("create configmap m --from-literal word=in-the-open").ok();
    assert!(cluster.sh("cat data/store/* | grep -c in-the-open").ok().trim() != "0", "only what is named is encrypted");
    cluster.stead("down").ok();

    // Another key writes, the first still reads; afterwards the first is not needed any more.
    cluster.start(&configuration(&cluster, &aesgcm(&format!("{}, {}", key("two", 'C'), key("one", 'B'))))).ok();
    make(&cluster, 2);
    (0..3).for_each(|number| read(&cluster, number));
    cluster.stead("down").ok();
    configuration(&cluster, &aesgcm(&key("two", 'C')));
    cluster.start("--no-node").ok();
    (0..3).for_each(|number| read(&cluster, number));
    assert!(found(&cluster).is_empty(), "{:?}", found(&cluster));
    cluster.stead("down").ok();

    // Without its key the store is not readable, and says what is missing.
    configuration(&cluster, &aesgcm(&key("three", 'D')));
    let refused = cluster.start("--no-node").fails();
    assert!(refused.contains("is encrypted with the key \"two\""), "{refused}");
    let refused = cluster.start(&configuration(&cluster, "  - kms: {name: a}\n")).fails();
    assert!(refused.contains("the provider kms is not supported"), "{refused}");

    // Another provider takes over.
    let boxed =
        format!("  - secretbox: {{keys: [{}]}}\n  - aesgcm: {{keys: [{}]}}\n", key("two", 'E'), key("two", 'C'));
    cluster.start(&configuration(&cluster, &boxed)).ok();
    (0..3).for_each(|number| read(&cluster, number));
    assert!(cluster.sh("cat data/store/* | grep -c k8s:enc:secretbox:v1:two:").ok().trim() != "0");
    cluster.stead("down").ok();

    // And back to plain text, for whoever wants that.
    let back = format!("  - identity: {{}}\n  - secretbox: {{keys: [{}]}}\n", key("two", 'E'));
    cluster.start(&configuration(&cluster, &back)).ok();
    (0..3).for_each(|number| read(&cluster, number));
    assert_eq!(found(&cluster), WORDS);
}
