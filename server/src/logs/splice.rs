//! Joins a stream that was opened again to what was read before, without repeating lines.

/// Lines that have to be the same for two texts to be joined there; fewer when there are no more.
const ANCHORS: [usize; 4] = [20, 8, 3, 1];
/// A single line is no proof unless it is as long as this.
const TELLING: usize = 12;

/// What of `again` follows `before`; none when they do not meet.
///
/// `before` may end within a line. Where the place is not certain (a program that writes the same line
/// over and over) the last one is taken: rather a repeated line too few than a screenful twice.
pub(super) fn after<'a>(before: &str, again: &'a str) -> Option<&'a str> {
    if before.is_empty() {
        return Some(again);
    }
    let starts: Vec<usize> = std::iter::once(0)
        .chain(before.match_indices('\n').map(|(at, _)| at + 1))
        .filter(|at| *at < before.len())
        .collect();
    for lines in ANCHORS {
        let Some(index) = starts.len().checked_sub(lines) else {
            continue;
        };
        let anchor = &before[starts[index]..];
        if lines == 1 && anchor.trim().len() < TELLING && starts.len() > 1 {
            continue;
        }
        if let Some(at) = last_at_line_start(again, anchor) {
            return Some(&again[at + anchor.len()..]);
        }
    }
    None
}

fn last_at_line_start(text: &str, anchor: &str) -> Option<usize> {
    text.rmatch_indices(anchor)
        .map(|(at, _)| at)
        .find(|at| *at == 0 || text.as_bytes()[at - 1] == b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(from: u32, to: u32) -> String {
        let lines: Vec<_> = (from..to)
            .map(|i| format!("step {i} of the training\n"))
            .collect();
        lines.concat()
    }

    #[test]
    fn what_was_read_is_not_repeated() {
        let again = format!("Job started.\n{}", lines(40, 60));
        assert_eq!(after(&lines(0, 55), &again), Some(lines(55, 60).as_str()));
        assert_eq!(after(&lines(0, 60), &again), Some(""));
    }

    #[test]
    fn half_a_line_is_completed() {
        let before = lines(0, 50) + "step 50 of";
        let rest = format!(" the training\n{}", lines(51, 53));
        assert_eq!(after(&before, &lines(30, 53)), Some(rest.as_str()));
    }

    #[test]
    fn short_overlaps_count_and_a_gap_is_told() {
        assert_eq!(
            after(&lines(0, 50), &lines(49, 52)),
            Some(lines(50, 52).as_str())
        );
        assert_eq!(after(&lines(0, 50), &lines(70, 90)), None);
        assert_eq!(after(&(lines(0, 50) + "}\n"), "{\n}\n"), None);
    }

    #[test]
    fn the_same_line_over_and_over_is_not_doubled() {
        assert_eq!(after(&"tick\n".repeat(40), &"tick\n".repeat(100)), Some(""));
    }
}
