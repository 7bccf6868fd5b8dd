//! The peer: accepts and greets by itself, answers pings, and brings everything else to the test.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use nearfs_client::config::VfsConfig;
use nearfs_client::identity::Caller;
use nearfs_client::vfs::Vfs;
use nearfs_protocol::codec::{FrameKind, decode_control};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::greeting::{Hello, Refusal, SessionWish, Welcome};
use nearfs_protocol::id::RequestId;
use nearfs_protocol::message::{Answer, Call, Reply, Request};
use nearfs_transport::address::{Address, Source};
use nearfs_transport::frame::{FrameReader, FrameWriter};
use nearfs_transport::link::{Link, LinkCloser, LinkWriter};
use nearfs_transport::pool::Pool;
use parking_lot::Mutex;

use crate::values;

/// No test waits longer for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// On whose behalf tests ask.
pub(crate) const ME: Caller = Caller { uid: 0, gid: 0, pid: 0 };

/// A server that does what the test says.
pub(crate) struct Peer {
    address: SocketAddr,
    heard: Receiver<Heard>,
    shared: Arc<Shared>,
}

struct Shared {
    welcome: Mutex<Result<Welcome, Refusal>>,
    hellos: Mutex<Vec<Hello>>,
    connections: Mutex<Vec<Arc<Wire>>>,
    heard: Mutex<Sender<Heard>>,
}

/// What a client said.
#[derive(Debug)]
pub(crate) enum Heard {
    Call(Asked),
    Cancel(RequestId),
    Ack(RequestId),
    Bye,
}

/// A request that waits for its answer.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) id: RequestId,
    pub(crate) request: Request,
    pub(crate) payload: Vec<u8>,
    wire: Arc<Wire>,
}

/// One connection's way to the client.
pub(crate) struct Wire {
    writer: Mutex<FrameWriter<LinkWriter>>,
    raw: Mutex<LinkWriter>,
    closer: LinkCloser,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wire")
    }
}

