//! Asking around on a bus: who is there?
//!
//! Every unit gets one question, who it is (function 43/14), at a measured pace. That is the only
//! one that every device may be asked without knowing it: it reads no register and changes
//! nothing. A device that doesn't know the function says so, and so is there. One that keeps
//! silent at what it doesn't know is taken for absent; nothing more can be known without reading
//! registers of a stranger.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::device::connector::{AskedUnit, LookError, Place, Scan};

use super::bus::Bus;
use super::bus_error::BusError;
use super::link::Endpoint;

/// Time that is kept for closing the connection.
const MARGIN: Duration = Duration::from_millis(100);

/// Asks the units in their order, as many as fit into the time.
pub(super) async fn scan(place: Place, scan: Scan) -> Result<Vec<AskedUnit>, LookError> {
    let endpoint =
        Endpoint::parse(&place.link).map_err(|refusal| LookError::Wrong(refusal.to_string()))?;
    let unreachable = |error: BusError| LookError::Unreachable(error.to_string());
    let question_max = endpoint.listen() + endpoint.timeout + endpoint.gap + MARGIN;
    let pause = Duration::from_secs(1) / scan.per_second.max(1);
    let mut bus = Bus::connect(endpoint).await.map_err(unreachable)?;
    let mut asked: Vec<AskedUnit> = Vec::new();
    let mut next = Instant::now();
    for unit in scan.units {
        let begins = next.max(Instant::now());
        if !asked.is_empty() && begins + question_max > place.until {
            break;
        }
        sleep_until(begins).await;
        next = begins + pause;
        match bus.identify(unit).await {
            // Without a connection nobody was asked: what is known so far is told.
            Err(error @ BusError::NotConnected(_)) if asked.is_empty() => {
                return Err(unreachable(error));
            }
            Err(BusError::NotConnected(_)) => break,
            said => asked.push(told(unit, said)),
        }
    }
    bus.close().await;
    Ok(asked)
}

/// What an answer, or none, says of a unit.
fn told(unit: u8, said: Result<[Option<String>; 3], BusError>) -> AskedUnit {
    let nobody = AskedUnit { unit, answers: false, identity: [const { None }; 3], detail: None };
    match said {
        Ok(identity) => AskedUnit { answers: true, identity, ..nobody },
        Err(BusError::Timeout) => nobody,
        Err(error) if error.is_absence() => AskedUnit { detail: Some(error.to_string()), ..nobody },
        // A server that hangs up has said nothing of the unit.
        Err(error @ (BusError::Lost(_) | BusError::NotConnected(_) | BusError::Late)) => {
            AskedUnit { detail: Some(error.to_string()), ..nobody }
        }
        Err(error @ (BusError::Exception(_) | BusError::Nonsense(_))) => {
            AskedUnit { answers: true, detail: Some(error.to_string()), ..nobody }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_modbus::ExceptionCode as Code;

    use super::*;

    #[test]
    fn whatever_answers_is_there() {
        let exception = |code| Err(BusError::Exception(code));
        let identity = [Some("maker".to_owned()), None, None];
        for (said, answers, detailed) in [
            (Ok(identity), true, false),
            (exception(Code::IllegalFunction), true, true),
            (exception(Code::ServerDeviceBusy), true, true),
            (exception(Code::GatewayTargetDevice), false, true),
            (exception(Code::GatewayPathUnavailable), false, true),
            (Err(BusError::Timeout), false, false),
            (Err(BusError::Lost("reset".to_owned())), false, true),
            (Err(BusError::Nonsense("noise".to_owned())), true, true),
        ] {
            let asked = told(7, said.clone());
            assert_eq!((asked.answers, asked.detail.is_some()), (answers, detailed), "{said:?}");
        }
    }
}
