//! A proxy that does to connections what bad networks do, on command and by the clock.
//!
//! It stands between a client and a server, on TCP or Unix sockets, and passes bytes on until told otherwise:
//! delay, rate, cut, half-open connections, black holes, flipped bits. It knows the frames of nearfs, so that it can
//! cut between a request and its reply. Each connection has a thread of its own;
//! bytes under way wait in a queue per direction, so a delay costs no bandwidth. Connecting itself is never
//! delayed, as the kernel does it before the proxy knows.

mod endpoint;
mod fault;
mod flip;
mod frames;
mod lane;
mod link;
mod measure;
mod ring;
mod script;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, poll};

pub use endpoint::Endpoint;
pub use fault::{Side, Way};
pub use frames::Calls;
pub use measure::{Measured, measure};
pub use script::{Command, HELP, ScriptError, parse_bytes, parse_duration};

use endpoint::{Listener, reset_on_close};
use fault::{Allowance, Faults};
use frames::{LinkNumber, Seen, Trap};
use link::{Link, LinkControl, Order, Wake};

/// Connections at once; more are closed as they come.
const CONNECTIONS_MAX: usize = 4096;
/// Rest after an `accept` that failed, as it does while descriptors have run out.
const ACCEPT_RETRY: Duration = Duration::from_millis(10);

/// A running proxy. Dropping it resets every connection and closes its address.
pub struct FaultProxy {
    shared: Arc<Shared>,
    endpoint: Endpoint,
    acceptor: Option<JoinHandle<()>>,
}

impl FaultProxy {
    /// Starts a proxy to `target` on a free port of the loopback address.
    pub fn start(target: impl Into<Endpoint>) -> io::Result<FaultProxy> {
        FaultProxy::start_on(&Endpoint::loopback(), target.into(), 0)
    }

    /// Starts a proxy to `target` that listens on `listen`. The `seed` decides which bits flip.
    pub fn start_on(listen: &Endpoint, target: Endpoint, seed: u64) -> io::Result<FaultProxy> {
        let listener = listen.listen()?;
        let endpoint = listener.endpoint()?;
        let shared = Arc::new(Shared::new(target, seed)?);
        let acceptor = thread::Builder::new().name("proxy-accept".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.accept(&listener)
        })?;
        Ok(FaultProxy { shared, endpoint, acceptor: Some(acceptor) })
    }

    /// Where clients connect to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Bytes that have left the proxy this way.
    pub fn passed_bytes(&self, way: Way) -> u64 {
        self.shared.passed[way as usize].load(SeqCst)
    }

    /// Number of connections that are open through the proxy.
    pub fn connections(&self) -> usize {
        self.shared.links().len()
    }

    /// Keeps each byte under way for `delay`, without loss of bandwidth up to 1 GB/s over 64 ms.
    pub fn set_delay(&self, ways: &[Way], delay: Duration) {
        self.change(ways, |faults| faults.delay = delay);
    }

    /// Passes at most `rate` bytes per second on each connection, down to one; None lifts the limit.
    pub fn set_rate(&self, ways: &[Way], rate: Option<u64>) {
        self.change(ways, |faults| faults.rate = rate.map(|rate| rate.max(1)));
    }

    /// Stops everything; nothing is lost and all of it goes on after `clear`, as with a broken network that heals.
    pub fn stall(&self, ways: &[Way]) {
        self.change(ways, |faults| faults.stalled = true);
    }

    /// Swallows everything, without a sign to the sender. A connection that lost bytes is reset by `clear`.
    pub fn black_hole(&self, ways: &[Way]) {
        self.change(ways, |faults| faults.swallowed = true);
    }

    /// Flips one bit in each byte with this probability.
    pub fn flip(&self, ways: &[Way], probability: f64) {
        self.change(ways, |faults| faults.flip = probability);
    }

    /// Resets all connections. New ones are accepted.
    pub fn cut(&self) {
        self.shared.cut_all();
    }

    /// Closes all connections as if both programs had. New ones are accepted.
    pub fn close(&self) {
        self.shared.order_all(Order::Close);
    }

    /// Lets `bytes` more pass this way, over all connections together, and cuts them all when the next one
    /// wants to: `cut_after(Way::Down, 0)` cuts when a request has been carried out and its reply is leaving.
    pub fn cut_after(&self, way: Way, bytes: u64) {
        self.shared.allowance(way).limit(bytes);
    }

    /// Lets `number` more of these calls pass, and cuts all connections when the answer to the last of them wants
    /// to leave: it has been carried out, and nobody is told.
    pub fn cut_reply(&self, calls: Calls, number: u64) {
        self.shared.set_trap(Some(Trap::new(calls, number)));
    }

    /// Loses the other side of all connections; the one `kept` goes on talking into the void.
    pub fn half_open(&self, kept: Side) {
        self.shared.order_all(Order::HalfOpen(kept));
    }

    /// Ends all faults that last.
    pub fn clear(&self) {
        Way::BOTH.into_iter().for_each(|way| self.shared.allowance(way).lift());
        self.shared.set_trap(None);
        self.change(&Way::BOTH, |faults| *faults = Faults::default());
    }

    fn change(&self, ways: &[Way], change: impl Fn(&mut Faults)) {
        let mut faults = self.shared.faults.lock();
        ways.iter().for_each(|way| change(&mut faults[*way as usize]));
        drop(faults);
        self.shared.links().iter().for_each(|link| link.reconsider());
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.stopped.store(true, SeqCst);
        self.shared.accept_wake.wake();
        if let Some(acceptor) = self.acceptor.take() {
            // A panic of the acceptor has been printed; there is nothing to add in a drop.
            acceptor.join().ok();
        }
        self.shared.cut_all();
    }
}

