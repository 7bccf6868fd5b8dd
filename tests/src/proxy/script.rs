//! The proxy's commands as lines of text, for scripts and for the terminal.

use std::str::FromStr;
use std::thread;
use std::time::Duration;

use super::{Calls, FaultProxy, Side, Way};

/// The commands, as `help` prints them.
pub const HELP: &str = "\
[after TIME] COMMAND, where TIME is as in 500us, 10ms, 2s, and WAY is up (client to server), down, or neither for both:
  delay [WAY] TIME       each byte is under way for TIME
  rtt TIME               half of it as the delay of each way
  rate [WAY] BYTES|off   at most so much per second (10MB, 1B, ...)
  stall [WAY]            nothing moves, nothing is lost
  blackhole [WAY]        everything is swallowed
  flip [WAY] CHANCE      each byte loses a bit with this probability
  cut                    reset all connections
  close                  end all connections in good order
  cut-after WAY BYTES    cut when so many more bytes have passed and the next one wants to
  cut-reply CALLS [N]    cut when the answer to the Nth (1) of these calls from now on wants to pass; CALLS is an
                         operation (mkdir, write, ...) or change
  halfopen client|server lose the other side; the one named is not told
  clear                  end all faults that last";

/// One line of a script.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    after: Duration,
    action: Action,
}

#[derive(Clone, Debug, PartialEq)]
enum Action {
    Delay(Vec<Way>, Duration),
    Rate(Vec<Way>, Option<u64>),
    Stall(Vec<Way>),
    BlackHole(Vec<Way>),
    Flip(Vec<Way>, f64),
    Cut,
    Close,
    CutAfter(Way, u64),
    CutReply(Calls, u64),
    HalfOpen(Side),
    Clear,
}

/// Why a line is no command.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum ScriptError {
    /// The first word means nothing.
    #[error("unknown command {0:?}; try help")]
    Unknown(String),
    /// Something is missing behind a command.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// Something has the wrong form.
    #[error("{0:?} is not {1}")]
    Malformed(String, &'static str),
}

impl Command {
    /// Delays both ways, at once.
    pub fn delay(delay: Duration) -> Command {
        Command { after: Duration::ZERO, action: Action::Delay(Way::BOTH.to_vec(), delay) }
    }

    /// Waits as long as the command says, then does it.
    pub fn run(&self, proxy: &FaultProxy) {
        thread::sleep(self.after);
        match &self.action {
            Action::Delay(ways, delay) => proxy.set_delay(ways, *delay),
            Action::Rate(ways, rate) => proxy.set_rate(ways, *rate),
            Action::Stall(ways) => proxy.stall(ways),
            Action::BlackHole(ways) => proxy.black_hole(ways),
            Action::Flip(ways, probability) => proxy.flip(ways, *probability),
            Action::Cut => proxy.cut(),
            Action::Close => proxy.close(),
            Action::CutAfter(way, bytes) => proxy.cut_after(*way, *bytes),
            Action::CutReply(calls, number) => proxy.cut_reply(calls.clone(), *number),
            Action::HalfOpen(kept) => proxy.half_open(*kept),
            Action::Clear => proxy.clear(),
        }
    }
}

impl FromStr for Command {
    type Err = ScriptError;

    fn from_str(line: &str) -> Result<Command, ScriptError> {
        let mut words = Words(line.split_whitespace().collect());
        let after = if words.take_if("after") { words.duration()? } else { Duration::ZERO };
        let action = match words.next("a command")? {
            "delay" => Action::Delay(words.ways(), words.duration()?),
            "rtt" => Action::Delay(Way::BOTH.to_vec(), words.duration()? / 2),
            "rate" => Action::Rate(words.ways(), words.rate()?),
            "stall" => Action::Stall(words.ways()),
            "blackhole" => Action::BlackHole(words.ways()),
            "flip" => Action::Flip(words.ways(), words.probability()?),
            "cut" => Action::Cut,
            "close" => Action::Close,
            "cut-after" => Action::CutAfter(words.way()?, parse_bytes(words.next("a number of bytes")?)?),
            "cut-reply" => Action::CutReply(words.next("an operation")?.parse()?, words.count()?),
            "halfopen" => Action::HalfOpen(words.side()?),
            "clear" => Action::Clear,
            unknown => return Err(ScriptError::Unknown(unknown.to_owned())),
        };
        words.end()?;
        Ok(Command { after, action })
    }
}

/// Parses a time such as `10ms`.
pub fn parse_duration(text: &str) -> Result<Duration, ScriptError> {
    let units = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0)];
    let seconds = scaled(text, &units).ok_or_else(|| malformed(text, "a time such as 10ms"))?;
    Duration::try_from_secs_f64(seconds).map_err(|_| malformed(text, "a time that fits"))
}

/// Parses a number of bytes such as `10MB`, or `10MB/s` for a rate. Units are powers of 1,000.
pub fn parse_bytes(text: &str) -> Result<u64, ScriptError> {
    let units = [("KB", 1e3), ("MB", 1e6), ("GB", 1e9), ("B", 1.0), ("", 1.0)];
    let bytes = scaled(text.strip_suffix("/s").unwrap_or(text), &units);
    bytes.map(|bytes| bytes as u64).ok_or_else(|| malformed(text, "a number of bytes such as 10MB"))
}

