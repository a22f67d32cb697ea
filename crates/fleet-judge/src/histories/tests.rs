//! Histories whose verdict is known.

use super::*;

const SET_A: Wanted = Wanted::Set { value: 1, expected: None };
const SET_B: Wanted = Wanted::Set { value: 2, expected: None };
const READ: Wanted = Wanted::Read;
const SAW_NOTHING: Heard = Heard::Saw(None);

fn set_if(value: u64, expected: u64) -> Wanted {
    Wanted::Set { value, expected: Some(expected) }
}

fn saw(value: u64, revision: u64) -> Heard {
    Heard::Saw(Some((value, revision)))
}

enum Is {
    Good,
    Bad,
}

/// `(true, id, wanted)` begins, `(false, ..)` ends.
fn check(name: &str, is: Is, events: &[Event]) {
    let verdict = judge(events);
    match is {
        Is::Good => assert!(verdict.is_ok(), "{name}: {verdict:?}"),
        Is::Bad => assert!(verdict.is_err(), "{name} passed"),
    }
}

fn b(id: u64, wanted: Wanted) -> Event {
    Event::Begin(id, wanted)
}

fn e(id: u64, heard: Heard) -> Event {
    Event::End(id, Some(heard))
}

#[test]
fn histories_that_can_have_happened() {
    check("nothing", Is::Good, &[]);
    let one_after_the_other = [
        b(1, SET_A),
        e(1, Heard::Done(5)),
        b(2, READ),
        e(2, saw(1, 5)),
        b(3, READ),
        e(3, saw(1, 5)),
    ];
    check("one after the other", Is::Good, &one_after_the_other);
    let overlap = [b(1, SET_A), b(2, READ), e(2, SAW_NOTHING), e(1, Heard::Done(5))];
    check("a read that overlaps a write may miss it", Is::Good, &overlap);
    let seen_early = [b(1, SET_A), b(2, READ), e(2, saw(1, 5)), e(1, Heard::Done(5))];
    check("or see it", Is::Good, &seen_early);
    let unheard = [b(1, SET_A), b(2, READ), e(2, SAW_NOTHING), b(3, READ), e(3, saw(1, 5))];
    check("what nobody heard of may happen late", Is::Good, &unheard);
    let never = [b(1, SET_A), b(2, READ), e(2, SAW_NOTHING), b(3, READ), e(3, SAW_NOTHING)];
    check("or never", Is::Good, &never);
    let based_on_unheard = [b(1, SET_A), b(2, set_if(2, 5)), e(2, Heard::Done(6))];
    check("a precondition may rest on what its client never heard", Is::Good, &based_on_unheard);
    let mismatch = [b(1, SET_A), e(1, Heard::Done(5)), b(2, set_if(2, 4)), e(2, Heard::Mismatch)];
    check("a precondition that fails", Is::Good, &mismatch);
    let deleted = [
        b(1, SET_A),
        e(1, Heard::Done(5)),
        b(2, Wanted::Delete),
        e(2, Heard::Done(6)),
        b(3, Wanted::Delete),
        e(3, Heard::NotFound),
        b(4, set_if(2, 0)),
        e(4, Heard::Done(8)),
    ];
    check("deleted and made anew", Is::Good, &deleted);
    let again = [b(1, SET_A), e(1, Heard::Done(5)), b(2, SET_A), e(2, Heard::Unchanged)];
    check("the same value again", Is::Good, &again);
}

#[test]
fn histories_that_cannot_have_happened() {
    let stale = [b(1, SET_A), e(1, Heard::Done(5)), b(2, READ), e(2, SAW_NOTHING)];
    check("a stale read", Is::Bad, &stale);
    let back = [
        b(1, SET_A),
        e(1, Heard::Done(5)),
        b(2, SET_B),
        b(3, READ),
        e(3, saw(2, 6)),
        b(4, READ),
        e(4, saw(1, 5)),
    ];
    check("a read that goes back behind another one", Is::Bad, &back);
    let lost = [
        b(1, set_if(1, 0)),
        e(1, Heard::Done(5)),
        b(2, set_if(2, 5)),
        b(3, set_if(3, 5)),
        e(2, Heard::Done(6)),
        e(3, Heard::Done(7)),
    ];
    check("two writes that both replaced the same value", Is::Bad, &lost);
    let invented = [b(1, SET_A), e(1, Heard::Done(5)), b(2, READ), e(2, saw(9, 5))];
    check("a value that nobody wrote", Is::Bad, &invented);
    let other_revision = [b(1, SET_A), e(1, Heard::Done(5)), b(2, READ), e(2, saw(1, 6))];
    check("the same write at another revision", Is::Bad, &other_revision);
    let refused = [b(1, SET_A), Event::End(1, None), b(2, READ), e(2, saw(1, 5))];
    check("what was refused took effect", Is::Bad, &refused);
    let wrong_mismatch =
        [b(1, SET_A), e(1, Heard::Done(5)), b(2, set_if(2, 5)), e(2, Heard::Mismatch)];
    check("a precondition that held was said to fail", Is::Bad, &wrong_mismatch);
    let ghost = [
        b(1, SET_A),
        e(1, Heard::Done(5)),
        b(2, Wanted::Delete),
        e(2, Heard::Done(6)),
        b(3, READ),
        e(3, saw(1, 5)),
    ];
    check("a deleted value came back", Is::Bad, &ghost);
    let twice = [
        b(1, SET_A),
        b(2, SET_B),
        e(2, Heard::Done(6)),
        b(3, READ),
        e(3, saw(1, 7)),
        b(4, SET_B),
        e(4, Heard::Done(8)),
        b(5, READ),
        e(5, saw(1, 9)),
    ];
    check("an unheard write took effect twice", Is::Bad, &twice);
}

#[test]
fn what_is_too_large_counts_as_not_judged() {
    let mut events: Vec<Event> =
        (0..30).map(|id| b(id, Wanted::Set { value: id, expected: None })).collect();
    events.push(e(0, Heard::Done(5)));
    assert_eq!(judge(&events), Ok(0));
}
