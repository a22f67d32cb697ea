use super::*;

fn device() -> DeviceId {
    "lamp".parse().unwrap()
}

fn draft(op: LocalOp, values: &[(&str, i64)], request: &str) -> Draft {
    let value = |(property, level): &(&str, i64)| {
        (Arc::from(*property), Value::from(*level), Revision::new(3))
    };
    Draft {
        device: device(),
        op,
        values: values.iter().map(value).collect(),
        actor: None,
        request_id: request.parse().unwrap(),
        wall_ms: 9,
    }
}

fn take(book: &mut Book, draft: Draft) {
    let touched = book.drafted(draft).unwrap();
    book.put(touched);
}

fn update(book: &mut Book, values: &[(&str, i64)]) {
    let request = format!("r-{}", book.last);
    take(book, draft(LocalOp::Update, values, &request));
}

fn stop(book: &mut Book) {
    let request = format!("r-{}", book.last);
    take(book, draft(LocalOp::Stop { action: Arc::from("halt") }, &[], &request));
}

fn ends(book: &Book, number: u64) -> Vec<Option<LocalEnd>> {
    let write = book.get(number).unwrap();
    write.parts.iter().map(|part| part.end.as_ref().map(|ended| ended.end)).collect()
}

#[test]
fn the_newest_value_of_a_property_counts() {
    let mut book = Book::default();
    update(&mut book, &[("on", 1), ("level", 2)]);
    update(&mut book, &[("level", 5)]);
    let overlay = book.overlay(&device()).unwrap();
    assert_eq!(overlay.wishes["level"].value, Value::from(5_i64));
    assert_eq!((overlay.wishes["on"].number, overlay.wishes["level"].number), (1, 2));
    assert_eq!(ends(&book, 1), [None, Some(LocalEnd::Superseded)]);
    update(&mut book, &[("on", 0)]);
    assert_eq!(book.get(1).unwrap().stage, LocalStage::Superseded);
}

#[test]
fn a_stop_takes_the_place_of_values_and_a_value_that_of_a_stop() {
    let mut book = Book::default();
    update(&mut book, &[("speed", 20)]);
    stop(&mut book);
    let overlay = book.overlay(&device()).unwrap();
    assert!(overlay.wishes.is_empty() && overlay.stopped);
    assert_eq!(overlay.stop.as_ref().unwrap().number, 2);
    // Once it is on its way it is not begun again, and still holds the device.
    let sent = book.reached(2, LocalStage::Dispatching, &Arc::from("")).unwrap();
    book.put(vec![sent]);
    let overlay = book.overlay(&device()).unwrap();
    assert!(overlay.stopped && overlay.stop.is_none());
    update(&mut book, &[("speed", 5)]);
    let overlay = book.overlay(&device()).unwrap();
    assert!(!overlay.stopped && overlay.wishes.contains_key("speed"));
    assert_eq!(ends(&book, 2), [Some(LocalEnd::Superseded)]);
}

#[test]
fn only_what_came_before_the_majority_is_merged() {
    let mut book = Book::default();
    update(&mut book, &[("on", 1)]);
    assert!(book.to_merge(&device()).is_empty());
    book.returned(1);
    update(&mut book, &[("level", 1)]);
    let due: Vec<u64> = book.to_merge(&device()).iter().map(|write| write.number).collect();
    assert_eq!(due, [1]);
}

#[test]
fn what_is_kept_stands_before_that_wish_until_the_next_local_write() {
    let mut book = Book::default();
    update(&mut book, &[("level", 1)]);
    let kept = Ended { revision: Some(Revision::new(8)), ..Ended::plain(LocalEnd::Kept, 10) };
    let touched = book.ended(vec![(1, Some(Arc::from("level")), kept)]);
    book.put(touched);
    let overlay = book.overlay(&device()).unwrap();
    assert!(overlay.wishes.is_empty());
    assert_eq!(overlay.stood_down["level"], Revision::new(8));
    update(&mut book, &[("level", 2)]);
    assert!(book.overlay(&device()).unwrap().stood_down.is_empty());
}

