//! The client's requests that are not answered.

use std::time::Instant;

use crate::greeting::GrantedLimits;
use crate::id::RequestId;

/// A table of slots, each with at most one request. Submitting and answering are an index and a push or a pop;
/// slots are taken last-in first-out, so that few of them are ever used.
#[derive(Debug)]
pub(super) struct InFlight<C> {
    slots: Vec<Slot<C>>,
    free: Vec<u16>,
    slots_max: usize,
    bytes: usize,
    bytes_max: usize,
    submitted: u64,
    /// No deadline is earlier. It may be of a request that was answered.
    earliest_deadline: Option<Instant>,
}

#[derive(Debug)]
struct Slot<C> {
    sequence: u64,
    request: Option<Carried<C>>,
}

#[derive(Debug)]
struct Carried<C> {
    /// `None` once the request is cancelled.
    call: Option<C>,
    since: Instant,
    deadline: Option<Instant>,
    payload_bytes: u32,
    order: u64,
    sent: bool,
}

/// What a request asks of the session.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms {
    /// When its caller stops waiting; `None` for one who waits as long as it takes.
    pub deadline: Option<Instant>,
    /// Bytes of payload that it sends, or that its answer may bring.
    pub payload_bytes: u32,
}

/// Why a request cannot be submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// All slots are taken: wait for an answer.
    #[error("as many requests are in flight as the server admits")]
    Slots,
    /// Too many payload bytes are in flight: wait for an answer.
    #[error("as many bytes are in flight as the server admits")]
    Bytes,
    /// The session has not begun, or is over.
    #[error("there is no session")]
    NoSession,
}

/// A request that is not answered, for people who ask what is pending.
#[derive(Debug)]
pub struct Pending<'a, C> {
    /// Which.
    pub id: RequestId,
    /// When it was submitted.
    pub since: Instant,
    /// When its caller stops waiting.
    pub deadline: Option<Instant>,
    /// What the driver keeps of it; `None` if it was cancelled and only its outcome is awaited.
    pub call: Option<&'a C>,
}

impl<C> InFlight<C> {
    /// An empty table that admits nothing until [`Self::admit`] says how much.
    pub(super) fn new() -> InFlight<C> {
        InFlight {
            slots: Vec::new(),
            free: Vec::new(),
            slots_max: 0,
            bytes: 0,
            bytes_max: 0,
            submitted: 0,
            earliest_deadline: None,
        }
    }

    pub(super) fn admit(&mut self, limits: &GrantedLimits) {
        self.slots_max = limits.requests_in_flight_max as usize;
        self.bytes_max = limits.in_flight_bytes_max as usize;
    }

    /// Takes a slot. `sent` says whether the request goes out now, or with the next resume.
    pub(super) fn submit(
        &mut self,
        now: Instant,
        terms: Terms,
        sent: bool,
        call: C,
    ) -> Result<RequestId, (Full, C)> {
        if self.bytes + terms.payload_bytes as usize > self.bytes_max {
            return Err((Full::Bytes, call));
        }
        let Some(index) = self.take_slot() else { return Err((Full::Slots, call)) };
        self.bytes += terms.payload_bytes as usize;
        self.submitted += 1;
        self.earliest_deadline = earlier(self.earliest_deadline, terms.deadline);
        let slot = &mut self.slots[usize::from(index)];
        slot.sequence += 1;
        slot.request = Some(Carried {
            call: Some(call),
            since: now,
            deadline: terms.deadline,
            payload_bytes: terms.payload_bytes,
            order: self.submitted,
            sent,
        });
        Ok(RequestId::new(index, slot.sequence))
    }

    /// Gives the slot back. `None` if it carries no such request; `Some(None)` if it was cancelled.
    pub(super) fn answered(&mut self, id: RequestId) -> Option<Option<C>> {
        self.find(id)?;
        let carried = self.slots[id.slot()].request.take()?;
        self.bytes -= carried.payload_bytes as usize;
        self.free.push(id.slot() as u16);
        Some(carried.call)
    }

    /// Takes the call out of its request. The slot stays taken unless the request was never sent; the second
    /// value says whether it stays. `None` if it is not in flight or was cancelled before.
    pub(super) fn cancel(&mut self, id: RequestId) -> Option<(C, bool)> {
        let carried = self.find(id)?;
        let sent = carried.sent;
        let call = carried.call.take()?;
        if !sent {
            self.answered(id);
        }
        Some((call, sent))
    }

    /// What the driver keeps of a request that is neither answered nor cancelled.
    pub(super) fn call(&self, id: RequestId) -> Option<&C> {
        let slot = self.slots.get(id.slot()).filter(|slot| slot.sequence == id.sequence())?;
        slot.request.as_ref()?.call.as_ref()
    }

    /// Every request in the order of submission, all of them counting as sent from here on.
    pub(super) fn send_all(&mut self) -> Vec<(RequestId, Option<&C>)> {
        for carried in self.slots.iter_mut().filter_map(|slot| slot.request.as_mut()) {
            carried.sent = true;
        }
        let mut all: Vec<_> = self.carried().collect();
        all.sort_unstable_by_key(|(_, carried)| carried.order);
        all.into_iter().map(|(id, carried)| (id, carried.call.as_ref())).collect()
    }

    /// Those whose deadline has passed and that are not cancelled.
    pub(super) fn overdue(&mut self, now: Instant) -> Vec<RequestId> {
        if self.earliest_deadline.is_none_or(|earliest| earliest > now) {
            return Vec::new();
        }
        let mut overdue = Vec::new();
        let mut earliest = None;
        for (id, carried) in self.carried().filter(|(_, carried)| carried.call.is_some()) {
            match carried.deadline {
                Some(deadline) if deadline <= now => overdue.push(id),
                later => earliest = earlier(earliest, later),
            }
        }
        self.earliest_deadline = earliest;
        overdue
    }

    /// No deadline is earlier than this.
    pub(super) fn earliest_deadline(&self) -> Option<Instant> {
        self.earliest_deadline
    }

    pub(super) fn pending(&self) -> impl Iterator<Item = Pending<'_, C>> {
        self.carried().map(|(id, carried)| Pending {
            id,
            since: carried.since,
            deadline: carried.deadline,
            call: carried.call.as_ref(),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Empties the table for good: the calls that nobody will answer, in the order of submission.
    pub(super) fn end(&mut self) -> Vec<C> {
        let mut carried: Vec<_> = self.slots.drain(..).filter_map(|slot| slot.request).collect();
        carried.sort_unstable_by_key(|carried| carried.order);
        *self = InFlight::new();
        carried.into_iter().filter_map(|carried| carried.call).collect()
    }

    fn take_slot(&mut self) -> Option<u16> {
        if let Some(index) = self.free.pop() {
            return Some(index);
        }
        if self.slots.len() >= self.slots_max {
            return None;
        }
        let index = u16::try_from(self.slots.len()).ok()?;
        self.slots.push(Slot { sequence: 0, request: None });
        Some(index)
    }

    fn find(&mut self, id: RequestId) -> Option<&mut Carried<C>> {
        let slot = self.slots.get_mut(id.slot()).filter(|slot| slot.sequence == id.sequence())?;
        slot.request.as_mut()
    }

    fn carried(&self) -> impl Iterator<Item = (RequestId, &Carried<C>)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let carried = slot.request.as_ref()?;
            Some((RequestId::new(index as u16, slot.sequence), carried))
        })
    }
}

/// The earlier of two moments, where `None` is never.
pub(super) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
