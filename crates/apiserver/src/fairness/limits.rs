//! How many requests of a level may be answered at once.
//!
//! A level's shares of all seats are its nominal limit. Of these it lends a part: what all lend is one pool, from which a level
//! takes what it needs beyond the rest that is its own, up to what it may borrow. Upstream moves these limits every ten seconds by
//! what was wanted; here a seat of the pool is decided on when it is asked for, and when one is given back while others wait, it
//! goes to the level that is served least by its nominal limit. So an idle cluster is any one user's almost whole, and levels
//! that ask again have what they are owed as soon as the requests that are being answered have ended.

/// The seats there are: Kubernetes' 400 for reads and 200 for writes.
pub const SEATS: u32 = 600;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub nominal: u32,
    /// What no other level can have.
    pub own: u32,
    /// What it may have of the pool at most.
    pub pooled: u32,
}

impl Limits {
    /// Those of a level that never waits.
    pub const EXEMPT: Limits = Limits { nominal: 0, own: u32::MAX, pooled: 0 };
}

/// What a level's configuration says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    pub is_exempt: bool,
    pub shares: u32,
    pub lendable_percent: u32,
    /// None: as much as there is.
    pub borrowing_percent: Option<u32>,
}

/// The limits of all levels, and how many seats the pool has.
pub(super) fn divide(all: &[Share]) -> (Vec<Limits>, u32) {
    let total: u64 = all.iter().map(|one| u64::from(one.shares)).sum();
    let nominal = |one: &Share| match total {
        0 => 0,
        total => (u64::from(SEATS) * u64::from(one.shares)).div_ceil(total) as u32,
    };
    let lent = |one: &Share| percent(nominal(one), one.lendable_percent).min(nominal(one));
    let pool: u32 = all.iter().map(lent).sum();
    let limits = all.iter().map(|one| {
        let nominal = nominal(one);
        if one.is_exempt {
            return Limits { nominal, ..Limits::EXEMPT };
        }
        let lent = lent(one);
        let borrowed = one.borrowing_percent.map_or(pool, |part| percent(nominal, part));
        Limits { nominal, own: nominal - lent, pooled: lent.saturating_add(borrowed).min(pool) }
    });
    (limits.collect(), pool)
}

fn percent(of: u32, part: u32) -> u32 {
    let rounded = (u64::from(of) * u64::from(part) + 50) / 100;
    u32::try_from(rounded).unwrap_or(u32::MAX)
}

/// How a level stands whose requests wait for a seat of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub executing: u32,
    pub nominal: u32,
}

/// Which of several levels is to have the next seat: the one that has least of what it is owed; of equals the first.
pub fn least_served(standings: impl IntoIterator<Item = (usize, Standing)>) -> Option<usize> {
    let share = |one: &Standing| u64::from(one.executing) * u64::from(SEATS) / u64::from(one.nominal.max(1));
    standings.into_iter().min_by_key(|(index, one)| (share(one), *index)).map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(shares: u32, lendable_percent: u32) -> Share {
        Share { shares, lendable_percent, ..Share::default() }
    }

    #[test]
    fn kubernetes_levels_share_the_seats() {
        let exempt = Share { is_exempt: true, ..Share::default() };
        let all = [
            exempt,
            share(5, 0),
            share(20, 50),
            share(10, 0),
            share(40, 25),
            share(30, 33),
            share(40, 50),
            share(100, 90),
        ];
        let (limits, pool) = divide(&all);
        let nominal: Vec<u32> = limits.iter().map(|one| one.nominal).collect();
        assert_eq!(nominal, [0, 13, 49, 25, 98, 74, 98, 245]);
        assert_eq!(limits[0], Limits::EXEMPT);
        assert_eq!(limits[2], Limits { nominal: 49, own: 24, pooled: pool });
        assert_eq!(pool, 25 + 25 + 24 + 49 + 221);
        assert!(limits[7].own >= 24, "what lends nearly all keeps some");
    }

    #[test]
    fn borrowing_has_its_bound() {
        let bounded = Share { borrowing_percent: Some(50), ..share(10, 20) };
        let (limits, pool) = divide(&[bounded, share(90, 50)]);
        assert_eq!(limits[0], Limits { nominal: 60, own: 48, pooled: 12 + 30 });
        assert_eq!(pool, 12 + 270);
        let (limits, pool) =
            divide(&[share(0, 0), Share { borrowing_percent: Some(i32::MAX as u32), ..share(u32::MAX, 100) }]);
        assert_eq!((limits[0], pool), (Limits { nominal: 0, own: 0, pooled: 600 }, 600));
        assert_eq!(divide(&[share(0, 50)]), (vec![Limits::default()], 0));
    }

    #[test]
    fn the_level_that_is_owed_most_is_next() {
        let of = |executing, nominal| Standing { executing, nominal };
        assert_eq!(least_served([(0, of(300, 49)), (1, of(30, 245)), (2, of(74, 74))]), Some(1));
        assert_eq!(least_served([(3, of(0, 0)), (5, of(0, 49))]), Some(3));
        assert_eq!(least_served([]), None);
    }
}
