#![allow(clippy::wildcard_enum_match_arm, reason = "most codes are alike here")]

use super::*;

fn message(payload: &str) -> Message {
    Message {
        subject: "x".into(),
        reply: None,
        payload: payload.to_owned().into(),
        headers: None,
        status: None,
        description: None,
        length: 0,
    }
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
            ErrorCode::Busy | ErrorCode::NoLeader => assert!(not_taken(&attempt), "{code}"),
            ErrorCode::Unknown | ErrorCode::Stopping | ErrorCode::Internal => {
                assert!(perhaps(&attempt), "{code}")
            }
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
