//! Archives: a whole history as files, and a log made from them.
//!
//! An archive is a folder with a manifest and segments of one event a line, exactly as published. A
//! segment is written whole under another name first and never changed; the manifest names it only
//! then. So an archive can grow, and one that was interrupted goes on where its manifest ends.
//!
//! Not here: where the events come from (`muster backup` reads them over the bus).

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use runtime::Failure;
use schemas::envelope::Header;
use schemas::id::Digest;
use schemas::place::{Hash, Place};
use serde::{Deserialize, Serialize};

use crate::config;
use crate::rebuild::Rebuild;

/// The name of the manifest.
pub const MANIFEST: &str = "manifest.json";

/// The version of this shape.
const FORMAT: u32 = 1;

/// What an archive holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of the shape.
    pub format: u32,
    /// The id of the history.
    pub genesis: String,
    /// The last entry.
    pub place: Place,
    /// The last place that the state was told for: the end of the archive, once it is whole.
    pub state_at: Place,
    /// The hash of the state there.
    pub state_hash: String,
    /// The version of the fold that the hash is of.
    pub fold_version: u32,
    /// The files, in order.
    pub segments: Vec<Segment>,
}

/// A file of events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Its name.
    pub file: String,
    /// The position of its first event.
    pub first: u64,
    /// That of its last one.
    pub last: u64,
    /// How long it is.
    pub bytes: u64,
    /// The SHA-256 of it.
    pub sha256: Digest,
}

/// An archive that is written.
#[derive(Debug)]
pub struct Archive {
    folder: PathBuf,
    manifest: Manifest,
    open: Vec<u8>,
    first: u64,
    place: Place,
}

impl Archive {
    /// Opens the archive in `folder`, or begins one.
    ///
    /// # Errors
    ///
    /// When the folder cannot be written, holds something else, or its end is damaged.
    pub fn open(folder: &Path) -> Result<Self, Failure> {
        let failed = |what: &str, error: io::Error| format!("{what} {}: {error}", folder.display());
        std::fs::create_dir_all(folder).map_err(|error| failed("cannot make", error))?;
        let manifest = match read_manifest(folder)? {
            Some(manifest) => manifest,
            None => {
                let mut inside = std::fs::read_dir(folder).map_err(|e| failed("cannot read", e))?;
                if inside.any(|entry| entry.is_ok_and(|entry| !is_ours(&entry.file_name()))) {
                    let text = format!("{} is not empty and no archive", folder.display());
                    return Err(text.into());
                }
                Manifest { format: FORMAT, ..Manifest::default() }
            }
        };
        if let Some(last) = manifest.segments.last() {
            // What is added must follow from what is really there.
            read_segment(folder, last)?;
        }
        let (place, folder) = (manifest.place, folder.to_owned());
        Ok(Self { folder, manifest, open: Vec::new(), first: place.position + 1, place })
    }

    /// What it holds.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The last event that was added, be it written yet or not.
    #[must_use]
    pub fn place(&self) -> Place {
        self.place
    }

    /// How much was added and is not written yet.
    #[must_use]
    pub fn unwritten(&self) -> usize {
        self.open.len()
    }

    /// Adds the next event.
    ///
    /// # Errors
    ///
    /// When it does not follow from the one before it.
    pub fn add(&mut self, event: &[u8]) -> Result<(), Failure> {
        let (header, _) = Header::decode(event)?;
        let next = self.place.position + 1;
        if header.position != next {
            return Err(format!("got position {} where {next} comes next", header.position).into());
        }
        if header.prev_hash != self.place.hash || event.contains(&b'\n') {
            let text =
                format!("position {next} does not follow from the one before it in the archive");
            return Err(text.into());
        }
        self.open.extend_from_slice(event);
        self.open.push(b'\n');
        let hash = self.place.hash.extend(event);
        self.place = Place { epoch: header.epoch, position: next, hash };
        Ok(())
    }

    /// Writes what was added, durably.
    ///
    /// # Errors
    ///
    /// When the disk does not take it.
    pub fn write(&mut self, genesis: &str) -> Result<(), Failure> {
        if self.open.is_empty() {
            return Ok(());
        }
        let (first, last) = (self.first, self.place.position);
        let file = format!("events-{first:012}.jsonl");
        write_whole(&self.folder, &file, &self.open)?;
        let (bytes, sha256) = (self.open.len() as u64, Digest::of(&self.open));
        self.manifest.segments.push(Segment { file, first, last, bytes, sha256 });
        genesis.clone_into(&mut self.manifest.genesis);
        self.manifest.place = self.place;
        self.write_manifest()?;
        self.open.clear();
        self.first = last + 1;
        Ok(())
    }

    /// Notes what the state is at its end.
    ///
    /// # Errors
    ///
    /// When the disk does not take it.
    pub fn note_state(&mut self, at: Place, hash: &str, fold_version: u32) -> Result<(), Failure> {
        self.manifest.state_at = at;
        hash.clone_into(&mut self.manifest.state_hash);
        self.manifest.fold_version = fold_version;
        self.write_manifest()
    }

