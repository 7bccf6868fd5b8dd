//! Bringing a large file from the server: pieces of it under way at once, and a journal beside it.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use nearfs_protocol::attr::Attr;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::hash::{CHUNK_BYTES, hash};
use nearfs_protocol::id::{Change, ContentHash};
use nearfs_protocol::message::{Reply, Request};
use nearfs_transport::pool::Payload;
use rustix::fs::OFlags;

use crate::remote::{Outcome, Patience};
use crate::transfer::asking::ask_for;
use crate::transfer::download::DownloadTask;
use crate::transfer::failure::{Cause, Failure};
use crate::transfer::journal::{Journal, SourceStamp, StagedNames, record};
use crate::transfer::landing::{Chunk, Landed, Landing};
use crate::transfer::local::{LocalDir, is_same, lock, set_file_attr};
use crate::transfer::meter::Running;
use crate::transfer::opened::Opened;
use crate::transfer::remote_dir::unexpected;
use crate::transfer::upload_large::{NO_ROOM_PAUSE, hashes_of, is_worth_keeping};
use crate::transfer::{HASHED_CHUNKS, TRIES, Transfer};

/// Bytes that are asked for at a time.
const PIECE_BYTES: u64 = 256 * 1024;

/// A file of the server that is open for reading.
struct Source {
    file: Opened,
    stamp: SourceStamp,
    attr: Attr,
}

/// An incomplete file of this machine, locked.
struct Staged {
    names: StagedNames,
    file: Arc<File>,
    journal: Option<File>,
}

/// The pieces of a chunk that have arrived, by their offset.
#[derive(Default)]
struct Arriving {
    pieces: BTreeMap<u64, Payload>,
    bytes: u64,
}

struct Receiving {
    source: Source,
    staged: Staged,
    running: Arc<Running>,
    hashes: HashMap<u64, ContentHash>,
    arriving: HashMap<u64, Arriving>,
    tell: Sender<Event>,
    told: Receiver<Event>,
    /// Pieces that were asked for and have not arrived.
    under_way: usize,
    /// Writes down what has arrived.
    landing: Option<Landing>,
    /// Chunks that are being written down.
    landing_count: usize,
    /// Room that is taken: of what is under way, has arrived, or is being written down.
    held_bytes: u64,
    /// Hashes that the source's end was asked for, by the first chunk.
    compared: Receiver<(u64, Outcome)>,
    compare: Sender<(u64, Outcome)>,
    comparing: usize,
    remote_hashes: HashMap<u64, ContentHash>,
}

/// What whoever receives waits for.
enum Event {
    Piece(Piece),
    Landed(Landed),
}

/// A range that was asked for, and what came of it.
struct Piece {
    chunk: u64,
    offset: u64,
    bytes: u64,
    outcome: Outcome,
}

impl Transfer {
    /// Brings a large file.
    pub(super) fn download_large(&self, task: &DownloadTask) {
        let running = self.meter.begin(task.name(), task.attr.size);
        let mut outcome = Err(task.failed(Cause::Changed));
        for _ in 0..TRIES {
            outcome = self.try_download_large(task, &running);
            if !matches!(&outcome, Err(Failure { cause: Cause::Changed, .. })) {
                break;
            }
            self.meter.begun_anew(&running);
        }
        self.meter.end(&running);
        self.window.give_file();
        match outcome {
            Ok(bytes) => self.finished(&task.name(), &task.target(), bytes),
            Err(failure) => self.fail(&failure),
        }
    }

    fn try_download_large(&self, task: &DownloadTask, running: &Arc<Running>) -> Result<u64, Failure> {
        if self.is_stopped() {
            return Err(task.failed(Errno::EINTR));
        }
        let source = open_source(task).map_err(|cause| task.failed(cause))?;
        let here = |error: std::io::Error| Failure::new(task.target(), error);
        let (staged, journal) = claim_local(task).map_err(here)?;
        let earlier = match journal.filter(|_| self.options.resume) {
            Some(journal) if journal.source == source.stamp => journal.chunks,
            Some(_) => {
                let name = task.name();
                self.observer
                    .note(&format!("{name} has changed since the transfer was interrupted: starting over"));
                HashMap::new()
            }
            None => HashMap::new(),
        };
        let ((tell, told), (compare, compared)) = (mpsc::channel(), mpsc::channel());
        let mut receiving = Receiving {
            source,
            staged,
            running: Arc::clone(running),
            hashes: HashMap::new(),
            arriving: HashMap::new(),
            tell,
            told,
            under_way: 0,
            landing: None,
            landing_count: 0,
            held_bytes: 0,
            compared,
            compare,
            comparing: 0,
            remote_hashes: HashMap::new(),
        };
        let brought = self
            .begin_local(&mut receiving, &earlier, &task.to)
            .map_err(|error| here(error).cause)
            .and_then(|()| self.receive_beside(&mut receiving));
        let complete = brought.and_then(|()| self.complete_local(&mut receiving, task));
        complete.map_err(|cause| {
            if !is_worth_keeping(&cause) {
                remove_staged(&task.to, &receiving.staged.names);
            }
            match cause {
                Cause::Local(error) => self.local_failure(task, error),
                cause => task.failed(cause),
            }
        })
    }

