//! Questions that wait for a device's word.
//!
//! A question is a message (`…/get`), and its answer is a report that comes afterwards: there is
//! nothing in MQTT that ties one to the other. So a question counts as answered when fresh
//! reports have spoken of everything that was asked for. Where a bridge repeats what it was told
//! before the device has answered (`optimistic`), the question waits for that echo first, or for
//! [`ECHO_WITHIN`]; else the echo of a write would be taken for the device's word.

use std::collections::BTreeMap;
use std::time::Duration;

use fleet_state::{DeviceId, Object};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::device::connector::{Quality, ReadError, ReadErrorKind, Reading};

use super::super::wiring::{Outgoing, Question};

/// How long after a write a bridge's echo is expected.
const ECHO_WITHIN: Duration = Duration::from_millis(800);
/// How long after a write a report of an optimistic device may be its echo.
const ECHO_UNTIL: Duration = Duration::from_secs(3);
/// Time that is kept for the answer's way to whoever asked.
const MARGIN: Duration = Duration::from_millis(20);
/// Questions at a time.
const QUESTIONS_MAX: usize = 4_096;

/// The questions of a link, and what was written that may echo.
#[derive(Default)]
pub(super) struct Readings {
    waiting: Vec<Waiting>,
    written: BTreeMap<DeviceId, Written>,
}

struct Written {
    at: Instant,
    echoed: bool,
}

struct Waiting {
    device: DeviceId,
    question: Question,
    /// When it is asked at the latest; `None`: it has been.
    ask_at: Option<Instant>,
    until: Instant,
    values: Object,
    answer: oneshot::Sender<Result<Reading, ReadError>>,
}

impl Readings {
    /// A write to an optimistic device has left.
    pub(super) fn written(&mut self, device: &DeviceId, now: Instant) {
        self.written.insert(device.clone(), Written { at: now, echoed: false });
    }

    /// Takes a question that was `asked` now and until a deadline; gives the messages that are to
    /// be sent now.
    pub(super) fn ask(
        &mut self,
        device: DeviceId,
        question: Question,
        asked: (Instant, Instant),
        answer: oneshot::Sender<Result<Reading, ReadError>>,
    ) -> Vec<Outgoing> {
        if self.waiting.len() >= QUESTIONS_MAX {
            let message = format!("{QUESTIONS_MAX} questions are waiting on this link already");
            let _gave_up = answer.send(Err(ReadError { kind: ReadErrorKind::NotAsked, message }));
            return Vec::new();
        }
        let (now, deadline) = asked;
        let echo = self.written.get(&device).filter(|written| !written.echoed);
        let ask_at = echo.map(|written| written.at + ECHO_WITHIN).filter(|at| *at > now);
        let messages = if ask_at.is_none() { question.messages.clone() } else { Vec::new() };
        let until = deadline.checked_sub(MARGIN).unwrap_or(deadline);
        let values = Object::new();
        self.waiting.push(Waiting { device, question, ask_at, until, values, answer });
        messages
    }

    /// A fresh report came. Gives how far it can be trusted, and messages to be sent now.
    pub(super) fn heard(
        &mut self,
        device: &DeviceId,
        values: &Object,
        now: Instant,
    ) -> (Quality, Vec<Outgoing>) {
        let mut messages = Vec::new();
        let mut answers = false;
        for waiting in self.waiting.iter_mut().filter(|waiting| waiting.device == *device) {
            if waiting.ask_at.take().is_some() {
                messages.extend(waiting.question.messages.iter().cloned());
                continue;
            }
            for (name, value) in values.iter() {
                if waiting.question.wanted.contains(name) {
                    waiting.values.insert(name.clone(), value.clone());
                    answers = true;
                }
            }
        }
        self.finish(|waiting| waiting.is_complete());
        let echo = self.written.get_mut(device).is_some_and(|written| {
            written.echoed = true;
            now.saturating_duration_since(written.at) < ECHO_UNTIL
        });
        let quality = if echo && !answers { Quality::Uncertain } else { Quality::Good };
        (quality, messages)
    }

    /// When something is due, if anything is.
    pub(super) fn due(&self) -> Option<Instant> {
        self.waiting.iter().map(|waiting| waiting.ask_at.unwrap_or(waiting.until)).min()
    }