impl Peer {
    /// Begins to listen.
    pub(crate) fn start() -> Peer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, heard) = mpsc::channel();
        let shared = Arc::new(Shared {
            welcome: Mutex::new(Ok(values::welcome())),
            hellos: Mutex::default(),
            connections: Mutex::default(),
            heard: Mutex::new(sender),
        });
        let accepting = Arc::clone(&shared);
        // The thread ends with the test's process: nothing else ends an accept.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&accepting);
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        Peer { address, heard, shared }
    }

    /// A peer and a client with its default configuration, but one connection.
    pub(crate) fn with_client() -> (Peer, Arc<Vfs>) {
        Peer::with(VfsConfig::default())
    }

    /// A peer and a client that is configured like this, but with one connection, so that requests arrive in
    /// the order in which they were made. It takes the peer for near, however slow the machine is, unless told otherwise
    /// by a `far_round_trip` of zero.
    pub(crate) fn with(config: VfsConfig) -> (Peer, Arc<Vfs>) {
        let peer = Peer::start();
        let far_round_trip = if config.far_round_trip.is_zero() { Duration::ZERO } else { Duration::MAX };
        let config = VfsConfig { connections: 1, far_round_trip, ..config };
        let vfs = Vfs::connect(&peer.source(), config).unwrap();
        (peer, vfs)
    }

    pub(crate) fn source(&self) -> Source {
        let address = Address::Tcp { host: self.address.ip().to_string(), port: self.address.port() };
        Source { address, export: Vec::new(), path: Vec::new() }
    }

    /// How connections are greeted from here on.
    pub(crate) fn greet_with(&self, welcome: Result<Welcome, Refusal>) {
        *self.shared.welcome.lock() = welcome;
    }

    /// All greetings so far.
    pub(crate) fn hellos(&self) -> Vec<Hello> {
        self.shared.hellos.lock().clone()
    }

    /// What the client says next.
    #[track_caller]
    pub(crate) fn hear(&self) -> Heard {
        self.heard.recv_timeout(PATIENCE).expect("the client says something")
    }

    /// Answers whatever is asked until an operation has ended.
    #[track_caller]
    pub(crate) fn answer_until_ended<T>(&self, pending: &mut Pending<T>, answer: impl Fn(&Asked)) {
        while pending.is_pending() {
            match self.heard.recv_timeout(Duration::from_millis(5)) {
                Ok(Heard::Call(asked)) => answer(&asked),
                Ok(other) => panic!("{other:?} instead of a request"),
                Err(_) => {}
            }
        }
    }

    /// The next request; anything else fails the test.
    #[track_caller]
    pub(crate) fn call(&self) -> Asked {
        match self.hear() {
            Heard::Call(asked) => asked,
            other => panic!("{other:?} instead of a request"),
        }
    }

    /// The next request, which must be this one.
    #[track_caller]
    pub(crate) fn expect(&self, request: &Request) -> Asked {
        let asked = self.call();
        assert_eq!(&asked.request, request);
        asked
    }

    /// Nothing was said since the last that was heard: the client is made to ask something, and that comes next.
    #[track_caller]
    pub(crate) fn expect_nothing(&self, vfs: &Arc<Vfs>) {
        let pending = ask(|done| vfs.statfs(ME, 1, done));
        let asked = self.call();
        assert!(matches!(asked.request, Request::StatFs { .. }), "{asked:?} was sent");
        asked.reply(Reply::StatFs(Default::default()));
        pending.get().unwrap();
    }

    /// Nothing is said for a while.
    #[track_caller]
    pub(crate) fn expect_silence(&self, during: Duration) {
        match self.heard.recv_timeout(during) {
            Err(RecvTimeoutError::Timeout) => {}
            other => panic!("{other:?} although nothing should be said"),
        }
    }

    /// Cuts all connections.
    pub(crate) fn cut(&self) {
        for wire in self.shared.connections.lock().drain(..) {
            wire.closer.close();
        }
    }

    /// The connection that was made last.
    pub(crate) fn wire(&self) -> Arc<Wire> {
        Arc::clone(self.shared.connections.lock().last().expect("a connection"))
    }
}

impl Shared {
    /// One connection, to its end.
    fn serve(&self, stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        let link = Link::from_socket(stream.into());
        let wire = Arc::new(Wire {
            writer: Mutex::new(FrameWriter::new(link.writer())),
            raw: Mutex::new(link.writer()),
            closer: link.closer(),
        });
        let mut reader = FrameReader::new(link.reader(), Pool::new(1 << 20));
        reader.admit();
        while let Ok(frame) = reader.next_frame() {
            let (kind, id) = (frame.header.kind, frame.header.id);
            let heard = match kind {
                FrameKind::Hello => {
                    let hello: Hello = decode_control(frame.control).unwrap();
                    let mut greeting = self.welcome.lock().clone();
                    // A server that was started again and lost its sessions begins others.
                    if let (SessionWish::Resume { session, .. }, Ok(welcome)) = (&hello.session, &greeting)
                        && welcome.session != *session
                        && welcome.epoch != values::welcome().epoch
                    {
                        greeting = Err(Refusal::NoSession);
                    }
                    self.hellos.lock().push(hello);
                    // In this order, or a test could look for a connection that it cannot find yet.
                    self.connections.lock().push(Arc::clone(&wire));
                    match greeting {
                        Ok(welcome) => wire.send(FrameKind::Welcome, RequestId(0), &welcome, &[]),
                        Err(refusal) => wire.send(FrameKind::Refused, RequestId(0), &refusal, &[]),
                    }
                    continue;
                }
                FrameKind::Ping => {
                    wire.send(FrameKind::Pong, id, &(), &[]);
                    continue;
                }
                FrameKind::Call => {
                    let call: Call = decode_control(frame.control).unwrap();
                    let (request, payload) = (call.request, frame.payload.to_vec());
                    Heard::Call(Asked { id, request, payload, wire: Arc::clone(&wire) })
                }
                FrameKind::Cancel => Heard::Cancel(id),
                FrameKind::Ack => Heard::Ack(id),
                FrameKind::Bye => Heard::Bye,
                FrameKind::Welcome
                | FrameKind::Refused
                | FrameKind::Answer
                | FrameKind::Push
                | FrameKind::Pong => {
                    panic!("{kind:?} from a client")
                }
            };
            // Nobody listens any more when the test is over.
            let _ = self.heard.lock().send(heard);
        }
    }
}

