//! A serial port of this node, as a stream of bytes.
//!
//! A bus has one master. So a port is taken exclusively, in two ways: by a lock on the file, which
//! every program of ours minds, root or not, and by the terminal's own exclusive mode, which the
//! kernel holds against everybody else but root. What lies in its buffers when it is opened is
//! thrown away: it may be the late answer to a question of somebody before us.
//!
//! Whoever switches the direction of an RS-485 line (the adapter, the driver) does it without
//! being told; most do.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::termios::{
    ControlModes, InputModes, OptionalActions, QueueSelector, ioctl_tiocexcl, ioctl_tiocnxcl,
    isatty, tcflush, tcgetattr, tcsetattr,
};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How bits go over a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Bits a second.
    pub(crate) baud: u32,
    /// What the parity bit says.
    pub(crate) parity: Parity,
    /// Two stop bits instead of one.
    pub(crate) two_stop_bits: bool,
}

/// What the parity bit says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parity {
    /// The ones are even in number.
    Even,
    /// They are odd in number.
    Odd,
    /// There is none.
    None,
}

/// A port that is open, and nobody else's.
#[derive(Debug)]
pub(crate) struct SerialPort {
    port: AsyncFd<OwnedFd>,
}

impl SerialPort {
    /// Opens a port and sets its line.
    ///
    /// # Errors
    /// It isn't there, isn't a serial port, may not be opened, or somebody else has it.
    pub(crate) fn open(path: &Path, line: Line) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let port = open(path, flags, Mode::empty())?;
        if !isatty(&port) {
            return Err(io::Error::other("this is no serial port"));
        }
        flock(&port, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
            if error.kind() == io::ErrorKind::WouldBlock {
                return io::Error::other("somebody else uses the port");
            }
            error.into()
        })?;
        ioctl_tiocexcl(&port)?;
        set(&port, line)?;
        tcflush(&port, QueueSelector::IOFlush)?;
        // Its successor is unsafe, since a descriptor could be closed behind its back. This one is
        // owned here, is never lent out and is closed after it was deregistered.
        #[expect(deprecated, reason = "without unsafe code there is no other way")]
        let port = AsyncFd::new(port)?;
        Ok(Self { port })
    }
}

impl Drop for SerialPort {
    /// Who still holds the port open otherwise, as a program that watches it, would keep it from
    /// being opened again. The lock goes with the descriptor.
    fn drop(&mut self) {
        let _gone_anyway = ioctl_tiocnxcl(self.port.get_ref());
    }
}

fn set(port: &OwnedFd, line: Line) -> io::Result<()> {
    let mut settings = tcgetattr(port)?;
    settings.make_raw();
    let odd = line.parity == Parity::Odd;
    let flags = [
        (ControlModes::CREAD | ControlModes::CLOCAL, true),
        (ControlModes::CRTSCTS, false),
        (ControlModes::PARENB, line.parity != Parity::None),
        (ControlModes::PARODD, odd),
        (ControlModes::CSTOPB, line.two_stop_bits),
    ];
    for (flag, on) in flags {
        settings.control_modes.set(flag, on);
    }
    // A character with a wrong parity comes as a zero; the frame's checksum then refuses it.
    settings.input_modes.set(InputModes::INPCK, line.parity != Parity::None);
    settings.set_speed(line.baud)?;
    tcsetattr(port, OptionalActions::Now, &settings)?;
    Ok(())
}

impl AsyncRead for SerialPort {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.port.poll_read_ready(cx))?;
            let read = ready.try_io(|port| {
                let count = rustix::io::read(port.get_ref(), buf.initialize_unfilled())?;
                Ok(count)
            });
            if let Ok(count) = read {
                buf.advance(count?);
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for SerialPort {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.port.poll_write_ready(cx))?;
            let written = ready.try_io(|port| Ok(rustix::io::write(port.get_ref(), bytes)?));
            if let Ok(written) = written {
                return Poll::Ready(written);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was written is the driver's; a question's deadline covers its way over the line.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
