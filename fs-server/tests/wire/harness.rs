//! A server in this process, and a client that says exactly what a test wants.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use nearfs_fs_server::config::{Config, Timings};
use nearfs_fs_server::descriptor::Descriptors;
use nearfs_fs_server::server::Server;
use nearfs_fs_server::store::Store;
use nearfs_fs_server::tree::Tree;
use nearfs_protocol::codec::{FrameKind, decode_control, encode_frame};
use nearfs_protocol::greeting::{Hello, Identity, Refusal, SessionWish, Welcome};
use nearfs_protocol::id::{BootId, Fh, Node, RequestId};
use nearfs_protocol::message::{Answer, Call, Caller, Reply, Request};
use nearfs_protocol::name::Name;
use nearfs_protocol::version::{Features, SPOKEN};
use nearfs_transport::frame::{FrameReader, FrameWriter, ReceiveError};
use nearfs_transport::link::{Link, LinkReader, LinkWriter};
use nearfs_transport::listen::{ListenAddress, Listener};
use nearfs_transport::pool::Pool;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// A server on a port of its own, with an empty directory.
pub(crate) struct Served {
    pub(crate) server: Server,
    pub(crate) address: SocketAddr,
    pub(crate) directory: TempDir,
    pub(crate) runtime: Runtime,
    state: Option<TempDir>,
}

impl Served {
    pub(crate) fn start() -> Served {
        Served::start_with(Timings::default(), 1000)
    }

    pub(crate) fn start_with(timings: Timings, sessions_max: usize) -> Served {
        Served::start_sharing(timings, sessions_max, &Descriptors::new(1000))
    }

    pub(crate) fn start_sharing(timings: Timings, sessions_max: usize, descriptors: &Descriptors) -> Served {
        Served::start_on("127.0.0.1:0", (timings, sessions_max), descriptors, None)
    }

    /// A server that keeps its sessions for its next life.
    pub(crate) fn start_kept(timings: Timings, sessions_max: usize, descriptors: &Descriptors) -> Served {
        let state = tempfile::tempdir().unwrap();
        Served::start_on("127.0.0.1:0", (timings, sessions_max), descriptors, Some(state))
    }

    /// The server stops, and another takes its place with what it has kept.
    pub(crate) fn restart(self) -> Served {
        let Served { server, address, directory, runtime, state } = self;
        runtime.block_on(server.stop());
        drop(server);
        runtime.shutdown_timeout(Duration::from_secs(20));
        Served::start_in(
            &address.to_string(),
            (Timings::default(), 64),
            &Descriptors::new(1000),
            (directory, state),
        )
    }

    /// A server that admits clients of other machines, which it takes its clients for: on a network of its own with an
    /// address that is not loopback. Must be called on a thread that [`leave_network`] was called on.
    pub(crate) fn start_for_strangers() -> Served {
        let address = format!("{STRANGE_ADDRESS}:0");
        Served::start_on(&address, (Timings::default(), 64), &Descriptors::new(1000), None)
    }

    fn start_on(
        address: &str,
        limits: (Timings, usize),
        descriptors: &Descriptors,
        state: Option<TempDir>,
    ) -> Served {
        Served::start_in(address, limits, descriptors, (tempfile::tempdir().unwrap(), state))
    }

    fn start_in(
        address: &str,
        (timings, sessions_max): (Timings, usize),
        descriptors: &Descriptors,
        (directory, state): (TempDir, Option<TempDir>),
    ) -> Served {
        let identity = Identity::Squash {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        };
        let tree = Tree::open(directory.path(), identity, false, descriptors).unwrap();
        let keep = |state: &TempDir| Store::open(state.path(), directory.path(), BootId([1; 16])).unwrap();
        let config = Config {
            tree: Arc::new(tree),
            store: state.as_ref().map(keep).map(Arc::new),
            insecure: true,
            sessions_max,
            connections_max: 4096,
            timings,
            journal: Arc::default(),
        };
        let server = Server::new(config).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let any: ListenAddress = address.parse().unwrap();
        let listener = runtime.block_on(async { Listener::bind(&any) }).unwrap();
        let ListenAddress::Tcp(address) = *listener.local() else { panic!("not TCP") };
        let (accepting, ticking) = (server.clone(), server.clone());
        runtime.spawn(async move { accepting.listen(listener).await });
        runtime.spawn(async move { ticking.keep_time().await });
        Served { server, address, directory, runtime, state }
    }