/// The number in `text` times the first unit it ends with.
fn scaled(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let (digits, scale) =
        units.iter().find_map(|(unit, scale)| text.strip_suffix(unit).map(|digits| (digits, scale)))?;
    let number: f64 = digits.parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some(number * scale)
}

fn malformed(text: &str, wanted: &'static str) -> ScriptError {
    ScriptError::Malformed(text.to_owned(), wanted)
}

/// The words of a line that are not yet used.
struct Words<'line>(std::collections::VecDeque<&'line str>);

impl<'line> Words<'line> {
    fn next(&mut self, wanted: &'static str) -> Result<&'line str, ScriptError> {
        self.0.pop_front().ok_or(ScriptError::Missing(wanted))
    }

    fn take_if(&mut self, word: &str) -> bool {
        let found = self.0.front() == Some(&word);
        if found {
            self.0.pop_front();
        }
        found
    }

    fn ways(&mut self) -> Vec<Way> {
        if self.take_if("up") {
            vec![Way::Up]
        } else if self.take_if("down") {
            vec![Way::Down]
        } else {
            Way::BOTH.to_vec()
        }
    }

    fn way(&mut self) -> Result<Way, ScriptError> {
        match self.next("up or down")? {
            "up" => Ok(Way::Up),
            "down" => Ok(Way::Down),
            other => Err(malformed(other, "up or down")),
        }
    }

    fn side(&mut self) -> Result<Side, ScriptError> {
        match self.next("client or server")? {
            "client" => Ok(Side::Client),
            "server" => Ok(Side::Server),
            other => Err(malformed(other, "client or server")),
        }
    }

    fn duration(&mut self) -> Result<Duration, ScriptError> {
        parse_duration(self.next("a time")?)
    }

    fn rate(&mut self) -> Result<Option<u64>, ScriptError> {
        if self.take_if("off") { Ok(None) } else { parse_bytes(self.next("a number of bytes")?).map(Some) }
    }

    fn probability(&mut self) -> Result<f64, ScriptError> {
        let text = self.next("a probability")?;
        let probability = text.parse().ok().filter(|number| (0.0..=1.0).contains(number));
        probability.ok_or_else(|| malformed(text, "a probability between 0 and 1"))
    }

    fn count(&mut self) -> Result<u64, ScriptError> {
        let Some(text) = self.0.pop_front() else { return Ok(1) };
        let count = text.parse().ok().filter(|count| *count > 0);
        count.ok_or_else(|| malformed(text, "a number from 1"))
    }

    fn end(&self) -> Result<(), ScriptError> {
        self.0.front().map_or(Ok(()), |word| Err(malformed(word, "part of the command")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn action(line: &str) -> Action {
        line.parse::<Command>().unwrap().action
    }

    #[test]
    fn every_command_is_read() {
        let both = || Way::BOTH.to_vec();
        assert_eq!(action("delay 10ms"), Action::Delay(both(), Duration::from_millis(10)));
        assert_eq!(action("delay up 500us"), Action::Delay(vec![Way::Up], Duration::from_micros(500)));
        assert_eq!(action("rtt 20ms"), Action::Delay(both(), Duration::from_millis(10)));
        assert_eq!(action("rate down 1.5MB/s"), Action::Rate(vec![Way::Down], Some(1_500_000)));
        assert_eq!(action("rate 1B"), Action::Rate(both(), Some(1)));
        assert_eq!(action("rate off"), Action::Rate(both(), None));
        assert_eq!(action("stall up"), Action::Stall(vec![Way::Up]));
        assert_eq!(action("blackhole"), Action::BlackHole(both()));
        assert_eq!(action("flip up 0.001"), Action::Flip(vec![Way::Up], 0.001));
        assert_eq!(action("cut"), Action::Cut);
        assert_eq!(action("close"), Action::Close);
        assert_eq!(action("cut-after down 0"), Action::CutAfter(Way::Down, 0));
        let mkdir = || Calls::Operation("mkdir".to_owned());
        assert_eq!(action("cut-reply mkdir"), Action::CutReply(mkdir(), 1));
        assert_eq!(action("cut-reply mkdir 3"), Action::CutReply(mkdir(), 3));
        assert_eq!(action("cut-reply change 2"), Action::CutReply(Calls::Changes, 2));
        assert_eq!(action("halfopen client"), Action::HalfOpen(Side::Client));
        assert_eq!(action("clear"), Action::Clear);
    }

    #[test]
    fn a_command_may_wait() {
        let command: Command = "after 2s cut".parse().unwrap();
        assert_eq!(command, Command { after: Duration::from_secs(2), action: Action::Cut });
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |line: &str| line.parse::<Command>().unwrap_err().to_string();
        assert_eq!(error("explode"), "unknown command \"explode\"; try help");
        assert_eq!(error("delay"), "a time is missing");
        assert_eq!(error("delay 10"), "\"10\" is not a time such as 10ms");
        assert_eq!(error("delay -1ms"), "\"-1ms\" is not a time such as 10ms");
        assert_eq!(error("flip 2"), "\"2\" is not a probability between 0 and 1");
        assert_eq!(error("cut now"), "\"now\" is not part of the command");
        assert_eq!(error("cut-reply mkdir 0"), "\"0\" is not a number from 1");
        assert_eq!(error("cut-reply 5"), "\"5\" is not change or an operation such as mkdir");
        assert_eq!(error("cut-after 5"), "\"5\" is not up or down");
    }
}
