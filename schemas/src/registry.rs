//! The architecture as data: every kind of message, who writes it, who reads it, and what a role may
//! do on the bus because of that.
//!
//! JSON Schemas, the reference in `docs/messages.md` and the server's permissions follow from here.

use crate::command::Command;
use crate::event::{By, Event};
use crate::id::NodeName;
use crate::stream::{self, StreamSpec};

/// A role on the bus. Each has a user of its own, and may do what its work needs and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The sequencer. It also creates the streams.
    EventLog,
    /// A deciding service: `controller`, `scheduler`, `autoscaler`, `health`.
    Decider(&'static str),
    /// The agent of one node.
    Agent(NodeName),
    /// The gateway of one node.
    Gateway(NodeName),
    /// A person or program that publishes commands, reads and listens in.
    User(String),
}

impl Role {
    /// The deciding services.
    pub const DECIDERS: [&'static str; 4] = ["controller", "scheduler", "autoscaler", "health"];

    /// The name of its user.
    #[must_use]
    pub fn user(&self) -> String {
        match self {
            Self::EventLog => "event-log".to_owned(),
            Self::Decider(name) => (*name).to_owned(),
            Self::Agent(node) => format!("agent.{node}"),
            Self::Gateway(node) => format!("gateway.{node}"),
            Self::User(name) => name.clone(),
        }
    }

    /// What the subjects of its answers begin with. No role hears another's.
    #[must_use]
    pub fn inbox_prefix(&self) -> String {
        format!("_INBOX.{}", self.user())
    }
}

/// What a role may do on the bus.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Subjects it may publish on.
    pub publish: Vec<String>,
    /// Subjects it may hear.
    pub subscribe: Vec<String>,
    /// Whether it may answer what it is asked.
    pub respond: bool,
}

/// What a role may do on the bus.
#[must_use]
pub fn permissions(role: &Role) -> Permissions {
    let mut may = Permissions {
        publish: vec!["$JS.API.INFO".to_owned()],
        subscribe: vec![format!("{}.>", role.inbox_prefix())],
        respond: false,
    };
    match role {
        Role::EventLog => {
            // Answers go to whoever asked; only this role may write to another's inbox.
            may.publish(&["muster.v1.evt.>", "muster.v1.rpt.beat.event-log", "_INBOX.>", "$SRV.>"]);
            // One of several asks the one that leads.
            may.publish(&["muster.v1.api.>"]);
            for stream in stream::ALL {
                may.publish(&[&format!("$JS.API.STREAM.CREATE.{}", stream.name)]);
                may.publish(&[&format!("$JS.API.STREAM.PURGE.{}", stream.name)]);
                read(stream, &mut may.publish);
            }
            let heard = ["muster.v1.api.>", "$SRV.>", "muster.v1.rpt.>"];
            may.subscribe.extend(heard.map(str::to_owned));
            may.respond = true;
        }
        Role::Decider(name) => {
            may.publish(&["muster.v1.api.>"]);
            may.publish(&[
                &format!("muster.v1.append.{name}"),
                &format!("muster.v1.rpt.beat.{name}"),
            ]);
            match *name {
                "scheduler" => may.publish(&["muster.v1.node.*.doc", "muster.v1.node.*.spec.*"]),
                "autoscaler" => may.publish(&["muster.v1.cmd.as.autoscaler.*.*"]),
                _ => {}
            }
            for stream in [&stream::EVENTS, &stream::COMMANDS, &stream::NODES, &stream::REPORTS] {
                read(stream, &mut may.publish);
            }
            may.subscribe.push("muster.v1.rpt.>".to_owned());
        }
        Role::Agent(node) => {
            may.publish(&[
                &format!("muster.v1.append.agent.{node}"),
                &format!("muster.v1.rpt.heartbeat.{node}"),
                &format!("muster.v1.rpt.usage.{node}"),
                &format!("$JS.API.DIRECT.GET.{}.muster.v1.node.{node}.>", stream::NODES.name),
                &format!("$JS.API.STREAM.INFO.{}", stream::NODES.name),
            ]);
            may.subscribe.extend([
                format!("muster.v1.live.node.{node}.>"),
                format!("muster.v1.log.{node}.>"),
                format!("muster.v1.exec.{node}.>"),
            ]);
            may.respond = true;
        }
        Role::Gateway(node) => {
            may.publish(&[
                "muster.v1.api.>",
                &format!("muster.v1.rpt.gateway.{node}"),
                &format!("muster.v1.rpt.traffic.{node}"),
            ]);
            read(&stream::EVENTS, &mut may.publish);
            // Gateways trust each other with what they order; keys are sealed all the same.
            may.publish(&["muster.v1.tls.>"]);
            read(&stream::TLS, &mut may.publish);
        }
        Role::User(name) => {
            may.publish(&["muster.v1.cmd.*.*", "muster.v1.api.>", "muster.v1.log.>", "$SRV.>"]);
            may.publish(&["muster.v1.exec.>", &format!("muster.v1.cmd.as.{name}.*.*")]);
            for stream in [&stream::EVENTS, &stream::COMMANDS, &stream::NODES, &stream::REPORTS] {
                read(stream, &mut may.publish);
            }
            // Not to read it: to see that its settings are right.
            may.publish(&[&format!("$JS.API.STREAM.INFO.{}", stream::APPEND.name)]);
            // How orders go, and neither certificates nor accounts.
            may.publish(&[
                &format!("$JS.API.STREAM.INFO.{}", stream::TLS.name),
                &format!("$JS.API.DIRECT.GET.{}.muster.v1.tls.order.>", stream::TLS.name),
            ]);
            let listen = ["muster.v1.evt.>", "muster.v1.cmd.>", "muster.v1.rpt.>"];
            may.subscribe.extend(listen.map(str::to_owned));
        }
    }
    may
}

