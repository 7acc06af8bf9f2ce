//! Finding the cluster: flags, NATS contexts on disk, and what `muster dev` left behind.
//!
//! NATS contexts are those of the `nats` command (its ADR-21): one JSON file each, and the name of the
//! selected one beside them. A field that changes how to connect and is not understood is refused.

use std::path::{Path, PathBuf};

use bus::{Connect, Security};
use schemas::registry::Role;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::args::{ContextCommand, Format, To};
use crate::colour::{self, Colour};
use crate::error::{CliError, Code};
use crate::look;

const DEFAULT_URL: &str = "nats://127.0.0.1:4222";

/// Who one is where no user is named.
const NOBODY: &str = "muster";

/// Fields of a context that would have to be obeyed in order to connect, and are not.
const REFUSED: [(&str, &str); 7] = [
    ("user_jwt", "name a file in creds that holds it"),
    ("nsc", "have nsc write a file, and name it in creds"),
    ("jetstream_domain", "connect to the domain's own servers"),
    ("jetstream_api_prefix", "connect as a user of the cluster's own account"),
    ("jetstream_event_prefix", "connect as a user of the cluster's own account"),
    ("socks_proxy", "connect without one"),
    ("tls_first", "let the server begin in the clear and upgrade"),
];

/// How to reach a cluster, as `muster dev` leaves it for the command line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DevContext {
    pub(crate) url: String,
    pub(crate) user: String,
    pub(crate) password: String,
}

impl DevContext {
    /// Where `muster dev` leaves it.
    pub(crate) fn path(dev_dir: &Path) -> PathBuf {
        dev_dir.join("context.json")
    }

    /// Where this process leaves it as well, whatever its folder, for as long as it runs.
    pub(crate) fn path_while_running() -> PathBuf {
        running_dir().join(format!("{}.json", std::process::id()))
    }

    fn read(dev_dir: &Path) -> Option<Self> {
        Self::read_file(&Self::path(dev_dir))
    }

    fn read_file(path: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    /// Those of every `muster dev` of this user that runs, in the order of their addresses.
    fn running() -> Vec<Self> {
        let files = std::fs::read_dir(running_dir()).into_iter().flatten().flatten();
        // One that was killed has left its file.
        let lives = |file: &Path| {
            let process = file.file_stem().map(|id| Path::new("/proc").join(id));
            process.is_some_and(|process| process.exists())
        };
        let files = files.map(|file| file.path()).filter(|file| lives(file));
        let mut found: Vec<_> = files.filter_map(|file| Self::read_file(&file)).collect();
        found.sort_by(|a, b| a.url.cmp(&b.url));
        found
    }

    /// Whether it is the one of an address.
    fn is_at(&self, url: &str) -> bool {
        let plain = |url: &str| {
            let host = url.trim_end_matches('/').trim_start_matches("nats://");
            host.replacen("localhost:", "127.0.0.1:", 1)
        };
        plain(&self.url) == plain(url)
    }
}

fn running_dir() -> PathBuf {
    runtime::settings::user_state_dir().join("muster").join("running")
}

/// The folder of `muster dev`, unless another is given.
pub(crate) fn default_dev_dir() -> PathBuf {
    runtime::settings::user_state_dir().join("muster").join("dev")
}

/// A way to a cluster.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) connect: Connect,
    pub(crate) security: Security,
    /// Who one is there.
    pub(crate) user: String,
    /// Whether the server proves that.
    pub(crate) proved: bool,
    /// What said so.
    pub(crate) from: String,
}

/// What may name a cluster, gathered, so that choosing needs no disk.
#[derive(Debug, Default)]
struct Sources {
    url: Option<String>,
    user: Option<String>,
    password: Option<String>,
    named: Option<String>,
    selected: Option<String>,
    /// That of `MUSTER_DEV_DIR`.
    dev_named: Option<DevContext>,
    dev: Option<DevContext>,
    /// Those that run, in whatever folder.
    running: Vec<DevContext>,
}