/// What the threads of a proxy share.
struct Shared {
    target: Endpoint,
    seed: u64,
    faults: Mutex<[Faults; 2]>,
    allowances: [Allowance; 2],
    passed: [AtomicU64; 2],
    trap: Mutex<Option<Trap>>,
    /// Whether there is one, which is asked with every read.
    has_trap: AtomicBool,
    links: Mutex<Vec<Weak<LinkControl>>>,
    accept_wake: Wake,
    stopped: AtomicBool,
}

impl Shared {
    fn new(target: Endpoint, seed: u64) -> io::Result<Shared> {
        Ok(Shared {
            target,
            seed,
            faults: Mutex::default(),
            allowances: [Allowance::unlimited(), Allowance::unlimited()],
            passed: Default::default(),
            trap: Mutex::default(),
            has_trap: AtomicBool::new(false),
            links: Mutex::default(),
            accept_wake: Wake::new()?,
            stopped: AtomicBool::new(false),
        })
    }

    fn faults(&self, way: Way) -> Faults {
        self.faults.lock()[way as usize]
    }

    fn allowance(&self, way: Way) -> &Allowance {
        &self.allowances[way as usize]
    }

    fn count(&self, way: Way, bytes: usize) {
        self.passed[way as usize].fetch_add(bytes as u64, SeqCst);
    }

    fn set_trap(&self, trap: Option<Trap>) {
        let mut own = self.trap.lock();
        self.has_trap.store(trap.is_some(), SeqCst);
        *own = trap;
    }

    fn wants_calls(&self) -> bool {
        self.has_trap.load(SeqCst) && self.trap.lock().as_ref().is_some_and(Trap::wants_calls)
    }

    /// Whether everything is to be cut before this frame.
    fn is_trapped(&self, link: LinkNumber, frame: &Seen) -> bool {
        self.has_trap.load(SeqCst) && self.trap.lock().as_mut().is_some_and(|trap| trap.sees(link, frame))
    }

    fn links(&self) -> Vec<Arc<LinkControl>> {
        self.links.lock().iter().filter_map(Weak::upgrade).collect()
    }

    fn order_all(&self, order: Order) {
        self.links().iter().for_each(|link| link.order(order));
    }

    fn cut_all(&self) {
        Way::BOTH.into_iter().for_each(|way| self.allowance(way).lift());
        self.set_trap(None);
        self.order_all(Order::Cut);
    }

    fn accept(self: &Arc<Self>, listener: &Listener) {
        let mut number = self.seed;
        while !self.stopped.load(SeqCst) {
            let mut polled =
                [PollFd::new(listener, PollFlags::IN), PollFd::new(&self.accept_wake, PollFlags::IN)];
            // An interrupted poll is tried again, as an accept that finds nobody is.
            poll(&mut polled, None).ok();
            match listener.accept() {
                Ok(client) => {
                    number = number.wrapping_add(1);
                    self.open_link(client, number);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    log::warn!("cannot accept a connection: {error}");
                    thread::sleep(ACCEPT_RETRY);
                }
            }
        }
    }

    /// Connects `client` to the target in a thread of its own. A client that cannot be served is let go.
    fn open_link(self: &Arc<Self>, client: OwnedFd, number: LinkNumber) {
        let opened = self.register().and_then(|control| {
            let shared = Arc::clone(self);
            thread::Builder::new().name("proxy-link".to_owned()).spawn(move || {
                match shared.target.connect() {
                    Ok(server) => Link::new(shared, control, client, server, number).run(),
                    Err(error) => {
                        log::warn!("cannot connect to {}: {error}", shared.target);
                        reset_on_close(&client);
                    }
                };
            })
        });
        if let Err(error) = opened {
            log::warn!("cannot serve a connection: {error}");
        }
    }

    fn register(&self) -> io::Result<Arc<LinkControl>> {
        let mut links = self.links.lock();
        links.retain(|link| link.strong_count() > 0);
        if links.len() >= CONNECTIONS_MAX {
            return Err(io::Error::other("too many connections"));
        }
        let control = Arc::new(LinkControl::new()?);
        links.push(Arc::downgrade(&control));
        Ok(control)
    }
}
