use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::bucket::{DRAIN, FREE, FULL, LONGEST_SPACING, PATIENCE};
use super::places::PERIOD;
use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn address(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number))
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What one bucket lets through in any window of that length: what is free, what raises it to the full
/// spacing, what drains meanwhile and is filled again on either way, and a slot every five seconds.
fn most(window: Duration) -> usize {
    let seconds = window.as_secs_f64();
    let drained = (seconds / DRAIN.as_secs_f64()).ceil();
    let slots = (seconds / LONGEST_SPACING.as_secs_f64()).ceil();
    2 * FREE as usize + 2 * drained as usize + slots as usize + 1
}

/// The most that were let through in any minute.
fn busiest_minute(through: &[Duration]) -> usize {
    let mut start = 0;
    let mut most = 0;
    for (end, at) in through.iter().enumerate() {
        while at.saturating_sub(through[start]) >= MINUTE {
            start += 1;
        }
        most = most.max(end + 1 - start);
    }
    most
}

/// Attackers who try as fast as they may, and ask again all the time when they may not. Those who wait for
/// their slot fail when it comes.
struct Attack {
    throttle: Throttle,
    /// When, and who does what: asks (false) or fails (true).
    events: BinaryHeap<Reverse<(Duration, usize, bool)>>,
    attackers: Vec<(String, IpAddr)>,
    every: Duration,
    through: Vec<Duration>,
    asked: usize,
}

impl Attack {
    fn new(attackers: Vec<(String, IpAddr)>, every: Duration) -> Self {
        let apart = every / attackers.len() as u32;
        let events = (0..attackers.len()).map(|i| Reverse((apart * i as u32, i, false)));
        Self {
            throttle: Throttle::default(),
            events: events.collect(),
            attackers,
            every,
            through: Vec::new(),
            asked: 0,
        }
    }

    fn run(&mut self, until: Duration) {
        while let Some(Reverse((now, who, fails))) = self.events.pop() {
            if now > until {
                self.events.push(Reverse((now, who, fails)));
                return;
            }
            let (name, from) = &self.attackers[who];
            if fails {
                self.through.push(now);
                self.throttle.failed(name, *from, now);
                self.events.push(Reverse((now + ms(1), who, false)));
                continue;
            }
            self.asked += 1;
            let next = match self.throttle.ask(name, *from, now) {
                Admission::Now => (now, who, true),
                Admission::Wait(wait) => (now + wait, who, true),
                Admission::Refused { .. } => (now + self.every, who, false),
            };
            self.events.push(Reverse(next));
        }
    }
}

fn waits(admission: Admission) -> Duration {
    match admission {
        Admission::Now => Duration::ZERO,
        Admission::Wait(wait) => wait,
        Admission::Refused { .. } => panic!("refused"),
    }
}

#[test]
fn a_few_failures_are_free_then_slots_are_ever_further_apart() {
    let mut throttle = Throttle::default();
    let mut now = SECOND;
    let mut waited = Vec::new();
    for _ in 0..14 {
        let wait = waits(throttle.ask("alice", address(1), now));
        waited.push(wait.as_millis());
        now += wait;
        throttle.failed("alice", address(1), now);
    }
    assert_eq!(
        waited,
        [
            0, 0, 0, 0, 0, 0, 250, 500, 1000, 2000, 4000, 5000, 5000, 5000
        ]
    );
    // And all is as if nothing had been, minutes later.
    now += DRAIN * FULL;
    for _ in 0..=FREE {
        assert_eq!(throttle.ask("alice", address(1), now), Admission::Now);
        throttle.failed("alice", address(1), now);
    }
}

#[test]
fn many_at_once_get_slots_one_after_the_other_and_the_rest_is_told_when_to_come() {
    let mut throttle = Throttle::default();
    for _ in 0..FREE {
        throttle.failed("alice", address(1), SECOND);
    }
    let (mut slots, mut refused) = (Vec::new(), 0);
    for _ in 0..1000 {
        match throttle.ask("alice", address(1), SECOND) {
            Admission::Refused { retry_after } => {
                assert!(retry_after > Duration::ZERO && retry_after <= LONGEST_SPACING);
                refused += 1;
            }
            other => slots.push(waits(other).as_millis()),
        }
    }
    assert_eq!(slots, [0, 250, 750, 1750, 3750, 7750]);
    assert_eq!(refused, 994);
}