    /// Prepares the incomplete file, and finds which chunks it has already.
    fn begin_local(
        &self,
        receiving: &mut Receiving,
        earlier: &HashMap<u64, ContentHash>,
        directory: &LocalDir,
    ) -> std::io::Result<()> {
        let size = receiving.source.stamp.size;
        let file = &receiving.staged.file;
        if earlier.is_empty() {
            // Nothing that was in it may shine through its holes.
            file.set_len(0)?;
        }
        file.set_len(size)?;
        let mut content = vec![0; CHUNK_BYTES as usize];
        for (chunk, expected) in earlier {
            if self.is_stopped() {
                return Err(std::io::ErrorKind::Interrupted.into());
            }
            let bytes = receiving.source.chunk_bytes(*chunk);
            let content = &mut content[..bytes as usize];
            receiving.staged.file.read_exact_at(content, chunk * CHUNK_BYTES)?;
            if hash(content) == *expected {
                receiving.hashes.insert(*chunk, *expected);
                self.meter.resumed(&receiving.running, bytes);
                self.meter.moved(bytes);
                receiving.running.moved(bytes);
            }
        }
        let mut journal = match directory.stat(&receiving.staged.names.journal)? {
            Some(_) => directory.open_file(&receiving.staged.names.journal, OFlags::RDWR)?,
            None => directory.create(&receiving.staged.names.journal, 0o600)?,
        };
        if !directory.may_be_ours(&journal)? {
            return Ok(());
        }
        journal.set_len(0)?;
        let mut records = receiving.source.stamp.header();
        receiving.hashes.iter().for_each(|(chunk, hash)| records.extend(record(*chunk, *hash)));
        journal.write_all(&records)?;
        receiving.staged.journal = Some(journal);
        Ok(())
    }

    /// Receives everything, while other threads write down what has arrived.
    fn receive_beside(&self, receiving: &mut Receiving) -> Result<(), Cause> {
        std::thread::scope(|scope| {
            let tell = receiving.tell.clone();
            let landed = move |landed| drop(tell.send(Event::Landed(landed)));
            receiving.landing = Some(Landing::begin(scope, &receiving.staged.file, landed));
            let received = self.receive_all(receiving);
            // What is still under way has to be waited for, whatever comes of it: its bytes are counted.
            while receiving.under_way + receiving.landing_count > 0
                && let Ok(event) = receiving.told.recv()
            {
                let _ = self.received(receiving, event);
            }
            self.window.give_bytes(std::mem::take(&mut receiving.held_bytes));
            receiving.landing = None;
            received
        })
    }

    fn receive_all(&self, receiving: &mut Receiving) -> Result<(), Cause> {
        let chunks = receiving.source.stamp.chunks();
        let mut content_part = receiving.source.file.next_content(&receiving.source.attr, 0)?;
        for chunk in 0..chunks {
            if chunk % HASHED_CHUNKS == 0 {
                self.ask_hashes(receiving, chunk);
            }
            if receiving.hashes.contains_key(&chunk) {
                continue;
            }
            let (begin, bytes) = (chunk * CHUNK_BYTES, receiving.source.chunk_bytes(chunk));
            while content_part.is_some_and(|(_, end)| end <= begin) {
                content_part = receiving.source.file.next_content(&receiving.source.attr, begin)?;
            }
            if content_part.is_none_or(|(content_begin, _)| content_begin >= begin + bytes) {
                // Nothing is asked for here that would end with the transfer.
                if self.is_stopped() {
                    return Err(Errno::EINTR.into());
                }
                let zeros = vec![0; bytes as usize];
                receiving.hashes.insert(chunk, hash(&zeros));
                self.meter.moved(bytes);
                receiving.running.moved(bytes);
                continue;
            }
            receiving.arriving.insert(chunk, Arriving::default());
            for offset in (begin..begin + bytes).step_by(PIECE_BYTES as usize) {
                self.ask_piece(receiving, chunk, offset, PIECE_BYTES.min(begin + bytes - offset))?;
            }
        }
        while receiving.under_way + receiving.landing_count > 0 {
            self.receive_one(receiving)?;
        }
        Ok(())
    }

