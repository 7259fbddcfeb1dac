//! When watchers and the pager have their turns.

use crate::Sabotage;
use crate::checks::{self, Verdict, violated};
use crate::watcher::SEEN_MAX;
use crate::world::{Message, World};

impl World {
    pub fn watch_turn(&mut self, index: usize) -> Verdict {
        let most = if self.chance.percent(5) { 120_000 } else { 6000 };
        let wait = self.chance.millis(50, most);
        self.send_in(wait, Message::Watch(index));
        if self.server.plane.is_none() {
            return Ok(());
        }
        self.say(&format!("watcher {index} reads"));
        let (head, now, restored) = (self.server.head.clone(), self.clock(), self.server.restored);
        let sabotage = if self.chance.percent(20) { self.sabotage } else { Sabotage::None };
        let (bookmarks, resumes) = (self.chance.percent(30), self.chance.percent(30));
        let (breaks, place) = (self.chance.percent(10), self.chance.below(SEEN_MAX as u64) as usize);
        let watcher = &mut self.watchers[index];
        // A new server knows nothing from before its start, and must say so; a client lists again then.
        if watcher.plan.is_none() || watcher.at < restored {
            if watcher.plan.is_some() && !watcher.is_told(&head, now) {
                let detail = format!("a watch from {} goes on in a server that begins at {restored}", watcher.at);
                return violated(&checks::RELIABLE, detail);
            }
            watcher.begin(&head, now)?;
        }
        if breaks {
            watcher.plan = Some(watcher.watch_from(&head, now, watcher.at)?);
        }
        watcher.catch_up(&head, now, sabotage)?;
        if bookmarks {
            watcher.bookmark(&head, sabotage)?;
        }
        let since_restart = watcher.seen.get(place).is_some_and(|seen| seen.revision >= restored);
        if resumes && since_restart { watcher.resume(&head, now, place, sabotage) } else { Ok(()) }
    }

    /// Reads one page; the pages of one list are minutes apart at times.
    pub fn page_turn(&mut self) -> Verdict {
        let most = if self.chance.percent(10) { 30_000 } else { 1500 };
        let wait = self.chance.millis(20, most);
        self.send_in(wait, Message::Page);
        if self.server.plane.is_none() {
            return Ok(());
        }
        self.say("a page is read");
        let (head, now) = (self.server.head.clone(), self.clock());
        let sabotage = if self.chance.percent(20) { self.sabotage } else { Sabotage::None };
        self.pager.turn(&head, now, &mut self.chance, sabotage)
    }
}
