use tokio::task::JoinSet;

use super::*;

const SOON: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(60);

fn configured(name: &str, own: u32, pooled: u32, queuing: Option<Shape>) -> Configured {
    let limits = Limits { nominal: own, own, pooled };
    Configured { name: name.into(), uid: String::new(), limits, queuing }
}

const SHAPE: Shape = Shape { queues: 16, hand: 2, length: 3 };

/// A line with one level of two seats that queues, and one of one seat that refuses; the pool has one more seat.
fn line() -> (Line, Pool, Vec<Arc<Level>>) {
    let (line, pool) = (Line::default(), Pool::default());
    pool.resize(1);
    let levels = line.configure(&pool, &[configured("q", 2, 1, Some(SHAPE)), configured("r", 1, 1, None)]);
    (line, pool, levels)
}

fn place<'a>(entered: Entered<'a>) -> Place<'a> {
    match entered {
        Entered::Waits(place) => place,
        Entered::Granted(grant) => panic!("{grant:?}"),
        Entered::Refused(why) => panic!("{why:?}"),
    }
}

fn refused(entered: &Entered) -> Option<Refused> {
    if let Entered::Refused(why) = entered { Some(*why) } else { None }
}

#[tokio::test]
async fn who_waits_gets_the_seat_that_is_given_back() {
    let (line, pool, levels) = line();
    let grants: Vec<Grant> = (0..3).filter_map(|_| line.at_once(&pool, &levels[0], 1)).collect();
    assert_eq!(grants, [Grant::Own(1), Grant::Own(1), Grant::Pooled(1)]);
    assert_eq!(line.at_once(&pool, &levels[0], 1), None);
    let waits = place(line.enter(&pool, &levels[0], 7, 1));
    line.give_back(&pool, &levels[0], grants[2]);
    assert_eq!(line.at_once(&pool, &levels[0], 1), None, "the seat is another's already");
    assert_eq!(waits.wait(LONG).await, Ok(Grant::Pooled(1)));
    line.give_back(&pool, &levels[0], Grant::Pooled(1));
    assert_eq!(line.at_once(&pool, &levels[1], 1), Some(Grant::Own(1)));
    assert_eq!(line.at_once(&pool, &levels[1], 1), Some(Grant::Pooled(1)));
}

#[tokio::test]
async fn nobody_waits_longer_than_he_may_nor_beyond_the_queues() {
    let (line, pool, levels) = line();
    while line.at_once(&pool, &levels[0], 1).is_some() {}
    let mut waiting: Vec<Place> = (0..6).map(|_| place(line.enter(&pool, &levels[0], 7, 1))).collect();
    assert_eq!(refused(&line.enter(&pool, &levels[0], 7, 1)), Some(Refused::QueueFull));
    assert_eq!(refused(&line.enter(&pool, &levels[1], 7, 2)), None, "its own seat is free");
    assert_eq!(refused(&line.enter(&pool, &levels[1], 7, 1)), Some(Refused::ConcurrencyLimit));
    let last = waiting.pop().expect("six wait");
    assert_eq!(last.wait(SOON).await, Err(Refused::TimeOut));
    assert_eq!(line.waiting.load(SeqCst), 5);
    waiting.push(place(line.enter(&pool, &levels[0], 7, 1)));
    drop(waiting);
    assert_eq!((line.waiting.load(SeqCst), levels[0].waiting.load(SeqCst)), (0, 0));
    assert!(line.lock().ends.is_empty());
}

#[tokio::test]
async fn a_seat_for_one_who_went_away_goes_to_the_next() {
    let (line, pool, levels) = line();
    let grants: Vec<Grant> = std::iter::from_fn(|| line.at_once(&pool, &levels[0], 1)).collect();
    let (first, second) = (place(line.enter(&pool, &levels[0], 7, 1)), place(line.enter(&pool, &levels[0], 7, 1)));
    line.give_back(&pool, &levels[0], grants[0]);
    drop(first);
    assert_eq!(second.wait(LONG).await, Ok(Grant::Own(1)));
}

