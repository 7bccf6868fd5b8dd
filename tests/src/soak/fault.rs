//! What goes wrong, one a round, from a seed.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;

use super::place::Place;
use super::process::send;
use super::worker::Worker;
use crate::proxy::{Calls, Side, Way};

/// Longest time that a fault lasts: below the lease, so that nobody loses a lock by it.
const LASTS_MS_MAX: u64 = 7_000;
/// Mounts made and unmade in one storm.
const STORM_MOUNTS: u64 = 4;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// Nothing passes any more, in one direction or both, and nobody is told.
    BlackHole,
    /// All connections are cut, again and again.
    Cuts,
    /// They are cut when changes have been carried out and their replies are leaving.
    RepliesCut,
    /// One side is told that the connection is lost, the other is not.
    HalfOpen,
    /// A kilobyte a second.
    Trickle,
    /// The server is killed and started again.
    ServerKilled,
    /// It is killed several times, as soon as it listens.
    ServerKilledOften,
    /// The server stops in good order and is started again.
    ServerRestarted,
    /// The server is stopped for a while (SIGSTOP).
    ServerFrozen,
    /// A client is stopped for a while.
    ClientFrozen,
    /// A client is killed, and its mount made again.
    ClientKilled,
    /// Mounts come and go, some of them while the server is frozen.
    UmountStorm,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 12] = [
        Fault::BlackHole,
        Fault::Cuts,
        Fault::RepliesCut,
        Fault::HalfOpen,
        Fault::Trickle,
        Fault::ServerKilled,
        Fault::ServerKilledOften,
        Fault::ServerRestarted,
        Fault::ServerFrozen,
        Fault::ClientFrozen,
        Fault::ClientKilled,
        Fault::UmountStorm,
    ];

    /// Its name in the table.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Strikes, and heals. How often each single thing was done, and what did not end in time.
    pub(super) fn strike(
        self,
        place: &mut Place,
        workers: &mut [Worker],
        random: &mut Random,
    ) -> Result<Struck> {
        let mut struck = Struck { times: 1, stuck: Vec::new() };
        let lasts = Duration::from_millis(200 + random.below(LASTS_MS_MAX - 200));
        match self {
            Fault::BlackHole => {
                let ways = [&[Way::Up][..], &[Way::Down], &Way::BOTH];
                place.proxy.black_hole(ways[random.below(3) as usize]);
                sleep(lasts);
                place.proxy.clear();
            }
            Fault::Cuts => {
                struck.times = 3 + random.below(10);
                for _ in 0..struck.times {
                    place.proxy.cut();
                    sleep(Duration::from_millis(random.below(300)));
                }
            }
            Fault::RepliesCut => {
                struck.times = 3 + random.below(10);
                for _ in 0..struck.times {
                    place.proxy.cut_reply(Calls::Changes, 1 + random.below(20));
                    sleep(Duration::from_millis(50 + random.below(250)));
                }
                place.proxy.clear();
            }
            Fault::HalfOpen => {
                place.proxy.half_open(if random.below(2) == 0 { Side::Client } else { Side::Server });
                sleep(lasts);
                place.proxy.clear();
            }
            Fault::Trickle => {
                place.proxy.set_rate(&Way::BOTH, Some(1000));
                sleep(lasts);
                place.proxy.clear();
            }
            Fault::ServerKilled | Fault::ServerKilledOften | Fault::ServerRestarted => {
                self.strike_server(place, random, &mut struck)?;
            }
            Fault::ServerFrozen => {
                place.signal_server(libc::SIGSTOP);
                sleep(lasts);
                place.signal_server(libc::SIGCONT);
            }
            Fault::ClientFrozen => {
                let pid = place.mounts[random.below(2) as usize].pid;
                send(pid, libc::SIGSTOP);
                sleep(lasts);
                send(pid, libc::SIGCONT);
            }
            Fault::ClientKilled => kill_client(place, workers, random)?,
            Fault::UmountStorm => storm(place, random, &mut struck)?,
        }
        Ok(struck)
    }

    fn strike_server(self, place: &mut Place, random: &mut Random, struck: &mut Struck) -> Result<()> {
        if self == Fault::ServerKilledOften {
            struck.times = 2 + random.below(4);
        }
        for _ in 0..struck.times {
            if self == Fault::ServerRestarted {
                struck.stuck.extend(place.stop_server()?);
            } else {
                place.kill_server();
            }
            sleep(Duration::from_millis(random.below(1000)));
            place.start_server()?;
            if struck.times > 1 {
                sleep(Duration::from_millis(random.below(500)));
            }
        }
        Ok(())
    }
}

/// What came of a fault.
pub(super) struct Struck {
    pub(super) times: u64,
    pub(super) stuck: Vec<String>,
}

fn kill_client(place: &mut Place, workers: &mut [Worker], random: &mut Random) -> Result<()> {
    let which = random.below(place.mounts.len() as u64) as usize;
    send(place.mounts[which].pid, libc::SIGKILL);
    sleep(Duration::from_millis(100));
    // Its programs fail with it, and leave the dead mount.
    let name = if which == 0 { "one" } else { "two" };
    place.mounts[which] = place.mount(name)?;
    for worker in workers.iter_mut().filter(|worker| worker.mount == which) {
        worker.replace(place, random)?;
    }
    Ok(())
}

fn storm(place: &Place, random: &mut Random, struck: &mut Struck) -> Result<()> {
    struck.times = STORM_MOUNTS;
    for number in 0..STORM_MOUNTS {
        let mount = place.mount(&format!("storm-{number}"))?;
        // Something to give back.
        std::fs::read_dir(&mount.path)?.count();
        let frozen = random.below(3) == 0;
        if frozen {
            place.signal_server(libc::SIGSTOP);
        }
        let took = place.unmount(&mount);
        place.signal_server(libc::SIGCONT);
        if took?.is_none() {
            struck
                .stuck
                .push(format!("umount does not end{}", if frozen { " with a frozen server" } else { "" }));
        }
        std::fs::remove_dir(&mount.path).ok();
    }
    Ok(())
}

/// SplitMix64: the same numbers from the same seed.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// The numbers below `count`, in an order of chance.
    pub(super) fn shuffle(&mut self, order: &mut Vec<usize>, count: usize) {
        *order = (0..count).collect();
        for at in (1..count).rev() {
            order.swap(at, self.below(at as u64 + 1) as usize);
        }
    }
}