#[test]
fn a_stop_of_a_former_process_is_never_handed_over() {
    for (stage, after) in
        [(LocalStage::Local, LocalStage::Expired), (LocalStage::Dispatching, LocalStage::Unknown)]
    {
        let mut book = Book::default();
        stop(&mut book);
        let write = LocalWrite { stage, ..book.get(1).unwrap().as_ref().clone() };
        let (mut book, ended) = Book::of(vec![write]);
        book.put(ended);
        assert_eq!(book.get(1).unwrap().stage, after);
        let overlay = book.overlay(&device()).unwrap();
        assert!(overlay.stop.is_none() && overlay.stopped, "it still holds the device");
    }
}

fn begin(number: u64, property: &str) -> Begin {
    Begin::values([(number, Arc::from(property))].into_iter())
}

#[test]
fn what_is_overtaken_does_not_begin() {
    let mut book = Book::default();
    update(&mut book, &[("speed", 20), ("light", 1)]);
    assert_eq!(book.begins(&begin(1, "speed")).unwrap()[0].stage, LocalStage::Dispatching);
    update(&mut book, &[("speed", 0)]);
    assert_eq!(book.begins(&begin(1, "speed")), None, "a newer value stands there");
    assert_eq!(book.begins(&begin(1, "light")).unwrap().len(), 1);
    // One that has begun before may be handed over again, as long as it stands.
    let sent = book.reached(2, LocalStage::Sent, &Arc::from("")).unwrap();
    book.put(vec![sent]);
    assert_eq!(book.begins(&begin(2, "speed")), Some(Vec::new()));
    stop(&mut book);
    for (number, property) in [(1, "light"), (2, "speed")] {
        assert_eq!(book.begins(&begin(number, property)), None, "a stop stands there");
    }
    // A stop begins once.
    let begun = book.begins(&Begin::stop(3)).unwrap();
    book.put(begun);
    assert_eq!(book.begins(&Begin::stop(3)), None);
    assert_eq!(book.begins(&begin(9, "speed")), None);
}

#[test]
fn a_policy_speaks_against_nobody() {
    let mut book = Book::default();
    let policy = || draft(LocalOp::OnControlLoss, &[("speed", 1), ("light", 1)], "loss");
    update(&mut book, &[("speed", 20)]);
    let touched = book.drafted(policy()).unwrap();
    let names: Vec<_> = touched[0].parts.iter().map(|part| part.property.clone()).collect();
    assert_eq!((touched.len(), names), (1, vec![Some(Arc::from("light"))]));
    stop(&mut book);
    assert_eq!(book.drafted(policy()), Err(LocalRefusal::Stands));
    assert!(book.overlay(&device()).unwrap().stopped);
}

#[test]
fn what_policies_ask_for_has_room_of_its_own() {
    let mut book = Book::default();
    let loss = |number: usize| Draft {
        device: format!("lamp{number}").parse().unwrap(),
        ..draft(LocalOp::OnControlLoss, &[("on", 0)], &format!("loss{number}"))
    };
    for number in 0..CONTROL_LOSS_OPEN_MAX {
        take(&mut book, loss(number));
    }
    let full = Err(LocalRefusal::TooMany { open_max: CONTROL_LOSS_OPEN_MAX });
    assert_eq!(book.drafted(loss(CONTROL_LOSS_OPEN_MAX)), full);
    update(&mut book, &[("on", 1)]);
}

#[test]
fn the_number_of_open_and_of_kept_writes_is_bounded() {
    let mut book = Book::default();
    for number in 0..OPEN_MAX {
        let property = format!("p{number}");
        update(&mut book, &[(&property, 1)]);
    }
    let one_more = draft(LocalOp::Update, &[("more", 1)], "more");
    assert_eq!(book.drafted(one_more), Err(LocalRefusal::TooMany { open_max: OPEN_MAX }));
    // One that takes the place of another is no more.
    for number in 0..(2 * KEPT_MAX) {
        update(&mut book, &[("p7", i64::try_from(number).unwrap())]);
    }
    assert_eq!(book.writes.len(), KEPT_MAX);
    assert_eq!(book.open().count(), OPEN_MAX);
}