#[test]
fn however_many_fail_at_once_the_next_slot_is_a_few_seconds_away() {
    let mut throttle = Throttle::default();
    throttle.succeeded("alice", address(1), SECOND);
    for _ in 0..10_000 {
        throttle.failed("alice", address(1), SECOND);
    }
    let Admission::Refused { retry_after } = throttle.ask("alice", address(1), SECOND) else {
        panic!("nothing holds it");
    };
    assert!(retry_after <= LONGEST_SPACING);
    let later = throttle.ask("alice", address(1), SECOND + retry_after);
    assert!(waits(later) <= PATIENCE);
}

#[test]
fn a_success_forgives_nothing() {
    let mut throttle = Throttle::default();
    for i in 0..20 {
        throttle.failed(&format!("victim-{i}"), address(1), SECOND);
        throttle.succeeded("mallory", address(1), SECOND);
    }
    let first = throttle.ask("victim", address(1), SECOND);
    let second = throttle.ask("victim", address(1), SECOND);
    assert!(first == Admission::Now && second == Admission::Wait(LONGEST_SPACING));
}

#[test]
fn names_are_one_whatever_their_case_and_addresses_whatever_their_lower_half() {
    let parse = |text: &str| Place::of(text.parse().unwrap());
    assert_eq!(parse("2001:db8::1"), parse("2001:db8::ffff:0:0:1"));
    assert_ne!(parse("2001:db8::1"), parse("2001:db8:0:1::1"));
    assert_eq!(parse("::ffff:10.0.0.1"), parse("10.0.0.1"));
    assert_eq!(folded("ALICE"), folded("alice"));
    assert!(folded(&"x".repeat(1_000_000)).len() <= 4 * MAX_NAME);
    let mut throttle = Throttle::default();
    throttle.failed("hunter2", address(1), SECOND);
    assert!(!format!("{throttle:?}").contains("hunter2"));
}

#[test]
fn a_hundred_thousand_tries_at_fifty_names_from_one_address_are_a_few_a_minute() {
    let attackers = (0..50).map(|i| (format!("user-{i}"), address(1))).collect();
    let mut attack = Attack::new(attackers, ms(500));
    while attack.asked < 100_000 {
        let until = attack.through.last().copied().unwrap_or_default() + MINUTE;
        attack.run(until);
    }
    let lasted = *attack.through.last().unwrap();
    assert!(attack.through.len() <= most(lasted));
    assert!(busiest_minute(&attack.through) <= most(MINUTE));
    // It goes on at that pace all the same: nobody is locked out.
    assert!(attack.through.len() as f64 >= lasted.as_secs_f64() / 5.0 - 2.0);
    // Others are not concerned, at these names neither.
    let elsewhere = attack.throttle.ask("user-7", address(2), lasted);
    assert_eq!(elsewhere, Admission::Now);
}

/// 5,000 addresses at one name, each asking every five seconds.
fn many_addresses_at_alice() -> Attack {
    let attackers = (0..5000)
        .map(|i| ("alice".to_owned(), address(i)))
        .collect();
    Attack::new(attackers, Duration::from_secs(5))
}

#[test]
fn one_name_from_many_addresses_is_tried_once_from_each_and_then_a_few_times_a_minute() {
    let mut attack = many_addresses_at_alice();
    let mut passed = MINUTE;
    attack.run(passed);
    assert!(attack.through.len() <= 5000 + most(passed));
    let once = attack.through.len();
    while passed < MINUTE * 6 {
        passed += MINUTE;
        attack.run(passed);
    }
    assert!(busiest_minute(&attack.through[once..]) <= most(MINUTE));
    assert!(attack.through.len() - once <= most(MINUTE * 5));
    assert!(attack.asked > 300_000);
    assert!(attack.throttle.entries().1 <= MAX_ENTRIES);
}