    fn ask_piece(&self, receiving: &mut Receiving, chunk: u64, offset: u64, bytes: u64) -> Result<(), Cause> {
        while let Ok(event) = receiving.told.try_recv() {
            self.received(receiving, event)?;
        }
        while !self.window.take_free_bytes(bytes) {
            match receiving.under_way + receiving.landing_count {
                0 => std::thread::sleep(NO_ROOM_PAUSE),
                _ => self.receive_one(receiving)?,
            }
        }
        self.window.await_turn(bytes)?;
        receiving.held_bytes += bytes;
        let tell = receiving.tell.clone();
        let request = Request::Read { fh: receiving.source.file.fh, offset, size: bytes as u32 };
        receiving.under_way += 1;
        receiving.source.file.session.start(request, None, Patience::Endless, move |outcome| {
            let _ = tell.send(Event::Piece(Piece { chunk, offset, bytes, outcome }));
        });
        Ok(())
    }

    fn receive_one(&self, receiving: &mut Receiving) -> Result<(), Cause> {
        let event = receiving.told.recv().map_err(|_| Errno::EIO)?;
        self.received(receiving, event)
    }

    fn received(&self, receiving: &mut Receiving, event: Event) -> Result<(), Cause> {
        match event {
            Event::Piece(piece) => self.arrived(receiving, piece),
            Event::Landed(landed) => self.landed(receiving, landed),
        }
    }

    /// A piece has arrived, or not. The last of a chunk has the chunk written down.
    fn arrived(&self, receiving: &mut Receiving, piece: Piece) -> Result<(), Cause> {
        receiving.under_way -= 1;
        let content = match piece.outcome? {
            (Reply::Read { change }, content) => {
                if content.len() as u64 != piece.bytes || change.0 != receiving.source.stamp.change {
                    return Err(Cause::Changed);
                }
                content
            }
            (other, _) => return Err(unexpected(&other).into()),
        };
        self.meter.far(piece.bytes);
        self.meter.moved(piece.bytes);
        receiving.running.moved(piece.bytes);
        let Some(arriving) = receiving.arriving.get_mut(&piece.chunk) else { return Ok(()) };
        arriving.bytes += piece.bytes;
        arriving.pieces.insert(piece.offset, content);
        if arriving.bytes == receiving.source.chunk_bytes(piece.chunk)
            && let Some(Arriving { pieces, bytes }) = receiving.arriving.remove(&piece.chunk)
            && let Some(landing) = &receiving.landing
        {
            receiving.landing_count += 1;
            landing.write(Chunk { number: piece.chunk, bytes, pieces });
        }
        Ok(())
    }

    /// A chunk has been written down, or not.
    fn landed(&self, receiving: &mut Receiving, landed: Landed) -> Result<(), Cause> {
        receiving.landing_count -= 1;
        receiving.held_bytes -= landed.bytes;
        self.window.give_bytes(landed.bytes);
        let hash = landed.outcome?;
        receiving.hashes.insert(landed.number, hash);
        // A journal with gaps costs bringing them again, nothing else.
        if let Some(journal) = &mut receiving.staged.journal {
            let _ = journal.write_all(&record(landed.number, hash));
        }
        Ok(())
    }

    /// Asks for the hashes of the chunks from this one on, while their content is under way.
    fn ask_hashes(&self, receiving: &mut Receiving, chunk: u64) {
        let request = Request::HashRange {
            fh: receiving.source.file.fh,
            offset: chunk * CHUNK_BYTES,
            length: HASHED_CHUNKS * CHUNK_BYTES,
            chunk_bytes: CHUNK_BYTES as u32,
        };
        let compare = receiving.compare.clone();
        receiving.comparing += 1;
        receiving.source.file.session.start(request, None, Patience::Endless, move |outcome| {
            let _ = compare.send((chunk, outcome));
        });
    }

