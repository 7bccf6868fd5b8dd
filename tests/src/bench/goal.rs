//! What nearfs has to reach, computed from the rivals and the ceiling of the same stage.

use std::collections::BTreeMap;

use serde::Serialize;

use super::metric::{METRICS, Metric, Unit};
use super::record::StageRecord;
use super::system::Role;

/// How many times as good as the best rival is good enough.
const RIVAL_FACTOR: f64 = 1.5;

/// How much of the ceiling is good enough, for first and for repeated accesses.
const CEILING_SHARE: f64 = 0.9;
const CEILING_SHARE_REPEATED: f64 = 0.95;

/// With this much delay a sequential read must still reach so many megabytes each second.
const FAR_RTT_MS: u64 = 20;
const FAR_READ_MB_PER_SECOND: f64 = 500.0;

/// Round trips that an operation may take with a delay. Creating a small file is two mutations: the create and
/// the write.
const ROUND_TRIPS: [(&str, f64); 4] =
    [("create", 2.0), ("open-read-fresh", 1.0), ("rename", 1.0), ("unlink", 1.0)];

/// What may be added to a round trip by the work itself and by timers before another one is counted.
const ROUND_TRIP_SLACK: f64 = 0.25;

/// One figure to reach.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Goal {
    /// In the unit of the metric.
    pub(super) target: f64,
    /// Where the target comes from.
    pub(super) because: String,
    /// The median of nearfs, when it was measured.
    pub(super) measured: Option<f64>,
    pub(super) reached: Option<bool>,
}

/// The goals of a stage, by metric.
pub(super) fn goals(stage: &StageRecord) -> BTreeMap<&'static str, Goal> {
    let target = |metric: &Metric| match stage.rtt_ms {
        0 => direct_target(stage, metric),
        _ => delayed_target(stage, metric),
    };
    METRICS.iter().filter_map(|metric| Some((metric.id, judge(stage, metric, target(metric)?)))).collect()
}

/// The easier one of a multiple of the best rival and a share of the ceiling.
fn direct_target(stage: &StageRecord, metric: &Metric) -> Option<(f64, String)> {
    let share = if metric.repeated { CEILING_SHARE_REPEATED } else { CEILING_SHARE };
    let ceiling = best(stage, metric, Role::Ceiling).map(|(name, figure)| (figure, share, name));
    let rival = best(stage, metric, Role::Rival).map(|(name, figure)| (figure, RIVAL_FACTOR, name));
    let targets = [ceiling, rival].into_iter().flatten().map(|(figure, factor, name)| {
        let target = if metric.unit.more_is_better() { figure * factor } else { figure / factor };
        (target, format!("{factor} x {name}"))
    });
    targets.reduce(|one, other| if is_better(metric.unit, one.0, other.0) { other } else { one })
}

fn delayed_target(stage: &StageRecord, metric: &Metric) -> Option<(f64, String)> {
    if metric.id == "seq-read-fresh" && stage.rtt_ms >= FAR_RTT_MS {
        return Some((FAR_READ_MB_PER_SECOND, "read-ahead hides the delay".to_owned()));
    }
    let (_, trips) = ROUND_TRIPS.iter().find(|(id, _)| *id == metric.id)?;
    let per_second = 1000.0 / stage.rtt_ms as f64 / (trips + ROUND_TRIP_SLACK);
    Some((per_second, format!("{trips} round trip{}", if *trips > 1.0 { "s" } else { "" })))
}

fn judge(stage: &StageRecord, metric: &Metric, (target, because): (f64, String)) -> Goal {
    let measured = stage.of_role(Role::Ours).find_map(|system| system.median(metric.id));
    let reached = measured.map(|figure| figure == target || is_better(metric.unit, figure, target));
    Goal { target, because, measured, reached }
}

fn best(stage: &StageRecord, metric: &Metric, role: Role) -> Option<(&'static str, f64)> {
    let figures = stage.of_role(role).filter_map(|system| Some((system.name, system.median(metric.id)?)));
    figures.reduce(|one, other| if is_better(metric.unit, other.1, one.1) { other } else { one })
}

fn is_better(unit: Unit, one: f64, other: f64) -> bool {
    if unit.more_is_better() { one > other } else { one < other }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::metric;
    use crate::bench::placement::Placement;
    use crate::bench::record::{DaemonRecord, SystemRecord};
    use crate::bench::size::Sizes;

    fn stage(rtt_ms: u64, metric: &'static str, figures: &[(&'static str, Role, f64)]) -> StageRecord {
        let system = |&(name, role, figure): &(&'static str, Role, f64)| SystemRecord {
            name,
            role,
            samples: BTreeMap::from([(metric, vec![figure])]),
            failures: BTreeMap::new(),
            client: DaemonRecord::default(),
            server: DaemonRecord::default(),
        };
        StageRecord {
            placement: Placement::Pinned,
            rtt_ms,
            repetitions: 1,
            sizes: Sizes::QUICK,
            systems: figures.iter().map(system).collect(),
            goals: BTreeMap::new(),
        }
    }

    #[test]
    fn the_easier_target_counts() {
        let far_ceiling = stage(
            0,
            "create",
            &[("pass", Role::Ceiling, 1000.0), ("slow", Role::Rival, 50.0), ("fast", Role::Rival, 100.0)],
        );
        let goal = &goals(&far_ceiling)["create"];
        assert_eq!((goal.target, goal.because.as_str(), goal.reached), (150.0, "1.5 x fast", None));
        let near_ceiling = stage(0, "create", &[("pass", Role::Ceiling, 100.0), ("fast", Role::Rival, 90.0)]);
        assert_eq!(goals(&near_ceiling)["create"].target, 90.0);
    }

    #[test]
    fn less_time_is_better() {
        let figures = [("pass", Role::Ceiling, 1.8), ("fast", Role::Rival, 3.0), ("nearfs", Role::Ours, 1.9)];
        let goal = &goals(&stage(0, "tar-x", &figures))["tar-x"];
        assert_eq!((goal.target, goal.because.as_str(), goal.reached), (2.0, "0.9 x pass", Some(true)));
    }

    #[test]
    fn repeated_accesses_must_come_closer_to_the_ceiling() {
        let repeated = stage(0, "find-again", &[("pass", Role::Ceiling, 100.0)]);
        assert_eq!(goals(&repeated)["find-again"].target, 95.0);
    }

    #[test]
    fn with_delay_round_trips_are_counted() {
        let one_each = stage(20, "rename", &[("nearfs", Role::Ours, 48.0)]);
        assert_eq!(goals(&one_each)["rename"].reached, Some(true));
        assert_eq!(one_each.round_trips(metric::find("rename").unwrap(), 25.0), Some(2.0));
        let two_each = stage(20, "rename", &[("nearfs", Role::Ours, 25.0)]);
        assert_eq!(goals(&two_each)["rename"].reached, Some(false));
    }
}
