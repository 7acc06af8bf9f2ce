//! Which rule a request falls under: by its host, then by the longest beginning of its path.

use std::collections::{BTreeMap, BTreeSet};

use schemas::spec::{Route, Tls};

/// Rules in the order in which they are looked at, with what each leads to.
#[derive(Debug)]
pub(crate) struct Routes<T> {
    /// By host: of each, the longest path first.
    named: BTreeMap<String, Vec<Entry<T>>>,
    /// By what a host ends with, without the star.
    below: BTreeMap<String, Vec<Entry<T>>>,
    any: Vec<Entry<T>>,
}

#[derive(Debug)]
struct Entry<T> {
    path: String,
    certificate: Option<Shown>,
    to: T,
}

/// Which certificate is shown for a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// That of this name, from files.
    File(String),
    /// The host's own, which is ordered.
    Ordered,
}

impl<T> Default for Routes<T> {
    fn default() -> Self {
        Self { named: BTreeMap::new(), below: BTreeMap::new(), any: Vec::new() }
    }
}

impl<T> Routes<T> {
    pub(crate) fn of(rules: impl IntoIterator<Item = (Route, T)>) -> Self {
        let mut routes = Self::default();
        for (route, to) in rules {
            let certificate = match &route.tls {
                Some(Tls::File { name, .. }) => Some(Shown::File(name.clone())),
                Some(Tls::Acme { .. }) => Some(Shown::Ordered),
                None => None,
            };
            let entries = match route.host.as_deref().map(str::to_ascii_lowercase) {
                None => &mut routes.any,
                Some(host) => match host.strip_prefix('*') {
                    Some(ending) => routes.below.entry(ending.to_owned()).or_default(),
                    None => routes.named.entry(host).or_default(),
                },
            };
            // Behind those that are as long: the first one holds.
            let at = entries.partition_point(|entry| entry.path.len() >= route.path.len());
            entries.insert(at, Entry { path: route.path, certificate, to });
        }
        routes
    }

    /// What a request leads to.
    pub(crate) fn find(&self, host: &str, path: &str) -> Option<&T> {
        let entry = |entries: &&[Entry<T>]| entries.iter().any(|entry| begins(path, &entry.path));
        let entries = self.entries(host).into_iter().find(entry)?;
        entries.iter().find(|entry| begins(path, &entry.path)).map(|entry| &entry.to)
    }

    /// The certificate that is shown for a host.
    pub(crate) fn certificate(&self, host: &str) -> Option<&Shown> {
        let mut entries = self.entries(host).into_iter().flatten();
        entries.find_map(|entry| entry.certificate.as_ref())
    }

    /// The names of all certificates from files.
    pub(crate) fn certificates(&self) -> BTreeSet<String> {
        let name = |entry: &Entry<T>| match &entry.certificate {
            Some(Shown::File(name)) => Some(name.clone()),
            Some(Shown::Ordered) | None => None,
        };
        self.all_entries().filter_map(name).collect()
    }

    /// The hosts whose certificates are ordered: each by its own name.
    pub(crate) fn ordered(&self) -> BTreeSet<String> {
        let ordered = |(_, entries): &(&String, &Vec<Entry<T>>)| {
            entries.iter().find_map(|entry| entry.certificate.as_ref()) == Some(&Shown::Ordered)
        };
        self.named.iter().filter(ordered).map(|(host, _)| host.clone()).collect()
    }

    /// What all of them lead to.
    pub(crate) fn all(&self) -> impl Iterator<Item = &T> {
        self.all_entries().map(|entry| &entry.to)
    }

    fn all_entries(&self) -> impl Iterator<Item = &Entry<T>> {
        let hosts = self.named.values().chain(self.below.values()).flatten();
        hosts.chain(&self.any)
    }

