//! What must be true, looked at from outside the mounts.

use std::collections::HashMap;
use std::fs;

use anyhow::{Context, Result};

use super::OPERATION_TIME_MAX;
use super::load::{COUNTER, LOG, Load};
use super::place::Place;
use super::report::Report;
use super::worker::{Said, Worker};

/// After each round: nothing acknowledged is missing, nothing is there twice, nobody has waited too long.
pub(super) fn check(place: &Place, workers: &[Worker], report: &mut Report) -> Result<()> {
    report.acknowledged = workers.iter().map(Worker::done).sum();
    for worker in workers {
        for said in worker.earlier.iter().chain([&worker.said()]) {
            check_what_it_says(said, report);
        }
    }
    // What they say is read before the file: what they said by then must be in it.
    let lives: Vec<Said> = lives_of(workers, Load::Appends);
    let log = fs::read_to_string(place.export().join(LOG))?;
    check_records(&lives, &log, report);
    Ok(())
}

/// When all have ended: the number is the count of those who counted.
pub(super) fn check_in_the_end(place: &Place, workers: &[Worker], report: &mut Report) -> Result<()> {
    let lives = lives_of(workers, Load::Counter);
    let counted: u64 = lives.iter().map(|said| said.counted).sum();
    let unknown = lives.iter().filter(|said| said.may_have_counted()).count() as u64;
    let text = fs::read_to_string(place.export().join(COUNTER))?;
    let number: u64 = text.trim().parse().with_context(|| format!("the counter is {text:?}"))?;
    if number < counted {
        report.lost.push(format!("the counter is {number}, though {counted} were counted"));
    }
    if number > counted + unknown {
        report.doubled.push(format!("the counter is {number}, though only {counted} were counted"));
    }
    Ok(())
}

fn lives_of(workers: &[Worker], load: Load) -> Vec<Said> {
    let of_load = workers.iter().filter(|worker| worker.load == load);
    of_load.flat_map(|worker| worker.earlier.iter().cloned().chain([worker.said()])).collect()
}

fn check_what_it_says(said: &Said, report: &mut Report) {
    report.longest = report.longest.max(said.longest);
    if said.longest > OPERATION_TIME_MAX {
        report.stuck.push(format!("{} waited {:.1} s", said.tag, said.longest.as_secs_f64()));
    }
    match &said.wrong {
        Some(what) if what.contains("File exists") || what.contains("No such file") => {
            report.doubled.push(format!("{}: {what}", said.tag));
        }
        Some(what) if what.contains("does not end") || what.contains("timed out") => {
            report.stuck.push(format!("{}: {what}", said.tag));
        }
        Some(what) => report.lost.push(format!("{}: {what}", said.tag)),
        None => {}
    }
}

/// Each record is whole, those that were acknowledged are there once, those of one writer in order.
fn check_records(lives: &[Said], log: &str, report: &mut Report) {
    let mut next: HashMap<&str, u64> = lives.iter().map(|said| (said.tag.as_str(), 0)).collect();
    for line in log.lines() {
        let record = line.split_once(' ').and_then(|(tag, number)| Some((tag, number.parse::<u64>().ok()?)));
        let Some((tag, number)) = record else {
            report.lost.push(format!("a torn record: {line:?}"));
            continue;
        };
        let Some(expected) = next.get_mut(tag) else {
            report.lost.push(format!("a record of nobody: {line:?}"));
            continue;
        };
        match number {
            same if same == *expected => *expected += 1,
            less if less < *expected => report.doubled.push(format!("record {line:?}")),
            more => {
                report.lost.push(format!("records {expected} to {more} of {tag}"));
                *expected = more + 1;
            }
        }
    }
    for said in lives {
        let found = next.get(said.tag.as_str()).copied().unwrap_or_default();
        if found < said.counted {
            report
                .lost
                .push(format!("{}: {found} records are there, {} were acknowledged", said.tag, said.counted));
        }
        // A program that is still at it may have been told of more since.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report_on(log: &str, counted: u64) -> Report {
        let lives = [Said { tag: "a".into(), counted, ..Said::default() }];
        let mut report = Report::new(0);
        check_records(&lives, log, &mut report);
        report
    }

    #[test]
    fn records_are_judged() {
        let judged = |log, counted| {
            let report = report_on(log, counted);
            (report.lost.len(), report.doubled.len())
        };
        assert_eq!(judged("a 0\na 1\n", 2), (0, 0));
        assert_eq!(judged("a 0\na 1\n", 1), (0, 0), "one that was not acknowledged may be there");
        assert_eq!(judged("a 0\n", 2), (1, 0));
        assert_eq!(judged("a 0\na 0\na 1\n", 2), (0, 1));
        assert_eq!(judged("a 0\na 2\n", 3), (1, 0));
        assert_eq!(judged("a 0\na 1b 0\n", 1), (1, 0));
        assert_eq!(judged("a 0\nc 0\n", 1), (1, 0));
    }

    #[test]
    fn what_programs_say_is_judged() {
        let mut report = Report::new(0);
        for wrong in ["mkdir: File exists (os error 17)", "append: Input/output error", "stat: timed out"] {
            let said = Said { tag: "a".into(), wrong: Some(wrong.into()), ..Said::default() };
            check_what_it_says(&said, &mut report);
        }
        assert_eq!((report.lost.len(), report.doubled.len(), report.stuck.len()), (1, 1, 1));
    }
}
