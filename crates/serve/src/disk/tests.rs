//! The store is cut, flipped and left half done at every place where that can happen.

use std::fs;
use std::path::PathBuf;

use stead_api::object::Fields;
use stead_api::{Key, Object};

use super::format::HEADER_BYTES;
use super::*;

/// A directory of its own, which goes with it.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let path = std::env::temp_dir().join(format!("stead-disk-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Place(path)
    }

    fn open(&self) -> Result<(Disk, Contents)> {
        let (disk, restored) = Disk::open(&self.0, None)?;
        let text = |record: Record| (record.key.to_string(), String::from_utf8_lossy(&record.json).into_owned());
        Ok((disk, (restored.revision, restored.records.into_iter().map(text).collect())))
    }

    fn contents(&self) -> Result<Contents> {
        self.open().map(|(_, contents)| contents)
    }

    fn refusal(&self) -> String {
        format!("{:#}", self.contents().expect_err("damage is refused"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(&self.0).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

type Contents = (Revision, Vec<(String, String)>);

const LOG: &str = "log-00000000000000000000";

fn write(name: &str, json: Option<&str>) -> (Key, Option<Bytes>) {
    (Key::new("pods", "d", name), json.map(|j| Bytes::copy_from_slice(j.as_bytes())))
}

fn pods(pods: &[(&str, &str)]) -> Vec<(String, String)> {
    pods.iter().map(|(name, json)| (format!("pods/d/{name}"), (*json).to_owned())).collect()
}

/// Three batches, and what is there after each of them; the store was not closed in order.
fn three_batches(place: &Place) -> [Contents; 4] {
    let (mut disk, _) = place.open().unwrap();
    disk.commit(2, &[write("a", Some("{1}")), write("b", Some("{2}"))]).unwrap();
    disk.commit(3, &[write("a", None)]).unwrap();
    disk.commit(5, &[write("b", Some("{22}")), write("c", Some("{3}"))]).unwrap();
    std::mem::forget(disk);
    [
        (0, Vec::new()),
        (2, pods(&[("a", "{1}"), ("b", "{2}")])),
        (3, pods(&[("b", "{2}")])),
        (5, pods(&[("b", "{22}"), ("c", "{3}")])),
    ]
}

fn snapshot(revision: Revision, contents: &[(&str, &str)]) -> Snapshot {
    let object = |(name, text): &(&str, &str)| {
        let json = format!(r#"{{"metadata":{{"name":"{name}","namespace":"d","uid":"u"}},"text":"{text}"}}"#);
        Object::of_json(Key::new("pods", "d", name), json.into(), &Fields::default()).unwrap()
    };
    Snapshot::restored(revision, contents.iter().map(object))
}

fn finish(disk: &mut Disk) {
    while disk.rebase.as_ref().is_some_and(|rebase| !rebase.is_finished()) {
        std::thread::yield_now();
    }
    disk.is_long();
}

#[test]
fn durable_what_was_committed_comes_back() {
    let place = Place::new("back");
    let [.., last] = three_batches(&place);
    assert_eq!(place.contents().unwrap(), last);
    // What is committed after a start follows; an empty batch is none.
    let (mut disk, _) = place.open().unwrap();
    disk.commit(5, &[]).unwrap();
    disk.commit(6, &[write("b", None)]).unwrap();
    drop(disk);
    assert_eq!(place.contents().unwrap(), (6, pods(&[("c", "{3}")])));
}

#[test]
fn durable_a_log_that_is_cut_anywhere_holds_a_prefix_of_its_batches() {
    let place = Place::new("cut");
    let all = three_batches(&place);
    let whole = fs::read(place.file(LOG)).unwrap();
    let mut seen = 0;
    for length in HEADER_BYTES..=whole.len() {
        fs::write(place.file(LOG), &whole[..length]).unwrap();
        let contents = place.contents().unwrap();
        let nth = all.iter().position(|batch| *batch == contents).expect("a batch is whole or not there");
        assert!(nth >= seen, "a longer log holds no less");
        seen = nth;
        // What was cut off does not stand in the way of what comes.
        let (mut disk, _) = place.open().unwrap();
        disk.commit(9, &[write("z", Some("{9}"))]).unwrap();
        drop(disk);
        assert_eq!(place.contents().unwrap().0, 9);
    }
    assert_eq!(seen, 3);
    fs::write(place.file(LOG), &whole[..HEADER_BYTES - 1]).unwrap();
    assert!(place.refusal().contains("is cut off"));
}

#[test]
fn a_flipped_bit_stops_the_start_or_changes_nothing() {
    let place = Place::new("flip");
    let [.., last] = three_batches(&place);
    drop(place.open().unwrap());
    let whole = fs::read(place.file(LOG)).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(place.file(LOG), &bytes).unwrap();
        // The sign that the log was closed in order is the one thing that may go without harm.
        let is_end = at >= whole.len() - format::FRAME_BYTES;
        match place.contents() {
            Ok(contents) => assert!(is_end && contents == last, "byte {at} of {} is not missed", whole.len()),
            Err(_) => assert!(!is_end, "byte {at}"),
        }
    }
}

#[test]
fn a_damaged_value_is_named() {
    let place = Place::new("named");
    three_batches(&place);
    let mut bytes = fs::read(place.file(LOG)).unwrap();
    let at = bytes.windows(3).position(|w| w == b"{2}").unwrap();
    bytes[at + 1] ^= 1;
    fs::write(place.file(LOG), bytes).unwrap();
    assert!(place.refusal().contains("stored object pods/d/b is damaged"), "{}", place.refusal());
}

/// Later batches prove that this one was acknowledged: it is not taken for a write that was cut off.
#[test]
fn durable_damage_in_the_middle_is_no_torn_end() {
    let place = Place::new("middle");
    let [_, first, ..] = three_batches(&place);
    let whole = fs::read(place.file(LOG)).unwrap();
    let mut bytes = whole.clone();
    bytes[HEADER_BYTES] ^= 1;
    fs::write(place.file(LOG), &bytes).unwrap();
    assert!(place.refusal().contains("after revision 0"), "{}", place.refusal());
    // Nor is a batch that is missing between two.
    let second = HEADER_BYTES
        + whole[HEADER_BYTES..].windows(4).skip(1).position(|w| w == &whole[HEADER_BYTES..][..4]).unwrap()
        + 1;
    let third = second + whole[second..].windows(4).skip(1).position(|w| w == &whole[second..][..4]).unwrap() + 1;
    fs::write(place.file(LOG), [&whole[..second], &whole[third..]].concat()).unwrap();
    assert!(place.refusal().contains("revision 5 does not follow 2"), "{}", place.refusal());
    fs::write(place.file(LOG), &whole[..second]).unwrap();
    assert_eq!(place.contents().unwrap(), first);
}

/// What a user stores may look like a frame of another file.
#[test]
fn a_value_that_holds_a_log_passes_for_nothing() {
    let place = Place::new("nested");
    three_batches(&place);
    let log = fs::read(place.file(LOG)).unwrap();
    let other = Place::new("nesting");
    let (mut disk, _) = other.open().unwrap();
    disk.commit(1, &[(Key::new("pods", "d", "a"), Some(log.into()))]).unwrap();
    std::mem::forget(disk);
    let whole = fs::read(other.file(LOG)).unwrap();
    fs::write(other.file(LOG), &whole[..whole.len() - 1]).unwrap();
    assert_eq!(other.contents().unwrap(), (0, Vec::new()), "the torn batch goes, whatever is in it");
}

#[test]
fn a_base_takes_the_place_of_its_log() {
    let place = Place::new("base");
    three_batches(&place);
    let (mut disk, _) = place.open().unwrap();
    disk.rebase(snapshot(5, &[("b", "22"), ("c", "3")])).unwrap();
    disk.commit(6, &[write("c", None)]).unwrap();
    finish(&mut disk);
    assert_eq!(place.names(), ["base-00000000000000000005", "log-00000000000000000005"]);
    assert!(!disk.is_long());
    std::mem::forget(disk);
    let (revision, contents) = place.contents().unwrap();
    assert_eq!((revision, contents.len(), contents[0].0.as_str()), (6, 1, "pods/d/b"));

    // Neither of the two can do without the other, and no bit of the base is guessed.
    let base = place.file("base-00000000000000000005");
    let whole = fs::read(&base).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&base, bytes).unwrap();
        assert!(place.contents().is_err(), "byte {at}");
        fs::write(&base, &whole[..at]).unwrap();
        assert!(place.contents().is_err(), "cut at {at}");
    }
    fs::remove_file(&base).unwrap();
    assert!(place.refusal().contains("log-00000000000000000000 is missing"), "{}", place.refusal());
    fs::write(&base, whole).unwrap();
    fs::remove_file(place.file("log-00000000000000000005")).unwrap();
    assert!(place.refusal().contains("log-00000000000000000005 is missing"), "{}", place.refusal());
}

/// The power may go between any two steps of a rebase.
#[test]
fn durable_a_rebase_that_was_cut_off_loses_nothing() {
    let place = Place::new("rebase");
    let [.., last] = three_batches(&place);
    let old_log = fs::read(place.file(LOG)).unwrap();
    {
        let (mut disk, _) = place.open().unwrap();
        disk.rotate(5).unwrap();
        std::mem::forget(disk);
    }
    // A new log and no base yet; then half a base.
    assert_eq!(place.contents().unwrap(), last);
    fs::write(place.file("base-00000000000000000005.new"), b"steadbas").unwrap();
    let (mut disk, contents) = place.open().unwrap();
    assert_eq!(contents, last);
    assert!(!place.names().iter().any(|name| name.ends_with(".new")));
    // The base has its name, and the old log is still there.
    disk.commit(7, &[write("d", Some("{4}"))]).unwrap();
    assert!(disk.earlier_bytes > 0);
    std::mem::forget(disk);
    base::write(&place.0, 5, [(&Key::new("pods", "d", "b"), &b"{22}"[..])].into_iter(), None).unwrap();
    fs::write(place.file(LOG), old_log).unwrap();
    assert_eq!(place.contents().unwrap(), (7, pods(&[("b", "{22}"), ("d", "{4}")])));
    assert_eq!(place.names(), ["base-00000000000000000005", "log-00000000000000000005"]);
}

#[test]
fn a_rebase_that_fails_leaves_the_log_and_is_tried_again() {
    let place = Place::new("failing");
    let [.., last] = three_batches(&place);
    let (mut disk, _) = place.open().unwrap();
    // The base's name is taken by what cannot be written to.
    fs::create_dir(place.file("base-00000000000000000005.new")).unwrap();
    disk.rebase(snapshot(5, &[("x", "y")])).unwrap();
    finish(&mut disk);
    assert_eq!(place.names().len(), 3);
    assert!(disk.rebase_at > LOG_BYTES_MIN);
    fs::remove_dir(place.file("base-00000000000000000005.new")).unwrap();
    std::mem::forget(disk);
    assert_eq!(place.contents().unwrap(), last);
}

#[test]
fn a_log_asks_for_a_base_when_it_tells_too_little_for_its_length() {
    let place = Place::new("long");
    let (mut disk, _) = place.open().unwrap();
    assert!(!disk.is_long());
    let value = "x".repeat(LOG_BYTES_MIN as usize);
    disk.commit(1, &[write("a", Some(&value))]).unwrap();
    assert!(disk.is_long());
    disk.rebase(snapshot(1, &[("a", &value)])).unwrap();
    finish(&mut disk);
    assert!(disk.base_bytes > LOG_BYTES_MIN);
    disk.commit(2, &[write("a", Some(&value))]).unwrap();
    assert!(!disk.is_long(), "twice the base is not reached");
    disk.commit(3, &[write("a", Some(&value)), write("b", Some("{}".repeat(1000).as_str()))]).unwrap();
    assert!(disk.is_long());
}

#[test]
fn after_an_error_nothing_is_written_until_the_log_was_cut_back() {
    let place = Place::new("error");
    let [.., last] = three_batches(&place);
    let (mut disk, _) = place.open().unwrap();
    // As after a disk's refusal in the middle of a batch.
    disk.log.fail_with(b"half a batch");
    assert!(disk.commit(6, &[write("x", Some("{}"))]).is_err());
    assert_eq!(place.contents().unwrap(), last);
    disk.log.fail_with(b"half a batch");
    disk.reopen().unwrap();
    disk.commit(6, &[write("x", Some("{}"))]).unwrap();
    drop(disk);
    assert_eq!(place.contents().unwrap().0, 6);
}

/// A power cut while the store was made left half of it beside: it never had its name.
#[test]
fn half_a_new_store_is_made_again() {
    let place = Place::new("half");
    fs::create_dir(&place.0).unwrap();
    fs::write(place.file(&format!("{LOG}.new")), b"steadlog").unwrap();
    assert_eq!(place.contents().unwrap(), (0, Vec::new()));
    assert_eq!(place.names(), [LOG]);
}

#[test]
fn many_objects_make_a_base_of_many_frames() {
    let place = Place::new("many");
    let (mut disk, _) = place.open().unwrap();
    let value = "v".repeat(3000);
    let names: Vec<String> = (0..1000).map(|n| format!("p{n:04}")).collect();
    let writes: Vec<_> = names.iter().map(|name| write(name, Some(&value))).collect();
    disk.commit(1000, &writes).unwrap();
    let contents: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), value.as_str())).collect();
    disk.rebase(snapshot(1000, &contents)).unwrap();
    drop(disk);
    let (revision, found) = place.contents().unwrap();
    assert_eq!((revision, found.len()), (1000, 1000));
    assert_eq!(found[999].0, "pods/d/p0999");
}

