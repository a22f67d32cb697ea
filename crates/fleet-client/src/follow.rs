//! Following a site: every change after a revision, in order, without a gap.
//!
//! The changes come as a stream of numbered pages from one agent. When a number is missing, when the
//! agent falls silent, or when its stream ends (which it does every half minute), the next stream is
//! asked for from the last page's cursor. So nothing is lost whatever happens in between; a thing
//! that changed several times meanwhile is told once, with its newest record.

use std::{collections::VecDeque, time::Duration};

use fleet_protocol::{
    ChangesPage, ChangesRequest, ChangesTarget, ErrorCode, HeaderName, Noun,
    changes::{ChangeBody, Cursor, PageKind, parse_after},
    limits::PAGE_ITEMS_MAX,
    reply,
};
use fleet_state::Revision;
use tokio::time::{Instant, timeout};

use crate::{
    Client, ClientError, is_code,
    transport::{Answers, Next, Sent},
};

/// How long one stream is asked for.
const STREAM_LIFE: &str = "30s";
/// An agent tells that it is there every second; after three it is given up.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// Pause before a stream is asked for again after a failure.
const PAUSE: Duration = Duration::from_millis(200);

/// Which changes are followed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Followed {
    /// Only of this noun.
    pub noun: Option<Noun>,
    /// Only in this area.
    pub area: Option<fleet_protocol::Area>,
}

/// What a follower hears.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    /// Something changed.
    Change(ChangeBody),
    /// The site has forgotten what happened since; everything that is there is told anew.
    StartedOver,
    /// No agent is heard; it is being tried again.
    Waiting(String),
    /// Agents are heard again.
    Back,
}

/// Follows a site's changes.
#[derive(Debug)]
pub struct Follower {
    client: Client,
    what: Followed,
    cursor: Cursor,
    stream: Option<Stream>,
    queue: VecDeque<News>,
    /// Since when nobody was heard; the follower gives up after its patience.
    silent_since: Option<Instant>,
}

#[derive(Debug)]
struct Stream {
    pages: Answers,
    tape: Tape,
}

/// The numbers of a stream's pages.
#[derive(Debug, Default)]
struct Tape {
    last: u64,
}

impl Tape {
    /// Takes the next page: whether more follow it, or `None` when one before it is missing.
    fn take(&mut self, page: &ChangesPage) -> Option<bool> {
        if page.sequence != self.last.saturating_add(1) {
            return None;
        }
        self.last = page.sequence;
        Some(page.kind != PageKind::End.as_str())
    }
}

/// Where to go on after a page.
fn cursor_after(page: &ChangesPage) -> Cursor {
    // An `after` of a noun that this client does not know leads back to the start of its revision: its
    // changes are told again rather than missed.
    let after = page.after.as_deref().map(parse_after);
    let revision = match after {
        Some(Err(_)) => page.revision.saturating_sub(1),
        Some(Ok(_)) | None => page.revision,
    };
    Cursor { revision: Revision::new(revision), after: after.and_then(Result::ok) }
}

impl Client {
    /// Follows all changes after a revision.
    #[must_use]
    pub fn follow(&self, since: Revision, what: Followed) -> Follower {
        Follower {
            client: self.clone(),
            what,
            cursor: Cursor { revision: since, after: None },
            stream: None,
            queue: VecDeque::new(),
            silent_since: None,
        }
    }
}

