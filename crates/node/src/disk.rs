//! Room on the node's disk: whether it is short, and which images go to make some.
//!
//! Guarantees: pressure begins with the look that sees it and ends only when none was seen for a while, so that it does not flap; an
//! image goes only when nobody uses it, it has been here for a while, and the disk is full enough; the longest unused first.
//! Upstream: pkg/kubelet/eviction (10 s, `evictionPressureTransitionPeriod`) and pkg/kubelet/images/image_gc_manager.go.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::action::{Image, Room};
use crate::config::Threshold;
use crate::event::Note;

/// How often the disk is looked at: with room to spare, and when there is little or images are to go.
const LOOK_CALM: SignedDuration = SignedDuration::from_secs(60);
const LOOK_CLOSE: SignedDuration = SignedDuration::from_secs(10);
/// Room to spare: so many times what would be pressure.
const SPARE_TIMES: u64 = 2;
/// `evictionPressureTransitionPeriod`.
const TRANSITION: SignedDuration = SignedDuration::from_secs(300);
/// `imageGCHighThresholdPercent` and `imageGCLowThresholdPercent` of the disk that are used.
const HIGH_PERCENT: u64 = 85;
const LOW_PERCENT: u64 = 80;
/// `imageMinimumGCAge`.
const AGE_MIN: SignedDuration = SignedDuration::from_secs(120);
/// How often images are collected for the thresholds' sake.
const COLLECT_EVERY: SignedDuration = SignedDuration::from_secs(300);

#[derive(Clone, Copy, Debug)]
struct Use {
    first_seen: Timestamp,
    /// When a container used it last, as far as was seen.
    last_used: Option<Timestamp>,
}

/// What is known of the disk.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    is_asked: bool,
    ask_at: Option<Timestamp>,
    /// Pressure lasts until then at least.
    pressed_until: Option<Timestamp>,
    images: BTreeMap<String, Use>,
    has_looked: bool,
    collect_at: Option<Timestamp>,
    /// The last collection did not free what it should.
    has_failed: bool,
}

/// What follows from a look.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Judged {
    /// Images by id.
    pub remove: Vec<String>,
    pub notes: Vec<Note>,
    /// Pressure began or ended.
    pub is_turn: bool,
    /// Images are of no help any more: a pod has to go.
    pub must_evict: bool,
}

impl Disk {
    /// What a node that starts knows of its disk.
    pub fn at_start(is_short: bool) -> Disk {
        Disk { pressed_until: is_short.then_some(Timestamp::MIN), ..Disk::default() }
    }

    pub fn is_under_pressure(&self) -> bool {
        self.pressed_until.is_some()
    }

    /// Whether to look now; then it is taken as asked.
    pub fn ask(&mut self, now: Timestamp) -> bool {
        let is_due = !self.is_asked && self.ask_at.is_none_or(|at| at <= now);
        self.is_asked |= is_due;
        is_due
    }

    pub fn wake_at(&self) -> Option<Timestamp> {
        self.ask_at.filter(|_| !self.is_asked)
    }

    /// The machine could not look.
    pub fn lost(&mut self, now: Timestamp) {
        self.is_asked = false;
        self.ask_at = Some(now + LOOK_CALM);
    }

    /// Takes what was seen; `used` are the ids and names of images that containers have or are about to have.
    pub fn seen(&mut self, now: Timestamp, room: &Room, pressure: Threshold, used: &BTreeSet<&str>) -> Judged {
        self.is_asked = false;
        self.note_uses(now, &room.images, used);
        let mut judged = Judged::default();
        let short = pressure.bytes_of(room.total_bytes);
        self.judge_pressure(now, room.free_bytes < short, &mut judged);
        self.collect(now, room, judged.is_turn && self.is_under_pressure(), used, &mut judged);
        judged.must_evict = room.free_bytes < short && judged.remove.is_empty();
        let is_calm = !self.is_under_pressure() && room.free_bytes >= short.saturating_mul(SPARE_TIMES);
        self.ask_at = Some(now + if is_calm { LOOK_CALM } else { LOOK_CLOSE });
        judged
    }

