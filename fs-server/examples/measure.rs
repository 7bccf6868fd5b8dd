//! Measures what a server's connection gives, without a client's caches or a kernel between:
//! `cargo run --release --example measure -- nearfs://127.0.0.1/`.
//! Writes a file of 64 MiB called `measured` into the export and removes it; with `names` as a second word it only makes and
//! removes names.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nearfs_protocol::codec::{FrameKind, decode_control};
use nearfs_protocol::greeting::{Hello, SessionWish, Welcome};
use nearfs_protocol::id::{Fh, Node, RequestId};
use nearfs_protocol::message::{Answer, Call, Caller, Reply, Request, WriteAt, WriteSync};
use nearfs_protocol::name::Name;
use nearfs_protocol::version::{Features, SPOKEN};
use nearfs_transport::address::Source;
use nearfs_transport::dial::dial;
use nearfs_transport::frame::{FrameReader, FrameWriter};
use nearfs_transport::link::{LinkReader, LinkWriter};
use nearfs_transport::pool::Pool;

const FILE_BYTES: u64 = 64 << 20;
/// How long each figure is measured.
const TIME: Duration = Duration::from_secs(2);

fn main() -> anyhow::Result<()> {
    let source: Source = std::env::args().nth(1).context("which server?")?.parse()?;
    let mut client = Client::connect(source)?;
    let parent = client.root;
    if std::env::args().nth(2).is_some_and(|what| what == "names") {
        return names(&mut client);
    }
    let name = Name::new(b"measured")?;
    let create = Request::Create { parent, name: name.clone(), mode: 0o600, umask: 0, flags: 2 };
    let Reply::Created { fh, .. } = client.ask(create, &[])? else { bail!("not opened") };
    fill(&mut client, fh)?;

    let attr = |_| Request::GetAttr { node: parent, fh: None };
    client.round_trips("getattr", 1, attr)?;
    client.round_trips("getattr", 64, attr)?;
    for (bytes, in_flight) in
        [(4 << 10, 1), (4 << 10, 8), (128 << 10, 2), (128 << 10, 8), (1 << 20, 2), (1 << 20, 4)]
    {
        let read = |n| Request::Read { fh, offset: n * bytes % FILE_BYTES, size: bytes as u32 };
        client.round_trips(&format!("read {} KiB", bytes >> 10), in_flight, read)?;
    }
    client.ask(Request::Unlink { parent, name }, &[])?;
    names(&mut client)
}

/// Changes of names, one at a time.
fn names(client: &mut Client) -> anyhow::Result<()> {
    let parent = client.root;
    let name = |prefix: &str, n: u64| Name::new(format!("{prefix}{}", n / 2).as_bytes());
    client.round_trips("mknod, unlink", 1, |n| match name("f", n) {
        Ok(name) if n % 2 == 0 => Request::MakeNode { parent, name, mode: 0o600, umask: 0, rdev: 0 },
        Ok(name) => Request::Unlink { parent, name },
        Err(_) => Request::StatFs { node: parent },
    })?;
    client.round_trips("mkdir, rmdir", 1, |n| match name("d", n) {
        Ok(name) if n % 2 == 0 => Request::MakeDir { parent, name, mode: 0o700, umask: 0 },
        Ok(name) => Request::RemoveDir { parent, name },
        Err(_) => Request::StatFs { node: parent },
    })?;
    Ok(())
}

fn fill(client: &mut Client, fh: Fh) -> anyhow::Result<()> {
    let block = vec![0x5a; 1 << 20];
    for offset in (0..FILE_BYTES).step_by(block.len()) {
        client.ask(Request::Write { fh, at: WriteAt::Offset(offset), sync: WriteSync::None }, &block)?;
    }
    Ok(())
}

struct Client {
    reader: FrameReader<LinkReader>,
    writer: FrameWriter<LinkWriter>,
    root: Node,
    sequence: u64,
}

impl Client {
    fn connect(source: Source) -> anyhow::Result<Client> {
        let link = dial(&source.address, Duration::from_secs(5))?;
        let mut reader = FrameReader::new(link.reader(), Pool::new(8 << 20));
        reader.admit();
        let mut writer = FrameWriter::new(link.writer());
        let session = SessionWish::New { export: source.export, path: source.path };
        let hello = Hello { versions: SPOKEN, features: Features::all(), session, client: "measure".into() };
        writer.send(FrameKind::Hello, RequestId(0), &hello, &[])?;
        let frame = reader.next_frame()?;
        if frame.header.kind != FrameKind::Welcome {
            bail!("refused");
        }
        let welcome: Welcome = decode_control(frame.control)?;
        Ok(Client { reader, writer, root: welcome.root.node, sequence: 0 })
    }

    fn send(&mut self, slot: u16, request: Request, payload: &[u8]) -> anyhow::Result<()> {
        self.sequence += 1;
        let call = Call { caller: Caller::default(), request };
        Ok(self.writer.send(FrameKind::Call, RequestId::new(slot, self.sequence), &call, payload)?)
    }

    fn receive(&mut self) -> anyhow::Result<(u16, Reply, usize)> {
        let frame = self.reader.next_frame()?;
        let answer: Answer = decode_control(frame.control)?;
        Ok((frame.header.id.slot() as u16, answer?, frame.payload.len()))
    }

    fn ask(&mut self, request: Request, payload: &[u8]) -> anyhow::Result<Reply> {
        self.send(0, request, payload)?;
        Ok(self.receive()?.1)
    }

    /// Keeps so many requests in flight for a while and prints what came of it.
    fn round_trips(
        &mut self,
        what: &str,
        in_flight: u16,
        request: impl Fn(u64) -> Request,
    ) -> anyhow::Result<()> {
        let begun = Instant::now();
        let mut sent_at = vec![begun; in_flight.into()];
        let (mut number, mut bytes, mut times) = (0, 0, Vec::new());
        for slot in 0..in_flight {
            self.send(slot, request(number), &[])?;
            number += 1;
        }
        let mut waiting = in_flight;
        while waiting > 0 {
            let (slot, _, payload_bytes) = self.receive()?;
            let now = Instant::now();
            times.push(now - sent_at[usize::from(slot)]);
            bytes += payload_bytes;
            waiting -= 1;
            if now - begun < TIME {
                sent_at[usize::from(slot)] = now;
                self.send(slot, request(number), &[])?;
                number += 1;
                waiting += 1;
            }
        }
        let elapsed = begun.elapsed().as_secs_f64();
        times.sort_unstable();
        println!(
            "{what:>14} x{in_flight:<3} {:>9.0}/s {:>8.0} MB/s  p50 {:>8.1?}  p99 {:>8.1?}",
            times.len() as f64 / elapsed,
            bytes as f64 / elapsed / 1e6,
            times[times.len() / 2],
            times[times.len() * 99 / 100],
        );
        Ok(())
    }
}
