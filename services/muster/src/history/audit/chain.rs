//! The chain of hashes, checked without folding anything.

use schemas::envelope::Header;
use schemas::place::Place;

/// A history as far as it was hashed.
#[derive(Debug, Default)]
pub(crate) struct Chain(Place);

impl Chain {
    /// The last event that was taken.
    pub(crate) fn place(&self) -> Place {
        self.0
    }

    /// Takes the next event; what is wrong with it, if it does not follow.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), String> {
        let next = self.0.position + 1;
        let (header, kind) =
            Header::decode(bytes).map_err(|error| format!("what stands at r{next} is {error}"))?;
        let position = header.position;
        if position != next {
            return Err(format!("r{next} is missing: the next event says that it is r{position}"));
        }
        if header.prev_hash != self.0.hash {
            return Err(format!(
                "r{position} does not follow from the event before it: it names hash {}, and that has {}. \
                 One of the two was changed after it was recorded",
                header.prev_hash, self.0.hash
            ));
        }
        let takes = kind == "SequencerTaken";
        let fits = if takes { header.epoch > self.0.epoch } else { header.epoch == self.0.epoch };
        if !fits {
            return Err(format!(
                "r{position} is of epoch {}, where epoch {} reigns",
                header.epoch, self.0.epoch
            ));
        }
        self.0 = Place { epoch: header.epoch, position, hash: header.prev_hash.extend(bytes) };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use cluster::history::History;

    use super::*;

    #[test]
    fn a_whole_history_ends_at_its_place() {
        let mut history = History::default();
        history.node("n1", 1, 1);
        let mut chain = Chain::default();
        for entry in &history.entries {
            chain.push(entry).expect("it follows");
        }
        assert_eq!(chain.place(), history.fold.place());
    }

    #[test]
    fn a_changed_event_a_gap_and_another_epoch_are_named() {
        let mut history = History::default();
        history.node("n1", 1, 1);
        let broken = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
            let mut entries = history.entries.clone();
            change(&mut entries);
            let mut chain = Chain::default();
            entries.iter().find_map(|entry| chain.push(entry).err()).expect("it is told")
        };
        let edited = broken(&|entries| {
            let text = String::from_utf8(entries[2].clone()).expect("JSON is UTF-8");
            entries[2] = text.replacen("1000", "1001", 1).into_bytes();
        });
        assert!(edited.contains("r4 does not follow"), "{edited}");
        let missing = broken(&|entries| {
            entries.remove(2);
        });
        assert!(missing.contains("r3 is missing"), "{missing}");
        let epoch = broken(&|entries| {
            let text = String::from_utf8(entries[3].clone()).expect("JSON is UTF-8");
            entries[3] = text.replacen("\"epoch\":1", "\"epoch\":2", 1).into_bytes();
        });
        assert!(epoch.contains("epoch 2"), "{epoch}");
        assert!(broken(&|entries| entries[1] = b"{}".to_vec()).contains("r2"));
    }
}
