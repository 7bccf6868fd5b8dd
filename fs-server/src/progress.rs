//! `nearfs serve --progress`: on a terminal, a line for each client and a bar for each transfer that runs.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use nearfs_protocol::id::{SessionId, TransferId};
use nearfs_protocol::roster::{SessionReport, TransferReport};

use crate::server::Server;

/// How often it is drawn anew.
const DRAW_INTERVAL: Duration = Duration::from_millis(250);
/// Lines of a terminal that does not tell its size.
const ROWS_DEFAULT: usize = 24;
/// Lines that are left to the log and to the summary.
const ROWS_SPARE: usize = 4;

/// Characters of a path that are shown.
const PATH_CHARS_MAX: usize = 40;

/// Bars are moved by the server's counts: what they show of a rate is what they saw themselves.
const BAR: &str = "      {msg} {bar:20} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";
/// The same where nobody knows how much it will be.
const COUNT: &str = "      {msg} {binary_bytes} {binary_bytes_per_sec}";

/// The terminal. Clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct Screen(MultiProgress);

/// What stands on it at the moment, a row for each key, in their order.
struct Rows {
    screen: Screen,
    summary: ProgressBar,
    bars: BTreeMap<Row, ProgressBar>,
}

/// Each client, with its transfers behind it.
type Row = (SessionId, Option<TransferId>);

impl Screen {
    /// The terminal that standard error is; if it is none, that is said in one line.
    pub(crate) fn open() -> Option<Screen> {
        if io::stderr().is_terminal() {
            return Some(Screen::default());
        }
        eprintln!("nearfs: --progress shows nothing, because standard error is no terminal");
        None
    }

    /// Shows what the server is doing, until the task is dropped.
    pub(crate) async fn show(self, server: Server) {
        let mut rows = Rows::new(self);
        let mut ticks = tokio::time::interval(DRAW_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            rows.update(server.sessions());
        }
    }

    /// Leaves the terminal as if nothing had been drawn.
    pub(crate) fn clear(&self) {
        // A terminal that is gone needs no clearing.
        let _ = self.0.clear();
    }
}

/// Lines of the log, which appear above what is drawn.
impl Write for Screen {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write_all(line)).map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl Rows {
    fn new(screen: Screen) -> Rows {
        let summary = screen.0.add(line());
        Rows { screen, summary, bars: BTreeMap::new() }
    }

    fn update(&mut self, sessions: Vec<SessionReport>) {
        let transfers: u64 = sessions.iter().map(|session| session.transfer_count).sum();
        let count = sessions.len();
        let shown = choose(sessions, rows_max());
        let hidden = count - shown.len();
        let more = if hidden > 0 { format!(", {hidden} of them not shown") } else { String::new() };
        self.summary.set_message(format!("clients: {count}{more}; transfers: {transfers}"));
        let mut wanted: BTreeMap<Row, Option<&TransferReport>> = BTreeMap::new();
        for session in &shown {
            wanted.insert((session.id, None), None);
            let rows = session.transfers.iter();
            wanted.extend(rows.map(|transfer| ((session.id, Some(transfer.transfer)), Some(transfer))));
        }
        let screen = &self.screen.0;
        self.bars.retain(|row, bar| {
            let stays = wanted.contains_key(row);
            if !stays {
                screen.remove(bar);
            }
            stays
        });
        for (row, transfer) in &wanted {
            if !self.bars.contains_key(row) {
                let before = self.bars.range(..row).next_back().map_or(&self.summary, |(_, bar)| bar);
                let bar = transfer.map_or_else(line, bar);
                self.bars.insert(*row, screen.insert_after(before, bar));
            }
            if let (Some(bar), Some(transfer)) = (self.bars.get(row), transfer) {
                bar.set_position(transfer.tally.bytes);
            }
        }
        for session in &shown {
            if let Some(bar) = self.bars.get(&(session.id, None)) {
                bar.set_message(describe(session));
            }
        }
    }
}

/// Those that do most, as many as there is room for, by their ids.
fn choose(mut sessions: Vec<SessionReport>, rows_max: usize) -> Vec<SessionReport> {
    sessions.sort_by_key(|session| (session.transfers.is_empty(), session.idle_ms));
    let mut room = rows_max;
    let fits = |session: &SessionReport| {
        room = room.saturating_sub(1 + session.transfers.len());
        room > 0
    };
    let count = sessions.iter().position({
        let mut fits = fits;
        move |session| !fits(session)
    });
    sessions.truncate(count.unwrap_or(sessions.len()));
    sessions.sort_by_key(|session| session.id);
    sessions
}

