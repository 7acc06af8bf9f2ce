//! The engine's journal, read without the engine.
//!
//! fjall reads a journal up to the first thing that does not fit, takes that for its end, and cuts
//! the file there: one flipped bit silently loses everything behind it. Here a journal is read to
//! its real end. What does not fit and has a whole batch behind it is damage, if that was promised to
//! anyone; what does not fit and has nothing behind it is the batch that a power cut tore.
//!
//! A batch: start (tag, number of items, sequence), its items, end (tag, checksum, trailer). The
//! checksum covers the items only, so the order of the sequences is checked here as well.

use std::borrow::Cow;

use xxhash_rust::xxh3::xxh3_64;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const TRAILER: &[u8] = b"FJL\x03";

/// A sequence never leaps further from one batch to the next.
const LEAP_MAX: u64 = 1 << 20;

/// A key and what it was set to; none when it was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: Option<Cow<'a, [u8]>>,
}

/// What was written as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Batch<'a> {
    /// Its sequence: batches are in its order.
    pub(super) sequence: u64,
    pub(super) items: Vec<Item<'a>>,
}

/// A stretch of the file that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Damage {
    /// Its first byte.
    pub(super) at: usize,
    /// Where a whole batch begins again.
    pub(super) until: usize,
    pub(super) what: &'static str,
}

/// What a journal is like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Where its last whole batch ends.
    pub(super) end: usize,
    /// What is wrong before that.
    pub(super) damages: Vec<Damage>,
    /// What does not fit behind it, when it is not empty.
    pub(super) torn: Option<&'static str>,
    /// The last sequence.
    pub(super) sequence: u64,
}

/// Reads a journal, and hands every whole batch to `each`. `before` is the last sequence of the
/// journal before it.
pub(super) fn read<'a>(bytes: &'a [u8], before: u64, each: &mut dyn FnMut(Batch<'a>)) -> Found {
    let mut found = Found { sequence: before, ..Found::default() };
    let bytes = written(bytes);
    while found.end < bytes.len() {
        let at = found.end;
        match batch(&bytes[at..]) {
            Ok((batch, len)) => {
                let leap = batch.sequence.checked_sub(found.sequence);
                // The first journal begins anywhere.
                let fits = matches!(leap, Some(1..=LEAP_MAX)) || found.sequence == 0;
                if fits {
                    found.sequence = batch.sequence;
                } else {
                    let what = "a batch is out of order";
                    found.damages.push(Damage { at, until: at + len, what });
                }
                each(batch);
                found.end = at + len;
            }
            Err(what) => {
                let Some(until) = next(bytes, at + 1, found.sequence) else {
                    found.torn = Some(what);
                    break;
                };
                found.damages.push(Damage { at, until, what });
                found.end = until;
            }
        }
    }
    found
}

/// A journal is made long, and filled: what is written ends before the zeroes.
fn written(bytes: &[u8]) -> &[u8] {
    const ZEROES: &[u8] = &[0; 4096];
    let last = bytes.chunks(ZEROES.len()).rposition(|chunk| chunk != &ZEROES[..chunk.len()]);
    let Some(last) = last.map(|last| last * ZEROES.len()) else { return &[] };
    // No whole batch ends in a zero: its trailer does not.
    let mut tail = bytes[last..].iter().take(ZEROES.len());
    let end = tail.rposition(|byte| *byte != 0).map_or(last, |end| last + end + 1);
    &bytes[..end]
}

/// Where the next whole batch begins.
fn next(bytes: &[u8], from: usize, before: u64) -> Option<usize> {
    let fits = |at: &usize| {
        bytes[*at] == START
            && batch(&bytes[*at..]).is_ok_and(|(batch, _)| {
                batch.sequence.checked_sub(before).is_some_and(|leap| leap <= LEAP_MAX)
                    || before == 0
            })
    };
    (from..bytes.len()).find(fits)
}

/// The batch at the beginning of `bytes`, and how long it is.
fn batch(bytes: &[u8]) -> Result<(Batch<'_>, usize), &'static str> {
    let mut rest = Rest(bytes);
    if rest.byte()? != START {
        return Err("no batch begins here");
    }
    let count = u32::from_le_bytes(rest.array()?);
    let sequence = u64::from_le_bytes(rest.array()?);
    if count == 0 {
        return Err("a batch is empty");
    }
    let content = rest.0;
    let mut items = Vec::new();
    for _ in 0..count {
        if let Some(item) = item(&mut rest)? {
            items.push(item);
        }
    }
    let content = &content[..content.len() - rest.0.len()];
    if rest.byte()? != END {
        return Err("a batch has no end");
    }
    if u64::from_le_bytes(rest.array()?) != xxh3_64(content) {
        return Err("a batch does not have its checksum");
    }
    if rest.take(TRAILER.len())? != TRAILER {
        return Err("the end of a batch is not whole");
    }
    Ok((Batch { sequence, items }, bytes.len() - rest.0.len()))
}

/// An item; none when it clears a keyspace, which we never do.
fn item<'a>(rest: &mut Rest<'a>) -> Result<Option<Item<'a>>, &'static str> {
    match rest.byte()? {
        ITEM => {}
        CLEAR => {
            rest.take(8)?;
            return Ok(None);
        }
        _ => return Err("a batch holds something unknown"),
    }
    let kind = rest.byte()?;
    let compressed = match rest.byte()? {
        0 => false,
        1 => true,
        _ => return Err("an item is compressed in an unknown way"),
    };
    let _keyspace: [u8; 8] = rest.array()?;
    let key_len = u16::from_le_bytes(rest.array()?);
    let value_len = u32::from_le_bytes(rest.array()?);
    let stored_len = u32::from_le_bytes(rest.array()?);
    let key = rest.take(usize::from(key_len))?;
    let stored = rest.take(usize::try_from(stored_len).unwrap_or(usize::MAX))?;
    let value_len = usize::try_from(value_len).unwrap_or(usize::MAX);
    if !compressed && value_len != stored.len() {
        return Err("an item has two lengths");
    }
    let value = match (kind, compressed) {
        (0, false) => Some(Cow::Borrowed(stored)),
        // A length that is wrong must not make us ask for gigabytes: nothing is packed that well.
        (0, true) if value_len / 255 <= stored.len() => {
            let value = lz4_flex::decompress(stored, value_len);
            Some(Cow::Owned(value.map_err(|_| "an item does not unpack")?))
        }
        (0, true) => return Err("an item does not unpack"),
        (1 | 2, _) => None,
        _ => return Err("an item is of an unknown kind"),
    };
    Ok(Some(Item { key, value }))
}

/// What is left to read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or("a batch is cut short")?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (taken, rest) = self.0.split_first_chunk().ok_or("a batch is cut short")?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, &'static str> {
        self.array().map(|[byte]| byte)
    }
}
