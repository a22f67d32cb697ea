//! Commanding a device at its own gateway while no majority can be reached.

use fleet_protocol::{
    HeaderName, Options, duration,
    local::{LocalDone, LocalTarget},
    reply::{self, Failed},
};
use fleet_state::RequestId;
use tokio::time::timeout;

use crate::{
    Client, ClientError, CommandOptions, Unknown,
    transport::{Sent, Unheard},
};

/// What came of a local write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalOutcome {
    /// The gateway has it on disk.
    Taken(LocalDone),
    /// The gateway refused it.
    Refused(Failed),
    /// Nobody can say; it may be sent again under the same request id.
    Unknown(Unknown),
}

impl Client {
    /// Sends a local write to the agent whose door this client is connected to. It is sent once:
    /// there is nobody else who could take it.
    ///
    /// # Errors
    /// When it certainly was not taken because it never reached the gateway.
    pub async fn write_locally(
        &self,
        target: &LocalTarget,
        payload: Vec<u8>,
        options: &CommandOptions,
    ) -> Result<LocalOutcome, ClientError> {
        let request_id: RequestId = options.request_id.clone().unwrap_or_else(|| self.ids.next());
        let options = Options {
            request_id: Some(request_id.clone()),
            wait: options.wait,
            actor: self.actor.clone(),
            ..Options::NONE
        };
        let mut headers = options.to_headers();
        let timeout_ms = u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX);
        headers.push((HeaderName::Timeout.as_str(), duration::format_ms(timeout_ms)));
        let sent = Sent { headers, payload: payload.into() };
        let unknown = |why: String| Ok(LocalOutcome::Unknown(Unknown { request_id, why }));
        let path = target.path();
        match timeout(self.timeout, self.connection.ask_path(&path, sent)).await {
            Ok(Ok(Ok(heard))) => match reply::read(&heard.payload) {
                Ok(Ok(done)) => Ok(LocalOutcome::Taken(done)),
                Ok(Err(failed)) => Ok(LocalOutcome::Refused(failed)),
                Err(error) => unknown(error.to_string()),
            },
            Ok(Ok(Err(Unheard::NobodyThere))) => {
                Err(ClientError::Unavailable(self.connection.nobody_there()))
            }
            Ok(Ok(Err(Unheard::PerhapsTaken(why)))) => unknown(why),
            Ok(Err(error)) => Err(error),
            Err(_) => unknown("no answer came in time".to_owned()),
        }
    }
}
