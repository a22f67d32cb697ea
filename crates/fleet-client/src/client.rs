//! The client: one site over one connection.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use fleet_protocol::{
    AdminOp, CommandTarget, Consistency, ErrorCode, Options, QueryTarget, Subjects, WaitFor,
    limits::TIMEOUT_MS_DEFAULT,
    query::{Item, Page, PageRequest},
    reply::{self, Failed},
};
use fleet_state::{RequestId, Revision, SiteName};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::{
    ClientError, ConnectConfig, Outcome, RequestIds, Unknown, connect,
    exchange::{Ended, Exchange},
    leader_way::Places,
    site,
    transport::Connection,
};

/// Why nobody can say any more what became of a request id.
const FORGOTTEN: &str = "the site no longer remembers requests as old as this one, so it may have been carried out before; look at what is there now, and send it anew with a new id if it is still wanted";

/// A site, as a client reaches it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) connection: Connection,
    pub(crate) subjects: Subjects,
    pub(crate) ids: Arc<RequestIds>,
    pub(crate) timeout: Duration,
    pub(crate) actor: Option<String>,
}

/// What a command is sent with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandOptions {
    /// The id; one is made when it is absent. Give the one of an unknown outcome to send it again.
    pub request_id: Option<RequestId>,
    /// The id above was made for this command and was never sent before. Then another one may take its
    /// place when the site finds it too old, which a clock that is far behind makes it.
    pub id_is_new: bool,
    /// Carry it out only at this revision.
    pub if_revision: Option<Revision>,
    /// How long it may take until it is handed to its device, in milliseconds.
    pub ttl_ms: Option<u64>,
    /// The stage to wait for.
    pub wait: Option<WaitFor>,
}

impl Client {
    /// Connects to a site; when none is named, to the one that answers.
    ///
    /// # Errors
    /// When no server can be reached, or when it is not clear which site is meant.
    pub async fn connect(
        config: &ConnectConfig,
        site: Option<&SiteName>,
    ) -> Result<Self, ClientError> {
        let connection = connect::connect(config).await?;
        let site = site::chosen(&connection, site).await?;
        let ids = RequestIds::new().map_err(|error| {
            ClientError::Local(format!("the system gives no random bytes: {error}"))
        })?;
        Ok(Self {
            connection,
            subjects: Subjects::new(&site),
            ids: Arc::new(ids),
            timeout: Duration::from_millis(TIMEOUT_MS_DEFAULT),
            actor: None,
        })
    }

    /// The same client with another deadline for each call.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The same client, saying who it acts for. It is shown in the site and authorises nothing.
    #[must_use]
    pub fn with_actor(mut self, actor: Option<String>) -> Self {
        self.actor = actor;
        self
    }

    /// How long each call may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The site.
    #[must_use]
    pub fn site(&self) -> &SiteName {
        self.subjects.site()
    }

    /// Where it is connected to, without secrets.
    #[must_use]
    pub fn servers(&self) -> &[String] {
        &self.connection.servers
    }

    /// NATS servers by which others may reach the site, as far as this client knows, without secrets.
    #[must_use]
    pub fn nats_urls(&self) -> &[String] {
        self.connection.nats_urls()
    }

    /// A new request id, for a caller that wants to know it before it sends.
    #[must_use]
    pub fn new_request_id(&self) -> RequestId {
        self.ids.next()
    }

    /// Sends a command until it is answered or the deadline is over.
    ///
    /// # Errors
    /// When it was certainly not carried out because it never reached the site.
    pub async fn command(
        &self,
        target: &CommandTarget,
        payload: Vec<u8>,
        options: &CommandOptions,
    ) -> Result<Outcome, ClientError> {
        self.send_command(&Places::of(&self.subjects, target), payload.into(), options).await
    }

    /// Sends administration that goes through the log, as a command does.
    ///
    /// # Errors
    /// When it was certainly not carried out because it never reached the site.
    pub async fn admin_command(
        &self,
        op: AdminOp,
        payload: Vec<u8>,
        options: &CommandOptions,
    ) -> Result<Outcome, ClientError> {
        let places = Places { any: self.subjects.admin(op), leader: None };
        self.send_command(&places, payload.into(), options).await
    }

