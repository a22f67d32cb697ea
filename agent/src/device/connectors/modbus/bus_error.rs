//! Why a question on a bus has no answer, and what that means for who asked.

use std::io::{self, ErrorKind};

use thiserror::Error;
use tokio_modbus::ExceptionCode;

use crate::device::connector::{ReadError, ReadErrorKind, WriteError, WriteErrorKind};

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum BusError {
    /// The device says no, with a reason.
    #[error("the device refuses: {}", named(*.0))]
    Exception(ExceptionCode),
    /// Nobody answered in time.
    #[error("the device has not answered in time")]
    Timeout,
    /// The connection broke after the question had left.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// Something answered, and not what was asked.
    #[error("the answer makes no sense: {0}")]
    Nonsense(String),
    /// There is no connection; nothing has left.
    #[error("{0}")]
    NotConnected(String),
    /// Its time was over before it could leave; nothing has left.
    #[error("its time had passed before the bus was free")]
    Late,
}

impl BusError {
    /// What became of a connection that gave no whole answer.
    pub(crate) fn broken(error: &io::Error, is_wired: bool) -> Self {
        use ErrorKind as Kind;
        let is_of_system = error.raw_os_error().is_some();
        let kind = error.kind();
        // The client library's own: what came was no answer that it can read.
        if !is_of_system && matches!(kind, Kind::InvalidData | Kind::UnexpectedEof) {
            return BusError::Nonsense(error.to_string());
        }
        let is_known = matches!(
            kind,
            Kind::ConnectionReset
                | Kind::ConnectionAborted
                | Kind::BrokenPipe
                | Kind::TimedOut
                | Kind::HostUnreachable
                | Kind::NetworkUnreachable
        );
        // At the stream's end the library tells whatever the system's last error was.
        if is_of_system && !is_known && !is_wired {
            return BusError::Lost("the endpoint has closed it".to_owned());
        }
        BusError::Lost(error.to_string())
    }

    /// Whether it tells that the device is not there.
    pub(crate) fn is_absence(&self) -> bool {
        matches!(
            self,
            BusError::Timeout
                | BusError::Exception(
                    ExceptionCode::GatewayPathUnavailable | ExceptionCode::GatewayTargetDevice
                )
        )
    }

    /// What it means for a question.
    pub(crate) fn of_read(&self) -> ReadError {
        let kind = match self {
            BusError::Timeout => ReadErrorKind::Timeout,
            BusError::Late => ReadErrorKind::NotAsked,
            BusError::Lost(_) | BusError::Nonsense(_) | BusError::NotConnected(_) => {
                ReadErrorKind::LinkLost
            }
            BusError::Exception(_) if self.is_absence() => ReadErrorKind::Offline,
            BusError::Exception(_) => ReadErrorKind::Refused,
        };
        ReadError { kind, message: self.to_string() }
    }

    /// What it means for something that was written. A device that has been asked and gave no
    /// word may have acted.
    pub(crate) fn of_write(&self) -> WriteError {
        use ExceptionCode as Code;
        let (kind, may_have_acted) = match self {
            BusError::Timeout => (WriteErrorKind::Timeout, true),
            // Others had the bus: that says nothing of the device.
            BusError::Late => (WriteErrorKind::Busy, false),
            BusError::Lost(_) | BusError::Nonsense(_) => (WriteErrorKind::LinkLost, true),
            BusError::NotConnected(_) => (WriteErrorKind::LinkLost, false),
            BusError::Exception(Code::ServerDeviceBusy) => (WriteErrorKind::Busy, false),
            BusError::Exception(Code::GatewayPathUnavailable) => (WriteErrorKind::Offline, false),
            // The gateway has passed it on.
            BusError::Exception(Code::GatewayTargetDevice) => (WriteErrorKind::Offline, true),
            BusError::Exception(
                Code::IllegalFunction | Code::IllegalDataAddress | Code::IllegalDataValue,
            ) => (WriteErrorKind::Refused, false),
            BusError::Exception(_) => (WriteErrorKind::Refused, true),
        };
        WriteError { may_have_acted, kind, message: self.to_string() }
    }
}

fn named(code: ExceptionCode) -> &'static str {
    match code {
        ExceptionCode::IllegalFunction => "it doesn't know this function (exception 1)",
        ExceptionCode::IllegalDataAddress => "it has no such address (exception 2)",
        ExceptionCode::IllegalDataValue => "it doesn't take this value (exception 3)",
        ExceptionCode::ServerDeviceFailure => "it failed while doing it (exception 4)",
        ExceptionCode::Acknowledge => "it has it and needs time (exception 5)",
        ExceptionCode::ServerDeviceBusy => "it is busy (exception 6)",
        ExceptionCode::MemoryParityError => "its memory is damaged (exception 8)",
        ExceptionCode::GatewayPathUnavailable => "the gateway has no way to it (exception 10)",
        ExceptionCode::GatewayTargetDevice => "the gateway got no answer from it (exception 11)",
        ExceptionCode::Custom(_) => "with a code of its maker's own",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_exception_means() {
        use ExceptionCode as Code;
        let cases = [
            (Code::IllegalDataAddress, WriteErrorKind::Refused, false, ReadErrorKind::Refused),
            (Code::IllegalDataValue, WriteErrorKind::Refused, false, ReadErrorKind::Refused),
            (Code::ServerDeviceFailure, WriteErrorKind::Refused, true, ReadErrorKind::Refused),
            (Code::ServerDeviceBusy, WriteErrorKind::Busy, false, ReadErrorKind::Refused),
            (Code::GatewayPathUnavailable, WriteErrorKind::Offline, false, ReadErrorKind::Offline),
            (Code::GatewayTargetDevice, WriteErrorKind::Offline, true, ReadErrorKind::Offline),
        ];
        for (code, kind, acted, read) in cases {
            let error = BusError::Exception(code);
            let write = error.of_write();
            assert_eq!((write.kind, write.may_have_acted), (kind, acted), "{code:?}");
            assert_eq!(error.of_read().kind, read, "{code:?}");
        }
        assert!(BusError::Timeout.of_write().may_have_acted);
        assert!(!BusError::NotConnected(String::new()).of_write().may_have_acted);
        let late = BusError::Late.of_write();
        assert_eq!((late.kind, late.may_have_acted), (WriteErrorKind::Busy, false));
        assert_eq!(BusError::Late.of_read().kind, ReadErrorKind::NotAsked);
    }
}