impl Permissions {
    fn publish(&mut self, subjects: &[&str]) {
        self.publish.extend(subjects.iter().map(|subject| (*subject).to_owned()));
    }
}

/// What reading a stream asks the server for.
fn read(stream: &StreamSpec, publish: &mut Vec<String>) {
    let name = stream.name;
    publish.extend([
        format!("$JS.API.STREAM.INFO.{name}"),
        format!("$JS.API.STREAM.MSG.GET.{name}"),
        format!("$JS.API.DIRECT.GET.{name}"),
        format!("$JS.API.DIRECT.GET.{name}.>"),
        format!("$JS.API.CONSUMER.CREATE.{name}"),
        format!("$JS.API.CONSUMER.CREATE.{name}.>"),
        format!("$JS.API.CONSUMER.INFO.{name}.>"),
        format!("$JS.API.CONSUMER.DELETE.{name}.>"),
        format!("$JS.API.CONSUMER.MSG.NEXT.{name}.>"),
    ]);
}

/// The users of a cluster as nats-server's configuration says it.
#[must_use]
pub fn nats_users(users: &[(Role, String)]) -> String {
    let list = |subjects: &[String]| {
        subjects.iter().map(|subject| format!("{subject:?}")).collect::<Vec<_>>().join(", ")
    };
    let mut text = String::from("authorization {\n  users = [\n");
    for (role, password) in users {
        let may = permissions(role);
        let respond =
            if may.respond { ", allow_responses: { max: 100000, expires: \"1h\" }" } else { "" };
        text.push_str(&format!(
            "    {{ user: {:?}, password: {password:?}, permissions: {{\n      publish: {{ allow: [{}] }}\n      subscribe: {{ allow: [{}] }}{respond}\n    }} }}\n",
            role.user(),
            list(&may.publish),
            list(&may.subscribe),
        ));
    }
    text.push_str("  ]\n}\n");
    text
}

/// A kind of message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its name: a command's `noun.verb`, an event's type, another's kind.
    pub name: String,
    /// `command`, `event`, `report`, `document`, `append`, `live`, `read`.
    pub kind: &'static str,
    /// Its subject, with what varies in `<>`.
    pub subject: String,
    /// The stream that keeps it; none when it is not kept.
    pub stream: Option<&'static str>,
    /// Who writes it.
    pub writer: &'static str,
    /// Who reads it.
    pub readers: &'static str,
}

