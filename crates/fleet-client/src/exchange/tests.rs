#![allow(clippy::wildcard_enum_match_arm, reason = "most codes are alike here")]

use std::{cell::RefCell, collections::VecDeque, pin::Pin};

use super::*;

/// As over NATS.
const PATIENCE: Duration = Duration::from_millis(500);

fn message(payload: &str) -> Bytes {
    payload.to_owned().into()
}

fn failed(code: ErrorCode, revision: Option<u64>) -> String {
    let revision = revision.map(|revision| format!("\"revision\":{revision},")).unwrap_or_default();
    let retryable = code.retryable();
    format!(
        "{{\"ok\":false,{revision}\"error\":{{\"code\":\"{code}\",\"message\":\"m\",\"hint\":\"h\",\"retryable\":{retryable}}}}}"
    )
}

#[test]
fn what_an_answer_says_of_its_attempt() {
    let answered = |attempt: &Attempt| matches!(attempt, Attempt::Answered(_));
    let not_taken = |attempt: &Attempt| matches!(attempt, Attempt::NotTaken(_));
    let perhaps = |attempt: &Attempt| matches!(attempt, Attempt::PerhapsTaken(_));
    assert!(answered(&classify(message("{\"ok\":true,\"revision\":1}"))));
    assert!(answered(&classify(message("not json"))));
    for code in ErrorCode::ALL {
        assert!(
            answered(&classify(message(&failed(*code, Some(7))))),
            "{code} from the log is final"
        );
        let attempt = classify(message(&failed(*code, None)));
        match code {
            ErrorCode::Busy
            | ErrorCode::NoLeader
            | ErrorCode::Unreachable
            | ErrorCode::Stopping => {
                assert!(not_taken(&attempt), "{code}")
            }
            ErrorCode::Unknown | ErrorCode::Internal => assert!(perhaps(&attempt), "{code}"),
            _ => assert!(answered(&attempt), "{code}"),
        }
    }
    let newer = "{\"ok\":false,\"error\":{\"code\":\"newer\",\"message\":\"m\",\"hint\":\"h\",\"retryable\":true}}";
    assert!(
        perhaps(&classify(message(newer))),
        "a code that is not known may mean that it was taken"
    );
}

#[test]
fn after_an_unknown_only_the_log_has_the_last_word() {
    let refused = failed(ErrorCode::Denied, None);
    assert!(final_word(refused.as_bytes(), false));
    assert!(!final_word(refused.as_bytes(), true));
    assert!(final_word(failed(ErrorCode::NotFound, Some(3)).as_bytes(), true));
    assert!(final_word(b"{\"ok\":true,\"request_id\":\"a\",\"revision\":1}", true));
}

/// What an attempt is answered with, and after how long; `None`: never.
type Script = (u64, Option<String>);

/// Plays one answer per attempt; more attempts than answers hear nothing. Gives the end, how many
/// attempts were made, and after how many milliseconds it ended.
async fn play(script: &[Script]) -> (Result<Ended, ClientError>, usize, u128) {
    play_with(Patience::even(PATIENCE), script).await
}

async fn play_with(
    patience: Patience,
    script: &[Script],
) -> (Result<Ended, ClientError>, usize, u128) {
    let script: RefCell<VecDeque<Script>> = RefCell::new(script.iter().cloned().collect());
    let made = RefCell::new(0);
    let began = Instant::now();
    let attempt = || -> Pin<Box<dyn Future<Output = Result<Attempt, ClientError>>>> {
        *made.borrow_mut() += 1;
        match script.borrow_mut().pop_front() {
            Some((after_ms, Some(payload))) => Box::pin(async move {
                after(after_ms).await;
                Ok(match payload.as_str() {
                    "nobody" => Attempt::NotTaken("nobody".to_owned()),
                    payload => classify(message(payload)),
                })
            }),
            _ => Box::pin(std::future::pending()),
        }
    };
    let ended = settle(began + Duration::from_secs(4), patience, attempt, || None).await;
    (ended, *made.borrow(), began.elapsed().as_millis())
}

/// Lets the paused clock run for so long; no real time passes.
async fn after(ms: u64) {
    let never = std::future::pending::<()>();
    let _ = tokio::time::timeout(Duration::from_millis(ms), never).await;
}