/// One client: who, from where, for how long, doing what.
fn describe(session: &SessionReport) -> String {
    let SessionReport { id, client, address, .. } = session;
    let since = whole_seconds(session.age_ms);
    let doing = match (session.connected, session.transfers.is_empty()) {
        (false, _) => "away".to_owned(),
        (true, false) => String::new(),
        (true, true) => format!("{}, {} ago", session.doing(), whole_seconds(session.idle_ms)),
    };
    format!("{:>4}  {} ({address}) for {since}  {doing}", id.0, client.escape_debug())
}

fn whole_seconds(ms: u64) -> String {
    indicatif::HumanDuration(Duration::from_secs(ms / 1000)).to_string()
}

fn line() -> ProgressBar {
    ProgressBar::no_length().with_style(style("{msg}"))
}

fn bar(transfer: &TransferReport) -> ProgressBar {
    let message = format!("{} {}", transfer.kind.verb(), ending(&transfer.shown_path()));
    let bar = match transfer.total_bytes {
        0 => ProgressBar::no_length().with_style(style(COUNT)),
        total_bytes => ProgressBar::new(total_bytes).with_style(style(BAR)),
    };
    bar.with_message(message)
}

/// The end of a path, which tells most.
fn ending(path: &str) -> String {
    let count = path.chars().count();
    if count <= PATH_CHARS_MAX {
        return path.to_owned();
    }
    ["\u{2026}".to_owned(), path.chars().skip(count - PATH_CHARS_MAX + 1).collect()].concat()
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn rows_max() -> usize {
    let rows = rustix::termios::tcgetwinsize(io::stderr()).map_or(0, |size| usize::from(size.ws_row));
    let rows = if rows == 0 { ROWS_DEFAULT } else { rows };
    rows.saturating_sub(ROWS_SPARE).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(id: u64, idle_ms: u64, transfers: u64) -> SessionReport {
        let transfer = |transfer| TransferReport {
            transfer: TransferId(transfer),
            kind: nearfs_protocol::roster::TransferKind::Upload,
            path: b"a".to_vec(),
            total_bytes: u64::MAX,
            tally: Default::default(),
        };
        SessionReport {
            id: SessionId(id),
            own: false,
            client: "anna\n".into(),
            address: "::1".into(),
            uid: None,
            shell: true,
            connected: true,
            age_ms: 5000,
            idle_ms,
            open_files: 0,
            locks: 0,
            read_bytes: 0,
            written_bytes: 0,
            recent: vec!["read".into()],
            transfers: (0..transfers).map(|number| transfer(id * 10 + number)).collect(),
            transfer_count: transfers,
        }
    }

    #[test]
    fn the_busiest_are_shown_when_there_is_no_room_for_all() {
        let sessions = vec![session(1, 10, 0), session(2, 5000, 1), session(3, 1, 0), session(4, 90, 0)];
        let shown =
            |rows| choose(sessions.clone(), rows).iter().map(|session| session.id.0).collect::<Vec<_>>();
        assert_eq!(shown(100), [1, 2, 3, 4]);
        assert_eq!(shown(5), [1, 2, 3]);
        assert_eq!(shown(3), [2]);
    }

    #[test]
    fn long_paths_show_their_end() {
        assert_eq!(ending("a/b"), "a/b");
        let long = format!("{}/end", "\u{e9}".repeat(300));
        let shown = ending(&long);
        assert!(shown.starts_with("\u{2026}\u{e9}") && shown.ends_with("/end"), "{shown}");
        assert_eq!(shown.chars().count(), PATH_CHARS_MAX);
    }

    #[test]
    fn a_client_is_one_line() {
        assert_eq!(describe(&session(7, 2000, 0)), "   7  anna\\n (::1) for 5 seconds  read, 2 seconds ago");
        assert!(ProgressStyle::with_template(BAR).is_ok() && ProgressStyle::with_template(COUNT).is_ok());
    }

    #[test]
    fn rows_come_and_go_with_what_they_show() {
        let mut rows =
            Rows::new(Screen(MultiProgress::with_draw_target(indicatif::ProgressDrawTarget::hidden())));
        rows.update(vec![session(1, 0, 2), session(2, 0, 0)]);
        let keys = |rows: &Rows| {
            rows.bars.keys().map(|(id, transfer)| (id.0, transfer.map(|id| id.0))).collect::<Vec<_>>()
        };
        assert_eq!(keys(&rows), [(1, None), (1, Some(10)), (1, Some(11)), (2, None)]);
        assert_eq!(rows.summary.message(), "clients: 2; transfers: 2");
        rows.update(vec![session(2, 0, 1)]);
        assert_eq!(keys(&rows), [(2, None), (2, Some(20))]);
        rows.update(vec![]);
        assert!(rows.bars.is_empty());
    }
}