    fn write_manifest(&self) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(&self.manifest)? + "\n";
        write_whole(&self.folder, MANIFEST, text.as_bytes())
    }
}

fn is_ours(name: &std::ffi::OsStr) -> bool {
    name.to_string_lossy().ends_with(PART)
        || name.to_string_lossy().starts_with("events-")
            && name.to_string_lossy().ends_with(".jsonl")
}

/// How a file is called until it is whole.
const PART: &str = ".part";

fn write_whole(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), Failure> {
    let (part, whole) = (folder.join(format!("{name}{PART}")), folder.join(name));
    let written = (|| {
        let mut file = File::create(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&part, &whole)?;
        File::open(folder)?.sync_all()
    })();
    written.map_err(|error: io::Error| format!("cannot write {}: {error}", whole.display()).into())
}

fn read_manifest(folder: &Path) -> Result<Option<Manifest>, Failure> {
    let path = folder.join(MANIFEST);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot read {}: {error}", path.display()).into()),
    };
    let manifest: Manifest = serde_json::from_slice(&bytes)
        .map_err(|error| format!("{} is damaged: {error}", path.display()))?;
    if manifest.format != FORMAT {
        let format = manifest.format;
        let text = format!("{} is of format {format}: a newer release reads it", path.display());
        return Err(text.into());
    }
    Ok(Some(manifest))
}

/// The content of a segment, when it is what was written.
fn read_segment(folder: &Path, segment: &Segment) -> Result<Vec<u8>, Failure> {
    let path = folder.join(&segment.file);
    let Segment { first, last, .. } = segment;
    let bytes = std::fs::read(&path).map_err(|error| {
        format!("cannot read {}, which holds positions {first} to {last}: {error}", path.display())
    })?;
    if Digest::of(&bytes) != segment.sha256 {
        let path = path.display();
        let text = format!(
            "{path}, which holds positions {first} to {last}, is damaged: its sha256 differs"
        );
        return Err(text.into());
    }
    Ok(bytes)
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Where the log ends.
    pub place: Place,
    /// The hash of its state.
    pub state_hash: String,
    /// Whether the archive had that hash too. Not, when another version of the fold made it.
    pub compared: bool,
}

/// Makes a log in `state_dir` from the archive in `from`. `tell` is told how far it is: position,
/// and of how many.
///
/// # Errors
///
/// When there is a log already, or the archive is not whole: then there is no log afterwards.
pub fn restore(
    from: &Path,
    state_dir: &Path,
    tell: &mut dyn FnMut(u64, u64),
) -> Result<Restored, Failure> {
    let Some(manifest) = read_manifest(from)? else {
        return Err(format!("there is no archive in {}: no {MANIFEST}", from.display()).into());
    };
    if manifest.place.position == 0 {
        return Err(format!("the archive in {} is empty", from.display()).into());
    }
    let folder = config::folder(state_dir);
    let mut rebuild = Rebuild::begin(&folder)?;
    let restored = fill(&mut rebuild, from, &manifest, tell)?;
    rebuild.finish(None)?;
    Ok(restored)
}

fn fill(
    rebuild: &mut Rebuild,
    from: &Path,
    manifest: &Manifest,
    tell: &mut dyn FnMut(u64, u64),
) -> Result<Restored, Failure> {
    let mut compared = false;
    for segment in &manifest.segments {
        let bytes = read_segment(from, segment)?;
        for line in BufReader::new(&bytes[..]).split(b'\n') {
            let next = rebuild.place().position + 1;
            let wrong = |error: Failure| format!("{} at position {next}: {error}", segment.file);
            rebuild.take(Bytes::from(line?)).map_err(wrong)?;
            if manifest.fold_version == cluster::FOLD_VERSION
                && rebuild.fold().place() == manifest.state_at
            {
                let (got, told) = (rebuild.fold().state().hash(), &manifest.state_hash);
                if got != *told {
                    let text = format!("the state at {next} is {got}, and the archive says {told}");
                    return Err(text.into());
                }
                compared = true;
            }
        }
        tell(segment.last, manifest.place.position);
    }
    let place = rebuild.place();
    if place != manifest.place {
        let told = manifest.place;
        return Err(format!("the archive ends at {place}, and its manifest says {told}").into());
    }
    if rebuild.fold().state().cluster.genesis != manifest.genesis {
        return Err("the archive is of another history than its manifest says".into());
    }
    let state_hash = rebuild.fold().state().hash();
    Ok(Restored { place, state_hash, compared })
}

/// The hash behind an event of the log, to see whether an archive is of the same history.
///
/// # Errors
///
/// When it is no event.
pub fn hash_behind(event: &[u8]) -> Result<Hash, Failure> {
    let (header, _) = Header::decode(event)?;
    Ok(header.prev_hash.extend(event))
}
