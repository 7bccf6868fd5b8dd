//! `faultproxy`: stands between a client and a server and does to their connections what bad networks do.

use std::io::{BufRead, Write, stdin, stdout};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use nearfs_tests::proxy::{Command, Endpoint, FaultProxy, HELP, measure, parse_duration};

/// Passes connections on and delays, limits, cuts or damages them, as the options and the lines on stdin say.
#[derive(Parser)]
#[command(version, after_help = format!("Commands on stdin, one a line:\n{HELP}"))]
struct Options {
    /// Address to listen on: host:port (port 0 picks a free one) or the path of a Unix socket.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: Endpoint,
    /// Address to pass connections on to.
    #[arg(long, required_unless_present = "measure")]
    to: Option<Endpoint>,
    /// Delay each way, such as 10ms.
    #[arg(long, value_parser = parse_duration, conflicts_with = "rtt")]
    delay: Option<Duration>,
    /// Delay of both ways together.
    #[arg(long, value_parser = parse_duration)]
    rtt: Option<Duration>,
    /// A command to begin with; may be repeated.
    #[arg(long = "do", value_name = "COMMAND")]
    commands: Vec<Command>,
    /// Decides which bits flip.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Measure what the proxy lets through on loopback with these faults, for this time, and end.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    measure: Option<Duration>,
}

fn main() -> Result<()> {
    env_logger::init();
    let options = Options::parse();
    let delay = options.delay.or(options.rtt.map(|rtt| rtt / 2));
    let delay = delay.map(Command::delay);
    let commands: Vec<Command> = delay.into_iter().chain(options.commands).collect();
    if let Some(duration) = options.measure {
        let measured = measure(&commands, duration)?;
        let (gigabytes, round_trip) = (measured.bytes_per_second / 1e9, measured.round_trip);
        println!("{gigabytes:.3} GB/s one way, round trip {round_trip:?}");
        return Ok(());
    }
    let target = options.to.context("--to is missing")?;
    let proxy = FaultProxy::start_on(&options.listen, target, options.seed)
        .with_context(|| format!("cannot listen on {}", options.listen))?;
    commands.iter().for_each(|command| command.run(&proxy));
    println!("listening on {}", proxy.endpoint());
    stdout().flush()?;
    obey_stdin(&proxy)?;
    // The end of the commands is not the end of the proxy, so that it can run in the background.
    loop {
        thread::park();
    }
}

fn obey_stdin(proxy: &FaultProxy) -> Result<()> {
    for line in stdin().lock().lines() {
        let line = line?;
        match line.trim() {
            "" => {}
            "help" => println!("{HELP}"),
            line => match line.parse::<Command>() {
                Ok(command) => {
                    command.run(proxy);
                    println!("done: {line}");
                }
                Err(error) => eprintln!("faultproxy: {error}"),
            },
        }
        stdout().flush()?;
    }
    Ok(())
}