    /// A connection on which nothing was said.
    pub(crate) fn dial(&self) -> Client {
        Client::new(Link::from_socket(TcpStream::connect(self.address).unwrap().into()))
    }

    /// One that comes from this address of the machine.
    pub(crate) fn dial_from(&self, address: &str) -> Client {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};
        let (family, flags) = (AddressFamily::INET, SocketFlags::CLOEXEC);
        let socket = socket_with(family, SocketType::STREAM, flags, None).unwrap();
        bind(&socket, &SocketAddr::new(address.parse().unwrap(), 0)).unwrap();
        connect(&socket, &self.address).unwrap();
        Client::new(Link::from_socket(TcpStream::from(socket).into()))
    }

    /// A connection with a new session.
    pub(crate) fn client(&self) -> Client {
        let mut client = self.dial();
        client.greet(new_session()).unwrap();
        client
    }

    /// Waits until so many sessions have a connection.
    pub(crate) fn await_active(&self, sessions: usize) {
        wait_until(|| self.server.active_sessions() == sessions);
    }
}

pub(crate) fn wait_until(mut holds: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it never came to pass");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// An address that is not loopback, of the network that [`leave_network`] makes.
const STRANGE_ADDRESS: std::net::Ipv4Addr = std::net::Ipv4Addr::new(192, 0, 2, 7);

/// Gives this thread, and those that it starts, a network of their own with one address. Needs root.
pub(crate) fn leave_network() {
    // SAFETY: only the network of this thread changes; no descriptor of before is used on it.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.unwrap();
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    // SAFETY: an all-zero request is one; both requests write only the fields that are read for them, and the kernel
    // reads no further than the structure.
    let done = unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[..2].copy_from_slice(&[b'l' as libc::c_char, b'o' as libc::c_char]);
        let address = libc::sockaddr_in {
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: 0,
            sin_addr: libc::in_addr { s_addr: u32::from(STRANGE_ADDRESS).to_be() },
            sin_zero: [0; 8],
        };
        request.ifr_ifru.ifru_addr = std::mem::transmute::<libc::sockaddr_in, libc::sockaddr>(address);
        let addressed = libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFADDR, &request);
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        addressed | libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request)
    };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

pub(crate) fn new_session() -> SessionWish {
    SessionWish::New { export: vec![], path: vec![] }
}

pub(crate) fn hello(session: SessionWish) -> Hello {
    Hello { versions: SPOKEN, features: Features::all(), session, client: "wire test".into() }
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

/// The bytes of a frame.
pub(crate) fn frame<T: serde::Serialize>(
    kind: FrameKind,
    id: RequestId,
    control: &T,
    payload: &[u8],
) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_frame(&mut bytes, kind, id, control, payload.len()).unwrap();
    bytes.extend(payload);
    bytes
}

/// The bytes of a call.
pub(crate) fn call_frame(id: RequestId, request: &Request, payload: &[u8]) -> Vec<u8> {
    let call = Call { caller: Caller::default(), request: request.clone() };
    frame(FrameKind::Call, id, &call, payload)
}

/// What came, taken out of the reader.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) kind: FrameKind,
    pub(crate) id: RequestId,
    pub(crate) control: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

impl Received {
    pub(crate) fn answer(&self) -> Answer {
        assert_eq!(self.kind, FrameKind::Answer);
        decode_control(&self.control).unwrap()
    }
}

/// One connection.
pub(crate) struct Client {
    pub(crate) link: Link,
    pub(crate) reader: FrameReader<LinkReader>,
    pub(crate) writer: FrameWriter<LinkWriter>,
    pub(crate) welcome: Option<Welcome>,
    sequence: u64,
}

impl Client {
    pub(crate) fn new(link: Link) -> Client {
        link.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        link.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut reader = FrameReader::new(link.reader(), Pool::new(1 << 20));
        reader.admit();
        let writer = FrameWriter::new(link.writer());
        Client { link, reader, writer, welcome: None, sequence: 0 }
    }