#[test]
fn the_real_alice_gets_in_while_many_addresses_try_her_name() {
    let mut attack = many_addresses_at_alice();
    let (home, hotel) = (address(1_000_000), address(2_000_000));
    attack.throttle.succeeded("alice", home, Duration::ZERO);
    for minute in 1..=6 {
        let now = MINUTE * minute;
        attack.run(now);
        // From where she was before: without a wait, also after a typing error.
        assert_eq!(attack.throttle.ask("Alice", home, now), Admission::Now);
        if minute == 3 {
            attack.throttle.failed("alice", home, now);
        }
        // From anywhere else: at the first try.
        let elsewhere = address(2_000_000 + minute);
        assert_eq!(attack.throttle.ask("alice", elsewhere, now), Admission::Now);
    }
    // When she mistypes there, she shares with the attackers what the name has to give; as soon as they let
    // go for a moment she is in, and in any case when her error is forgotten.
    let now = MINUTE * 6;
    attack.throttle.failed("alice", hotel, now);
    let mut tries = 1;
    let mut at = now;
    while let Admission::Refused { retry_after } = attack.throttle.ask("alice", hotel, at) {
        at += retry_after;
        tries += 1;
    }
    assert!(tries <= 2, "{tries}");
    attack.throttle.failed("alice", hotel, at);
    let end = at + PERIOD * 2;
    attack.every = MINUTE;
    attack.run(end);
    assert_eq!(attack.throttle.ask("alice", hotel, end), Admission::Now);
}

#[test]
fn more_addresses_than_can_be_remembered_count_as_failing() {
    let mut throttle = Throttle::default();
    for i in 0..MAX_SPENT as u32 + 1000 {
        throttle.failed("alice", address(i), SECOND);
    }
    let fresh = |i: u32| address(1_000_000 + i);
    assert_eq!(throttle.ask("alice", fresh(0), SECOND), Admission::Now);
    assert_eq!(
        throttle.ask("alice", fresh(1), SECOND),
        Admission::Wait(LONGEST_SPACING)
    );
    // Not for longer than they are remembered.
    let later = SECOND + PERIOD;
    for _ in 0..FULL {
        throttle.failed("alice", address(1), later);
    }
    for i in 2..12 {
        assert_eq!(throttle.ask("alice", fresh(i), later), Admission::Now);
    }
}

/// A name that has nothing free to give any more.
fn alice_under_attack() -> Throttle {
    let mut throttle = Throttle::default();
    for i in 0..FULL {
        throttle.failed("alice", address(i), SECOND);
    }
    while throttle.ask("alice", address(0), SECOND) == Admission::Now {}
    throttle
}

#[test]
fn a_free_attempt_is_one_also_when_many_are_made_at_once() {
    let mut throttle = alice_under_attack();
    let admitted = (0..100)
        .filter(|_| throttle.ask("alice", address(99), SECOND) == Admission::Now)
        .count();
    assert_eq!(admitted, 1);
}

#[test]
fn a_free_attempt_is_kept_by_those_who_are_right_or_were_not_looked_at() {
    let fresh = address(99);
    let mut throttle = alice_under_attack();
    for _ in 0..10 {
        assert_eq!(throttle.ask("alice", fresh, SECOND), Admission::Now);
        throttle.withdrawn("alice", fresh);
    }
    // A colleague at the same address.
    assert_eq!(throttle.ask("bob", fresh, SECOND), Admission::Now);
    throttle.succeeded("bob", fresh, SECOND);
    assert_eq!(throttle.ask("alice", fresh, SECOND), Admission::Now);
    throttle.failed("alice", fresh, SECOND);
    // A success does not make up for a failure.
    throttle.succeeded("bob", fresh, SECOND);
    assert_ne!(throttle.ask("alice", fresh, SECOND), Admission::Now);
}

