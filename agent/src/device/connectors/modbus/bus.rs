//! The connection to an endpoint: one question at a time, each with its deadline.
//!
//! An answer that comes too late would be taken for that of the next question, so a question
//! without an answer costs the connection; the next one opens it again. The client library is
//! asked for its answers raw, and what they hold is checked here: a device that answers with
//! fewer words than were asked for is an error of the device, and not of this process.
//!
//! Frames of a serial bus bear no number, so a new connection alone doesn't tell a late answer from
//! the next one. There the line is listened to for a while, and what comes is thrown away.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_modbus::client::{Client, Context, rtu, tcp};
use tokio_modbus::prelude::ReadCode;
use tokio_modbus::slave::SlaveContext;
use tokio_modbus::{Request, Response, Slave};

use super::bus_error::BusError;
use super::link::{At, Endpoint};
use super::register::Table;
use super::serial::SerialPort;

/// How long connecting may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;
/// Answers in which a device may tell who it is.
const IDENTITY_ANSWERS_MAX: usize = 4;
/// Characters of each thing that it tells.
const IDENTITY_CHARS_MAX: usize = 80;

/// A connection that is opened when it is needed.
pub(crate) struct Bus {
    endpoint: Endpoint,
    context: Option<Context>,
    free_at: Instant,
    /// Whether the answer to an earlier question may still come.
    is_owed: bool,
    /// Nothing leaves after it.
    not_after: Option<Instant>,
}

impl Bus {
    /// Connects.
    ///
    /// # Errors
    /// [`BusError::NotConnected`].
    pub(crate) async fn connect(endpoint: Endpoint) -> Result<Self, BusError> {
        let context = Some(open(&endpoint, Duration::ZERO).await?);
        Ok(Self { endpoint, context, free_at: Instant::now(), is_owed: false, not_after: None })
    }

    /// Nothing leaves after this moment, until another one is given. A write waits for the bus,
    /// for a connection, for the register before it: only directly before it leaves is it known
    /// whether its lease and its time still hold.
    pub(crate) fn limit(&mut self, not_after: Option<Instant>) {
        self.not_after = not_after;
    }