/// A log holds what was there before; a key that is given later is for that, too.
#[test]
fn what_was_plain_goes_when_a_key_comes_even_if_it_is_deleted() {
    let place = Place::new("sealed");
    {
        let (mut disk, _) = place.open().unwrap();
        let secret = |json: Option<&str>| (Key::new("secrets", "d", "s"), json.map(|j| Bytes::from(j.to_owned())));
        disk.commit(1, &[secret(Some("{hidden}")), write("a", Some("{shown}"))]).unwrap();
        disk.commit(2, &[secret(None)]).unwrap();
    }
    let holds = |word: &str| {
        let bytes: Vec<u8> = place.names().iter().flat_map(|name| fs::read(place.file(name)).unwrap()).collect();
        bytes.windows(word.len()).any(|window| window == word.as_bytes())
    };
    assert!(holds("hidden") && holds("shown"));
    let keys = place.0.with_extension("yaml");
    let text = "{kind: EncryptionConfiguration, apiVersion: apiserver.config.k8s.io/v1, resources: [{resources: [secrets], \
                providers: [{aesgcm: {keys: [{name: one, secret: AAAAAAAAAAAAAAAAAAAAAA==}]}}, {identity: {}}]}]}";
    fs::write(&keys, text).unwrap();
    let seal = Some(Arc::new(Seal::load(&keys).unwrap()));
    fs::remove_file(&keys).unwrap();
    let (disk, restored) = Disk::open(&place.0, seal.clone()).unwrap();
    assert_eq!((restored.revision, restored.records.len()), (2, 1));
    assert!(!holds("hidden") && holds("shown"));
    drop(disk);
    // Once is enough.
    let names = place.names();
    let (disk, _) = Disk::open(&place.0, seal).unwrap();
    drop(disk);
    assert_eq!((place.names(), names.len()), (names, 2));
}
