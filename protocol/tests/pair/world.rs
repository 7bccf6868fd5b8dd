//! The simulated world: one queue of steps in virtual time, faults, and what must be true in the end.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::time::{Duration, Instant};

use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::RequestId;
use nearfs_protocol::message::{Answer, Reply};
use nearfs_protocol::session::client::Phase;

use crate::client::{self, Client};
use crate::network::{Frame, Network, Random, Side, Socket};
use crate::server::{self, Server};

const OPERATIONS: u64 = 60;
/// Faults and new operations come in this time; after it everything must come to an end.
const STORM: Duration = Duration::from_secs(60);
const CALM: Duration = Duration::from_secs(180);
const CONNECT_TIME_MAX: Duration = Duration::from_secs(1);

/// A deliberate fault of a driver, to see that the test would notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Breakage {
    None,
    /// The server carries out again what it has an answer for.
    ForgetsAnswers,
    /// The server carries out what it called cancelled.
    StartsWhatWasCancelled,
    /// The server says that what it is carrying out was cancelled.
    LiesAboutCancelled,
    /// The server sends an answer to a connection that has not asked.
    AnswersUnasked,
    /// A server that was started again carries out again what was begun and not answered.
    ForgetsIntents,
    /// A server that was started again takes for done what was only begun.
    BelievesIntents,
    /// A server that was started again has kept the session, but not the answers.
    ForgetsTheTable,
    /// The client sends again under new ids.
    SendsAgainAsNew,
    /// The client sends nothing again.
    SendsNothingAgain,
}

impl Breakage {
    pub(crate) const ALL: [Breakage; 9] = [
        Breakage::ForgetsAnswers,
        Breakage::StartsWhatWasCancelled,
        Breakage::LiesAboutCancelled,
        Breakage::AnswersUnasked,
        Breakage::ForgetsIntents,
        Breakage::BelievesIntents,
        Breakage::ForgetsTheTable,
        Breakage::SendsAgainAsNew,
        Breakage::SendsNothingAgain,
    ];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Operation {
    pub(crate) number: u64,
    pub(crate) mutation: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Carried out, with this result.
    Done(u64),
    /// Not carried out, and never will be.
    Never,
    /// The caller did not wait; what became of it is learned later.
    Unknown,
    /// The server has forgotten the session: nobody knows, and nobody will.
    Lost,
    /// An answer that no server gives here.
    Nonsense,
}

impl Outcome {
    pub(crate) fn of(answer: &Answer) -> Outcome {
        match answer {
            Ok(Reply::Offset(number)) => Outcome::Done(*number),
            Err(Errno::ECANCELED) => Outcome::Never,
            _ => Outcome::Nonsense,
        }
    }
}

/// How often what happened, to see that the worlds are as bad as they should be.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    done: u32,
    never: u32,
    learned_done: u32,
    learned_never: u32,
    losses: u32,
    replayed: u32,
    overtaken: u32,
    restarts: u32,
    lost: u32,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.done += other.done;
        self.never += other.never;
        self.learned_done += other.learned_done;
        self.learned_never += other.learned_never;
        self.losses += other.losses;
        self.replayed += other.replayed;
        self.overtaken += other.overtaken;
        self.restarts += other.restarts;
        self.lost += other.lost;
    }
}