    /// How long one answer may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.endpoint.timeout
    }

    /// When the last of what is asked now may leave.
    pub(crate) fn not_after(&self) -> Option<Instant> {
        self.not_after
    }

    /// Reads words. Never fewer than asked for.
    pub(crate) async fn words(
        &mut self,
        unit: u8,
        table: Table,
        address: u16,
        count: u16,
    ) -> Result<Vec<u16>, BusError> {
        let request = if table == Table::Input {
            Request::ReadInputRegisters(address, count)
        } else {
            Request::ReadHoldingRegisters(address, count)
        };
        let answer = self.ask(unit, request).await?;
        let (Response::ReadHoldingRegisters(words) | Response::ReadInputRegisters(words)) = answer
        else {
            return Err(self.nonsense("another question's answer"));
        };
        if words.len() == usize::from(count) {
            return Ok(words);
        }
        Err(self.nonsense(&format!("{} words instead of {count}", words.len())))
    }

    /// Reads bits.
    pub(crate) async fn bits(
        &mut self,
        unit: u8,
        table: Table,
        address: u16,
        count: u16,
    ) -> Result<Vec<bool>, BusError> {
        let request = if table == Table::Coil {
            Request::ReadCoils(address, count)
        } else {
            Request::ReadDiscreteInputs(address, count)
        };
        let answer = self.ask(unit, request).await?;
        let (Response::ReadCoils(bits) | Response::ReadDiscreteInputs(bits)) = answer else {
            return Err(self.nonsense("another question's answer"));
        };
        // Bits come in whole bytes.
        if bits.len() == usize::from(count).next_multiple_of(8) {
            return Ok(bits.into_iter().take(usize::from(count)).collect());
        }
        Err(self.nonsense(&format!("{} bits instead of {count}", bits.len())))
    }

    /// Writes words: one with function 6, several, or one that wants it, with function 16.
    pub(crate) async fn write_words(
        &mut self,
        unit: u8,
        address: u16,
        words: &[u16],
        always_multiple: bool,
    ) -> Result<(), BusError> {
        let request = match words {
            [word] if !always_multiple => Request::WriteSingleRegister(address, *word),
            _ => Request::WriteMultipleRegisters(address, Cow::Owned(words.to_vec())),
        };
        let own = (address, u16::try_from(words.len()).unwrap_or(u16::MAX));
        let answer = self.ask(unit, request).await?;
        let single = matches!(answer, Response::WriteSingleRegister(told, _) if told == address);
        let several = matches!(answer, Response::WriteMultipleRegisters(told, count)
            if (told, count) == own);
        self.confirmed(single || several)
    }

    /// Writes a bit of its own.
    pub(crate) async fn write_bit(
        &mut self,
        unit: u8,
        address: u16,
        bit: bool,
    ) -> Result<(), BusError> {
        let answer = self.ask(unit, Request::WriteSingleCoil(address, bit)).await?;
        self.confirmed(matches!(answer, Response::WriteSingleCoil(told, _) if told == address))
    }

    /// Writes one bit of a word with function 22.
    pub(crate) async fn write_masked(
        &mut self,
        unit: u8,
        address: u16,
        bit: u8,
        on: bool,
    ) -> Result<(), BusError> {
        let mask = 1_u16 << bit.min(15);
        let or = if on { mask } else { 0 };
        let answer = self.ask(unit, Request::MaskWriteRegister(address, !mask, or)).await?;
        self.confirmed(matches!(answer, Response::MaskWriteRegister(told, ..) if told == address))
    }

    /// Asks who a unit is: maker, product and version, with function 43/14. Nothing else of it is
    /// read.
    pub(crate) async fn identify(&mut self, unit: u8) -> Result<[Option<String>; 3], BusError> {
        let mut identity = [const { None }; 3];
        let mut object = 0;
        for _ in 0..IDENTITY_ANSWERS_MAX {
            let request = Request::ReadDeviceIdentification(ReadCode::Basic, object);
            let Response::ReadDeviceIdentification(answer) = self.ask(unit, request).await? else {
                return Err(self.nonsense("another question's answer"));
            };
            for told in answer.device_id_objects {
                if let Some(place) = identity.get_mut(usize::from(told.id)) {
                    *place = Some(plain(&told.value));
                }
            }
            if !answer.more_follows || answer.next_object_id <= object {
                break;
            }
            object = answer.next_object_id;
        }
        Ok(identity)
    }

    /// Closes the connection.
    pub(crate) async fn close(&mut self) {
        if let Some(mut context) = self.context.take() {
            let _late = timeout(self.endpoint.timeout, context.disconnect()).await;
        }
    }

    async fn ask(&mut self, unit: u8, request: Request<'static>) -> Result<Response, BusError> {
        if self.not_after.is_some_and(|not_after| not_after <= self.free_at) {
            return Err(BusError::Late);
        }
        sleep_until(self.free_at).await;
        let mut context = match self.context.take() {
            Some(context) => context,
            None => {
                let listen = if self.is_owed { self.endpoint.listen() } else { Duration::ZERO };
                open_in_time(&self.endpoint, listen, self.not_after).await?
            }
        };
        context.set_slave(Slave(unit));
        if self.not_after.is_some_and(|not_after| not_after <= Instant::now()) {
            self.context = Some(context);
            return Err(BusError::Late);
        }
        self.is_owed = true;
        let answer = timeout(self.endpoint.timeout, context.call(request)).await;
        self.free_at = Instant::now() + self.endpoint.gap;
        // Only a connection without an open question is used again.
        match answer {
            Err(_) => Err(BusError::Timeout),
            Ok(Err(tokio_modbus::Error::Transport(error))) => {
                Err(BusError::broken(&error, self.endpoint.is_wired()))
            }
            Ok(Err(tokio_modbus::Error::Protocol(error))) => {
                Err(BusError::Nonsense(error.to_string()))
            }
            Ok(Ok(result)) => {
                (self.context, self.is_owed) = (Some(context), false);
                result.map_err(BusError::Exception)
            }
        }
    }

    /// A write is confirmed for the place that was written, or it isn't. The value is not compared:
    /// a device that cuts it to what it can do may say so, and is read afterwards anyway.
    fn confirmed(&mut self, is_own: bool) -> Result<(), BusError> {
        if is_own {
            return Ok(());
        }
        Err(self.nonsense("it confirms another write than the one that was sent"))
    }

    fn nonsense(&mut self, why: &str) -> BusError {
        (self.context, self.is_owed) = (None, true);
        BusError::Nonsense(why.to_owned())
    }
}

async fn open_in_time(
    endpoint: &Endpoint,
    listen: Duration,
    not_after: Option<Instant>,
) -> Result<Context, BusError> {
    let opening = open(endpoint, listen);
    match not_after {
        None => opening.await,
        Some(not_after) => timeout_at(not_after, opening).await.map_err(|_| BusError::Late)?,
    }
}

/// Opens a connection, and listens to it for so long before it is used.
async fn open(endpoint: &Endpoint, listen: Duration) -> Result<Context, BusError> {
    match &endpoint.at {
        At::Serial { path, line } => {
            let failed = |error| BusError::NotConnected(format!("{}: {error}", path.display()));
            let mut port = SerialPort::open(path, *line).map_err(failed)?;
            throw_away(&mut port, listen).await;
            Ok(rtu::attach(port))
        }
        At::Network { host, port, serial_frames } => {
            let mut stream = connect(host, *port).await?;
            throw_away(&mut stream, listen).await;
            Ok(if *serial_frames { rtu::attach(stream) } else { tcp::attach(stream) })
        }
    }
}