    fn note_uses(&mut self, now: Timestamp, images: &[Image], used: &BTreeSet<&str>) {
        // What was here before us is not new.
        let first_seen = if self.has_looked { now } else { Timestamp::MIN };
        self.has_looked = true;
        self.images.retain(|id, _| images.iter().any(|image| image.id == *id));
        for image in images {
            let one = self.images.entry(image.id.clone()).or_insert(Use { first_seen, last_used: None });
            if is_used(image, used) {
                one.last_used = Some(now);
            }
        }
    }

    fn judge_pressure(&mut self, now: Timestamp, is_short: bool, judged: &mut Judged) {
        let was = self.is_under_pressure();
        if is_short {
            self.pressed_until = Some(now + TRANSITION);
        } else if self.pressed_until.is_some_and(|until| until <= now) {
            self.pressed_until = None;
        }
        judged.is_turn = was != self.is_under_pressure();
        if judged.is_turn && is_short {
            judged.notes.push(Note::warning("EvictionThresholdMet", "Attempting to reclaim ephemeral-storage"));
        }
    }

    /// Images to remove: all that may go when pressure begins, else enough to be below the low threshold again.
    fn collect(&mut self, now: Timestamp, room: &Room, is_urgent: bool, used: &BTreeSet<&str>, judged: &mut Judged) {
        let used_bytes = room.total_bytes.saturating_sub(room.free_bytes);
        let is_full = room.total_bytes > 0 && used_bytes >= room.total_bytes / 100 * HIGH_PERCENT;
        let is_due = is_full && self.collect_at.is_none_or(|at| at <= now);
        if !is_full {
            self.has_failed = false;
        }
        if !is_urgent && !is_due {
            return;
        }
        self.collect_at = Some(now + COLLECT_EVERY);
        let wanted = (room.total_bytes / 100 * (100 - LOW_PERCENT)).saturating_sub(room.free_bytes);
        let mut freed = 0;
        for image in self.unused(now, &room.images, used) {
            if !is_urgent && freed >= wanted {
                break;
            }
            freed += image.size_bytes;
            judged.remove.push(image.id.clone());
        }
        if !is_full || freed >= wanted {
            self.has_failed = false;
            return;
        }
        let text = format!(
            "Failed to garbage collect required amount of images. Attempted to free {wanted} bytes, but only found \
             {freed} bytes eligible to free."
        );
        judged.notes.push(Note::warning("FreeDiskSpaceFailed", text.clone()));
        judged.notes.extend(self.failed(&text));
    }

    /// A collection failed; it is told of when the one before failed, too.
    pub fn failed(&mut self, why: &str) -> Option<Note> {
        std::mem::replace(&mut self.has_failed, true).then(|| Note::warning("ImageGCFailed", why))
    }

    /// What may go, the longest unused first.
    fn unused<'i>(&self, now: Timestamp, images: &'i [Image], used: &BTreeSet<&str>) -> Vec<&'i Image> {
        let is_old = |one: &Use| one.first_seen == Timestamp::MIN || now.duration_since(one.first_seen) >= AGE_MIN;
        let mut found: Vec<(&Use, &Image)> = images
            .iter()
            .filter(|image| !is_used(image, used))
            .filter_map(|image| Some((self.images.get(&image.id).filter(|one| is_old(one))?, image)))
            .collect();
        found.sort_by_key(|(one, image)| (one.last_used, one.first_seen, &image.id));
        found.into_iter().map(|(_, image)| image).collect()
    }
}

