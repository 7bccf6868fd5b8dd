//! Why a client could not begin.

use nearfs_protocol::codec::DecodeError;
use nearfs_protocol::greeting::Refusal;
use nearfs_transport::dial::DialError;

/// Why there is no session. Each reads as one line that says what is wrong.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No connection came about.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// Whoever listens there speaks something else, or broke the protocol.
    #[error("{server}: {error}; is a nearfs server listening there?")]
    Protocol {
        /// The address.
        server: String,
        /// What was wrong with what came back.
        error: DecodeError,
    },
    /// The connection ended before the server had answered.
    #[error("{server}: the connection ended before the server had answered ({reason})")]
    Ended {
        /// The address.
        server: String,
        /// As the operating system says it.
        reason: String,
    },
    /// The server does not want to.
    #[error("{server}: {refusal}")]
    Refused {
        /// The address.
        server: String,
        /// Its reason.
        refusal: Refusal,
    },
    /// This machine lacks something.
    #[error("cannot start the client: {0}")]
    Local(#[from] std::io::Error),
}

impl ConnectError {
    /// The exit code of a command that ends with this error: 3 for everything between us and the server.
    pub fn exit_code(&self) -> u8 {
        match self {
            ConnectError::Dial(_)
            | ConnectError::Protocol { .. }
            | ConnectError::Ended { .. }
            | ConnectError::Refused { .. } => 3,
            ConnectError::Local(_) => 1,
        }
    }
}
