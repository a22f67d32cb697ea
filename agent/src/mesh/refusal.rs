//! Whether a failed attempt says that a process is gone.

use std::error::Error;
use std::io;

use libp2p::TransportError;
use libp2p::swarm::DialError;

/// Whether every address that was tried, and one at least, answered that nobody listens there.
pub(super) fn is_refused(error: &DialError) -> bool {
    let DialError::Transport(errors) = error else {
        return false;
    };
    // An address outside the rules was not tried.
    let mut tried = errors.iter().filter_map(|(_, error)| match error {
        TransportError::Other(error) => Some(error),
        TransportError::MultiaddrNotSupported(_) => None,
    });
    let is_refusal = |error: &io::Error| {
        std::iter::successors(Some(error as &(dyn Error + 'static)), |error| cause(*error))
            .filter_map(|error| error.downcast_ref::<io::Error>())
            .any(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    };
    let first = tried.next();
    first.is_some_and(is_refusal) && tried.all(is_refusal)
}

/// What is inside an error. One of I/O that wraps another shows it only by itself.
fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    inside.map(|inside| inside as &(dyn Error + 'static)).or_else(|| error.source())
}