/// The cluster that the command line means.
pub(crate) fn find(to: &To) -> Result<Target, CliError> {
    let folder = Folder::of_user();
    let dev_dir = runtime::settings::dev_dir();
    let sources = Sources {
        url: to.nats_url.clone(),
        user: to.nats_user.clone(),
        password: to.nats_password.clone(),
        named: to.context.clone(),
        selected: folder.selected(),
        dev_named: dev_dir.as_deref().and_then(DevContext::read),
        dev: DevContext::read(&default_dev_dir()),
        running: DevContext::running(),
    };
    choose(sources, |name| folder.read(name))
}

fn choose(
    from: Sources,
    read: impl Fn(&str) -> Result<Map<String, Value>, CliError>,
) -> Result<Target, CliError> {
    let by_name = |name: &str| of_context(name, &read(name)?);
    if let Some(url) = from.url {
        if from.user.is_none() && from.password.is_none() {
            let devs = from.running.iter().chain(&from.dev_named).chain(&from.dev);
            if let Some(dev) = devs.into_iter().find(|dev| dev.is_at(&url)) {
                return Ok(of_dev(dev.clone(), "muster dev at the address that was given"));
            }
        }
        return Ok(target(&url, from.user, from.password, "--nats-url or MUSTER_NATS_URL"));
    }
    let mut found = if let Some(name) = &from.named {
        by_name(name)?
    } else if let Some(dev) = from.dev_named {
        of_dev(dev, "MUSTER_DEV_DIR")
    } else if let Some(name) = &from.selected {
        by_name(name)?
    } else if let [dev] = &from.running[..] {
        of_dev(dev.clone(), "the muster dev that runs")
    } else if let Some(dev) = from.dev {
        of_dev(dev, "muster dev")
    } else {
        target(DEFAULT_URL, None, None, "no flag, variable or context: it is the default")
    };
    if let Some(user) = from.user {
        found = Target {
            security: found.security,
            ..target(&found.connect.url, Some(user), from.password, &found.from)
        };
    }
    Ok(found)
}

fn target(url: &str, user: Option<String>, password: Option<String>, from: &str) -> Target {
    let user = user.unwrap_or_else(|| NOBODY.to_owned());
    let proved = password.is_some();
    let connect = Connect {
        url: url.to_owned(),
        name: "muster command line".to_owned(),
        credentials: password.map(|password| (user.clone(), password)),
        inbox_prefix: Role::User(user.clone()).inbox_prefix(),
    };
    Target { connect, security: Security::default(), user, proved, from: from.to_owned() }
}

fn of_dev(dev: DevContext, from: &str) -> Target {
    target(&dev.url, Some(dev.user), Some(dev.password), from)
}

fn of_context(name: &str, fields: &Map<String, Value>) -> Result<Target, CliError> {
    let text = |key: &str| {
        let value = fields.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        value.map(str::to_owned)
    };
    for (key, instead) in REFUSED {
        let given = text(key).is_some() || fields.get(key) == Some(&Value::Bool(true));
        if given {
            let text =
                format!("NATS context {name} has {key:?}, which is not supported: {instead}");
            return Err(CliError::usage(text));
        }
    }
    let url = text("url").unwrap_or_else(|| DEFAULT_URL.to_owned());
    let from = format!("NATS context {name}");
    let mut found = target(&url, text("user"), text("password"), &from);
    if let Some(prefix) = text("inbox_prefix") {
        found.connect.inbox_prefix = prefix;
    }
    found.security = Security {
        token: text("token"),
        creds: text("creds").map(PathBuf::from),
        nkey: text("nkey").map(PathBuf::from),
        ca: text("ca").map(PathBuf::from),
        certificate: match (text("cert"), text("key")) {
            (Some(cert), Some(key)) => Some((cert.into(), key.into())),
            (None, None) => None,
            _ => {
                let text =
                    format!("NATS context {name} has one of \"cert\" and \"key\" alone: give both");
                return Err(CliError::usage(text));
            }
        },
    };
    Ok(found)
}