    /// The rules for a host, nearest first: those with its name, those for every name below one, those
    /// for any.
    fn entries(&self, host: &str) -> Vec<&[Entry<T>]> {
        let host = host.to_ascii_lowercase();
        let mut found: Vec<&[Entry<T>]> = Vec::new();
        found.extend(self.named.get(&host).map(Vec::as_slice));
        let dots = host.match_indices('.').map(|(at, _)| &host[at..]);
        found.extend(dots.filter_map(|ending| self.below.get(ending)).map(Vec::as_slice));
        found.push(&self.any);
        found
    }
}

/// Whether a path begins with another: with all of its parts, not with a part of a part.
fn begins(path: &str, beginning: &str) -> bool {
    let Some(rest) = path.strip_prefix(beginning) else { return false };
    beginning.ends_with('/') || rest.is_empty() || rest.starts_with('/')
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn route(host: Option<&str>, path: &str, certificate: Option<&str>) -> Route {
        Route {
            host: host.map(str::to_owned),
            path: path.to_owned(),
            port: None,
            tls: certificate.map(|name| Tls::File { name: name.to_owned(), redirect: true }),
            redirect: None,
            rate_limit: None,
            timeout_ms: 1,
            retries: 0,
            set_headers: BTreeMap::new(),
        }
    }

    #[test]
    fn the_nearest_host_and_the_longest_path_win() {
        let routes = Routes::of([
            (route(None, "/", None), "any"),
            (route(Some("shop.example"), "/", None), "shop"),
            (route(Some("shop.example"), "/api", None), "api"),
            (route(Some("shop.example"), "/api/v2/", None), "v2"),
            (route(Some("shop.example"), "/api", None), "the same again"),
            (route(Some("*.shop.example"), "/", None), "below"),
            (route(Some("*.Other.example"), "/only", None), "other"),
        ]);
        for (host, path, to) in [
            ("shop.example", "/", "shop"),
            ("SHOP.example", "/apis", "shop"),
            ("shop.example", "/api", "api"),
            ("shop.example", "/api/v1", "api"),
            ("shop.example", "/api/v2", "api"),
            ("shop.example", "/api/v2/x", "v2"),
            ("a.shop.example", "/api", "below"),
            ("a.b.shop.example", "/", "below"),
            ("x.other.example", "/only/this", "other"),
            // Where no path of the nearest fits, the next nearest is asked.
            ("x.other.example", "/", "any"),
            ("else.example", "/api", "any"),
        ] {
            assert_eq!(routes.find(host, path), Some(&to), "{host}{path}");
        }
        let none: Routes<&str> = Routes::of([(route(Some("a"), "/b", None), "b")]);
        assert_eq!(none.find("a", "/"), None);
        assert_eq!(none.find("c", "/b"), None);
    }

    #[test]
    fn a_host_has_the_certificate_of_its_nearest_rule_that_has_one() {
        let routes = Routes::of([
            (route(None, "/", Some("default")), ()),
            (route(Some("shop.example"), "/long", None), ()),
            (route(Some("shop.example"), "/", Some("shop")), ()),
            (route(Some("*.shop.example"), "/", Some("wild")), ()),
        ]);
        let named = |host: &str| match routes.certificate(host) {
            Some(Shown::File(name)) => Some(name.as_str()),
            Some(Shown::Ordered) | None => None,
        };
        assert_eq!(named("Shop.example"), Some("shop"));
        assert_eq!(named("a.shop.example"), Some("wild"));
        assert_eq!(named("example"), Some("default"));
    }

    #[test]
    fn what_is_ordered_is_ordered_for_hosts_by_their_own_names() {
        let ordered = |host: Option<&str>| Route {
            tls: Some(Tls::Acme { redirect: true }),
            ..route(host, "/", None)
        };
        let routes = Routes::of([
            (ordered(Some("Shop.example")), ()),
            (route(Some("shop.example"), "/api", None), ()),
            (ordered(Some("*.shop.example")), ()),
            (route(Some("other.example"), "/", Some("other")), ()),
        ]);
        assert_eq!(routes.ordered(), BTreeSet::from(["shop.example".to_owned()]));
        assert_eq!(routes.certificate("shop.example"), Some(&Shown::Ordered));
        assert_eq!(routes.certificates(), BTreeSet::from(["other".to_owned()]));
    }
}