    pub(crate) async fn send_command(
        &self,
        places: &Places,
        payload: Bytes,
        options: &CommandOptions,
    ) -> Result<Outcome, ClientError> {
        let deadline = Instant::now() + self.timeout;
        let id = options.request_id.clone().unwrap_or_else(|| self.ids.next());
        let (outcome, attempts) =
            self.try_command(places, payload.clone(), options, id.clone(), deadline).await?;
        let sent_once = (options.request_id.is_none() || options.id_is_new) && attempts == 1;
        match Judged::of(outcome, id, sent_once) {
            Judged::Stands(outcome) => Ok(outcome),
            Judged::Anew => {
                let id = self.ids.timeless();
                Ok(self.try_command(places, payload, options, id, deadline).await?.0)
            }
        }
    }

    async fn try_command(
        &self,
        places: &Places,
        payload: Bytes,
        options: &CommandOptions,
        request_id: RequestId,
        deadline: Instant,
    ) -> Result<(Outcome, u32), ClientError> {
        let headers = Options {
            request_id: Some(request_id.clone()),
            if_revision: options.if_revision,
            ttl_ms: options.ttl_ms,
            wait: options.wait,
            actor: self.actor.clone(),
            ..Options::NONE
        };
        let Places { any: subject, leader } = places;
        let exchange =
            Exchange { subject, leader: leader.as_deref(), payload, options: &headers, deadline };
        // Who gave the id may have sent it before, and an attempt of then have been taken.
        let is_new = options.request_id.is_none() || options.id_is_new;
        Ok(match exchange.run(&self.connection).await? {
            Ended::Answered(payload, attempts) => match reply::read(&payload) {
                Ok(Ok(committed)) => (Outcome::Committed(committed), attempts),
                Ok(Err(failed)) => (Outcome::Rejected(failed), attempts),
                // Something answered that is not an agent. What the agents did is not known.
                Err(error) => {
                    (Outcome::Unknown(Unknown { request_id, why: error.to_string() }), attempts)
                }
            },
            Ended::Unknown(why) => (Outcome::Unknown(Unknown { request_id, why }), 0),
            Ended::NotTaken(why) if is_new => return Err(ClientError::Unavailable(why)),
            Ended::NotTaken(why) => (still_unknown(request_id, &why), 0),
            Ended::NobodyThere => {
                let error = self.nobody_there().await;
                if is_new {
                    return Err(error);
                }
                (still_unknown(request_id, &error.to_string()), 0)
            }
        })
    }

    /// Asks for one thing.
    ///
    /// # Errors
    /// When there is no answer, or it is a failure.
    pub async fn get<T: DeserializeOwned>(
        &self,
        target: &QueryTarget,
        consistency: Consistency,
    ) -> Result<Item<T>, ClientError> {
        let subject = self.subjects.query(target);
        self.read(&subject, Vec::new(), Some(consistency)).await
    }

    /// Asks for one page of a list.
    ///
    /// # Errors
    /// When there is no answer, or it is a failure.
    pub async fn page<T: DeserializeOwned>(
        &self,
        target: &QueryTarget,
        page: &PageRequest,
        consistency: Consistency,
    ) -> Result<Page<T>, ClientError> {
        let subject = self.subjects.query(target);
        self.read(&subject, page.to_payload(), Some(consistency)).await
    }

    /// Asks for a whole list, page by page. The pages may have been read at different revisions; the
    /// result carries the first one's, from which `changes` goes on without a gap.
    ///
    /// # Errors
    /// When a page cannot be had.
    pub async fn list<T: DeserializeOwned>(
        &self,
        target: &QueryTarget,
        mut page: PageRequest,
        consistency: Consistency,
    ) -> Result<Page<T>, ClientError> {
        let mut whole: Page<T> = self.page(target, &page, consistency).await?;
        while let Some(next) = whole.next.take() {
            page.after = Some(next);
            let more: Page<T> = self.page(target, &page, consistency).await?;
            whole.items.extend(more.items);
            whole.next = more.next;
        }
        Ok(whole)
    }

    /// Asks for something whose good reply is `T`.
    pub(crate) async fn read<T: DeserializeOwned>(
        &self,
        subject: &str,
        payload: Vec<u8>,
        consistency: Option<Consistency>,
    ) -> Result<T, ClientError> {
        let payload = self.read_bytes(subject, payload, consistency).await?;
        reply::read(&payload)?.map_err(ClientError::Failed)
    }

    /// Asks for something whose good reply holds one item.
    pub(crate) async fn read_item<T: DeserializeOwned>(
        &self,
        subject: &str,
        payload: Vec<u8>,
    ) -> Result<T, ClientError> {
        let payload = self.read_bytes(subject, payload, None).await?;
        reply::read_item(&payload)?.map_err(ClientError::Failed)
    }

