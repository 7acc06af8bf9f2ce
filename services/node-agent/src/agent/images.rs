//! Images that this agent pulled and nothing needs any more go when the disk runs full. What a user
//! loaded, built or pulled by hand is never touched.

use std::collections::BTreeMap;

use decider::Now;
use serde::{Deserialize, Serialize};

use super::{Agent, Output};
use crate::engine::{Done, Op};

/// How much further than its mark the disk is emptied, in percent, so that it is not at it again soon.
const DOWN_BY: u64 = 10;

/// How long a failed removal keeps the others waiting, in ms.
const AGAIN_MS: u64 = 60_000;

/// An image that this agent pulled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pulled {
    /// The engine's id of it.
    id: String,
    /// When a document last named it, in ms since 1970 UTC.
    used_ms: u64,
}

/// The images that were pulled, and whether room is being made.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Images {
    pulled: BTreeMap<String, Pulled>,
    #[serde(skip)]
    making_room: bool,
    #[serde(skip)]
    removing: bool,
    #[serde(skip)]
    rest_until_ms: u64,
}

impl Agent {
    /// Above what share of the engine's disk unused images go, in percent.
    #[must_use]
    pub fn with_image_mark(mut self, percent: u64) -> Self {
        self.image_mark = percent.min(100);
        self
    }

    pub(super) fn pulled(&mut self, image: String, id: String, now: Now) {
        self.kept.images.pulled.insert(image, Pulled { id, used_ms: now.utc_ms });
        self.changed = true;
    }

    /// What the document names now was used until now.
    pub(super) fn used(&mut self, now: Now) {
        let Some(document) = &self.kept.document else { return };
        for image in document.replicas.values().filter_map(|a| a.image.as_ref()) {
            if let Some(pulled) = self.kept.images.pulled.get_mut(image) {
                pulled.used_ms = now.utc_ms;
            }
        }
    }

    /// One image at a time, the one that was not used for longest first.
    pub(super) fn make_room(&mut self, now: Now, out: &mut Vec<Output>) {
        let size = self.kept.described.as_ref().map_or(0, |described| described.disk_bytes);
        if size == 0 || self.disk_free_bytes == 0 || !self.fresh || self.stopping {
            return;
        }
        let used = 100 - self.disk_free_bytes.min(size).saturating_mul(100) / size;
        let images = &mut self.kept.images;
        images.making_room = match images.making_room {
            true => used > self.image_mark.saturating_sub(DOWN_BY),
            false => used > self.image_mark,
        };
        if !images.making_room || images.removing || now.mono_ms < images.rest_until_ms {
            return;
        }
        match self.unused() {
            Some((image, id)) => {
                self.kept.images.removing = true;
                out.push(Output::Engine(Op::RemoveImage { image, id }));
            }
            None => self.kept.images.making_room = false,
        }
    }

    fn unused(&self) -> Option<(String, String)> {
        let images = &self.kept.images.pulled;
        let document = self.kept.document.as_ref()?;
        let named: Vec<&String> =
            document.replicas.values().filter_map(|a| a.image.as_ref()).collect();
        // A replica whose image is not resolved yet may turn out to need any of them.
        if named.len() < document.replicas.len() {
            return None;
        }
        let ids: Vec<&String> =
            named.iter().filter_map(|image| images.get(*image)).map(|pulled| &pulled.id).collect();
        let unused = images
            .iter()
            .filter(|(image, pulled)| !named.contains(image) && !ids.contains(&&pulled.id));
        let oldest = unused.min_by_key(|(image, pulled)| (pulled.used_ms, (*image).clone()));
        oldest.map(|(image, pulled)| (image.clone(), pulled.id.clone()))
    }

    /// The disk is looked at again in a while; until then what was freed is added up.
    pub(super) fn image_removed(&mut self, image: &str, done: &Done, now: Now) {
        self.kept.images.removing = false;
        match done {
            Done::ImageRemoved { freed_bytes } => {
                self.kept.images.pulled.remove(image);
                self.disk_free_bytes = self.disk_free_bytes.saturating_add(*freed_bytes);
            }
            // A container that is not ours has it, or a tag of somebody else's: not ours to remove.
            Done::ImageInUse => {
                self.kept.images.pulled.remove(image);
            }
            _ => self.kept.images.rest_until_ms = now.mono_ms + AGAIN_MS,
        }
        self.changed = true;
    }
}