/// Every kind of message.
#[must_use]
pub fn messages() -> Vec<Message> {
    let commands = Command::VERBS.iter().map(|verb| Message {
        name: (*verb).to_owned(),
        kind: "command",
        subject: format!("muster.v1.cmd.{verb}"),
        stream: Some(stream::COMMANDS.name),
        writer: "anyone",
        readers: "controller",
    });
    let events = Event::TYPES.iter().map(|(name, by)| Message {
        name: (*name).to_owned(),
        kind: "event",
        subject: "muster.v1.evt.<tenant>.<noun>.<id>.<verb>".to_owned(),
        stream: Some(stream::EVENTS.name),
        writer: stated_by(*by),
        readers: "every deciding service, event-log, gateway, any subscriber",
    });
    let other = |name: &str, kind, subject: &str, stream, writer, readers| Message {
        name: name.to_owned(),
        kind,
        subject: subject.to_owned(),
        stream,
        writer,
        readers,
    };
    let (nodes, reports) = (Some(stream::NODES.name), Some(stream::REPORTS.name));
    let (append, tls) = (Some(stream::APPEND.name), Some(stream::TLS.name));
    let rest = [
        other(
            "Request",
            "append",
            "muster.v1.append.<service>",
            append,
            "its service",
            "event-log",
        ),
        other(
            "Request",
            "append",
            "muster.v1.append.agent.<node>",
            append,
            "its agent",
            "event-log",
        ),
        other(
            "Answer",
            "append",
            "the inbox in the header Muster-Inbox",
            None,
            "event-log",
            "its asker",
        ),
        other(
            "NodeDocument",
            "document",
            "muster.v1.node.<node>.doc",
            nodes,
            "scheduler",
            "its agent",
        ),
        other(
            "SpecDocument",
            "document",
            "muster.v1.node.<node>.spec.<digest>",
            nodes,
            "scheduler",
            "its agent",
        ),
        other(
            "Heartbeat",
            "report",
            "muster.v1.rpt.heartbeat.<node>",
            reports,
            "its agent",
            "health, scheduler",
        ),
        other(
            "UsageReport",
            "report",
            "muster.v1.rpt.usage.<node>",
            reports,
            "its agent",
            "autoscaler",
        ),
        other(
            "GatewayReport",
            "report",
            "muster.v1.rpt.gateway.<node>",
            reports,
            "its gateway",
            "controller",
        ),
        other(
            "TrafficReport",
            "report",
            "muster.v1.rpt.traffic.<node>",
            reports,
            "its gateway",
            "controller, autoscaler, anyone",
        ),
        other(
            "Beat",
            "report",
            "muster.v1.rpt.beat.<service>",
            reports,
            "its service",
            "its other instances",
        ),
        other("Challenge", "tls", "muster.v1.tls.challenge.<host>", tls, "a gateway", "gateways"),
        other("Order", "tls", "muster.v1.tls.order.<host>", tls, "a gateway", "gateways, anyone"),
        other(
            "Certificate",
            "tls",
            "muster.v1.tls.certificate.<host>",
            tls,
            "a gateway",
            "gateways",
        ),
        other("Account", "tls", "muster.v1.tls.account.<digest>", tls, "a gateway", "gateways"),
        other("Ask", "live", "muster.v1.log.<node>.<replica>", None, "anyone", "the node's agent"),
        other("Ask", "live", "muster.v1.exec.<node>.<replica>", None, "anyone", "the node's agent"),
        other("Part", "live", "the reply subject of an Ask", None, "the node's agent", "its asker"),
        other("head", "read", "muster.v1.api.head", None, "anyone", "event-log"),
        other("log", "read", "muster.v1.api.log", None, "anyone", "event-log"),
        other("state", "read", "muster.v1.api.state", None, "anyone", "event-log"),
        other("proof", "read", "muster.v1.api.proof", None, "anyone", "event-log"),
        other("moment", "read", "muster.v1.api.moment", None, "anyone", "event-log"),
        other("snapshot", "read", "muster.v1.api.snapshot", None, "anyone", "event-log"),
    ];
    commands.chain(events).chain(rest).collect()
}