    async fn read_bytes(
        &self,
        subject: &str,
        payload: Vec<u8>,
        consistency: Option<Consistency>,
    ) -> Result<Bytes, ClientError> {
        match self.exchange(subject, payload, consistency).await? {
            Ended::Answered(payload, _) => Ok(payload),
            // A read changes nothing, so not knowing is the same as not having.
            Ended::Unknown(why) | Ended::NotTaken(why) => Err(ClientError::Unavailable(why)),
            Ended::NobodyThere => Err(self.nobody_there().await),
        }
    }

    /// Sends something that isn't a command of the log, and waits for its end.
    pub(crate) async fn exchange(
        &self,
        subject: &str,
        payload: Vec<u8>,
        consistency: Option<Consistency>,
    ) -> Result<Ended, ClientError> {
        let options = Options { consistency, actor: self.actor.clone(), ..Options::NONE };
        let deadline = Instant::now() + self.timeout;
        let exchange = Exchange {
            subject,
            leader: None,
            payload: payload.into(),
            options: &options,
            deadline,
        };
        exchange.run(&self.connection).await
    }

    /// Why nobody listens: there is no such site here, or its agents can't help at the moment.
    pub(crate) async fn nobody_there(&self) -> ClientError {
        match self.connection.sites().await {
            Ok(sites) if !sites.contains(self.site()) => ClientError::UnknownSite {
                site: self.site().clone(),
                server: self.connection.servers.join(", "),
                others: sites.iter().map(ToString::to_string).collect(),
            },
            // Who may not ask for sites can't be told more.
            Ok(_) | Err(_) => ClientError::Unavailable(self.connection.nobody_there()),
        }
    }
}

/// What an outcome is worth to the one who sent the command.
#[derive(Debug, PartialEq)]
enum Judged {
    Stands(Outcome),
    /// Certainly not carried out, and fit to be sent with an id that carries no time.
    Anew,
}

impl Judged {
    /// `sent_once`: the id was made here, and no attempt but this one was sent with it.
    fn of(outcome: Outcome, request_id: RequestId, sent_once: bool) -> Self {
        let too_old = matches!(&outcome, Outcome::Rejected(failed) if is_code(failed, ErrorCode::RequestExpired));
        match (too_old, sent_once) {
            (false, _) => Self::Stands(outcome),
            // Only if this machine's clock is far behind the site's.
            (true, true) => Self::Anew,
            // The site remembers what it did with younger ids only, so an earlier attempt may have been
            // carried out, and sending it again can never tell.
            (true, false) => {
                Self::Stands(Outcome::Unknown(Unknown { request_id, why: FORGOTTEN.to_owned() }))
            }
        }
    }
}

/// The outcome of an id that was sent before, of which nobody took this attempt.
fn still_unknown(request_id: RequestId, why: &str) -> Outcome {
    let why = format!("this attempt was not taken ({why}), which says nothing of earlier ones");
    Outcome::Unknown(Unknown { request_id, why })
}

/// Whether a failure is this code.
#[must_use]
pub fn is_code(failed: &Failed, code: ErrorCode) -> bool {
    failed.error.code() == Some(code)
}

#[cfg(test)]
mod tests {
    use fleet_protocol::Failure;

    use super::*;

    fn rejected(code: ErrorCode) -> Outcome {
        let id: RequestId = "a".parse().unwrap();
        let message = reply::failed(Some(&id), &Failure::new(code, "m"));
        let failed = reply::read::<reply::Committed>(&message.payload).unwrap().unwrap_err();
        Outcome::Rejected(failed)
    }

    #[test]
    fn a_forgotten_request_id_is_no_refusal_of_what_an_earlier_attempt_may_have_done() {
        let id: RequestId = "a".parse().unwrap();
        let of = |code, sent_once| Judged::of(rejected(code), id.clone(), sent_once);
        assert_eq!(of(ErrorCode::RequestExpired, true), Judged::Anew);
        let unknown = of(ErrorCode::RequestExpired, false);
        assert!(matches!(&unknown, Judged::Stands(Outcome::Unknown(it)) if it.request_id == id));
        for sent_once in [true, false] {
            let other = of(ErrorCode::NotFound, sent_once);
            assert!(matches!(other, Judged::Stands(Outcome::Rejected(_))), "{other:?}");
        }
    }
}
