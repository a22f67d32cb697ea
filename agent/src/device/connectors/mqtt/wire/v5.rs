//! MQTT 5.

use rumqttc_v5::mqttbytes::QoS;
use rumqttc_v5::mqttbytes::v5::{
    ConnectReturnCode, DisconnectReasonCode, LastWill, PubAckReason, PublishProperties,
    SubscribeReasonCode,
};
use rumqttc_v5::{
    AsyncClient, Broker, ClientError, ConnectionError, Event, EventLoop, Incoming, MqttOptions,
    NetworkOptions, PublishNotice, PublishNoticeError, PublishOptions, PublishResult, StateError,
    SubscribeFilterInput, SubscribeNoticeError, Transport,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::device::connector::CloseReason;

use super::{
    CONNECT_WITHIN, Message, Opening, Outgoing, PACKET_BYTES_MAX, SENDING_MAX, UNACKNOWLEDGED_MAX,
    Undelivered, WireEvent, with_brackets,
};

pub(super) async fn open(
    opening: &Opening,
    events: mpsc::Sender<WireEvent>,
) -> Result<(AsyncClient, JoinHandle<()>), String> {
    let builder = AsyncClient::builder(options(opening)?).capacity(SENDING_MAX);
    let (client, mut eventloop) = builder.try_build().map_err(|error| error.to_string())?;
    loop {
        match eventloop.poll().await {
            Ok(Event::Incoming(Incoming::ConnAck(_))) => break,
            Ok(_) => {}
            Err(error) => return Err(refused(&error)),
        }
    }
    Ok((client, tokio::spawn(read(eventloop, events))))
}

fn options(opening: &Opening) -> Result<MqttOptions, String> {
    let broker = &opening.broker;
    let host = if broker.tls.is_some() { broker.host.clone() } else { with_brackets(&broker.host) };
    let mut options = MqttOptions::new(&opening.client_id, Broker::tcp(host, broker.port));
    options.set_keep_alive(broker.keep_alive_s);
    options.set_clean_start(true);
    options.set_session_expiry_interval(Some(0));
    options.set_receive_maximum(Some(UNACKNOWLEDGED_MAX));
    options.set_outgoing_inflight_upper_limit(UNACKNOWLEDGED_MAX);
    options.set_max_packet_size(Some(PACKET_BYTES_MAX));
    options.set_connect_timeout(CONNECT_WITHIN);
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options.set_network_options(network);
    if let Some(will) = &broker.will {
        // At once: to wait it would need a session that the next owner goes on with, which the client
        // library doesn't do for one that another process began.
        let (payload, qos) = (will.payload.as_str(), QoS::AtLeastOnce);
        options.set_last_will(LastWill::new(&will.topic, payload, qos, false, None));
    }
    if let Some(login) = &opening.login {
        options.set_credentials(&login.username, login.password.reveal().to_owned());
    }
    if broker.tls.is_some() {
        options.set_transport(transport(opening)?);
    }
    Ok(options)
}

fn transport(opening: &Opening) -> Result<Transport, String> {
    let pem = |text: &crate::config::Secret| text.reveal().as_bytes().to_vec();
    let certificates = &opening.certificates;
    let client = certificates.client.as_ref().map(|(own, key)| (pem(own), pem(key)));
    match &certificates.ca {
        Some(ca) => Ok(Transport::tls(pem(ca), client, None)),
        None if client.is_some() => Err("a client certificate needs settings.ca too".to_owned()),
        None => Transport::try_tls_with_default_config().map_err(|error| error.to_string()),
    }
}

async fn read(mut eventloop: EventLoop, events: mpsc::Sender<WireEvent>) {
    let mut said = None;
    loop {
        let event = match eventloop.poll().await {
            Ok(Event::Incoming(Incoming::Publish(publish))) => {
                let Ok(topic) = String::from_utf8(publish.topic.to_vec()) else {
                    continue;
                };
                let (payload, retained) = (publish.payload, publish.retain);
                WireEvent::Message(Message { topic, payload, retained })
            }
            Ok(Event::Incoming(Incoming::Disconnect(goodbye))) => {
                said = Some(goodbye.reason_code);
                continue;
            }
            Ok(_) => continue,
            Err(error) => {
                let _nobody_waits = events.send(WireEvent::Closed(closed(said, &error))).await;
                return;
            }
        };
        if events.send(event).await.is_err() {
            return;
        }
    }
}

/// Why a connection ended, from the broker's goodbye or the error that took its place.
fn closed(said: Option<DisconnectReasonCode>, error: &ConnectionError) -> CloseReason {
    let in_error =
        if let ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, .. }) = error
        {
            Some(*reason_code)
        } else {
            None
        };
    let said = in_error.or(said);
    match said {
        Some(DisconnectReasonCode::SessionTakenOver) => {
            CloseReason::TakenOver("the broker has another session of this link".to_owned())
        }
        Some(reason) => CloseReason::Lost(format!("the broker said {reason:?}")),
        None => CloseReason::Lost(error.to_string()),
    }
}

