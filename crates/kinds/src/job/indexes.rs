//! Sets of completion indexes as a Job's status writes them: `1,3-5,7`.

use std::collections::BTreeSet;

/// The numbers of a text; what is not a number is left out, as upstream reads its own status.
pub fn parse(text: &str) -> BTreeSet<i32> {
    let mut numbers = BTreeSet::new();
    for part in text.split(',') {
        match part.split_once('-') {
            Some((low, high)) => {
                if let (Ok(low), Ok(high)) = (low.parse::<i32>(), high.parse::<i32>())
                    && high.saturating_sub(low) <= INDEXES_MAX
                {
                    numbers.extend(low..=high);
                }
            }
            None => numbers.extend(part.parse::<i32>()),
        }
    }
    numbers
}

/// The most indexes that a status is read for.
const INDEXES_MAX: i32 = 1_000_000;

/// The shortest text of some numbers.
pub fn text(numbers: &BTreeSet<i32>) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut run: Option<(i32, i32)> = None;
    let show = |(low, high): (i32, i32)| match high - low {
        0 => low.to_string(),
        1 => format!("{low},{high}"),
        _ => format!("{low}-{high}"),
    };
    for number in numbers {
        run = match run {
            Some((low, high)) if high + 1 == *number => Some((low, *number)),
            Some(done) => {
                parts.push(show(done));
                Some((*number, *number))
            }
            None => Some((*number, *number)),
        };
    }
    parts.extend(run.map(show));
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_written_short_and_read_back() {
        let numbers = BTreeSet::from([1, 3, 4, 5, 7, 8]);
        assert_eq!(text(&numbers), "1,3-5,7,8");
        assert_eq!(parse("1,3-5,7,8"), numbers);
        assert_eq!(parse(""), BTreeSet::new());
    }
}