impl Follower {
    /// The revision up to which everything was told.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.cursor.revision
    }

    /// The next thing to know. Waits for as long as nothing happens.
    ///
    /// # Errors
    /// When following makes no sense any more: it is forbidden, or the connection is closed.
    pub async fn next(&mut self) -> Result<News, ClientError> {
        loop {
            if let Some(news) = self.queue.pop_front() {
                return Ok(news);
            }
            let stream = match self.stream.take() {
                Some(stream) => stream,
                None => match self.open().await {
                    Ok(stream) => stream,
                    Err(ClientError::Unavailable(why)) => {
                        self.silent(&why);
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    }
                    Err(error) => return Err(error),
                },
            };
            self.listen(stream).await?;
        }
    }

    async fn open(&self) -> Result<Stream, ClientError> {
        let target = ChangesTarget {
            since: self.cursor.revision,
            noun: self.what.noun,
            area: self.what.area.clone(),
        };
        let after = self.cursor.after.clone();
        let request = ChangesRequest { target, after, limit: PAGE_ITEMS_MAX, stream: true };
        let subject = self.client.subjects.changes(&request.target);
        let headers = vec![(HeaderName::Timeout.as_str(), STREAM_LIFE.to_owned())];
        let sent = Sent { headers, payload: request.to_payload().into() };
        let pages = self.client.connection.ask_for_many(&subject, sent).await?;
        Ok(Stream { pages, tape: Tape::default() })
    }

    /// Takes one page from a stream and keeps the stream if it is whole.
    async fn listen(&mut self, mut stream: Stream) -> Result<(), ClientError> {
        let Ok(next) = timeout(SILENCE_MAX, stream.pages.next()).await else {
            let subject = self.client.subjects.changes(&ChangesTarget {
                since: self.cursor.revision,
                noun: self.what.noun,
                area: self.what.area.clone(),
            });
            if let Some(subject) = self.client.connection.denied(&subject) {
                return Err(ClientError::Denied { subject });
            }
            self.silent("no agent answers");
            return Ok(());
        };
        let payload = match next {
            Next::Heard(payload) => payload,
            Next::NobodyThere => {
                self.silent("no agent of the site takes requests");
                tokio::time::sleep(PAUSE).await;
                return Ok(());
            }
            Next::Ended => {
                self.silent("the connection was closed");
                tokio::time::sleep(PAUSE).await;
                return Ok(());
            }
        };
        match reply::read::<ChangesPage>(&payload)? {
            Ok(page) => self.take(stream, page),
            Err(failed) if is_code(&failed, ErrorCode::Compacted) => {
                self.cursor = Cursor { revision: Revision::NONE, after: None };
                self.queue.push_back(News::StartedOver);
            }
            Err(failed) if failed.error.retryable => {
                self.silent(&failed.error.message);
                tokio::time::sleep(PAUSE).await;
            }
            Err(failed) => return Err(ClientError::Failed(failed)),
        }
        Ok(())
    }

    fn take(&mut self, mut stream: Stream, page: ChangesPage) {
        let Some(goes_on) = stream.tape.take(&page) else {
            // A page was lost on its way; the next stream begins where the last whole page ended.
            return;
        };
        if self.silent_since.take().is_some() {
            self.queue.push_back(News::Back);
        }
        self.cursor = cursor_after(&page);
        self.queue.extend(page.changes.into_iter().map(News::Change));
        self.stream = goes_on.then_some(stream);
    }

    fn silent(&mut self, why: &str) {
        if self.silent_since.is_none() {
            self.silent_since = Some(Instant::now());
            self.queue.push_back(News::Waiting(why.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(sequence: u64, kind: PageKind, revision: u64, after: Option<&str>) -> ChangesPage {
        ChangesPage {
            kind: kind.to_string(),
            sequence,
            changes: Vec::new(),
            revision,
            after: after.map(str::to_owned),
            more: false,
        }
    }

    #[test]
    fn a_missing_page_is_noticed() {
        let mut tape = Tape::default();
        assert_eq!(tape.take(&page(1, PageKind::Page, 5, None)), Some(true));
        assert_eq!(tape.take(&page(2, PageKind::Page, 6, None)), Some(true));
        assert_eq!(tape.take(&page(4, PageKind::Page, 9, None)), None);
        assert_eq!(tape.take(&page(2, PageKind::Page, 6, None)), None);
        assert_eq!(tape.take(&page(3, PageKind::End, 7, None)), Some(false));
        assert_eq!(Tape::default().take(&page(2, PageKind::Page, 5, None)), None);
    }

    #[test]
    fn the_next_stream_begins_where_the_last_page_ended() {
        let at = |revision, after| cursor_after(&page(1, PageKind::Page, revision, after));
        assert_eq!(at(7, None), Cursor { revision: Revision::new(7), after: None });
        let within = at(7, Some("device.hall2.lamp-1"));
        assert_eq!(within.revision, Revision::new(7));
        assert!(within.after.is_some());
        let newer = at(7, Some("alarm.hall2.x"));
        assert_eq!(newer, Cursor { revision: Revision::new(6), after: None });
    }
}
