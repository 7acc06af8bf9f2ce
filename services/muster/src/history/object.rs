//! What a user means by a name: a replica, an app, a workload, a node, a command, an event.

use schemas::event::{
    app_entity, certificate_entity, command_entity, node_entity, replica_entity, workload_entity,
};
use schemas::id::{AppKey, AppName, CommandId, NodeName, ReplicaId, Tenant, WorkloadName};
use schemas::read::LogRequest;

use crate::client::Client;
use crate::error::{CliError, Code};

/// Of so few characters a shortened command's id is not one.
const SHORTEST: usize = 6;

/// Among how many of the newest receipts a shortened id is looked for.
const RECEIPTS: u64 = 5_000;

/// Something that history is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Object {
    Event(u64),
    Replica(ReplicaId),
    App(AppKey),
    Workload(AppKey, WorkloadName),
    Node(NodeName),
    Command(CommandId),
    /// The certificate of a host.
    Certificate(String),
    /// Anything else that history has under a name: `leader/scheduler`, `config/<digest>`.
    Other(String),
}

impl Object {
    /// The entity that history finds it under; none for an event.
    pub(crate) fn entity(&self) -> Option<String> {
        Some(match self {
            Self::Event(_) => return None,
            Self::Replica(id) => replica_entity(id),
            Self::App(app) => app_entity(app),
            Self::Workload(app, name) => workload_entity(app, name),
            Self::Node(node) => node_entity(node),
            Self::Command(id) => command_entity(id),
            Self::Certificate(host) => certificate_entity(host),
            Self::Other(entity) => entity.clone(),
        })
    }

    /// As it is typed.
    pub(crate) fn typed(&self) -> String {
        match self {
            Self::Event(position) => format!("r{position}"),
            Self::Replica(id) => id.to_string(),
            Self::App(app) => format!("app/{}", app.short()),
            Self::Workload(app, name) => format!("{}/{name}", app.short()),
            Self::Node(node) => format!("node/{node}"),
            Self::Command(id) => id.to_string(),
            Self::Certificate(host) => certificate_entity(host),
            Self::Other(entity) => entity.clone(),
        }
    }
}

/// Everything that a text may mean, the likeliest first.
pub(crate) fn meanings(text: &str) -> Vec<Object> {
    let parts: Vec<&str> = text.split('/').collect();
    let app = |text: &str| AppKey::parse(text).ok();
    let workload = |app: Option<AppKey>, name: &str| {
        Some(Object::Workload(app?, WorkloadName::new(name).ok()?))
    };
    let under = |tenant: &str, name: &str| {
        Some(AppKey { tenant: Tenant::new(tenant).ok()?, name: AppName::new(name).ok()? })
    };
    let found: Vec<Option<Object>> = match parts.as_slice() {
        ["app", name] => vec![app(name).map(Object::App)],
        ["app", tenant, name] => vec![under(tenant, name).map(Object::App)],
        ["workload", tenant, name, workload_name] => {
            vec![workload(under(tenant, name), workload_name)]
        }
        ["workload", name, workload_name] => vec![workload(app(name), workload_name)],
        ["node", name] => vec![NodeName::new(name).ok().map(Object::Node)],
        ["replica", id] => vec![ReplicaId::new(id).ok().map(Object::Replica)],
        ["certificate", host] => vec![Some(Object::Certificate(host.to_ascii_lowercase()))],
        ["command", id] => vec![CommandId::new(id).ok().map(Object::Command)],
        [name] => {
            let digits = name.strip_prefix('r').unwrap_or(name);
            vec![
                digits.parse().ok().map(Object::Event),
                ReplicaId::new(name).ok().map(Object::Replica),
                app(name).map(Object::App),
                NodeName::new(name).ok().map(Object::Node),
                CommandId::new(name).ok().map(Object::Command),
                name.contains('.').then(|| Object::Certificate(name.to_ascii_lowercase())),
            ]
        }
        [name, workload_name] => {
            vec![workload(app(name), workload_name), Some(Object::Other(text.to_owned()))]
        }
        [tenant, name, workload_name] => vec![workload(under(tenant, name), workload_name)],
        _ => vec![],
    };
    found.into_iter().flatten().collect()
}

/// The first of those meanings that history has anything of.
pub(crate) async fn find(client: &Client, text: &str) -> Result<Object, CliError> {
    for object in meanings(text) {
        // A workload that is declared and has come to nothing has no event of its own.
        let entity = match &object {
            Object::Workload(app, _) => Some(app_entity(app)),
            other => other.entity(),
        };
        let Some(entity) = entity else { return Ok(object) };
        let request = LogRequest { entity: Some(entity), limit: Some(1), ..LogRequest::default() };
        if !client.log(&request).await?.events.is_empty() {
            return Ok(object);
        }
    }
    if let Some(id) = whole_id(client, text.strip_prefix("command/").unwrap_or(text)).await? {
        return Ok(Object::Command(id));
    }
    let text = format!(
        "history knows no {text}: name a replica, app/NAME, APP/WORKLOAD, node/NAME, a command's id \
         or a position; `muster ps`, `muster apps` and `muster nodes` list what there is"
    );
    Err(CliError::new(Code::NotFound, text))
}

/// The command whose id begins so, among the newest: what is printed is cut short.
async fn whole_id(client: &Client, text: &str) -> Result<Option<CommandId>, CliError> {
    if text.len() < SHORTEST || CommandId::new(text).is_err() {
        return Ok(None);
    }
    let kinds = vec!["CommandAccepted".to_owned(), "CommandRejected".to_owned()];
    let request =
        LogRequest { kinds, newest: true, limit: Some(RECEIPTS), ..LogRequest::default() };
    let receipts = super::events(client, request).await?;
    let mut ids = receipts.into_iter().filter_map(|receipt| receipt.header.correlation);
    Ok(ids.rfind(|id| id.as_str().starts_with(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(text: &str) -> Option<String> {
        meanings(text).first().and_then(Object::entity)
    }

    #[test]
    fn names_mean_what_they_look_like() {
        assert_eq!(first("app/shop").as_deref(), Some("app/main/shop"));
        assert_eq!(first("app/team/shop").as_deref(), Some("app/team/shop"));
        assert_eq!(first("shop/web").as_deref(), Some("workload/main/shop/web"));
        assert_eq!(first("team/shop/web").as_deref(), Some("workload/team/shop/web"));
        assert_eq!(first("node/n1").as_deref(), Some("node/n1"));
        assert_eq!(first("shop-web-k3v9q").as_deref(), Some("replica/shop-web-k3v9q"));
        assert_eq!(
            meanings("r184"),
            [vec![Object::Event(184)], meanings("r184")[1..].to_vec()].concat()
        );
        assert!(meanings("shop").contains(&Object::App(AppKey::parse("shop").expect("a name"))));
        assert_eq!(
            meanings("leader/scheduler").last(),
            Some(&Object::Other("leader/scheduler".into()))
        );
        assert!(meanings("a/b/c/d/e").is_empty());
    }
}
