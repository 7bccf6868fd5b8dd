//! Makes a connection and greets the server on it.

use std::time::{Duration, Instant};

use nearfs_protocol::codec::{DecodeError, FrameKind, decode_control};
use nearfs_protocol::greeting::{Hello, Refusal, Welcome};
use nearfs_protocol::id::RequestId;
use nearfs_transport::address::Address;
use nearfs_transport::dial::dial;
use nearfs_transport::frame::{FrameReader, FrameWriter, ReceiveError, SendError};
use nearfs_transport::link::{Link, LinkReader};
use nearfs_transport::pool::Pool;

use crate::error::ConnectError;

/// How long connecting may take, and how long the server may take to answer the greeting.
pub(crate) const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);

/// A connection that was admitted.
pub(crate) struct Greeted {
    pub(crate) link: Link,
    pub(crate) reader: FrameReader<LinkReader>,
    pub(crate) welcome: Welcome,
    /// How long the server took to answer.
    pub(crate) round_trip: Duration,
}

/// Connects and says `hello`.
pub(crate) fn greet(address: &Address, hello: &Hello, pool: &Pool) -> Result<Greeted, ConnectError> {
    let server = address.to_string();
    let link = dial(address, CONNECT_TIME_MAX)?;
    link.set_read_timeout(Some(CONNECT_TIME_MAX))?;
    link.set_write_timeout(Some(CONNECT_TIME_MAX))?;
    let begun = Instant::now();
    let ended = |reason: String| ConnectError::Ended { server: server.clone(), reason };
    FrameWriter::new(link.writer()).send(FrameKind::Hello, RequestId(0), hello, &[]).map_err(|error| {
        match error {
            SendError::Encode(error) => ended(error.to_string()),
            SendError::Io(error) => ended(error.to_string()),
        }
    })?;
    let mut reader = FrameReader::new(link.reader(), pool.clone());
    let welcome = match receive_welcome(&mut reader) {
        Ok(Ok(welcome)) => welcome,
        Ok(Err(refusal)) => return Err(ConnectError::Refused { server, refusal }),
        Err(ReceiveError::Protocol(error)) => return Err(ConnectError::Protocol { server, error }),
        Err(ReceiveError::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
            return Err(ended(format!("no answer within {} s", CONNECT_TIME_MAX.as_secs())));
        }
        Err(error @ (ReceiveError::Closed | ReceiveError::Cut | ReceiveError::Io(_))) => {
            return Err(ended(error.to_string()));
        }
    };
    let round_trip = begun.elapsed();
    link.set_read_timeout(None)?;
    link.set_write_timeout(None)?;
    reader.admit();
    Ok(Greeted { link, reader, welcome, round_trip })
}

fn receive_welcome(reader: &mut FrameReader<LinkReader>) -> Result<Result<Welcome, Refusal>, ReceiveError> {
    let frame = reader.next_frame()?;
    match frame.header.kind {
        FrameKind::Welcome => Ok(Ok(decode_control(frame.control)?)),
        FrameKind::Refused => Ok(Err(decode_control(frame.control)?)),
        FrameKind::Hello
        | FrameKind::Call
        | FrameKind::Answer
        | FrameKind::Push
        | FrameKind::Ack
        | FrameKind::Ping
        | FrameKind::Pong
        | FrameKind::Cancel
        | FrameKind::Bye => Err(DecodeError::Control("the greeting was not answered".into()).into()),
    }
}