fn is_used(image: &Image, used: &BTreeSet<&str>) -> bool {
    used.contains(image.id.as_str()) || image.names.iter().any(|name| used.contains(name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::ImageConfig;

    const GIB: u64 = 1 << 30;

    fn image(name: &str, gib: u64) -> Image {
        Image {
            id: format!("sha256:{name}"),
            names: vec![name.into()],
            digests: Vec::new(),
            size_bytes: gib * GIB,
            config: ImageConfig::default(),
        }
    }

    /// A disk of 100 GiB.
    struct Looks {
        disk: Disk,
        at: i64,
    }

    impl Looks {
        fn new() -> Looks {
            Looks { disk: Disk::at_start(false), at: 0 }
        }

        fn look(&mut self, at: i64, free_gib: u64, images: &[Image], used: &[&str]) -> String {
            let now = Timestamp::from_second(at).unwrap();
            let room = Room { total_bytes: 100 * GIB, free_bytes: free_gib * GIB, images: images.to_vec() };
            assert!(self.disk.ask(now), "it is time to look");
            let judged = self.disk.seen(now, &room, Threshold::DISK_PRESSURE, &used.iter().copied().collect());
            self.at = self.disk.wake_at().unwrap().as_second();
            let notes: Vec<String> = judged.notes.iter().map(|note| note.reason.clone()).collect();
            let pressure = if self.disk.is_under_pressure() { "short" } else { "fine" };
            format!("{pressure} {} {}", judged.remove.join(","), notes.join(",")).trim().to_owned()
        }
    }

    #[test]
    fn pressure_ends_when_there_was_none_for_five_minutes() {
        let mut looks = Looks::new();
        assert_eq!((looks.look(0, 50, &[], &[]).as_str(), looks.at), ("fine", 60));
        assert_eq!((looks.look(60, 16, &[], &[]).as_str(), looks.at), ("fine", 70), "little room: a closer look");
        assert_eq!(looks.look(70, 9, &[], &[]), "short  EvictionThresholdMet,FreeDiskSpaceFailed");
        assert_eq!(looks.look(80, 60, &[], &[]), "short");
        assert_eq!(looks.look(369, 60, &[], &[]), "short");
        assert_eq!((looks.look(379, 60, &[], &[]).as_str(), looks.at), ("fine", 439));
    }

    #[test]
    fn a_node_that_starts_short_is_short_until_it_has_looked() {
        let mut disk = Disk::at_start(true);
        assert!(disk.is_under_pressure());
        let room = Room { total_bytes: 100, free_bytes: 90, images: Vec::new() };
        let judged = disk.seen(Timestamp::UNIX_EPOCH, &room, Threshold::DISK_PRESSURE, &BTreeSet::new());
        assert!(judged.is_turn && !disk.is_under_pressure());
    }

    #[test]
    fn the_longest_unused_images_go_until_the_low_threshold() {
        let mut looks = Looks::new();
        let all = [image("used", 9), image("later", 3), image("sooner", 3), image("never", 2)];
        looks.look(0, 50, &all, &["used", "sooner", "later"]);
        looks.look(60, 50, &all, &["sha256:used", "later"]);
        // Five GiB are missing to the low threshold.
        assert_eq!(looks.look(120, 15, &all, &["used"]), "fine sha256:never,sha256:sooner");
        let left = [image("used", 9), image("later", 3)];
        assert_eq!(looks.look(130, 14, &left, &["used"]), "fine", "not again so soon");
        assert_eq!(looks.look(420, 14, &left, &["used"]), "fine sha256:later FreeDiskSpaceFailed");
        assert_eq!(looks.look(720, 14, &left[..1], &["used"]), "fine  FreeDiskSpaceFailed,ImageGCFailed");
    }

    #[test]
    fn new_images_stay_and_pressure_takes_all_others() {
        let mut looks = Looks::new();
        let mut all = vec![image("a", 1), image("b", 30)];
        looks.look(0, 50, &all, &[]);
        all.push(image("new", 1));
        looks.look(60, 50, &all, &[]);
        assert_eq!(looks.look(120, 9, &all, &[]), "short sha256:a,sha256:b EvictionThresholdMet");
    }
}
