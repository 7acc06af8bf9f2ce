//! The only place where a subject is built or parsed.

use crate::event::About;
use crate::id::{Digest, NodeName, ReplicaId, Tenant, Writer};

/// What every subject of ours begins with.
pub const ROOT: &str = "muster.v1";

/// All events.
pub const EVENTS: &str = "muster.v1.evt.>";

/// All commands.
pub const COMMANDS: &str = "muster.v1.cmd.>";

/// All append requests.
pub const APPENDS: &str = "muster.v1.append.>";

/// All heartbeats.
pub const HEARTBEATS: &str = "muster.v1.rpt.heartbeat.*";

/// The beats of all leaders.
pub const BEATS: &str = "muster.v1.rpt.beat.*";

/// What instances that stand by say of their states.
pub const STANDBYS: &str = "muster.v1.rpt.standby.*";

/// All usage samples.
pub const USAGES: &str = "muster.v1.rpt.usage.*";

/// The reports of all gateways.
pub const GATEWAYS: &str = "muster.v1.rpt.gateway.*";

/// The traffic of all gateways.
pub const TRAFFICS: &str = "muster.v1.rpt.traffic.*";

/// The literal subject of `SequencerTaken`: what fences every publish of an event.
pub const SEQUENCER_TAKEN: &str = "muster.v1.evt.cluster.log.sequencer.taken";

/// Where an event is published.
#[must_use]
pub fn event(tenant: &Tenant, about: &About) -> String {
    let tenant = tenant.as_str();
    [ROOT, ".evt.", tenant, ".", about.noun, ".", &about.id, ".", about.verb].concat()
}

/// An event's subject, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventSubject<'a> {
    /// Whose it is.
    pub tenant: &'a str,
    /// The noun.
    pub noun: &'a str,
    /// Its id.
    pub id: &'a str,
    /// What happened.
    pub verb: &'a str,
}

/// Takes an event's subject apart.
#[must_use]
pub fn parse_event(subject: &str) -> Option<EventSubject<'_>> {
    let mut tokens = subject.strip_prefix("muster.v1.evt.")?.split('.');
    let parsed = EventSubject {
        tenant: tokens.next()?,
        noun: tokens.next()?,
        id: tokens.next()?,
        verb: tokens.next()?,
    };
    tokens.next().is_none().then_some(parsed)
}

/// Where a command is published, with a claimed actor.
#[must_use]
pub fn command(verb: &str) -> String {
    format!("{ROOT}.cmd.{verb}")
}

/// Where a command is published by an actor whom the broker knows.
#[must_use]
pub fn command_as(actor: &str, verb: &str) -> String {
    format!("{ROOT}.cmd.as.{actor}.{verb}")
}

/// A command's subject, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandSubject<'a> {
    /// The actor, when the broker proves it.
    pub actor: Option<&'a str>,
    /// The `noun.verb`.
    pub verb: &'a str,
}

/// Takes a command's subject apart.
#[must_use]
pub fn parse_command(subject: &str) -> Option<CommandSubject<'_>> {
    let rest = subject.strip_prefix("muster.v1.cmd.")?;
    match rest.strip_prefix("as.") {
        Some(rest) => {
            let (actor, verb) = rest.split_once('.')?;
            Some(CommandSubject { actor: Some(actor), verb })
        }
        None => Some(CommandSubject { actor: None, verb: rest }),
    }
}

/// Where a writer's append requests go.
#[must_use]
pub fn append(writer: &Writer) -> String {
    match writer {
        Writer::Agent(node) => format!("{ROOT}.append.agent.{node}"),
        service => format!("{ROOT}.append.{service}"),
    }
}

/// Who an append request's subject says it is from.
#[must_use]
pub fn parse_append(subject: &str) -> Option<Writer> {
    let rest = subject.strip_prefix("muster.v1.append.")?;
    match rest.strip_prefix("agent.") {
        Some(node) => NodeName::new(node).ok().map(Writer::Agent),
        None => Writer::parse(rest).ok().filter(|writer| !matches!(writer, Writer::Agent(_))),
    }
}

