//! Images: what a reference means, pulling, and removing what nothing needs.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bollard::query_parameters::{CreateImageOptionsBuilder, RemoveImageOptionsBuilder};
use futures_util::StreamExt as _;
use schemas::document::SpecDocument;
use schemas::spec::Pull;

use super::{Done, Engine, Failed, at, is_missing, status};
use crate::credentials;

/// After which a pull has failed.
const PULL_DEADLINE: Duration = Duration::from_secs(600);

/// What was pulled and is not told yet: references, and the engine's ids.
pub(super) type Pulled = Mutex<Vec<(String, String)>>;

impl Engine {
    /// What the reference means: a digest of a registry, or this engine's own id of the image.
    pub(super) async fn resolve(&self, document: &SpecDocument) -> Result<String, Failed> {
        let reference = &document.spec.image;
        let mut found = self.docker.inspect_image(reference).await.ok();
        let pull = match document.spec.pull {
            Pull::Always => true,
            Pull::Missing => found.is_none(),
            Pull::Never => false,
        };
        if pull {
            self.pull(reference).await?;
            found = None;
        }
        let image = match found {
            Some(image) => image,
            None => self.docker.inspect_image(reference).await.map_err(at("resolve"))?,
        };
        let wanted = format!("{}@", familiar(repository(reference)));
        let digests = image.repo_digests.unwrap_or_default();
        // Not that of another repository that has the same image: it may be gone tomorrow.
        let digest = digests.into_iter().find(|digest| familiar(digest).starts_with(&wanted));
        let named = digest.or_else(|| image.id.clone());
        let named = named.ok_or(("resolve", format!("the engine has no id for {reference}")))?;
        if pull {
            self.tell_pulled(named.clone(), image.id);
        }
        Ok(named)
    }

    /// Pulls an image by its digest unless it is there. An id means nothing to a registry.
    pub(super) async fn have_image(&self, image: &str) -> Result<(), Failed> {
        let Err(error) = self.docker.inspect_image(image).await else { return Ok(()) };
        if !is_missing(&error) || image.starts_with("sha256:") {
            let hint = format!("image {image} is not on this node: {error}");
            return Err(("find the image", hint));
        }
        self.pull(image).await?;
        let pulled = self.docker.inspect_image(image).await.map_err(at("find the image"))?;
        self.tell_pulled(image.to_owned(), pulled.id);
        Ok(())
    }

    fn tell_pulled(&self, image: String, id: Option<String>) {
        let mut pulled = self.pulled.lock().unwrap_or_else(PoisonError::into_inner);
        pulled.extend(id.map(|id| (image, id)));
    }

    /// What was pulled since this was last asked: references, and the engine's ids.
    #[must_use]
    pub fn take_pulled(&self) -> Vec<(String, String)> {
        std::mem::take(&mut *self.pulled.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn pull(&self, reference: &str) -> Result<(), Failed> {
        let pulling = async {
            let found = credentials::of(reference).await;
            let found = found.map_err(|error| ("pull", error))?;
            let named = found.is_some();
            let options = CreateImageOptionsBuilder::default().from_image(reference).build();
            let mut progress = self.docker.create_image(Some(options), None, found);
            while let Some(step) = progress.next().await {
                step.map_err(|error| ("pull", advice(reference, named, &error.to_string())))?;
            }
            Ok(())
        };
        let late = || Err(("pull", format!("{reference} took more than {PULL_DEADLINE:?}")));
        tokio::time::timeout(PULL_DEADLINE, pulling).await.unwrap_or_else(|_| late())
    }

    /// Never by force: what a container has, or another tag, stays.
    pub(super) async fn remove_image(&self, id: &str) -> Result<Done, Failed> {
        let size = match self.docker.inspect_image(id).await {
            Ok(found) => found.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
            Err(error) if is_missing(&error) => return Ok(Done::ImageRemoved { freed_bytes: 0 }),
            Err(error) => return Err(at("remove the image")(error)),
        };
        let options = RemoveImageOptionsBuilder::default().build();
        match self.docker.remove_image(id, Some(options), None).await {
            Ok(_) => {
                tracing::info!(image = id, size, "the disk runs full: an unused image was removed");
                Ok(Done::ImageRemoved { freed_bytes: size })
            }
            Err(error) if status(&error) == Some(409) => Ok(Done::ImageInUse),
            Err(error) => Err(at("remove the image")(error)),
        }
    }
}

/// A reference without its tag or digest.
fn repository(reference: &str) -> &str {
    let name = reference.split('@').next().unwrap_or(reference);
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    }
}

/// The short name by which the engine knows images of the default registry.
fn familiar(reference: &str) -> &str {
    let name = reference.strip_prefix("docker.io/").unwrap_or(reference);
    name.strip_prefix("library/").unwrap_or(name)
}

/// What to do about a pull that failed, after the engine's own words.
fn advice(reference: &str, with_credentials: bool, error: &str) -> String {
    let said = error.to_ascii_lowercase();
    let says = |parts: &[&str]| parts.iter().any(|part| said.contains(part));
    let registry = credentials::registry(reference);
    let what = if says(&["unauthorized", "no basic auth", "authentication required", "denied"]) {
        match with_credentials {
            true => format!(
                "{registry} does not let these credentials read it: log in anew with \
                 `docker login`, as the user that runs this node's agent; or it does not exist"
            ),
            false => format!(
                "{registry} wants to know who asks: log in with `docker login`, as the user that \
                 runs this node's agent; or it does not exist"
            ),
        }
    } else if says(&["manifest unknown", "not found", "does not exist", "name unknown"]) {
        format!("{registry} has no such image: check its name and tag")
    } else if says(&[
        "connection refused",
        "no such host",
        "timeout",
        "unreachable",
        "dial tcp",
        "lookup",
    ]) {
        format!("{registry} cannot be reached from this node: check its name and the network")
    } else if says(&["toomanyrequests", "too many requests"]) {
        format!("{registry} lets nobody pull so often: log in, or wait")
    } else {
        return format!("{reference}: {error}");
    };
    format!("{reference}: {what} ({error})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_known_by_the_engine_s_short_name_of_it() {
        for (reference, name) in [
            ("web:1", "web"),
            ("docker.io/library/web@sha256:00", "web"),
            ("docker.io/team/web", "team/web"),
            ("localhost:5000/team/web:1", "localhost:5000/team/web"),
            ("localhost:5000/web", "localhost:5000/web"),
        ] {
            assert_eq!(familiar(repository(reference)), name, "{reference}");
        }
    }

    #[test]
    fn a_failed_pull_says_what_to_do() {
        for (error, part) in [
            ("manifest for reg.example/a:1 not found: manifest unknown", "check its name and tag"),
            ("unauthorized: authentication required", "docker login"),
            ("dial tcp: lookup reg.example: no such host", "cannot be reached"),
            ("dial tcp 127.0.0.1:1: connect: connection refused", "cannot be reached"),
            ("no space left on device", "no space left"),
        ] {
            let said = advice("reg.example/a:1", false, error);
            assert!(said.contains(part) && said.contains(error), "{said}");
        }
        assert!(advice("reg.example/a:1", true, "unauthorized").contains("log in anew"));
    }
}
