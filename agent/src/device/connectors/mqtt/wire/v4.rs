//! MQTT 3.1.1.

use rumqttc_v4::mqttbytes::QoS;
use rumqttc_v4::mqttbytes::v4::{ConnectReturnCode, LastWill};
use rumqttc_v4::{
    AsyncClient, Broker, ClientError, ConnectionError, Event, EventLoop, Incoming, MqttOptions,
    NetworkOptions, PublishNotice, PublishOptions, SubscribeFilter, SubscribeNoticeError,
    SubscribeReasonCode, Transport,
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
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    network.set_connection_timeout(CONNECT_WITHIN.as_secs());
    eventloop.set_network_options(network);
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
    options
        .set_keep_alive(broker.keep_alive_s)
        .set_clean_session(true)
        .set_inflight(UNACKNOWLEDGED_MAX)
        .set_max_packet_size(PACKET_BYTES_MAX as usize, PACKET_BYTES_MAX as usize);
    if let Some(will) = &broker.will {
        let payload = will.payload.as_str();
        options.set_last_will(LastWill::new(&will.topic, payload, QoS::AtLeastOnce, false));
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
    loop {
        let event = match eventloop.poll().await {
            Ok(Event::Incoming(Incoming::Publish(publish))) => {
                let Ok(topic) = String::from_utf8(publish.topic.to_vec()) else {
                    continue;
                };
                let (payload, retained) = (publish.payload, publish.retain);
                WireEvent::Message(Message { topic, payload, retained })
            }
            Ok(_) => continue,
            Err(error) => {
                let closed = WireEvent::Closed(CloseReason::Lost(error.to_string()));
                let _nobody_waits = events.send(closed).await;
                return;
            }
        };
        if events.send(event).await.is_err() {
            return;
        }
    }
}

/// What a failed attempt to connect means.
fn refused(error: &ConnectionError) -> String {
    let ConnectionError::ConnectionRefused(code) = error else {
        return error.to_string();
    };
    match code {
        ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized => {
            "the broker refuses the login; check the file that settings.credentials names"
        }
        ConnectReturnCode::RefusedProtocolVersion => "the broker doesn't speak MQTT 3.1.1",
        ConnectReturnCode::BadClientId => "the broker refuses the client id",
        ConnectReturnCode::ServiceUnavailable => "the broker is not ready",
        ConnectReturnCode::Success => "the broker said yes and closed",
    }
    .to_owned()
}

pub(super) fn publish(
    client: &AsyncClient,
    message: &Outgoing,
) -> Result<PublishNotice, Undelivered> {
    let qos = if message.acknowledged { QoS::AtLeastOnce } else { QoS::AtMostOnce };
    client
        .try_publish_tracked(&message.topic, message.payload.clone(), PublishOptions::new(qos))
        .map_err(not_queued)
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

pub(super) async fn delivered(notice: PublishNotice) -> Result<(), Undelivered> {
    notice.wait_async().await.map(|_| ()).map_err(|_| Undelivered::Lost)
}

/// Whether all of them were granted; one that was refused refuses them all.
pub(super) async fn subscribe(client: &AsyncClient, topics: &[String]) -> Result<bool, String> {
    let filters = topics.iter().map(|topic| SubscribeFilter::new(topic.clone(), QoS::AtLeastOnce));
    let notice = client.subscribe_many_tracked(filters).await.map_err(|error| error.to_string())?;
    let failed = |code: &SubscribeReasonCode| matches!(code, SubscribeReasonCode::Failure);
    match notice.wait_async().await {
        Ok(answer) => Ok(!answer.return_codes.iter().any(failed)),
        Err(SubscribeNoticeError::V4SubAckFailure(_)) => Ok(false),
        Err(error) => Err(error.to_string()),
    }
}