fn stated_by(by: By) -> &'static str {
    match by {
        By::EventLog => "event-log",
        By::Controller => "controller",
        By::Scheduler => "scheduler",
        By::Health => "health",
        By::Agent => "the node's agent",
        By::Leader => "whoever leads",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may_publish(role: &Role, subject: &str) -> bool {
        permissions(role).publish.iter().any(|allowed| matches(allowed, subject))
    }

    fn matches(pattern: &str, subject: &str) -> bool {
        let (mut pattern, mut subject) = (pattern.split('.'), subject.split('.'));
        loop {
            match (pattern.next(), subject.next()) {
                (Some(">"), Some(_)) | (None, None) => return true,
                (Some(p), Some(s)) if p == "*" || p == s => {}
                _ => return false,
            }
        }
    }

    #[test]
    fn only_event_log_publishes_events_and_only_the_scheduler_documents() {
        let node = |name| NodeName::new(name).expect("a name");
        let others = [
            Role::Decider("controller"),
            Role::Decider("health"),
            Role::Agent(node("n1")),
            Role::Gateway(node("n1")),
            Role::User("ana".to_owned()),
        ];
        for role in &others {
            assert!(!may_publish(role, "muster.v1.evt.main.app.shop.deployed"), "{role:?}");
            assert!(!may_publish(role, "muster.v1.node.n1.doc"), "{role:?}");
            assert!(!may_publish(role, "$JS.API.STREAM.DELETE.MUSTER_EVENTS"), "{role:?}");
            assert!(!may_publish(role, "_INBOX.scheduler.x"), "{role:?}");
        }
        assert!(may_publish(&Role::EventLog, "muster.v1.evt.main.app.shop.deployed"));
        assert!(may_publish(&Role::Decider("scheduler"), "muster.v1.node.n1.doc"));
        let agent = Role::Agent(node("n1"));
        assert!(may_publish(&agent, "muster.v1.append.agent.n1"));
        assert!(!may_publish(&agent, "muster.v1.append.agent.n2"));
        let gateway = Role::Gateway(node("n1"));
        assert!(may_publish(&gateway, "$JS.API.CONSUMER.CREATE.MUSTER_EVENTS.x"));
        assert!(may_publish(&gateway, "muster.v1.rpt.gateway.n1"));
        assert!(!may_publish(&gateway, "muster.v1.rpt.gateway.n2"));
        let sealed = "$JS.API.DIRECT.GET.MUSTER_TLS.muster.v1.tls.certificate.shop.example";
        assert!(may_publish(&gateway, "muster.v1.tls.order.shop.example"));
        for role in others.iter().filter(|role| !matches!(role, Role::Gateway(_))) {
            assert!(!may_publish(role, "muster.v1.tls.order.shop.example"), "{role:?}");
            assert!(!may_publish(role, sealed), "{role:?}");
        }
        for subject in ["muster.v1.append.agent.n1", "muster.v1.cmd.app.deploy", "muster.v1.rpt.x"]
        {
            assert!(!may_publish(&gateway, subject), "{subject}");
        }
        let may = permissions(&agent);
        assert!(may.respond && may.subscribe.iter().any(|s| matches(s, "muster.v1.exec.n1.r")));
        assert!(!may.subscribe.iter().any(|s| matches(s, "muster.v1.log.n2.r")));
        let ana = Role::User("ana".to_owned());
        assert!(may_publish(&ana, "muster.v1.cmd.as.ana.app.deploy"));
        assert!(!may_publish(&ana, "muster.v1.cmd.as.bob.app.deploy"));
        assert!(
            may_publish(&ana, "muster.v1.log.n1.r") && may_publish(&ana, "muster.v1.exec.n1.r")
        );
        let hears = permissions(&ana).subscribe;
        assert!(hears.iter().any(|s| matches(s, "_INBOX.ana.x.1")));
        assert!(!hears.iter().any(|s| matches(s, "muster.v1.exec.n1.r")), "{hears:?}");
    }
}