/// What a failed attempt to connect means.
fn refused(error: &ConnectionError) -> String {
    let code = if let ConnectionError::ConnectionRefused(code) = error {
        *code
    } else if let ConnectionError::MqttState(StateError::ConnFail { reason }) = error {
        *reason
    } else {
        return error.to_string();
    };
    let login = [ConnectReturnCode::BadUserNamePassword, ConnectReturnCode::NotAuthorized];
    let version =
        [ConnectReturnCode::RefusedProtocolVersion, ConnectReturnCode::UnsupportedProtocolVersion];
    if login.contains(&code) {
        "the broker refuses the login; check the file that settings.credentials names".to_owned()
    } else if version.contains(&code) {
        "the broker doesn't speak MQTT 5; set settings.version to \"3.1.1\"".to_owned()
    } else {
        format!("the broker refuses the connection: {code:?}")
    }
}

pub(super) fn publish(
    client: &AsyncClient,
    message: &Outgoing,
    expiry_s: Option<u32>,
) -> Result<PublishNotice, Undelivered> {
    let qos = if message.acknowledged { QoS::AtLeastOnce } else { QoS::AtMostOnce };
    let mut options = PublishOptions::new(qos);
    if expiry_s.is_some() {
        options = options.properties(PublishProperties {
            message_expiry_interval: expiry_s,
            ..PublishProperties::default()
        });
    }
    client.try_publish_tracked(&message.topic, message.payload.clone(), options).map_err(not_queued)
}

fn not_queued(error: ClientError) -> Undelivered {
    if matches!(error, ClientError::RequestChannelFull(_)) {
        Undelivered::Busy
    } else if matches!(error, ClientError::RequestChannelDisconnected(_)) {
        Undelivered::Lost
    } else {
        Undelivered::Refused(error.to_string())
    }
}

/// What a broker means that doesn't take a message.
fn declined(reason: PubAckReason) -> Undelivered {
    if reason == PubAckReason::QuotaExceeded {
        // There is room again later.
        return Undelivered::Busy;
    }
    Undelivered::Refused(format!("{reason:?}"))
}

pub(super) async fn delivered(notice: PublishNotice) -> Result<(), Undelivered> {
    match notice.wait_async().await {
        Ok(PublishResult::Qos1(puback)) if puback.reason == PubAckReason::NoMatchingSubscribers => {
            Err(Undelivered::NobodyListens)
        }
        Ok(_) => Ok(()),
        Err(PublishNoticeError::V5PubAck(PubAckReason::NoMatchingSubscribers)) => {
            Err(Undelivered::NobodyListens)
        }
        Err(PublishNoticeError::V5PubAck(reason)) => Err(declined(reason)),
        Err(_) => Err(Undelivered::Lost),
    }
}

/// Whether all of them were granted; one that was refused refuses them all.
pub(super) async fn subscribe(client: &AsyncClient, topics: &[String]) -> Result<bool, String> {
    // Our own commands must not come back as somebody else's.
    let filters = topics
        .iter()
        .map(|topic| SubscribeFilterInput::new(topic.clone(), QoS::AtLeastOnce).no_local(true));
    let notice = client.subscribe_many_tracked(filters).await.map_err(|error| error.to_string())?;
    let granted = |code: &SubscribeReasonCode| matches!(code, SubscribeReasonCode::Success(_));
    match notice.wait_async().await {
        Ok(answer) => Ok(answer.return_codes.iter().all(granted)),
        Err(SubscribeNoticeError::V5SubAckFailure(_)) => Ok(false),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_without_room_is_busy() {
        let busy = declined(PubAckReason::QuotaExceeded);
        assert!(matches!(busy, Undelivered::Busy), "{busy:?}");
        let no = declined(PubAckReason::NotAuthorized);
        assert!(matches!(no, Undelivered::Refused(_)), "{no:?}");
    }

    #[test]
    fn a_goodbye_says_more_than_the_error_behind_it() {
        let error = || ConnectionError::MqttState(StateError::ConnectionAborted);
        let taken = closed(Some(DisconnectReasonCode::SessionTakenOver), &error());
        assert!(matches!(taken, CloseReason::TakenOver(_)));
        let said = StateError::ServerDisconnect {
            reason_code: DisconnectReasonCode::SessionTakenOver,
            reason_string: None,
        };
        assert!(matches!(closed(None, &said.into()), CloseReason::TakenOver(_)));
        assert!(matches!(closed(None, &error()), CloseReason::Lost(_)));
    }
}