    /// Does what is due; gives messages to be sent now.
    pub(super) fn tick(&mut self, now: Instant) -> Vec<Outgoing> {
        let mut messages = Vec::new();
        for waiting in &mut self.waiting {
            if waiting.ask_at.is_some_and(|at| at <= now) {
                waiting.ask_at = None;
                messages.extend(waiting.question.messages.iter().cloned());
            }
        }
        self.finish(|waiting| waiting.until <= now || waiting.answer.is_closed());
        self.written.retain(|_, written| now.saturating_duration_since(written.at) < ECHO_UNTIL);
        messages
    }

    /// Answers and forgets those that are finished.
    fn finish(&mut self, finished: impl Fn(&Waiting) -> bool) {
        let mut place = 0;
        while let Some(waiting) = self.waiting.get(place) {
            if finished(waiting) {
                self.waiting.swap_remove(place).end();
            } else {
                place += 1;
            }
        }
    }
}

impl Waiting {
    fn is_complete(&self) -> bool {
        self.values.len() == self.question.wanted.len()
    }

    /// Answers with what came, which may be a part of what was asked for.
    fn end(self) {
        let result = if self.values.is_empty() {
            let message = "the device has not answered".to_owned();
            Err(ReadError { kind: ReadErrorKind::Timeout, message })
        } else {
            Ok(Reading {
                values: self.values,
                quality: Quality::Good,
                source_ms: None,
                problem: None,
                complete: true,
            })
        };
        let _gave_up = self.answer.send(result);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::model::tests::object;
    use super::*;

    fn question() -> Question {
        let message =
            Outgoing { topic: "get".to_owned(), payload: String::new(), acknowledged: false };
        Question { wanted: ["state".into()].into(), messages: vec![message] }
    }

    type Answer = oneshot::Receiver<Result<Reading, ReadError>>;

    fn ask(readings: &mut Readings, now: Instant) -> (usize, Answer) {
        let (answer, answered) = oneshot::channel();
        let asked = (now, now + Duration::from_secs(5));
        let sent = readings.ask("lamp".parse().unwrap(), question(), asked, answer);
        (sent.len(), answered)
    }

    #[test]
    fn a_question_is_answered_by_what_comes_after_it() {
        let (mut readings, now) = (Readings::default(), Instant::now());
        let lamp = "lamp".parse().unwrap();
        let (sent, mut answered) = ask(&mut readings, now);
        assert_eq!(sent, 1);
        let other = object(r#"{"linkquality": 3}"#);
        assert_eq!(readings.heard(&lamp, &other, now).0, Quality::Good);
        assert!(answered.try_recv().is_err());
        let told = object(r#"{"linkquality": 3, "state": true}"#);
        readings.heard(&lamp, &told, now);
        assert_eq!(answered.try_recv().unwrap().unwrap().values, object(r#"{"state": true}"#));
        assert_eq!(readings.due(), None);
    }

    #[test]
    fn an_echo_is_not_the_answer() {
        let (mut readings, now) = (Readings::default(), Instant::now());
        let lamp = "lamp".parse().unwrap();
        readings.written(&lamp, now);
        let (sent, mut answered) = ask(&mut readings, now);
        assert_eq!(sent, 0, "the echo is waited for");
        let told = object(r#"{"state": true}"#);
        let (quality, messages) = readings.heard(&lamp, &told, now);
        assert_eq!((quality, messages.len()), (Quality::Uncertain, 1));
        assert!(answered.try_recv().is_err());
        let (quality, _) = readings.heard(&lamp, &object(r#"{"state": false}"#), now);
        assert_eq!(quality, Quality::Good);
        assert_eq!(answered.try_recv().unwrap().unwrap().values, object(r#"{"state": false}"#));
    }

    #[test]
    fn without_an_echo_it_is_asked_all_the_same_and_ends_in_time() {
        let (mut readings, mut now) = (Readings::default(), Instant::now());
        let lamp = "lamp".parse().unwrap();
        readings.written(&lamp, now);
        let (_, mut answered) = ask(&mut readings, now);
        now += ECHO_WITHIN;
        assert_eq!(readings.tick(now).len(), 1);
        now += Duration::from_secs(5);
        assert!(readings.due().unwrap() <= now);
        assert!(readings.tick(now).is_empty());
        let error = answered.try_recv().unwrap().unwrap_err();
        assert_eq!(error.kind, ReadErrorKind::Timeout);
        // Long after the write a report is nobody's echo.
        let told = object(r#"{"state": true}"#);
        assert_eq!(readings.heard(&lamp, &told, now).0, Quality::Good);
    }
}
