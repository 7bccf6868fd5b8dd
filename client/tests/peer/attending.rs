//! Threads that stay for the answers to what they ask, and the reader that is there for all others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use nearfs_client::vfs::Vfs;
use nearfs_protocol::message::{Reply, Request};

use crate::scripted::{Heard, ME, PATIENCE, Peer};

/// How long an answer may take that is there: far less than the time after which anybody looks without being asked,
/// but for other tests that run at the same time.
const PROMPTLY: Duration = Duration::from_secs(2);

/// Asks for something that is never cached, and tells which thread was given the answer.
fn ask_and_stay(vfs: &Arc<Vfs>, told: &mpsc::Sender<ThreadId>) {
    let told = told.clone();
    vfs.attend(|| ask_and_leave(vfs, told));
}

fn ask_and_leave(vfs: &Arc<Vfs>, told: mpsc::Sender<ThreadId>) {
    vfs.access(ME, 1, 4, move |result| {
        result.unwrap();
        told.send(thread::current().id()).unwrap();
    });
}

fn answer_all(peer: Peer) -> thread::JoinHandle<usize> {
    thread::spawn(move || {
        let mut count = 0;
        loop {
            match peer.hear() {
                Heard::Call(asked) => {
                    if let Request::Access { .. } = asked.request {
                        asked.reply(Reply::Done);
                        count += 1;
                    }
                }
                Heard::Bye => return count,
                Heard::Cancel(_) | Heard::Ack(_) => {}
            }
        }
    })
}

#[test]
fn who_goes_on_asking_receives_his_own_answers() {
    let (peer, vfs) = Peer::with_client();
    let answering = answer_all(peer);
    let (told, answers) = mpsc::channel();
    let own = (0..200).filter(|_| {
        ask_and_stay(&vfs, &told);
        answers.recv_timeout(PATIENCE).unwrap() == thread::current().id()
    });
    // The first is received by the reader, which waits when nobody asks; so are those during which this thread is kept
    // from running for longer than the reader stands by.
    assert!(own.count() >= 100);
    vfs.shutdown(PATIENCE);
    assert_eq!(answering.join().unwrap(), 200);
}

#[test]
fn a_thread_that_attends_comes_back_from_a_silent_server() {
    let (peer, vfs) = Peer::with_client();
    let (told, answers) = mpsc::channel();
    let begun = Instant::now();
    for _ in 0..10 {
        ask_and_stay(&vfs, &told);
    }
    assert!(begun.elapsed() < PROMPTLY, "{:?}", begun.elapsed());
    // What is answered in the end is received all the same.
    for _ in 0..10 {
        peer.call().reply(Reply::Done);
    }
    for _ in 0..10 {
        answers.recv_timeout(PATIENCE).unwrap();
    }
}

#[test]
fn whoever_asks_how_many_at_once_all_are_answered_promptly() {
    let (peer, vfs) = Peer::with_client();
    let answering = answer_all(peer);
    let slowest_us = AtomicUsize::new(0);
    thread::scope(|scope| {
        for number in 0..6 {
            let (vfs, slowest_us) = (&vfs, &slowest_us);
            scope.spawn(move || {
                for turn in 0..300 {
                    let (told, answers) = mpsc::channel();
                    let begun = Instant::now();
                    // Some stay for their answers, others leave that to whoever reads.
                    if (number + turn) % 3 == 0 {
                        ask_and_leave(vfs, told);
                    } else {
                        ask_and_stay(vfs, &told);
                    }
                    answers.recv_timeout(PATIENCE).unwrap();
                    slowest_us.fetch_max(begun.elapsed().as_micros() as usize, Ordering::Relaxed);
                }
            });
        }
    });
    let slowest = Duration::from_micros(slowest_us.into_inner() as u64);
    assert!(slowest < PROMPTLY, "an answer took {slowest:?}");
    vfs.shutdown(PATIENCE);
    assert_eq!(answering.join().unwrap(), 6 * 300);
}
#[test]
fn the_reader_begins_when_it_is_called() {
    let (peer, vfs) = Peer::with_client();
    let answering = answer_all(peer);
    let (told, answers) = mpsc::channel();
    let begun = Instant::now();
    for _ in 0..400 {
        ask_and_leave(&vfs, told.clone());
        answers.recv_timeout(PATIENCE).unwrap();
    }
    // It looks by itself every 10 ms.
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    vfs.shutdown(PATIENCE);
    assert_eq!(answering.join().unwrap(), 400);
}