    pub(crate) fn greet(&mut self, wish: SessionWish) -> Result<Welcome, Refusal> {
        self.greet_as(&hello(wish))
    }

    pub(crate) fn greet_as(&mut self, hello: &Hello) -> Result<Welcome, Refusal> {
        self.writer.send(FrameKind::Hello, RequestId(0), hello, b"").unwrap();
        let received = self.receive().unwrap();
        match received.kind {
            FrameKind::Welcome => {
                let welcome: Welcome = decode_control(&received.control).unwrap();
                self.welcome = Some(welcome.clone());
                Ok(welcome)
            }
            FrameKind::Refused => Err(decode_control(&received.control).unwrap()),
            other => panic!("greeted with {other:?}"),
        }
    }

    pub(crate) fn root(&self) -> Node {
        self.welcome.as_ref().unwrap().root.node
    }

    /// What to say on another connection to go on with this session.
    pub(crate) fn resume(&self) -> SessionWish {
        let Welcome { session, token, .. } = self.welcome.clone().unwrap();
        SessionWish::Resume { session, token }
    }

    pub(crate) fn join(&self) -> SessionWish {
        let Welcome { session, token, .. } = self.welcome.clone().unwrap();
        SessionWish::Join { session, token }
    }

    pub(crate) fn send_raw(&self, bytes: &[u8]) {
        self.link.writer().write_all(bytes).unwrap();
    }

    /// Sends raw bytes to a server that may have closed the connection.
    pub(crate) fn offer_raw(&self, bytes: &[u8]) {
        let _ = self.link.writer().write_all(bytes);
    }

    pub(crate) fn receive(&mut self) -> Result<Received, ReceiveError> {
        let frame = self.reader.next_frame()?;
        Ok(Received {
            kind: frame.header.kind,
            id: frame.header.id,
            control: frame.control.to_vec(),
            payload: frame.payload.to_vec(),
        })
    }

    /// Gives a sign of life.
    pub(crate) fn ping(&mut self) {
        self.send_raw(&frame(FrameKind::Ping, RequestId(1), &(), b""));
        assert_eq!(self.receive().unwrap().kind, FrameKind::Pong);
    }

    /// The next id of the first slot.
    pub(crate) fn next_id(&mut self) -> RequestId {
        self.sequence += 1;
        RequestId::new(0, self.sequence)
    }

    /// Asks and waits for the answer.
    pub(crate) fn ask(&mut self, request: &Request, payload: &[u8]) -> (Answer, Vec<u8>) {
        let id = self.next_id();
        self.send_raw(&call_frame(id, request, payload));
        let received = self.receive().unwrap();
        assert_eq!(received.id, id);
        (received.answer(), received.payload)
    }

    pub(crate) fn make_dir(&mut self, text: &str) -> Answer {
        let request = make_dir(self.root(), text);
        self.ask(&request, b"").0
    }

    /// Creates and opens a file in the root.
    pub(crate) fn create(&mut self, text: &str) -> Fh {
        let request =
            Request::Create { parent: self.root(), name: name(text), mode: 0o644, umask: 0, flags: 2 };
        match self.ask(&request, b"").0 {
            Ok(Reply::Created { fh, .. }) => fh,
            other => panic!("created as {other:?}"),
        }
    }

    /// Whether the server closes the connection, whatever it says before.
    pub(crate) fn is_closed(&mut self) -> bool {
        loop {
            match self.receive() {
                Ok(_) => {}
                Err(ReceiveError::Closed | ReceiveError::Cut) => return true,
                Err(ReceiveError::Io(error)) => return error.kind() == std::io::ErrorKind::ConnectionReset,
                Err(ReceiveError::Protocol(_)) => return false,
            }
        }
    }
}

pub(crate) fn make_dir(parent: Node, text: &str) -> Request {
    Request::MakeDir { parent, name: name(text), mode: 0o755, umask: 0 }
}

/// Memory that this process has in use.
pub(crate) fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Descriptors that this process has open.
pub(crate) fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