fn answer(after_ms: u64, payload: &str) -> Script {
    (after_ms, Some(payload.to_owned()))
}

const DONE: &str = "{\"ok\":true,\"request_id\":\"a\",\"revision\":1}";

#[tokio::test(start_paused = true)]
async fn the_first_answer_ends_it() {
    let (ended, made, after_ms) = play(&[answer(3, DONE)]).await;
    assert!(matches!(ended, Ok(Ended::Answered(_, 1))), "{ended:?}");
    assert_eq!((made, after_ms), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn silence_is_followed_by_another_attempt_and_a_late_answer_counts() {
    let (ended, made, after_ms) = play(&[(0, None), answer(3, DONE)]).await;
    assert!(matches!(ended, Ok(Ended::Answered(_, 2))), "{ended:?}");
    assert_eq!((made, after_ms), (2, 503));
    let (ended, made, after_ms) = play(&[answer(700, DONE)]).await;
    assert!(matches!(ended, Ok(Ended::Answered(..))), "{ended:?}");
    assert_eq!((made, after_ms), (2, 700));
}

#[tokio::test(start_paused = true)]
async fn a_silent_leader_is_given_little_time_and_the_others_as_much_as_ever() {
    let patience = Patience { first: LEADER_PATIENCE, then: PATIENCE };
    let (ended, made, after_ms) = play_with(patience, &[(0, None), answer(3, DONE)]).await;
    assert!(matches!(ended, Ok(Ended::Answered(_, 2))), "{ended:?}");
    assert_eq!((made, after_ms), (2, 203));
    let (_, made, after_ms) = play_with(patience, &[(0, None), (0, None), answer(3, DONE)]).await;
    assert_eq!((made, after_ms), (3, 703));
}

#[tokio::test(start_paused = true)]
async fn nobody_there_is_no_unknown() {
    let (ended, made, after_ms) = play(&vec![answer(1, "nobody"); 100]).await;
    assert!(matches!(ended, Ok(Ended::NotTaken(_))), "{ended:?}");
    assert!(
        (4_000..4_500).contains(&after_ms) && (5..30).contains(&made),
        "{made} in {after_ms} ms"
    );
    let busy = failed(ErrorCode::Busy, None);
    let (ended, made, _) = play(&[answer(1, &busy), answer(1, &busy), answer(1, DONE)]).await;
    assert!(matches!(ended, Ok(Ended::Answered(_, 3))), "{ended:?}");
    assert_eq!(made, 3);
}

#[tokio::test(start_paused = true)]
async fn nothing_but_the_log_ends_what_was_perhaps_taken() {
    let unknown = failed(ErrorCode::Unknown, None);
    let malformed = failed(ErrorCode::Malformed, None);
    let refusals: Vec<Script> =
        std::iter::once(answer(1, &unknown)).chain(vec![answer(1, &malformed); 100]).collect();
    let (ended, ..) = play(&refusals).await;
    assert!(matches!(ended, Ok(Ended::Unknown(_))), "{ended:?}");
    let (ended, ..) = play(&[answer(1, &unknown), answer(1, "nobody"), answer(1, DONE)]).await;
    assert!(matches!(ended, Ok(Ended::Answered(_, 3))), "{ended:?}");
    let rejected = failed(ErrorCode::NotFound, Some(9));
    let (ended, ..) = play(&[(0, None), answer(1, &rejected)]).await;
    assert!(matches!(ended, Ok(Ended::Answered(_, 2))), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn silence_to_the_end_is_unknown() {
    let (ended, made, after_ms) = play(&[]).await;
    assert!(matches!(ended, Ok(Ended::Unknown(_))), "{ended:?}");
    assert!(after_ms <= 4_250 && made <= 5, "{made} in {after_ms} ms");
    // Somebody took it once and died; then nobody is there.
    let script: Vec<Script> =
        std::iter::once((0, None)).chain(vec![answer(1, "nobody"); 100]).collect();
    let (ended, ..) = play(&script).await;
    assert!(matches!(ended, Ok(Ended::Unknown(_))), "{ended:?}");
}
