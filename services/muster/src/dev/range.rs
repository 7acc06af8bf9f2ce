//! The range in which a development cluster serves workloads by name: containers remember it, so it
//! stays the same.

use std::path::Path;

use runtime::Failure;
use runtime::inside::{self, Range};

/// The file with the range, in the folder of the cluster.
const FILE: &str = "service-range";

/// The range that is asked for, or the one that the cluster had, or one that nobody serves now.
pub(super) async fn kept(asked: Option<Range>, folder: &Path) -> Result<Range, Failure> {
    let path = folder.join(FILE);
    let before = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
    let range = match asked.or(before) {
        Some(range) => range,
        None => free().await.ok_or(
            "every range of addresses for workloads is taken: name another \
                                    with --service-range, or stop another cluster",
        )?,
    };
    if before != Some(range) {
        std::fs::write(&path, format!("{range}\n"))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(range)
}

async fn free() -> Option<Range> {
    for range in Range::choices() {
        if inside::served(range).await.is_none() {
            return Some(range);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_cluster_keeps_its_range_until_another_is_asked_for() {
        let folder = std::env::temp_dir().join(format!("muster-range-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the temporary folder takes folders");
        let first = kept(None, &folder).await.expect("one is free");
        assert!(Range::choices().any(|range| range == first));
        let other: Range = "172.31.0.0/16".parse().expect("a range");
        assert_eq!(kept(None, &folder).await.expect("it is kept"), first);
        assert_eq!(kept(Some(other), &folder).await.expect("it is asked for"), other);
        assert_eq!(kept(None, &folder).await.expect("it is kept"), other);
        std::fs::remove_dir_all(folder).expect("it goes away");
    }
}