impl Tally {
    pub(crate) fn assert_all_happened(self) {
        let Tally { done, never, learned_done, learned_never, losses, replayed, overtaken, restarts, lost } =
            self;
        let counts = [done, never, learned_done, learned_never, losses, replayed, overtaken, restarts, lost];
        assert!(counts.iter().all(|count| *count > 10), "{self:?}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Arrive(Side, Socket, Frame),
    ClientTimer,
    ServerTimer,
    Dialed(Socket),
    GiveUpDialing(Socket),
    Issue(Operation),
    Interrupt(Operation),
    Start(RequestId, Operation),
    TakeEffect(Operation),
    Finish(RequestId, Operation),
    Fault,
    /// The server is started again, with what it left or without.
    Restart(bool),
}

impl Step {
    /// Whose step it is; a fault is nobody's.
    fn side(&self) -> Option<Side> {
        match self {
            Step::Arrive(side, ..) => Some(*side),
            Step::ClientTimer
            | Step::Dialed(_)
            | Step::GiveUpDialing(_)
            | Step::Issue(_)
            | Step::Interrupt(_) => Some(Side::Client),
            Step::ServerTimer | Step::Start(..) | Step::TakeEffect(_) | Step::Finish(..) => {
                Some(Side::Server)
            }
            Step::Fault | Step::Restart(_) => None,
        }
    }

    /// Whether it is work of the server's that ends with its process.
    fn is_work(&self) -> bool {
        match self {
            Step::ServerTimer | Step::Start(..) | Step::TakeEffect(_) | Step::Finish(..) => true,
            Step::Arrive(..)
            | Step::ClientTimer
            | Step::Dialed(_)
            | Step::GiveUpDialing(_)
            | Step::Issue(_)
            | Step::Interrupt(_)
            | Step::Fault
            | Step::Restart(_) => false,
        }
    }
}

pub(crate) struct World {
    seed: u64,
    random: Random,
    start: Instant,
    now: Duration,
    steps: BTreeMap<(Duration, u64), Step>,
    counter: u64,
    network: Network,
    client: Client,
    server: Server,
    /// The machine of that side sleeps until then; what arrives waits.
    asleep_until: [Duration; 2],
    /// No process of the server's runs.
    server_is_down: bool,
    restarts: u32,
    /// Connections cannot be made until then.
    outage_until: Duration,
    told: BTreeMap<Operation, Outcome>,
    learned: BTreeMap<Operation, Outcome>,
    losses: u32,
    broken: Option<String>,
}

impl World {
    pub(crate) fn new(seed: u64, breakage: Breakage) -> World {
        World {
            seed,
            random: Random::new(seed),
            start: Instant::now(),
            now: Duration::ZERO,
            steps: BTreeMap::new(),
            counter: 0,
            network: Network::default(),
            client: Client::new(seed, breakage),
            server: Server::new(breakage),
            asleep_until: [Duration::ZERO; 2],
            server_is_down: false,
            restarts: 0,
            outage_until: Duration::ZERO,
            told: BTreeMap::new(),
            learned: BTreeMap::new(),
            losses: 0,
            broken: None,
        }
    }

    pub(crate) fn run(mut self) -> Result<Tally, String> {
        for number in 0..OPERATIONS {
            let operation = Operation { number, mutation: !number.is_multiple_of(3) };
            let at = self.random.ms(0, STORM.as_millis() as u64);
            self.schedule(at, Step::Issue(operation));
            if self.random.chance(25) {
                let patience = self.random.ms(0, 200);
                self.schedule(at + patience, Step::Interrupt(operation));
            }
        }
        for _ in 0..self.random.below(12) {
            let at = self.random.ms(0, STORM.as_millis() as u64);
            self.schedule(at, Step::Fault);
        }
        self.dial();
        while let Some(((at, order), step)) = self.steps.pop_first() {
            self.now = at;
            let wakes_at = step.side().map(|side| self.asleep_until[side as usize]);
            if let Some(wakes_at) = wakes_at.filter(|at| self.now < *at) {
                self.steps.insert((wakes_at, order), step);
                continue;
            }
            self.take(step);
            if let Some(what) = self.broken.take() {
                return Err(format!("at {:?}: {what}", self.now));
            }
            let all_told = self.told.len() as u64 == OPERATIONS && self.client.is_idle();
            if self.now > STORM && all_told && self.server.session.running() == 0 {
                break;
            }
            if self.now > STORM + CALM {
                return Err(format!("stuck: {:?}", self.client.session));
            }
        }
        self.verdict()
    }

    fn take(&mut self, step: Step) {
        let now = self.start + self.now;
        let was_lost = matches!(self.client.session.phase(), Phase::Lost { .. });
        match step {
            Step::Arrive(side, socket, frame) => self.arrive(side, socket, frame, now),
            Step::ClientTimer => {
                let wishes = self.client.timer(now);
                self.grant_client(wishes);
            }
            Step::ServerTimer => {
                let wishes = self.server.timer(now);
                self.grant_server(wishes);
            }
            Step::Dialed(socket) => {
                let wishes = self.client.dialed(socket);
                self.grant_client(wishes);
            }
            Step::GiveUpDialing(socket) => {
                if *self.client.session.phase() == Phase::Greeting {
                    // If the greeting arrived still, a server would begin a session that nobody uses.
                    self.network.cut(socket, Side::Server);
                }
                let wishes = self.client.gave_up(socket, now);
                self.grant_client(wishes);
            }
            Step::Issue(operation) => {
                let deadline = self.random.chance(50).then(|| self.random.ms(5, 5000));
                self.client.issue(operation, deadline.map(|patience| now + patience));
                if let Some(patience) = deadline {
                    // The session keeps the deadline of what was submitted; this is for what never was.
                    self.schedule(self.now + patience + Duration::from_secs(5), Step::Interrupt(operation));
                }
            }
            Step::Interrupt(operation) => {
                let wishes = self.client.interrupt(operation);
                self.grant_client(wishes);
            }
            Step::Start(id, operation) => self.start(id, operation),
            Step::TakeEffect(operation) => *self.server.disk.effects.entry(operation).or_default() += 1,
            Step::Finish(id, operation) => {
                let wishes = self.server.finish(id, operation);
                self.grant_server(wishes);
            }
            Step::Fault => self.fault(),
            Step::Restart(has_state) => {
                self.server.restart(has_state, now);
                self.server_is_down = false;
            }
        }
        let pick = self.random.below(1 << 20);
        let wishes = self.client.submit_waiting(now, pick);
        self.grant_client(wishes);
        let is_lost = matches!(self.client.session.phase(), Phase::Lost { .. });
        self.losses += u32::from(is_lost && !was_lost);
        self.wind_timers();
    }

    fn arrive(&mut self, side: Side, socket: Socket, frame: Frame, now: Instant) {
        if !self.network.carries(socket, side) {
            return;
        }
        match side {
            Side::Client => {
                let wishes = self.client.arrived(socket, frame, now);
                self.grant_client(wishes);
            }
            Side::Server => {
                let wishes = self.server.arrived(socket, frame, now);
                self.grant_server(wishes);
            }
        }
    }

    fn start(&mut self, id: RequestId, operation: Operation) {
        if self.server.start(id, operation) {
            let (work, rest) = (self.random.ms(0, 300), self.random.ms(0, 300));
            self.schedule(self.now + work, Step::TakeEffect(operation));
            self.schedule(self.now + work + rest, Step::Finish(id, operation));
        }
    }

    fn grant_client(&mut self, wishes: Vec<client::Wish>) {
        for wish in wishes {
            match wish {
                client::Wish::Send(socket, frame) => self.send(Side::Server, socket, frame),
                client::Wish::Close(socket) => self.send(Side::Server, socket, Frame::Closed),
                client::Wish::Dial => self.dial(),
                client::Wish::Tell(operation, outcome) => {
                    if let Some(before) = self.told.insert(operation, outcome) {
                        self.broken = Some(format!("{operation:?} was told {before:?} and {outcome:?}"));
                    }
                }
                client::Wish::Learn(operation, outcome) => {
                    if let Some(before) = self.learned.insert(operation, outcome) {
                        self.broken = Some(format!("{operation:?} learned {before:?} and {outcome:?}"));
                    }
                }
                client::Wish::Broken(what) => self.broken = Some(what),
            }
        }
    }

    fn grant_server(&mut self, wishes: Vec<server::Wish>) {
        for wish in wishes {
            match wish {
                server::Wish::Send(socket, frame) => self.send(Side::Client, socket, frame),
                server::Wish::Close(socket) => self.send(Side::Client, socket, Frame::Closed),
                server::Wish::Queue(id, operation) => {
                    let wait = if self.random.chance(50) { Duration::ZERO } else { self.random.ms(0, 500) };
                    self.schedule(self.now + wait, Step::Start(id, operation));
                }
                server::Wish::Broken(what) => self.broken = Some(what),
            }
        }
    }

    fn send(&mut self, to: Side, socket: Socket, frame: Frame) {
        if let Some(at) = self.network.send(socket, to, self.now, &mut self.random) {
            self.schedule(at, Step::Arrive(to, socket, frame));
        }
    }

    fn dial(&mut self) {
        let socket = self.network.open();
        let took = self.random.ms(0, 30);
        if self.now < self.outage_until || self.server_is_down {
            self.schedule(self.now + took, Step::GiveUpDialing(socket));
        } else {
            self.schedule(self.now + took, Step::Dialed(socket));
            self.schedule(self.now + CONNECT_TIME_MAX, Step::GiveUpDialing(socket));
        }
    }

    fn fault(&mut self) {
        match self.random.below(100) {
            0..25 => return self.kill_server(true),
            25 => return self.kill_server(false),
            26..36 => {
                self.asleep_until[Side::Server as usize] = self.now + self.random.ms(100, 15_000);
                return;
            }
            _ => {}
        }
        let sockets: Vec<_> = self.network.sockets().collect();
        let Some(&socket) = sockets.get(self.random.below(sockets.len().max(1) as u64) as usize) else {
            return;
        };
        match self.random.below(6) {
            // The connection breaks and both sides hear of it; what is on its way is lost.
            0 => self.break_off(socket, [true, true]),
            1 => self.break_off(socket, [true, false]),
            2 => self.break_off(socket, [false, true]),
            // Nothing passes any more, and nobody is told.
            3 => self.break_off(socket, [false, false]),
            4 => self.asleep_until[Side::Client as usize] = self.now + self.random.ms(100, 15_000),
            _ => {
                self.outage_until = self.now + self.random.ms(100, 25_000);
                sockets.into_iter().for_each(|socket| self.break_off(socket, [true, true]));
            }
        }
    }

    /// The server's process dies between two steps of its own. Its connections end, and what it had sent may arrive.
    fn kill_server(&mut self, has_state: bool) {
        if self.server_is_down {
            return;
        }
        self.server_is_down = true;
        self.restarts += 1;
        self.asleep_until[Side::Server as usize] = Duration::ZERO;
        self.steps.retain(|_, step| !step.is_work());
        let sockets: Vec<_> = self.network.sockets().collect();
        sockets.into_iter().for_each(|socket| self.break_off(socket, [false, true]));
        let down = self.random.ms(10, 8000);
        self.schedule(self.now + down, Step::Restart(has_state));
    }

    /// Breaks a connection. A side that is told of it still reads what arrives before some moment.
    fn break_off(&mut self, socket: Socket, told: [bool; 2]) {
        for side in [Side::Server, Side::Client] {
            let last = self.network.send(socket, side, self.now, &mut self.random);
            let Some(last) = last.filter(|_| told[side as usize]) else {
                self.network.cut(socket, side);
                continue;
            };
            let until = self.now + self.random.ms(0, (last - self.now).as_millis() as u64 + 1);
            let arrives = |at: Duration, step: &Step| match step {
                Step::Arrive(to, on, _) => *to != side || *on != socket || at <= until,
                Step::ClientTimer
                | Step::ServerTimer
                | Step::Dialed(_)
                | Step::GiveUpDialing(_)
                | Step::Issue(_)
                | Step::Interrupt(_)
                | Step::Start(..)
                | Step::TakeEffect(_)
                | Step::Finish(..)
                | Step::Fault
                | Step::Restart(_) => true,
            };
            self.steps.retain(|(at, _), step| arrives(*at, step));
            self.network.close(socket, side);
            self.schedule(until, Step::Arrive(side, socket, Frame::Closed));
        }
    }

    /// Timers may fire too often, never too late while their side is awake.
    fn wind_timers(&mut self) {
        let client = self.client.session.poll_timeout();
        let server = self.server.session.poll_timeout().filter(|_| !self.server_is_down);
        for (due, step) in [(client, Step::ClientTimer), (server, Step::ServerTimer)] {
            if let Some(due) = due {
                let at = due.saturating_duration_since(self.start).max(self.now);
                let same = std::mem::discriminant(&step);
                let earlier = self.steps.iter().take_while(|((when, _), _)| *when <= at);
                if !earlier.into_iter().any(|(_, waiting)| std::mem::discriminant(waiting) == same) {
                    self.schedule(at, step);
                }
            }
        }
    }

    fn schedule(&mut self, at: Duration, step: Step) {
        self.counter += 1;
        self.steps.insert((at, self.counter), step);
    }

    /// What each caller was told, or learned later, is what the disk shows.
    fn verdict(self) -> Result<Tally, String> {
        let mut tally = Tally {
            losses: self.losses,
            replayed: self.server.replayed,
            overtaken: self.server.overtaken,
            restarts: self.restarts,
            ..Tally::default()
        };
        if self.told.len() as u64 != OPERATIONS {
            return Err(format!("only {} of {OPERATIONS} were told (seed {})", self.told.len(), self.seed));
        }
        for (operation, outcome) in self.told {
            let effects = self.server.disk.count(operation);
            let learned = self.learned.get(&operation).copied();
            let last = if outcome == Outcome::Unknown { learned } else { Some(outcome) };
            match (outcome, learned) {
                (Outcome::Done(_), _) => tally.done += 1,
                (Outcome::Unknown, Some(Outcome::Done(_))) => tally.learned_done += 1,
                (Outcome::Unknown, Some(_)) => tally.learned_never += 1,
                (Outcome::Unknown, None) | (Outcome::Lost, _) => tally.lost += 1,
                (Outcome::Never | Outcome::Nonsense, _) => tally.never += 1,
            }
            let holds = match last {
                Some(Outcome::Done(number)) => {
                    number == operation.number && effects >= 1 && (effects == 1 || !operation.mutation)
                }
                Some(Outcome::Never) => effects == 0 || !operation.mutation,
                // Only with the session does the knowledge go; and nothing is made twice even so.
                Some(Outcome::Lost) | None => self.client.is_over() && (effects <= 1 || !operation.mutation),
                Some(Outcome::Unknown | Outcome::Nonsense) => false,
            };
            if !holds {
                return Err(format!(
                    "{operation:?}: told {outcome:?}, learned {learned:?}, {effects} effects"
                ));
            }
        }
        Ok(tally)
    }
}