    /// Compares what arrived with the source, and gives it its name.
    fn complete_local(&self, receiving: &mut Receiving, task: &DownloadTask) -> Result<u64, Cause> {
        let stamp = receiving.source.stamp;
        while receiving.comparing > 0 {
            let (first, outcome) = receiving.compared.recv().map_err(|_| Errno::EIO)?;
            receiving.comparing -= 1;
            let outcome = outcome?;
            if let Reply::Hashed { change } = &outcome.0
                && change.0 != stamp.change
            {
                return Err(Cause::Changed);
            }
            let hashes = hashes_of(outcome)?;
            self.meter.compared(hashes.len() as u64 * CHUNK_BYTES);
            receiving.remote_hashes.extend((first..).zip(hashes));
        }
        let after = get_attr(&receiving.source)?;
        if stamp_of(&after) != stamp || after.change == Change::UNSURE {
            return Err(Cause::Changed);
        }
        let is_equal = (0..stamp.chunks()).all(|chunk| {
            let here = receiving.hashes.get(&chunk);
            here.is_some() && here == receiving.remote_hashes.get(&chunk)
        });
        if !is_equal {
            return Err(Cause::Differs);
        }
        let (mode, mtime) = self.kept_local(&receiving.source.attr);
        let mode = mode.unwrap_or(receiving.source.attr.mode & 0o777 & !self.options.umask);
        set_file_attr(&receiving.staged.file, Some(mode), mtime)?;
        receiving.staged.file.sync_all()?;
        task.to.publish(&receiving.staged.names.part, &task.to_name, self.options.overwrite)?;
        task.to.sync()?;
        // The file is complete; a journal that stays is swept one day.
        let _ = task.to.remove(&receiving.staged.names.journal);
        Ok(stamp.size)
    }
}

impl Source {
    fn chunk_bytes(&self, chunk: u64) -> u64 {
        CHUNK_BYTES.min(self.stamp.size.saturating_sub(chunk * CHUNK_BYTES))
    }
}

fn open_source(task: &DownloadTask) -> Result<Source, Cause> {
    let session = &task.from.session;
    let found = task.from.look_up(&task.from_name).map_err(|failure| failure.cause)?;
    let (_, held) = found.ok_or(Errno::ENOENT)?;
    let (file, attr) = Opened::for_reading(session, held.node())?;
    let attr = session.shown(attr);
    Ok(Source { file, stamp: stamp_of(&attr), attr })
}

fn get_attr(source: &Source) -> Result<Attr, Cause> {
    let request = Request::GetAttr { node: source.attr.node, fh: Some(source.file.fh) };
    match ask_for(&source.file.session, request)?.0 {
        Reply::Attr(attr) => Ok(attr),
        other => Err(unexpected(&other).into()),
    }
}

fn stamp_of(attr: &Attr) -> SourceStamp {
    SourceStamp { size: attr.size, mtime: attr.mtime, change: attr.change.0 }
}

/// Opens the incomplete file of this target for us alone, and reads its journal; if somebody else is at it, one of
/// another name.
fn claim_local(task: &DownloadTask) -> std::io::Result<(Staged, Option<Journal>)> {
    let invalid = |_| std::io::Error::from(std::io::ErrorKind::InvalidInput);
    let key = [&b"get\0"[..], task.to_name.as_bytes(), b"\0", &task.from.path.to_bytes()].concat();
    let names = StagedNames::of(&key).map_err(invalid)?;
    let opened = match task.to.create(&names.part, 0o600) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            task.to.open_file(&names.part, OFlags::RDWR)
        }
        created => created,
    };
    if let Ok(file) = opened
        && task.to.may_be_ours(&file)?
        && lock(&file)
        && let Some(named) = task.to.stat(&names.part)?
        && is_same(&named, &rustix::fs::fstat(&file)?)
    {
        let journal = read_journal(&task.to, &names);
        return Ok((Staged { names, file: Arc::new(file), journal: None }, journal));
    }
    let names = StagedNames::fresh().map_err(invalid)?;
    let file = task.to.create(&names.part, 0o600)?;
    lock(&file);
    Ok((Staged { names, file: Arc::new(file), journal: None }, None))
}

fn read_journal(directory: &LocalDir, names: &StagedNames) -> Option<Journal> {
    let mut file = directory.open_file(&names.journal, OFlags::RDONLY).ok()?;
    let mut bytes = Vec::new();
    (&mut file).take(super::journal::HEADER_BYTES as u64).read_to_end(&mut bytes).ok()?;
    let bound = Journal::parse(&bytes)?.source.journal_bytes_max();
    file.take(bound).read_to_end(&mut bytes).ok()?;
    Journal::parse(&bytes)
}

fn remove_staged(directory: &LocalDir, names: &StagedNames) {
    // What stays is swept one day.
    let _ = directory.remove(&names.part);
    let _ = directory.remove(&names.journal);
}
