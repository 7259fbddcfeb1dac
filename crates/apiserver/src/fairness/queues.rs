//! The queues of one level: bounded, and fair between flows.
//!
//! A flow may use the few queues of its hand (shuffle sharding), and a request waits in the emptiest of them: whoever floods
//! fills its own hand, and hardly anybody's hand is within another's. Each queue has had so much service; the one that had least
//! is next, and one that was empty begins where the others are, so that nobody saves up turns (start-time fair queuing, a
//! request's service being its width).

use std::collections::{BTreeMap, VecDeque};

/// Who waits, told apart by whoever holds the queues. Later ones are greater.
pub type Ticket = u64;

/// How many queues, how many of them a flow may use, and how many requests wait in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub queues: usize,
    pub hand: usize,
    pub length: usize,
}

/// More queues than this are not made, whatever a level says.
const QUEUES_MAX: usize = 4096;

#[derive(Debug)]
pub struct Queues {
    shape: Shape,
    queues: Vec<Queue>,
    /// The queue of each who waits.
    places: BTreeMap<Ticket, usize>,
    /// How much the queue had had that was served last.
    served: u64,
}

#[derive(Clone, Debug, Default)]
struct Queue {
    waiting: VecDeque<(Ticket, u32)>,
    served: u64,
}

impl Queue {
    fn width(&self) -> u64 {
        self.waiting.iter().map(|(_, width)| u64::from(*width)).sum()
    }
}