#[tokio::test]
async fn a_level_that_goes_or_grows_lets_go_of_those_who_wait() {
    let (line, pool, levels) = line();
    while line.at_once(&pool, &levels[0], 1).is_some() {}
    let waiting: Vec<Place> = (0..4).map(|n| place(line.enter(&pool, &levels[0], n, 1))).collect();
    let grown = line.configure(&pool, &[configured("q", 4, 1, Some(SHAPE))]);
    assert!(Arc::ptr_eq(&grown[0], &levels[0]));
    assert_eq!(line.waiting.load(SeqCst), 2);
    line.configure(&pool, &[configured("other", 1, 1, None)]);
    for place in waiting {
        assert_eq!(place.wait(LONG).await, Ok(Grant::Own(1)));
    }
    assert_eq!(line.at_once(&pool, &levels[0], 1), Some(Grant::Own(1)), "nor anybody who comes late");
}

#[tokio::test]
async fn the_pools_seats_go_to_the_level_that_is_owed_most() {
    let (line, pool) = (Line::default(), Pool::default());
    pool.resize(10);
    let of = |name: &str, own| configured(name, own, 10, Some(Shape { length: 50, ..SHAPE }));
    let levels = line.configure(&pool, &[of("greedy", 2), of("modest", 8)]);
    let grants: Vec<Grant> = std::iter::from_fn(|| line.at_once(&pool, &levels[0], 1)).collect();
    assert_eq!(grants.len(), 12);
    let greedy: Vec<Place> = (0..50).map(|_| place(line.enter(&pool, &levels[0], 1, 1))).collect();
    let own: Vec<Grant> = std::iter::from_fn(|| line.at_once(&pool, &levels[1], 1)).collect();
    assert_eq!(own.len(), 8, "what is its own is always there");
    let modest = place(line.enter(&pool, &levels[1], 2, 1));
    line.give_back(&pool, &levels[0], grants[11]);
    assert_eq!(modest.wait(SOON).await, Ok(Grant::Pooled(1)));
    drop(greedy);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_seat_is_lost_and_no_one_forgotten() {
    let (line, pool) = (Arc::new(Line::default()), Arc::new(Pool::default()));
    pool.resize(3);
    let shape = Shape { queues: 8, hand: 2, length: 1000 };
    let levels = line.configure(&pool, &[configured("a", 2, 3, Some(shape)), configured("b", 1, 3, Some(shape))]);
    let mut tasks = JoinSet::new();
    for n in 0..2000_u64 {
        let (line, pool, level) = (Arc::clone(&line), Arc::clone(&pool), Arc::clone(&levels[n as usize % 2]));
        tasks.spawn(async move {
            let width = 1 + n as u32 % 3;
            let granted = match line.at_once(&pool, &level, width) {
                Some(grant) => Ok(grant),
                None => match line.enter(&pool, &level, n, width) {
                    Entered::Granted(grant) => Ok(grant),
                    Entered::Refused(why) => Err(why),
                    // Some go away again, at any moment.
                    Entered::Waits(place) if n % 5 == 0 => place.wait(Duration::from_micros(n)).await,
                    Entered::Waits(place) => place.wait(LONG).await,
                },
            };
            if let Ok(grant) = granted {
                tokio::task::yield_now().await;
                line.give_back(&pool, &level, grant);
            }
            granted
        });
    }
    let mut refusals = 0;
    while let Some(done) = tasks.join_next().await {
        match done.expect("no task panics") {
            Ok(_) => {}
            Err(Refused::TimeOut) => refusals += 1,
            Err(why) => panic!("{why:?}"),
        }
    }
    assert!(refusals <= 400, "only those who went away");
    assert_eq!(line.waiting.load(SeqCst), 0);
    assert!(levels.iter().all(|level| level.standing().executing == 0));
    assert_eq!(levels[0].take_pooled(&pool, 3), Ok(Grant::Pooled(3)), "every seat is back");
}