impl Wire {
    /// Sends a frame, if the connection still stands.
    pub(crate) fn send<T: serde::Serialize + ?Sized>(
        &self,
        kind: FrameKind,
        id: RequestId,
        control: &T,
        payload: &[u8],
    ) {
        let _ = self.writer.lock().send(kind, id, control, payload);
    }

    /// Sends bytes as they are, if the connection still stands.
    pub(crate) fn send_raw(&self, bytes: &[u8]) {
        let _ = self.raw.lock().write_all(bytes);
    }

    pub(crate) fn answer(&self, id: RequestId, answer: &Answer, payload: &[u8]) {
        self.send(FrameKind::Answer, id, answer, payload);
    }
}

impl Asked {
    pub(crate) fn reply(&self, reply: Reply) {
        self.wire.answer(self.id, &Ok(reply), &[]);
    }

    pub(crate) fn reply_with(&self, reply: Reply, payload: &[u8]) {
        self.wire.answer(self.id, &Ok(reply), payload);
    }

    pub(crate) fn fail(&self, errno: Errno) {
        self.wire.answer(self.id, &Err(errno), &[]);
    }
}

/// An operation that was begun.
pub(crate) struct Pending<T> {
    receiver: Receiver<Result<T, Errno>>,
    ended: Option<Result<T, Errno>>,
}

impl<T> Pending<T> {
    /// What came of it.
    #[track_caller]
    pub(crate) fn get(self) -> Result<T, Errno> {
        self.ended.unwrap_or_else(|| self.receiver.recv_timeout(PATIENCE).expect("the operation ends"))
    }

    /// Whether it has not ended yet.
    pub(crate) fn is_pending(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.receiver.try_recv().ok();
        }
        self.ended.is_none()
    }
}

/// What an operation calls when it has ended.
pub(crate) type Done<T> = Box<dyn FnOnce(Result<T, Errno>) + Send>;

/// Begins an operation.
pub(crate) fn ask<T: Send + 'static>(begin: impl FnOnce(Done<T>)) -> Pending<T> {
    let (sender, receiver) = mpsc::channel();
    // Nobody listens any more when the test has failed.
    begin(Box::new(move |result| drop(sender.send(result))));
    Pending { receiver, ended: None }
}

/// Begins to read.
pub(crate) fn read(vfs: &Arc<Vfs>, fh: u64, offset: u64, size: u32) -> Pending<Vec<u8>> {
    ask(|done| vfs.read(ME, 0, fh, offset, size, move |bytes| done(bytes.map(<[u8]>::to_vec))))
}

/// Begins to write.
pub(crate) fn write(vfs: &Arc<Vfs>, fh: u64, offset: u64, bytes: &[u8]) -> Pending<u32> {
    ask(|done| vfs.write(ME, 0, fh, offset, bytes, false, done))
}

/// Begins to list, and takes at most so many items. What comes of it is their names.
pub(crate) fn list(vfs: &Arc<Vfs>, fh: u64, offset: u64, most: usize) -> Pending<Vec<(Vec<u8>, u64)>> {
    let (sender, receiver) = mpsc::channel();
    vfs.readdir(ME, 0, fh, offset, true, move |items| {
        let taken = items.map(|items| {
            items.iter().take(most).map(|item| (item.name.clone(), item.offset)).collect::<Vec<_>>()
        });
        let count = taken.as_ref().map_or(0, Vec::len);
        drop(sender.send(taken));
        count
    });
    Pending { receiver, ended: None }
}