/// Reads what comes within a span.
async fn throw_away(stream: &mut (impl AsyncRead + Unpin), span: Duration) {
    let end = Instant::now() + span;
    let mut thrown_away = [0; 256];
    // A stream that has ended or failed says so to the next question.
    while let Ok(Ok(1..)) = timeout_at(end, stream.read(&mut thrown_away)).await {}
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, BusError> {
    let failed = |reason: &str| BusError::NotConnected(format!("{host}:{port}: {reason}"));
    let connecting = async {
        let found = lookup_host((host, port)).await;
        let addresses: Vec<SocketAddr> =
            found.map_err(|error| failed(&error.to_string()))?.take(ADDRESSES_MAX).collect();
        let mut reason = "the name has no address".to_owned();
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => reason = error.to_string(),
            }
        }
        Err(failed(&reason))
    };
    let stream = timeout(CONNECT_WITHIN, connecting)
        .await
        .map_err(|_| failed("no connection in time"))??;
    stream.set_nodelay(true).map_err(|error| failed(&error.to_string()))?;
    Ok(stream)
}

/// A device's own text, in printable characters.
fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().filter(|c| !c.is_control()).take(IDENTITY_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;

    /// A connection that nothing answers on, and its other end.
    async fn silent(settings: &str) -> (Bus, TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let value = fleet_state::Value::parse(settings.as_bytes(), Default::default()).unwrap();
        let endpoint = Endpoint::parse(&crate::device::connector::LinkSetup {
            id: "plc".parse().unwrap(),
            address: address.into(),
            settings: value.as_map().unwrap().clone(),
        });
        let bus = Bus::connect(endpoint.unwrap()).await.unwrap();
        (bus, listener.accept().await.unwrap().0)
    }

    /// Whether anything came over a connection.
    fn has_come(stream: &TcpStream) -> bool {
        stream.try_read(&mut [0; 16]).is_ok_and(|count| count > 0)
    }

    #[tokio::test]
    async fn nothing_leaves_after_its_time() {
        let (mut bus, other) = silent(r#"{"timeout_ms": 50, "gap_ms": 200}"#).await;
        bus.limit(Some(Instant::now()));
        assert_eq!(bus.write_words(1, 0, &[1], false).await, Err(BusError::Late));
        // The bus is not free before its time is over.
        bus.limit(None);
        assert_eq!(bus.write_words(1, 0, &[2], false).await, Err(BusError::Timeout));
        other.readable().await.unwrap();
        assert!(has_come(&other));
        bus.limit(Some(Instant::now() + Duration::from_millis(100)));
        assert_eq!(bus.write_words(1, 0, &[3], false).await, Err(BusError::Late));
        assert!(!has_come(&other));
    }

    #[tokio::test]
    async fn a_connection_that_takes_too_long_to_open_is_not_written_to() {
        let (mut bus, other) = silent(r#"{"timeout_ms": 50}"#).await;
        assert_eq!(bus.write_words(1, 0, &[1], false).await, Err(BusError::Timeout));
        drop(other);
        // Addresses for documentation: nobody answers there.
        bus.endpoint.at =
            At::Network { host: "192.0.2.1".to_owned(), port: 502, serial_frames: false };
        bus.limit(Some(Instant::now() + Duration::from_millis(100)));
        let before = Instant::now();
        let ended = bus.write_words(1, 0, &[2], false).await;
        assert!(matches!(ended, Err(BusError::Late | BusError::NotConnected(_))), "{ended:?}");
        assert!(before.elapsed() < CONNECT_WITHIN);
    }

    /// The words of a holding register as unit 1 answers with them on a serial bus.
    fn answer_with(word: u16) -> Vec<u8> {
        let mut frame = vec![1, 3, 2];
        frame.extend(word.to_be_bytes());
        let crc = frame.iter().fold(0xffff_u16, |crc, byte| {
            (0..8).fold(crc ^ u16::from(*byte), |crc, _| (crc >> 1) ^ ((crc & 1) * 0xa001))
        });
        frame.extend(crc.to_le_bytes());
        frame
    }

    #[tokio::test]
    async fn a_late_answer_on_a_serial_bus_is_nobodys() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let host = address.ip().to_string();
        let at = At::Network { host, port: address.port(), serial_frames: true };
        let timeout = Duration::from_millis(200);
        let endpoint = Endpoint { at, timeout, gap: Duration::ZERO };
        let server = tokio::spawn(async move {
            let (mut first, _) = listener.accept().await.unwrap();
            first.read_exact(&mut [0; 8]).await.unwrap();
            // The answer to the first question reaches whoever is connected by now.
            let (mut second, _) = listener.accept().await.unwrap();
            // After the next question, if that is asked at once.
            let _asked = tokio::time::timeout(timeout / 4, second.readable()).await;
            second.write_all(&answer_with(111)).await.unwrap();
            second.read_exact(&mut [0; 8]).await.unwrap();
            second.write_all(&answer_with(222)).await.unwrap();
            second
        });
        let mut bus = Bus::connect(endpoint).await.unwrap();
        assert_eq!(bus.words(1, Table::Holding, 0, 1).await, Err(BusError::Timeout));
        assert_eq!(bus.words(1, Table::Holding, 9, 1).await, Ok(vec![222]));
        drop(server.await.unwrap());
    }
}
