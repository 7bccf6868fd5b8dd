//! One proxied connection: two sockets, two lanes, one thread that moves the bytes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::net::Shutdown;

use super::Shared;
use super::endpoint::reset_on_close;
use super::fault::{Faults, Side, Way};
use super::frames::LinkNumber;
use super::lane::Lane;

/// What one connection is told to do at once.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    /// End with a reset on both sides.
    Cut,
    /// End as if both programs had closed.
    Close,
    /// Lose the other side; the one named is not told.
    HalfOpen(Side),
}

/// Wakes a thread that polls, from any other.
pub(super) struct Wake(OwnedFd);

impl Wake {
    pub(super) fn new() -> io::Result<Wake> {
        Ok(Wake(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    pub(super) fn wake(&self) {
        // A full counter wakes as well.
        rustix::io::write(&self.0, &1u64.to_ne_bytes()).ok();
    }

    fn rest(&self) {
        // An empty counter is what is wanted.
        rustix::io::read(&self.0, &mut [0; 8]).ok();
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The proxy's grip on a link.
pub(super) struct LinkControl {
    order: Mutex<Option<Order>>,
    wake: Wake,
}

impl LinkControl {
    pub(super) fn new() -> io::Result<LinkControl> {
        Ok(LinkControl { order: Mutex::new(None), wake: Wake::new()? })
    }

    pub(super) fn order(&self, order: Order) {
        *self.order.lock() = Some(order);
        self.wake.wake();
    }

    /// Makes the link look at the faults again.
    pub(super) fn reconsider(&self) {
        self.wake.wake();
    }
}

/// What can be done with the two sockets.
#[derive(Clone, Copy)]
struct Ready {
    client: PollFlags,
    server: PollFlags,
}

impl Ready {
    fn nothing() -> Ready {
        Ready { client: PollFlags::empty(), server: PollFlags::empty() }
    }

    fn source(&mut self, way: Way) -> &mut PollFlags {
        match way {
            Way::Up => &mut self.client,
            Way::Down => &mut self.server,
        }
    }

    fn sink(&mut self, way: Way) -> &mut PollFlags {
        match way {
            Way::Up => &mut self.server,
            Way::Down => &mut self.client,
        }
    }
}

/// How a link ends.
enum End {
    Orderly,
    Reset,
}

pub(super) struct Link {
    shared: Arc<Shared>,
    control: Arc<LinkControl>,
    client: Option<OwnedFd>,
    server: Option<OwnedFd>,
    up: Lane,
    down: Lane,
    number: LinkNumber,
}

impl Link {
    pub(super) fn new(
        shared: Arc<Shared>,
        control: Arc<LinkControl>,
        client: OwnedFd,
        server: OwnedFd,
        number: LinkNumber,
    ) -> Link {
        let now = Instant::now();
        // The number is also the seed of its damages.
        let (up, down) = (Lane::new(number, now), Lane::new(!number, now));
        Link { shared, control, client: Some(client), server: Some(server), up, down, number }
    }

    /// Moves bytes until both programs have ended their streams, one of them fails, or the proxy says so.
    pub(super) fn run(mut self) {
        let end = loop {
            match self.step() {
                Ok(None) => {}
                Ok(Some(end)) => break end,
                Err(error) => {
                    log::debug!("a connection is reset: {error}");
                    break End::Reset;
                }
            }
        };
        if matches!(end, End::Reset) {
            self.client.iter().chain(&self.server).for_each(reset_on_close);
        }
    }

    fn step(&mut self) -> Result<Option<End>, Errno> {
        let ready = self.wait()?;
        let order = self.control.order.lock().take();
        match order {
            Some(Order::Cut) => return Ok(Some(End::Reset)),
            Some(Order::Close) => return Ok(Some(End::Orderly)),
            Some(Order::HalfOpen(side)) => self.lose_all_but(side),
            None => {}
        }
        for way in Way::BOTH {
            if !self.advance(way, ready)? {
                return Ok(Some(End::Reset));
            }
        }
        Ok(Way::BOTH.into_iter().all(|way| self.is_over(way)).then_some(End::Orderly))
    }

    /// Sleeps until a socket can be used, a byte is due, or the proxy has something to say.
    fn wait(&self) -> Result<Ready, Errno> {
        let now = Instant::now();
        let mut wanted = Ready::nothing();
        let mut wake_at: Option<Instant> = None;
        for way in Way::BOTH {
            let (lane, faults) = (self.lane(way), self.faults(way));
            if lane.has_room(&faults) {
                *wanted.source(way) |= PollFlags::IN;
            }
            if lane.releasable(&faults, now) > 0 {
                *wanted.sink(way) |= PollFlags::OUT;
            } else if let Some(due) = lane.next_release(&faults) {
                wake_at = Some(wake_at.map_or(due, |earlier| earlier.min(due)));
            }
        }
        self.poll(wanted, wake_at.map(|due| due.saturating_duration_since(now)))
    }

    /// A socket of which nothing is wanted is left out, as poll would report its end again and again.
    fn poll(&self, wanted: Ready, timeout: Option<Duration>) -> Result<Ready, Errno> {
        let mut ready = Ready::nothing();
        let mut polled = vec![PollFd::new(&self.control.wake, PollFlags::IN)];
        let mut flags = Vec::with_capacity(2);
        let sockets = [
            (&self.client, wanted.client, &mut ready.client),
            (&self.server, wanted.server, &mut ready.server),
        ];
        for (socket, wanted, ready) in sockets {
            if let Some(socket) = socket.as_ref().filter(|_| !wanted.is_empty()) {
                polled.push(PollFd::new(socket, wanted));
                flags.push(ready);
            }
        }
        let timeout = timeout.map(timespec);
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        for (ready, polled) in flags.into_iter().zip(&polled[1..]) {
            *ready = polled.revents();
        }
        if !polled[0].revents().is_empty() {
            self.control.wake.rest();
        }
        Ok(ready)
    }

    /// Moves what can be moved one way, and returns false when the connection must be cut.
    fn advance(&mut self, way: Way, mut ready: Ready) -> Result<bool, Errno> {
        let faults = self.faults(way);
        let (source, sink, lane) = match way {
            Way::Up => (&self.client, &self.server, &mut self.up),
            Way::Down => (&self.server, &self.client, &mut self.down),
        };
        if lane.has_hole(&faults) {
            return Ok(false);
        }
        let now = Instant::now();
        let readable = ready.source(way).intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR);
        if let Some(source) = source.as_ref().filter(|_| readable && lane.has_room(&faults)) {
            let seen = lane.fill(source.as_fd(), &faults, self.shared.wants_calls(), now)?;
            let trapped = seen.iter().find(|frame| self.shared.is_trapped(self.number, frame));
            trapped.into_iter().for_each(|frame| lane.cut_at(frame.at));
        }
        let Some(sink) = sink else { return Ok(true) };
        let passed = lane.drain(sink.as_fd(), &faults, self.shared.allowance(way), now)?;
        self.shared.count(way, passed.bytes);
        if passed.exhausted {
            self.shared.cut_all();
            return Ok(false);
        }
        if lane.pass_end(&faults, now) {
            rustix::net::shutdown(sink, Shutdown::Write)?;
        }
        Ok(true)
    }

    fn lose_all_but(&mut self, kept: Side) {
        let lost = match kept {
            Side::Client => self.server.take(),
            Side::Server => self.client.take(),
        };
        lost.iter().for_each(reset_on_close);
        self.up.discard();
        self.down.discard();
    }

    fn is_over(&self, way: Way) -> bool {
        let (source, sink) = match way {
            Way::Up => (&self.client, &self.server),
            Way::Down => (&self.server, &self.client),
        };
        let lane = self.lane(way);
        lane.end_passed() || source.is_none() || (sink.is_none() && lane.sender_ended())
    }

    fn lane(&self, way: Way) -> &Lane {
        match way {
            Way::Up => &self.up,
            Way::Down => &self.down,
        }
    }

    /// The faults of one way. Where no receiver is left, everything is swallowed.
    fn faults(&self, way: Way) -> Faults {
        let sink = match way {
            Way::Up => &self.server,
            Way::Down => &self.client,
        };
        let faults = self.shared.faults(way);
        Faults { swallowed: faults.swallowed || sink.is_none(), ..faults }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: i64::from(duration.subsec_nanos()) }
}
