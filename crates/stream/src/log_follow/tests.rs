use super::*;
use expect_test::expect;
use std::fs::{self, File};
use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A container's log directory, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(files: &[(&str, &str)]) -> Directory {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("stead-log-follow-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        for (name, text) in files {
            fs::write(path.join(name), text).unwrap();
        }
        Directory(path)
    }

    fn log(&self) -> PathBuf {
        log_file(&self.0, 0)
    }

    fn append(&self, text: &str) {
        let mut file = File::options().create(true).append(true).open(self.log()).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    async fn read(&self, options: LogOptions) -> String {
        let (_sender, ended) = watch::channel(false);
        let mut log = LogFollow::open(&self.log(), options, ended).await.unwrap();
        let mut text = Vec::new();
        while let Some(chunk) = log.next().await {
            text.extend_from_slice(&chunk.unwrap());
        }
        String::from_utf8(text).unwrap()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn line(second: u32, text: &str) -> String {
    format!("2026-01-02T03:04:{second:02}.000000005Z stdout F {text}\n")
}

fn all() -> LogOptions {
    LogOptions::default()
}

fn tail(lines: u64) -> LogOptions {
    LogOptions { tail_lines: Some(lines), ..all() }
}

const MIXED: &str = "\
2026-01-02T03:04:01.000000001Z stdout F one
2026-01-02T03:04:02.5+01:00 stderr F two
not a line of a log
2026-01-02T03:04:03.000000003Z stdout P three, first part,
2026-01-02T03:04:03.000000004Z stdout P  second part,
2026-01-02T03:04:03.000000005Z stdout F  last part
2026-01-02T03:04:04.000000005Z stdout F 
2026-01-02T03:04:05.000000005Z stdout F:new five
2026-01-02T03:04:06.000000005Z stdout F torn";

#[tokio::test]
async fn what_each_option_shows() {
    let directory = Directory::new(&[("0.log", MIXED)]);
    expect![[r#"
        one
        two
        three, first part, second part, last part

        five
        torn"#]]
    .assert_eq(&directory.read(all()).await);
    expect![[r#"
        2026-01-02T03:04:01.000000001Z one
        2026-01-02T02:04:02.500000000Z two
        2026-01-02T03:04:03.000000003Z three, first part, second part, last part
        2026-01-02T03:04:04.000000005Z 
        2026-01-02T03:04:05.000000005Z five
        2026-01-02T03:04:06.000000005Z torn"#]]
    .assert_eq(&directory.read(LogOptions { timestamps: true, ..all() }).await);
    assert_eq!(directory.read(LogOptions { limit_bytes: Some(6), ..all() }).await, "one\ntw");
    assert_eq!(directory.read(LogOptions { stream: LogStream::Stderr, ..all() }).await, "two\n");
    let since = Some("2026-01-02T03:04:05.000000005Z".parse().unwrap());
    assert_eq!(directory.read(LogOptions { since, ..all() }).await, "five\ntorn");
}

#[tokio::test]
async fn the_tail_counts_full_lines_over_rotated_files() {
    let directory = Directory::new(&[
        ("0.log.2", &(line(0, "oldest") + &line(1, "older"))),
        ("0.log.1", &line(2, "old")),
        ("0.log.2.gz", "not text"),
        ("1.log", &line(9, "another run")),
        ("0.log", &(line(3, "new") + &line(4, "newest"))),
    ]);
    assert_eq!(directory.read(all()).await, "oldest\nolder\nold\nnew\nnewest\n");
    let expected = ["", "newest\n", "new\nnewest\n", "old\nnew\nnewest\n", "older\nold\nnew\nnewest\n"];
    for (lines, expected) in expected.iter().enumerate() {
        assert_eq!(&directory.read(tail(lines as u64)).await, expected);
    }
    assert_eq!(directory.read(tail(99)).await, "oldest\nolder\nold\nnew\nnewest\n");
    assert_eq!(attempts(&directory.0).unwrap(), [0, 1]);
    let mixed = Directory::new(&[("0.log", MIXED)]);
    assert_eq!(mixed.read(tail(4)).await, "three, first part, second part, last part\n\nfive\ntorn");
}

#[tokio::test]
async fn dated_rotations_are_older_the_earlier() {
    let directory = Directory::new(&[
        ("0.log.20260102-030405", &line(1, "b")),
        ("0.log.20260101-030405", &line(0, "a")),
        ("0.log", &line(2, "c")),
    ]);
    assert_eq!(directory.read(all()).await, "a\nb\nc\n");
}

#[tokio::test]
async fn a_last_line_without_an_end_is_a_line_and_gets_none() {
    let open = line(3, "c").replace(" F ", " P ");
    let directory = Directory::new(&[("0.log", &(line(1, "a") + &line(2, "b") + &open))]);
    let expected = ["", "c", "b\nc", "a\nb\nc"];
    for (lines, expected) in expected.iter().enumerate() {
        assert_eq!(&directory.read(tail(lines as u64)).await, expected);
    }
}

#[tokio::test]
async fn the_tail_of_a_large_file_starts_at_a_line() {
    let text: String = (0..20_000).map(|i| line(i % 60, &format!("{i} {}", "x".repeat(i as usize % 97)))).collect();
    let directory = Directory::new(&[("0.log", &text)]);
    let whole = directory.read(all()).await;
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    assert_eq!(lines.len(), 20_000);
    for count in [1, 500, 561, 1_000, 19_999, 20_000] {
        assert_eq!(directory.read(tail(count as u64)).await, lines[lines.len() - count..].concat());
    }
}

#[tokio::test]
async fn garbage_is_passed_over() {
    let endless = "x".repeat(3 * LINE_BYTES_MAX);
    let directory = Directory::new(&[("0.log", &format!("{endless}\n{}\u{0}\n \n\n{}", line(1, "a"), line(2, "b")))]);
    assert_eq!(directory.read(all()).await, "a\nb\n");
    assert_eq!(directory.read(tail(1)).await, "b\n");
}

#[test]
fn since_is_the_later_of_both() {
    let now: Timestamp = "2026-01-02T03:04:05.5Z".parse().unwrap();
    let time: Timestamp = "2026-01-02T03:04:00Z".parse().unwrap();
    assert_eq!(LogOptions::since(now, Some(1), Some(time)), Some("2026-01-02T03:04:04.5Z".parse().unwrap()));
    assert_eq!(LogOptions::since(now, Some(60), Some(time)), Some(time));
    assert_eq!(LogOptions::since(now, Some(i64::MAX), None), Some(Timestamp::MIN));
    assert_eq!(LogOptions::since(now, None, None), None);
}

/// Follows in a task; the receiver gets the length of the text so far, after `None` for not yet open.
fn follow(
    directory: &Directory,
    options: LogOptions,
) -> (watch::Sender<bool>, tokio::task::JoinHandle<String>, watch::Receiver<Option<usize>>) {
    let (sender, ended) = watch::channel(false);
    let (progress, seen) = watch::channel(None);
    let path = directory.log();
    let task = tokio::spawn(async move {
        let options = LogOptions { follow: true, ..options };
        let mut log = LogFollow::open(&path, options, ended).await.unwrap();
        let mut text = String::new();
        progress.send_replace(Some(0));
        while let Some(chunk) = log.next().await {
            text += std::str::from_utf8(&chunk.unwrap()).unwrap();
            progress.send_replace(Some(text.len()));
        }
        text
    });
    (sender, task, seen)
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work).await.expect("the follower hangs")
}

#[tokio::test]
async fn a_follower_sees_what_is_written_and_ends_with_the_container() {
    let directory = Directory::new(&[("0.log", &(line(0, "before") + &line(1, "last")))]);
    let (ended, task, mut seen) = follow(&directory, tail(1));
    within(seen.wait_for(|length| *length == Some("last\n".len()))).await.unwrap();
    directory.append("2026-01-02T03:04:02Z stdout F in two ");
    directory.append("writes\n");
    within(seen.wait_for(|length| *length > Some("last\n".len()))).await.unwrap();
    directory.append(&line(3, "goodbye"));
    ended.send(true).unwrap();
    assert_eq!(within(task).await.unwrap(), "last\nin two writes\ngoodbye\n");
}

#[tokio::test]
async fn a_follower_misses_nothing_over_rotations() {
    let directory = Directory::new(&[("0.log", "")]);
    let (ended, task, mut seen) = follow(&directory, all());
    within(seen.wait_for(|length| length.is_some())).await.unwrap();
    let mut expected = String::new();
    let name = |number: u32| directory.0.join(format!("0.log.{number}"));
    for round in 0..200 {
        let before = expected.len();
        for i in 0..20 {
            directory.append(&line(i, &format!("{round}.{i}")));
            expected += &format!("{round}.{i}\n");
        }
        // Every third round the follower catches up: only four rotated files are kept.
        if round % 3 == 0 {
            within(seen.wait_for(|length| *length >= Some(before))).await.unwrap();
        }
        for number in (1..4).rev() {
            let _ = fs::rename(name(number), name(number + 1));
        }
        fs::rename(directory.log(), name(1)).unwrap();
        File::create(directory.log()).unwrap();
    }
    ended.send(true).unwrap();
    assert!(within(task).await.unwrap() == expected);
}

#[tokio::test]
async fn a_log_that_does_not_exist_is_an_error() {
    let directory = Directory::new(&[]);
    let (_sender, ended) = watch::channel(false);
    let opened = LogFollow::open(&directory.log(), all(), ended).await;
    assert_eq!(opened.err().unwrap().kind(), io::ErrorKind::NotFound);
}