/// Where a node's document is kept.
#[must_use]
pub fn document(node: &NodeName) -> String {
    format!("{ROOT}.node.{node}.doc")
}

/// Where a document is published again, for plain subscribers.
#[must_use]
pub fn document_live(node: &NodeName) -> String {
    format!("{ROOT}.live.node.{node}.doc")
}

/// Where a spec that a node's document refers to is kept.
#[must_use]
pub fn spec(node: &NodeName, digest: &Digest) -> String {
    format!("{ROOT}.node.{node}.spec.{digest}")
}

/// Where a node's heartbeats go.
#[must_use]
pub fn heartbeat(node: &NodeName) -> String {
    format!("{ROOT}.rpt.heartbeat.{node}")
}

/// Where a leader's beats go.
#[must_use]
pub fn beat(writer: &Writer) -> String {
    format!("{ROOT}.rpt.beat.{}", writer.token())
}

/// Where an instance of a service that stands by says what its state is.
#[must_use]
pub fn standby(writer: &Writer) -> String {
    format!("{ROOT}.rpt.standby.{}", writer.token())
}

/// Where a node's usage samples go.
#[must_use]
pub fn usage(node: &NodeName) -> String {
    format!("{ROOT}.rpt.usage.{node}")
}

/// Where a node's gateway says what it goes by.
#[must_use]
pub fn gateway(node: &NodeName) -> String {
    format!("{ROOT}.rpt.gateway.{node}")
}

/// Where a node's gateway tells of its traffic.
#[must_use]
pub fn traffic(node: &NodeName) -> String {
    format!("{ROOT}.rpt.traffic.{node}")
}

/// Where event-log answers a read: `head`, `log`, `state`, `snapshot`.
#[must_use]
pub fn api(verb: &str) -> String {
    format!("{ROOT}.api.{verb}")
}

/// Where the log lines of a replica are asked for.
#[must_use]
pub fn container_log(node: &NodeName, replica: &str) -> String {
    format!("{ROOT}.log.{node}.{replica}")
}

/// Where commands are asked to be run in a replica.
#[must_use]
pub fn exec(node: &NodeName, replica: &str) -> String {
    format!("{ROOT}.exec.{node}.{replica}")
}

/// The replica that such a subject of a node names.
#[must_use]
pub fn parse_live(subject: &str, node: &NodeName) -> Option<ReplicaId> {
    let mut tokens = subject.strip_prefix("muster.v1.")?.split('.');
    let of_node = matches!(tokens.next()?, "log" | "exec") && tokens.next()? == node.as_str();
    let replica = ReplicaId::new(tokens.next()?).ok()?;
    (of_node && tokens.next().is_none()).then_some(replica)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_parse_back() {
        let tenant = Tenant::new("main").expect("a name");
        let about =
            About { noun: "app", id: "shop".into(), verb: "deployed", entities: Vec::new() };
        let parsed = EventSubject { tenant: "main", noun: "app", id: "shop", verb: "deployed" };
        assert_eq!(parse_event(&event(&tenant, &about)), Some(parsed));
        for writer in Writer::DECIDERS {
            assert_eq!(parse_append(&append(&writer)), Some(writer));
        }
        let agent = Writer::Agent(NodeName::new("n1").expect("a name"));
        assert_eq!(parse_append(&append(&agent)), Some(agent));
        assert_eq!(parse_append("muster.v1.append.agent/n1"), None);
        let (node, id) = (NodeName::new("n1").expect("a name"), "shop-web-abcde");
        for live in [container_log(&node, id), exec(&node, id)] {
            assert_eq!(parse_live(&live, &node).expect("it parses").as_str(), id);
            assert_eq!(parse_live(&format!("{live}.x"), &node), None);
        }
    }

    #[test]
    fn a_command_says_who_proved_it() {
        let claimed = CommandSubject { actor: None, verb: "app.deploy" };
        assert_eq!(parse_command(&command("app.deploy")), Some(claimed));
        let proved = CommandSubject { actor: Some("ana"), verb: "app.deploy" };
        assert_eq!(parse_command(&command_as("ana", "app.deploy")), Some(proved));
    }
}