/// The folder of the contexts.
struct Folder(PathBuf);

impl Folder {
    fn of_user() -> Self {
        Self(runtime::settings::user_config_dir().join("nats"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join("context").join(format!("{name}.json"))
    }

    fn selected(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.0.join("context.txt")).ok()?;
        let name = text.trim();
        (!name.is_empty()).then(|| name.to_owned())
    }

    fn names(&self) -> Vec<String> {
        let found = std::fs::read_dir(self.0.join("context")).into_iter().flatten().flatten();
        let stem = |path: PathBuf| {
            let json = path.extension().is_some_and(|ending| ending == "json");
            json.then(|| path.file_stem()?.to_str().map(str::to_owned)).flatten()
        };
        let mut names: Vec<String> = found.filter_map(|entry| stem(entry.path())).collect();
        names.sort();
        names
    }

    fn read(&self, name: &str) -> Result<Map<String, Value>, CliError> {
        let path = self.path(name);
        if name.contains(['/', '\\']) || !path.is_file() {
            let known = self.names();
            let known =
                if known.is_empty() { "there is none".to_owned() } else { known.join(", ") };
            let text = format!("no NATS context {name:?} in {}: {known}", self.0.display());
            return Err(CliError::new(Code::NotFound, text));
        }
        let content = std::fs::read(&path)
            .map_err(|error| CliError::usage(format!("cannot read {}: {error}", path.display())))?;
        serde_json::from_slice(&content).map_err(|error| {
            CliError::usage(format!("{} is not a NATS context: {error}", path.display()))
        })
    }
}

/// The context that is selected for this user, if one is.
pub(crate) fn selected() -> Option<String> {
    Folder::of_user().selected()
}

/// `muster context`.
pub(crate) fn run(to: &To, command: &ContextCommand) -> Result<(), CliError> {
    let folder = Folder::of_user();
    match command {
        ContextCommand::Ls(plain) => {
            let selected = folder.selected();
            let mut items = Vec::new();
            for name in folder.names() {
                let mark = if selected.as_ref() == Some(&name) { "*" } else { " " };
                let url = folder.read(&name).ok();
                let url = url.as_ref().and_then(|fields| fields.get("url")?.as_str());
                if plain.output == Format::Table {
                    let mark = colour::paint(Colour::Green, mark);
                    println!("{mark} {name}  {}", url.unwrap_or("-"));
                }
                let selected = selected.as_ref() == Some(&name);
                items.push(json!({ "context": name, "url": url, "selected": selected }));
            }
            match plain.output {
                Format::Json => look::json(&json!({ "kind": "ContextList", "items": items })),
                Format::Table => Ok(()),
            }
        }
        ContextCommand::Use { name } => {
            of_context(name, &folder.read(name)?)?;
            let path = folder.0.join("context.txt");
            let written = runtime::files::write_atomically(&path, name.as_bytes());
            written.map_err(|error| {
                CliError::usage(format!("cannot write {}: {error}", path.display()))
            })
        }
        ContextCommand::Show { name, output } => {
            let found = match name {
                Some(name) => of_context(name, &folder.read(name)?)?,
                None => find(to)?,
            };
            if *output == Format::Json {
                return look::json(&json!({
                    "kind": "Context",
                    "url": found.connect.url,
                    "user": found.user,
                    "proved": found.proved,
                    "from": found.from,
                }));
            }
            println!("url   {}", found.connect.url);
            println!("user  {}{}", found.user, if found.proved { "" } else { " (claimed)" });
            println!("from  {}", found.from);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> Result<Map<String, Value>, CliError> {
        let text = match name {
            "staging" => {
                r#"{"url":"tls://nats.example:4222","user":"ana","password":"p","ca":"/ca.pem","creds":""}"#
            }
            "token" => r#"{"url":"nats://127.0.0.1:4300","token":"t","inbox_prefix":"_INBOX.x"}"#,
            "creds" => r#"{"url":"nats://n:4222","creds":"/ana.creds"}"#,
            "nkey" => r#"{"url":"nats://n:4222","nkey":"/ana.nk"}"#,
            "nsc" => r#"{"url":"nats://n:4222","nsc":"nsc://o/a/ana"}"#,
            other => return Err(CliError::new(Code::NotFound, other)),
        };
        Ok(serde_json::from_str(text).expect("JSON"))
    }

    fn dev() -> Option<DevContext> {
        let (url, user) = ("nats://127.0.0.1:1".to_owned(), "dev".to_owned());
        Some(DevContext { url, user, password: "d".to_owned() })
    }

    fn url(from: Sources) -> String {
        choose(from, file).expect("it is understood").connect.url
    }

    #[test]
    fn what_is_said_more_closely_comes_first() {
        let named = || Some("token".to_owned());
        let selected = || Some("staging".to_owned());
        let flag = Some("nats://flag:1".to_owned());
        let all = Sources {
            url: flag,
            named: named(),
            selected: selected(),
            dev: dev(),
            ..Sources::default()
        };
        assert_eq!(url(all), "nats://flag:1");
        let context =
            Sources { named: named(), selected: selected(), dev: dev(), ..Sources::default() };
        assert_eq!(url(context), "nats://127.0.0.1:4300");
        let folder = Sources { selected: selected(), dev_named: dev(), ..Sources::default() };
        assert_eq!(url(folder), "nats://127.0.0.1:1");
        let chosen = Sources { selected: selected(), dev: dev(), ..Sources::default() };
        assert_eq!(url(chosen), "tls://nats.example:4222");
        assert_eq!(url(Sources { dev: dev(), ..Sources::default() }), "nats://127.0.0.1:1");
        assert_eq!(url(Sources::default()), DEFAULT_URL);
    }

    #[test]
    fn the_address_that_muster_dev_says_is_enough_to_be_let_in() {
        let at = |url: &str| Some(url.to_owned());
        let given = Sources { url: at("nats://localhost:1/"), dev: dev(), ..Sources::default() };
        let found = choose(given, file).expect("it is understood").connect.credentials;
        assert_eq!(found, Some(("dev".to_owned(), "d".to_owned())));
        let other = Sources { url: at("nats://127.0.0.1:2"), dev: dev(), ..Sources::default() };
        assert_eq!(choose(other, file).expect("it is understood").connect.credentials, None);
        let running = Sources { running: dev().into_iter().collect(), ..Sources::default() };
        assert_eq!(url(running), "nats://127.0.0.1:1");
    }

    #[test]
    fn a_context_says_how_to_be_let_in() {
        let staging = of_context("staging", &file("staging").expect("it is there"))
            .expect("it is understood");
        assert_eq!(staging.connect.credentials, Some(("ana".to_owned(), "p".to_owned())));
        assert_eq!(staging.security.ca, Some(PathBuf::from("/ca.pem")));
        assert!(staging.proved && staging.connect.inbox_prefix == "_INBOX.ana");
        let token =
            of_context("token", &file("token").expect("it is there")).expect("it is understood");
        assert_eq!(token.security.token.as_deref(), Some("t"));
        assert!(!token.proved && token.connect.inbox_prefix == "_INBOX.x");
        let by = |name: &str| {
            let fields = file(name).expect("it is there");
            of_context(name, &fields).expect("it is understood").security
        };
        assert_eq!(by("creds").creds, Some(PathBuf::from("/ana.creds")));
        assert_eq!(by("nkey").nkey, Some(PathBuf::from("/ana.nk")));
    }

    #[test]
    fn a_field_that_is_not_understood_is_named() {
        let refused = of_context("nsc", &file("nsc").expect("it is there"));
        let error = refused.expect_err("it is refused");
        assert_eq!(error.code, Code::Usage);
        assert!(
            error.text.contains("\"nsc\"") && error.text.contains("in creds"),
            "{}",
            error.text
        );
    }
}
