//! One connection's way in: who reads it.
//!
//! Answers on the connection of small requests are read by a thread that has just asked and has nothing better to do
//! than to wait ([`Rpc::attend`]): its own answer then wakes nobody else. It goes on while answers are awaited and
//! arrive. The connection's *reader* is there for all other times: it begins when it is called, or when nothing was
//! heard for a while, and stands by when nothing is awaited any more.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nearfs_protocol::codec::FrameKind;
use nearfs_transport::frame::{FrameReader, ReceiveError};
use nearfs_transport::link::LinkReader;
use parking_lot::{Condvar, Mutex};

use crate::rpc::Rpc;
use crate::rpc::lane::Lane;

/// How long a thread that attends waits for the next answer before it leaves the connection to its reader, so that it
/// is back with the kernel soon, whatever the server does.
pub(super) const ATTEND_TIME_MAX: Duration = Duration::from_millis(10);
/// How long nothing must have been heard before the reader begins without being called.
const STAND_BY_TIME: Duration = Duration::from_millis(10);

/// What arrives on a connection, before it is read.
pub(super) struct Inbox {
    /// Whoever holds it reads. None when the connection has ended.
    frames: Mutex<Option<FrameReader<LinkReader>>>,
    /// Whether threads that attend may read.
    is_shared: bool,
    /// Calls that were sent and not answered.
    awaited: AtomicUsize,
    /// Frames that were read, as far as they can be counted.
    heard: AtomicUsize,
    is_reader_called: Mutex<bool>,
    called: Condvar,
}

/// Why nobody reads on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    /// Nothing arrived for a while.
    Silent,
    /// An answer arrived, and nothing is awaited any more.
    Unasked,
    /// An answer arrived, and more are awaited.
    Asked,
    /// The connection has ended.
    Ended,
}

thread_local! {
    static ATTENDING: RefCell<Attending> = const { RefCell::new(Attending::Nothing) };
}

/// The answers that a thread sees to itself.
enum Attending {
    /// None: readers do.
    Nothing,
    /// Those on the connection that it asked on, if it did.
    Own(Option<Arc<Lane>>),
}

impl Inbox {
    /// `is_shared`: whether threads that attend read it too. Its link then has a read timeout of [`ATTEND_TIME_MAX`].
    pub(super) fn new(frames: FrameReader<LinkReader>, is_shared: bool) -> Inbox {
        Inbox {
            frames: Mutex::new(Some(frames)),
            is_shared,
            awaited: AtomicUsize::new(0),
            heard: AtomicUsize::new(0),
            is_reader_called: Mutex::new(false),
            called: Condvar::new(),
        }
    }

    /// A call is about to be sent.
    pub(super) fn expect(&self) {
        self.awaited.fetch_add(1, Ordering::SeqCst);
    }

    /// A call was answered.
    pub(super) fn answered(&self) {
        let one_less = |awaited: usize| awaited.checked_sub(1);
        // An answer to what was asked on another connection finds nothing to take away.
        let _ = self.awaited.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less);
    }

    fn is_awaiting(&self) -> bool {
        self.awaited.load(Ordering::SeqCst) > 0
    }

    /// Has the reader begin, unless somebody reads.
    fn call_reader(&self) {
        *self.is_reader_called.lock() = true;
        self.called.notify_one();
    }

    /// Returns when the reader is called, or nothing was heard for a while.
    fn stand_by(&self) {
        let mut is_called = self.is_reader_called.lock();
        let mut heard = self.heard.load(Ordering::Relaxed);
        while !std::mem::take(&mut *is_called) {
            let timed_out = self.called.wait_for(&mut is_called, STAND_BY_TIME).timed_out();
            let before = std::mem::replace(&mut heard, self.heard.load(Ordering::Relaxed));
            if timed_out && heard == before {
                return;
            }
        }
    }
}

impl Rpc {
    /// Runs `ask`, and then reads the answer, if nobody else reads the connection that it asked on. For a thread that has
    /// nothing to do until it is asked again; it is back soon in any case.
    pub(crate) fn attend(self: &Arc<Self>, ask: impl FnOnce()) {
        ATTENDING.set(Attending::Own(None));
        ask();
        // What answers ask in turn is seen to as well.
        while let Attending::Own(Some(lane)) = ATTENDING.replace(Attending::Own(None)) {
            self.read_awaited(&lane);
        }
        ATTENDING.set(Attending::Nothing);
    }

    /// This thread has asked on a connection: sees to it that the answer is read.
    pub(super) fn see_to_answer(lane: Arc<Lane>) {
        if !lane.inbox.is_shared {
            return;
        }
        ATTENDING.with_borrow_mut(|attending| match attending {
            Attending::Own(own) => *own = Some(lane),
            Attending::Nothing => lane.inbox.call_reader(),
        });
    }

    /// The reader's thread: until the connection ends.
    pub(super) fn read(self: &Arc<Self>, lane: &Arc<Lane>) {
        while self.read_idle(lane) != Pause::Ended {
            lane.inbox.stand_by();
        }
    }

    /// Reads whatever comes, until nothing is awaited or somebody else reads.
    fn read_idle(self: &Arc<Self>, lane: &Arc<Lane>) -> Pause {
        while let Some(mut frames) = lane.inbox.frames.try_lock() {
            *lane.inbox.is_reader_called.lock() = false;
            let pause = loop {
                match self.read_frames(lane, &mut frames) {
                    Pause::Silent => wait_readable(&frames),
                    Pause::Asked => {}
                    pause @ (Pause::Unasked | Pause::Ended) => break pause,
                }
            };
            drop(frames);
            if pause == Pause::Ended || !lane.inbox.is_awaiting() {
                return pause;
            }
        }
        Pause::Unasked
    }

    /// Reads one answer, and leaves the others to the reader. Who finds that somebody reads relies on him, so that he
    /// looks once more after he has let go.
    fn read_awaited(self: &Arc<Self>, lane: &Arc<Lane>) {
        while lane.inbox.is_awaiting()
            && let Some(mut frames) = lane.inbox.frames.try_lock()
        {
            let pause = self.read_frames(lane, &mut frames);
            drop(frames);
            match pause {
                Pause::Unasked => {}
                Pause::Asked | Pause::Silent | Pause::Ended => return lane.inbox.call_reader(),
            }
        }
    }

    fn read_frames(
        self: &Arc<Self>,
        lane: &Arc<Lane>,
        frames: &mut Option<FrameReader<LinkReader>>,
    ) -> Pause {
        let Some(reader) = frames else { return Pause::Ended };
        let inbox = &lane.inbox;
        loop {
            let received = reader.next_frame().and_then(|frame| {
                let kind = frame.header.kind;
                self.received(lane, frame)?;
                Ok(kind)
            });
            match received {
                Ok(kind) => {
                    inbox.heard.fetch_add(1, Ordering::Relaxed);
                    // Only after an answer is there somebody who may go on asking.
                    if inbox.is_shared && kind == FrameKind::Answer {
                        return if inbox.is_awaiting() { Pause::Asked } else { Pause::Unasked };
                    }
                }
                Err(ReceiveError::Io(error)) if inbox.is_shared && error.kind() == ErrorKind::WouldBlock => {
                    return Pause::Silent;
                }
                Err(error) => {
                    *frames = None;
                    lane.close();
                    self.lost(lane, &error);
                    return Pause::Ended;
                }
            }
        }
    }
}

fn wait_readable(frames: &Option<FrameReader<LinkReader>>) {
    if let Some(Err(error)) = frames.as_ref().map(|frames| frames.source().wait_readable()) {
        log::debug!("cannot wait for what is to be read: {error}");
    }
}
