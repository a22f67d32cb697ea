//! Looking along links for devices.

use fleet_protocol::{
    Consistency, Options,
    look::{LookRequest, Looked},
    reply,
};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::{
    Client, ClientError,
    exchange::{Ended, Exchange},
};

impl Client {
    /// One page of what the owner of a link finds along it. It is asked once: a look takes its
    /// time, and a second one beside it would only be in its way.
    ///
    /// # Errors
    /// When there is no answer, or it is a failure.
    pub async fn look<T: DeserializeOwned>(
        &self,
        request: &LookRequest,
        consistency: Consistency,
    ) -> Result<Looked<T>, ClientError> {
        let subject = self.subjects.look(&request.link, request.look.verb());
        let options = Options { consistency: Some(consistency), ..Options::NONE };
        let deadline = Instant::now() + self.timeout;
        let payload = request.to_payload().into();
        let exchange =
            Exchange { subject: &subject, leader: None, payload, options: &options, deadline };
        match exchange.run_patiently(&self.connection).await? {
            Ended::Answered(payload, _) => reply::read(&payload)?.map_err(ClientError::Failed),
            Ended::Unknown(why) | Ended::NotTaken(why) => Err(ClientError::Unavailable(why)),
            Ended::NobodyThere => Err(self.nobody_there().await),
        }
    }

    /// The whole of it, page by page; the first page's problems are those of all.
    ///
    /// # Errors
    /// When a page cannot be had.
    pub async fn look_at_all<T: DeserializeOwned>(
        &self,
        mut request: LookRequest,
        consistency: Consistency,
    ) -> Result<Looked<T>, ClientError> {
        let mut whole: Looked<T> = self.look(&request, consistency).await?;
        while let Some(next) = whole.next.take() {
            request.after = Some(next);
            let more: Looked<T> = self.look(&request, consistency).await?;
            whole.items.extend(more.items);
            whole.next = more.next;
        }
        Ok(whole)
    }
}