#[test]
fn nobody_is_flooded_out_of_memory_to_be_tried_anew() {
    let mut throttle = Throttle::default();
    for _ in 0..FULL {
        throttle.failed("alice", address(1), SECOND);
    }
    for i in 0..MAX_ENTRIES as u32 + 500 {
        throttle.failed(&format!("other-{i}"), address(2 + i), SECOND);
    }
    assert_eq!(throttle.entries(), (MAX_ENTRIES, MAX_ENTRIES));
    assert!(throttle.names.get("alice").unwrap().fill(SECOND) == FULL);
}

#[test]
fn nobody_is_flooded_out_by_turns_either() {
    let mut throttle = Throttle::default();
    for i in 0..MAX_ENTRIES as u32 {
        for _ in 0..2 {
            throttle.failed(&format!("other-{i}"), address(i), SECOND);
        }
    }
    // Each failure alone would be the emptiest, and the first to go for the next.
    for i in 0..=FREE {
        throttle.failed("bob", address(3), SECOND);
        throttle.failed(&format!("more-{i}"), address(4), SECOND);
    }
    assert!(throttle.names.get("bob").unwrap().fill(SECOND) > FREE);
}

#[test]
fn what_drained_makes_room_first() {
    let mut throttle = Throttle::default();
    for i in 0..MAX_ENTRIES as u32 {
        throttle.failed(&format!("old-{i}"), address(i), SECOND);
    }
    let later = SECOND + DRAIN;
    throttle.failed("new", address(0), later);
    assert_eq!(throttle.names.len(), 1);
    assert_eq!(throttle.names.get("new").unwrap().fill(later), 1);
}

#[test]
fn one_users_many_places_push_out_no_others() {
    let mut throttle = Throttle::default();
    throttle.succeeded("alice", address(1), SECOND);
    for i in 0..100_000 {
        throttle.succeeded("mallory", address(i), SECOND);
    }
    assert!(throttle.known.contains("alice", Place::of(address(1))));
    assert!(!throttle.known.contains("mallory", Place::of(address(1))));
    assert!(
        throttle
            .known
            .contains("mallory", Place::of(address(99_999)))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_comes_memory_and_waits_are_bounded_and_slots_are_apart(
        steps in prop::collection::vec((0..60_u16, 0..40_u32, 0..3_u8, 0..3000_u64), 1..2000),
    ) {
        let mut throttle = Throttle::default();
        let mut now = Duration::ZERO;
        // By address: those under way, and when each was let through.
        let mut through = vec![Vec::new(); 40];
        for (name, from, what, passed) in steps {
            now += ms(passed / 10);
            let (name, place) = (format!("n{name}"), address(from));
            match throttle.ask(&name, place, now) {
                Admission::Refused { retry_after } => {
                    prop_assert!(retry_after > Duration::ZERO && retry_after <= LONGEST_SPACING);
                    continue;
                }
                Admission::Now => through[from as usize].push(now),
                Admission::Wait(wait) => {
                    prop_assert!(wait > Duration::ZERO && wait <= PATIENCE);
                    through[from as usize].push(now + wait);
                }
            }
            // Mostly they fail at once; some go away and are never heard of.
            match what {
                0 if throttle.addresses.get(&Place::of(place)).is_some_and(|b| b.fill(now) >= FREE) => {}
                _ => throttle.failed(&name, place, now),
            }
        }
        for mut times in through {
            times.sort();
            prop_assert!(busiest_minute(&times) <= most(MINUTE), "{:?}", times);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2))]

    #[test]
    fn whoever_fails_nothing_grows_without_end(
        names in prop::collection::vec((any::<u16>(), any::<u32>(), 0..2000_u64), 5000..12_000),
    ) {
        let mut throttle = Throttle::default();
        let mut now = Duration::ZERO;
        for (name, from, passed) in names {
            now += ms(passed / 100);
            throttle.failed(&format!("n{name}"), address(from & 0x00ff_ffff), now);
            let (names, addresses) = throttle.entries();
            prop_assert!(names <= MAX_ENTRIES && addresses <= MAX_ENTRIES);
        }
    }
}
