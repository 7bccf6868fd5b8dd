//! Both session machines, joined by a network that fails, in virtual time: whatever is lost, late or doubled, whoever
//! sleeps, and however often the server is killed and started again, every mutation takes effect at most once and every
//! request has one outcome that is true.
//!
//! One seed is one world. A failing seed prints itself; `NEARFS_SEED=7 cargo test --test pair` runs it alone,
//! `NEARFS_SEEDS=100000`, or `scripts/soak --simulate 100000`, runs more of them.

#[path = "pair/client.rs"]
mod client;
#[path = "pair/disk.rs"]
mod disk;
#[path = "pair/network.rs"]
mod network;
#[path = "pair/server.rs"]
mod server;
#[path = "pair/world.rs"]
mod world;

use world::{Breakage, Tally, World};

const SEEDS: u64 = 200;

#[test]
fn every_request_has_one_effect_and_one_outcome() {
    let number = |name| std::env::var(name).ok().map(|value| value.parse().expect("a number"));
    let only: Option<u64> = number("NEARFS_SEED");
    let mut tally = Tally::default();
    for seed in only.map_or(0..number("NEARFS_SEEDS").unwrap_or(SEEDS), |seed| seed..seed + 1) {
        match World::new(seed, Breakage::None).run() {
            Ok(seen) => tally += seen,
            Err(what) => panic!(
                "seed {seed}: {what}; again: NEARFS_SEED={seed} cargo test -p nearfs-protocol --test pair"
            ),
        }
    }
    if only.is_none() {
        tally.assert_all_happened();
    }
}

#[test]
fn each_way_to_break_the_rules_is_noticed() {
    for breakage in Breakage::ALL {
        let noticed = (0..SEEDS).find_map(|seed| World::new(seed, breakage).run().err());
        assert!(noticed.is_some(), "{breakage:?} went unnoticed in {SEEDS} worlds");
    }
}

#[test]
fn a_seed_is_a_world() {
    let run = |seed| format!("{:?}", World::new(seed, Breakage::None).run());
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}
