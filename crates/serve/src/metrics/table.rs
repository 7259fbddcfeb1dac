//! Places for values by their labels: a table of fixed size that many threads use at once without waiting.
//!
//! Guarantees: two threads that bring the same labels get the same place; a place never changes its labels. What comes when the
//! table is full shares one place without labels.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;

use super::labels::Labels;

/// Combinations of labels that are told apart: verbs, codes and kinds that are used, not all that there could be.
const PLACES: usize = 4096;
/// How far from its own place a value may be put.
const STEPS_MAX: usize = 32;

pub struct Table<T> {
    places: Box<[OnceLock<Place<T>>]>,
    rest: Place<T>,
}

pub struct Place<T> {
    hash: u64,
    pub labels: [String; 6],
    /// One more label, for values that have it.
    pub code: String,
    pub value: T,
}

impl<T: Default> Place<T> {
    fn of(hash: u64, labels: &Labels, code: &str) -> Place<T> {
        Place { hash, labels: labels.map(str::to_owned), code: code.to_owned(), value: T::default() }
    }

    fn is(&self, hash: u64, labels: &Labels, code: &str) -> bool {
        self.hash == hash && self.code == code && self.labels.iter().zip(labels).all(|(own, given)| own == given)
    }
}

impl<T: Default> Default for Table<T> {
    fn default() -> Table<T> {
        Table { places: (0..PLACES).map(|_| OnceLock::new()).collect(), rest: Place::of(0, &[""; 6], "") }
    }
}

impl<T: Default> Table<T> {
    /// Shows the value of these labels.
    pub fn with(&self, labels: &Labels, code: &str, show: impl FnOnce(&T)) {
        let mut hasher = BuildHasherDefault::<DefaultHasher>::default().build_hasher();
        labels.hash(&mut hasher);
        code.hash(&mut hasher);
        let hash = hasher.finish();
        let start = hash as usize % PLACES;
        for step in 0..STEPS_MAX {
            let place = self.places[(start + step) % PLACES].get_or_init(|| Place::of(hash, labels, code));
            if place.is(hash, labels, code) {
                return show(&place.value);
            }
        }
        show(&self.rest.value);
    }

    /// All places that are taken, by their labels; the shared one last.
    pub fn all(&self) -> Vec<&Place<T>> {
        let mut all: Vec<&Place<T>> = self.places.iter().filter_map(OnceLock::get).collect();
        all.sort_by(|a, b| (&a.labels, &a.code).cmp(&(&b.labels, &b.code)));
        all.push(&self.rest);
        all
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn add(table: &Table<AtomicU64>, resource: &str, code: &str) {
        table.with(&["", "v1", resource, "", "", "GET"], code, |count| {
            count.fetch_add(1, Ordering::Relaxed);
        });
    }

    #[test]
    fn many_threads_count_in_one_place() {
        let table = Table::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|n| add(&table, if n % 2 == 0 { "pods" } else { "nodes" }, "200")));
            }
        });
        let counts: Vec<(String, u64)> =
            table.all().iter().map(|place| (place.labels[2].clone(), place.value.load(Ordering::Relaxed))).collect();
        assert_eq!(counts, [("nodes".into(), 2000), ("pods".into(), 2000), (String::new(), 0)]);
    }

    #[test]
    fn what_finds_no_place_is_counted_all_the_same() {
        let table = Table::default();
        let many = 2 * PLACES as u64;
        (0..many).for_each(|n| add(&table, &format!("kind-{n}"), "200"));
        let all = table.all();
        let total: u64 = all.iter().map(|place| place.value.load(Ordering::Relaxed)).sum();
        assert_eq!(total, many);
        assert!(all.len() <= PLACES + 1 && all[all.len() - 1].value.load(Ordering::Relaxed) > 0);
    }
}