impl Queues {
    pub fn of(shape: Shape) -> Queues {
        let count = shape.queues.clamp(1, QUEUES_MAX);
        Queues { shape, queues: vec![Queue::default(); count], places: BTreeMap::new(), served: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Goes on in another shape; those who wait keep their order, in queues that may be longer than new ones get.
    pub fn reshape(&mut self, shape: Shape) {
        if shape == self.shape {
            return;
        }
        let mut new = Queues::of(shape);
        let count = new.queues.len();
        for (ticket, index) in &self.places {
            let width =
                self.queues[*index].waiting.iter().find(|(one, _)| one == ticket).map_or(1, |(_, width)| *width);
            new.queues[index % count].waiting.push_back((*ticket, width));
            new.places.insert(*ticket, index % count);
        }
        *self = new;
    }

    /// Waits in the emptiest queue of the flow's hand. False: it is full.
    pub fn enter(&mut self, flow: u64, width: u32, ticket: Ticket) -> bool {
        let hand = deal(flow, self.queues.len(), self.shape.hand);
        let emptiest = hand.into_iter().min_by_key(|index| self.queues[*index].width());
        let Some(index) = emptiest.filter(|index| self.queues[*index].waiting.len() < self.shape.length) else {
            return false;
        };
        let queue = &mut self.queues[index];
        if queue.waiting.is_empty() {
            queue.served = queue.served.max(self.served);
        }
        queue.waiting.push_back((ticket, width));
        self.places.insert(ticket, index);
        true
    }

    fn next_queue(&self) -> Option<usize> {
        let waiting = self.queues.iter().enumerate().filter(|(_, queue)| !queue.waiting.is_empty());
        // Of queues that had the same, the one whose first came first.
        waiting
            .min_by_key(|(_, queue)| (queue.served, queue.waiting.front().map(|(ticket, _)| *ticket)))
            .map(|(i, _)| i)
    }

    /// Who is next, and how many seats it takes.
    pub fn first(&self) -> Option<(Ticket, u32)> {
        self.queues[self.next_queue()?].waiting.front().copied()
    }

    /// Takes the next one out, to be served.
    pub fn take(&mut self) -> Option<Ticket> {
        let next = self.next_queue()?;
        let queue = &mut self.queues[next];
        let (ticket, width) = queue.waiting.pop_front()?;
        self.served = queue.served;
        queue.served += u64::from(width);
        self.places.remove(&ticket);
        Some(ticket)
    }

    /// Takes one out that will not be served. False: it is not here any more.
    pub fn leave(&mut self, ticket: Ticket) -> bool {
        let Some(index) = self.places.remove(&ticket) else { return false };
        self.queues[index].waiting.retain(|(one, _)| *one != ticket);
        true
    }
}

/// The queues that a flow may use: as from a shuffled deck, without putting back, and always the same for one flow.
fn deal(flow: u64, queues: usize, hand: usize) -> Vec<usize> {
    let mut rest = flow;
    let mut dealt: Vec<usize> = Vec::new();
    let mut sorted: Vec<usize> = Vec::new();
    for taken in 0..hand.clamp(1, queues) {
        let left = (queues - taken) as u64;
        let mut card = (rest % left) as usize;
        rest /= left;
        // The card of that number among those that are left.
        for used in &sorted {
            card += usize::from(*used <= card);
        }
        dealt.push(card);
        sorted.insert(sorted.partition_point(|used| *used < card), card);
    }
    dealt
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { queues: 64, hand: 6, length: 50 };

    fn enter_all(queues: &mut Queues, flow: u64, tickets: std::ops::Range<Ticket>) -> usize {
        tickets.filter(|ticket| queues.enter(flow, 1, *ticket)).count()
    }

    #[test]
    fn a_hand_is_always_the_same_and_has_no_queue_twice() {
        for flow in [0, 1, 77, u64::MAX, 0x9e37_79b9_7f4a_7c15] {
            let hand = deal(flow, 64, 6);
            assert_eq!(hand, deal(flow, 64, 6));
            let distinct: std::collections::BTreeSet<_> = hand.iter().collect();
            assert!(distinct.len() == 6 && hand.iter().all(|card| *card < 64), "{hand:?}");
        }
        assert_ne!(deal(1, 64, 6), deal(2, 64, 6));
        assert_eq!(deal(9, 3, 8).len(), 3);
        assert_eq!(deal(5, 3, 3), [2, 1, 0]);
    }

    #[test]
    fn a_flood_fills_its_hand_and_no_more() {
        let mut queues = Queues::of(SHAPE);
        assert_eq!(enter_all(&mut queues, 7, 0..1000), 6 * 50);
        assert!(queues.enter(8, 1, 1000), "another flow has another hand");
    }

    #[test]
    fn two_flows_take_turns_however_many_wait() {
        let mut queues = Queues::of(Shape { hand: 1, length: 1000, ..SHAPE });
        let (greedy, modest) = (3, 4);
        enter_all(&mut queues, greedy, 0..500);
        assert!((0..100).all(|_| queues.take().is_some()));
        enter_all(&mut queues, modest, 1000..1010);
        let next: Vec<Ticket> = (0..20).filter_map(|_| queues.take()).collect();
        let of_modest = next.iter().filter(|ticket| **ticket >= 1000).count();
        assert_eq!(of_modest, 10, "{next:?}");
        assert!(next[..3].iter().any(|ticket| *ticket >= 1000), "its first is next: {next:?}");
    }

    #[test]
    fn service_is_counted_by_width() {
        let mut queues = Queues::of(Shape { hand: 1, ..SHAPE });
        (0..20).for_each(|n| assert!(queues.enter(3, 10, n)));
        (100..120).for_each(|n| assert!(queues.enter(4, 1, n)));
        let next: Vec<Ticket> = (0..12).filter_map(|_| queues.take()).collect();
        assert_eq!(next.iter().filter(|ticket| **ticket < 100).count(), 2, "{next:?}");
    }

    #[test]
    fn idling_saves_no_turns() {
        let mut queues = Queues::of(Shape { hand: 1, ..SHAPE });
        for n in 0..40 {
            assert!(queues.enter(3, 1, n) && queues.take() == Some(n));
        }
        (100..110).for_each(|n| assert!(queues.enter(3, 1, n)));
        (200..210).for_each(|n| assert!(queues.enter(4, 1, n)));
        let next: Vec<Ticket> = (0..6).filter_map(|_| queues.take()).collect();
        assert_eq!(next.iter().filter(|ticket| **ticket >= 200).count(), 3, "{next:?}");
    }

    #[test]
    fn who_leaves_is_not_served() {
        let mut queues = Queues::of(SHAPE);
        enter_all(&mut queues, 1, 0..3);
        assert!(queues.leave(1) && !queues.leave(1));
        let mut rest = [queues.take(), queues.take()];
        rest.sort();
        assert_eq!(rest, [Some(0), Some(2)]);
        assert!(queues.is_empty() && queues.first().is_none() && queues.take().is_none());
    }

    #[test]
    fn another_shape_loses_nobody() {
        let mut queues = Queues::of(SHAPE);
        (0..200).for_each(|n| assert!(queues.enter(n, 1, n)));
        queues.reshape(Shape { queues: 2, hand: 1, length: 1 });
        assert!(!queues.enter(0, 1, 500), "new ones find the new bound");
        let mut all: Vec<Ticket> = std::iter::from_fn(|| queues.take()).collect();
        all.sort_unstable();
        assert_eq!(all, (0..200).collect::<Vec<_>>());
    }
}
