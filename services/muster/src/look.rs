//! Commands that only look.

use std::collections::BTreeMap;

use schemas::command::Command;
use schemas::envelope::Envelope;
use schemas::event::Event;
use schemas::id::{AppKey, WorkloadName};
use schemas::place::Place;
use schemas::read::{
    LogPage, LogRequest, NodeView, ReplicaView, StatePage, StateRequest, WorkloadView,
};

use crate::args::{At, Format, Look, Then};
use crate::client::Client;
use crate::error::{CliError, Code};
use crate::table::{ago, bytes, table};
use crate::{colour, history, lists, traffic};

/// The state now or at another moment, of one app if wanted, which must be there then. For people, what
/// is not now says so first. Also says when it was so.
async fn page(
    client: &Client,
    app: Option<&AppKey>,
    at: &At,
    output: Format,
) -> Result<(StatePage, u64), CliError> {
    let moment = history::moment(client, at).await?;
    let request = StateRequest {
        tenant: app.map(|app| app.tenant.clone()),
        app: app.map(|app| app.name.clone()),
        at: moment.as_ref().map(|moment| moment.place.position),
        ..StateRequest::default()
    };
    let page = client.state(request).await?;
    match app {
        Some(app) if page.apps.is_empty() => {
            let then = moment.map(|moment| format!(" {}", history::head(&moment)));
            let (app, then) = (app.short(), then.unwrap_or_default());
            let text = format!("there is no app {app}{then}: `muster apps` lists them");
            return Err(CliError::new(Code::NotFound, text));
        }
        _ => {}
    }
    let Some(moment) = moment else { return Ok((page, runtime::clock::utc_ms())) };
    if output == Format::Table {
        println!("{}", history::head(&moment));
    }
    Ok((page, moment.recorded_ms))
}

/// What is asked for: an app, or one of its workloads. What is no app of a tenant, `shop/web`, is one.
pub(crate) async fn asked(
    client: &Client,
    look: &Look,
    output: Format,
) -> Result<(StatePage, u64), CliError> {
    let error = match page(client, look.app.as_ref(), &look.at, output).await {
        Err(error) if error.code == Code::NotFound => error,
        found => return found,
    };
    let Some((app, name)) = look.app.as_ref().and_then(of_app) else { return Err(error) };
    let Ok((mut page, now_ms)) = page(client, Some(&app), &look.at, output).await else {
        return Err(error);
    };
    if !keep_only(&mut page, &name) {
        let app = app.short();
        let text = format!("{app} has no workload {name}: `muster apps {app}` lists them");
        return Err(CliError::new(Code::NotFound, text));
    }
    Ok((page, now_ms))
}

/// The app and the workload that are meant by what looks like a tenant and its app.
fn of_app(typed: &AppKey) -> Option<(AppKey, WorkloadName)> {
    let app = AppKey::parse(typed.tenant.as_str()).ok()?;
    Some((app, WorkloadName::new(typed.name.as_str()).ok()?))
}

/// Leaves nothing but one workload of the apps. Says whether there is one.
fn keep_only(page: &mut StatePage, name: &WorkloadName) -> bool {
    for app in &mut page.apps {
        app.workloads.retain(|workload, _| workload == name);
    }
    page.replicas.retain(|replica| replica.workload == *name);
    page.apps.iter().any(|app| !app.workloads.is_empty())
}

/// How many replicas are ready, of how many. A job that has run has none.
fn ready(workload: &WorkloadView) -> String {
    let (ready, completed) = (workload.ready, workload.completed);
    match workload.declared.map(u64::from) {
        None => format!("{ready}/global"),
        Some(declared) if completed == 0 => format!("{ready}/{declared}"),
        Some(declared) if completed >= declared && workload.replicas == 0 => "done".to_owned(),
        Some(declared) => format!("{ready}/{declared}, {completed} done"),
    }
}

/// Prints JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<(), CliError> {
    let text =
        serde_json::to_string_pretty(value).map_err(|e| CliError::internal(e.to_string()))?;
    println!("{text}");
    Ok(())
}

pub(crate) async fn ps(client: &Client, look: &Look) -> Result<(), CliError> {
    let (page, now) = asked(client, look, look.output).await?;
    // What gateways say is of now.
    let sent =
        if look.at.at.is_none() { traffic::newest(client, &page).await } else { BTreeMap::new() };
    if look.output == Format::Json {
        return json(&lists::replicas(page.place, &page.replicas, &sent));
    }
    let row = |r: &ReplicaView| {
        vec![
            r.replica.to_string(),
            r.app.short(),
            r.node.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            colour::state(&r.status),
            r.run.to_string(),
            r.revision.to_string(),
            ago(now.saturating_sub(r.since_ms)),
            if r.status == "ready" {
                r.endpoints.join(" ")
            } else {
                r.trouble.clone().unwrap_or_default()
            },
            sent.get(&r.replica).map(traffic::words).unwrap_or_default(),
        ]
    };
    let head = [
        "REPLICA",
        "APP",
        "NODE",
        "STATUS",
        "RUN",
        "REVISION",
        "SINCE",
        "ENDPOINTS OR TROUBLE",
        "TRAFFIC",
    ];
    print!("{}", table(&head, &page.replicas.iter().map(row).collect::<Vec<_>>()));
    Ok(())
}

pub(crate) async fn apps(client: &Client, look: &Look) -> Result<(), CliError> {
    let (page, _) = asked(client, look, look.output).await?;
    if look.output == Format::Json {
        return json(&lists::apps(page.place, &page.apps));
    }
    let mut rows = Vec::new();
    for app in &page.apps {
        for (name, w) in &app.workloads {
            rows.push(vec![
                app.app.short(),
                name.to_string(),
                w.image.clone(),
                ready(w),
                app.revision.to_string(),
                colour::state(&app.status),
                app.reason
                    .clone()
                    .or_else(|| w.task.clone())
                    .unwrap_or_else(|| w.unplaced.join("; ")),
            ]);
        }
    }
    print!("{}", table(&["APP", "WORKLOAD", "IMAGE", "READY", "REVISION", "STATUS", "WHY"], &rows));
    Ok(())
}

pub(crate) async fn nodes(client: &Client, then: &Then) -> Result<(), CliError> {
    let output = then.plain.output;
    let (page, _) = page(client, None, &then.at, output).await?;
    if output == Format::Json {
        return json(&lists::nodes(page.place, &page.nodes));
    }
    let row = |n: &NodeView| {
        vec![
            n.node.to_string(),
            colour::state(&n.status),
            n.admission.clone(),
            n.replicas.to_string(),
            format!("{}/{}m", n.cpu_millis.1, n.cpu_millis.0),
            format!("{}/{}", bytes(n.memory_bytes.1), bytes(n.memory_bytes.0)),
            n.address.clone(),
            n.labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(","),
        ]
    };
    let head = ["NODE", "STATUS", "ADMISSION", "REPLICAS", "CPU", "MEMORY", "ADDRESS", "LABELS"];
    print!("{}", table(&head, &page.nodes.iter().map(row).collect::<Vec<_>>()));
    Ok(())
}

pub(crate) async fn state(client: &Client, look: &Look) -> Result<(), CliError> {
    let (page, _) = asked(client, look, Format::Json).await?;
    json(&lists::state(&page))
}

/// The entity that a person means: `app/shop` is `app/main/shop`, a bare id is a replica.
pub(crate) fn entity(object: &str) -> String {
    match object.split('/').collect::<Vec<_>>().as_slice() {
        ["app", name] => format!("app/main/{name}"),
        ["workload", app, name] => format!("workload/main/{app}/{name}"),
        [id] => format!("replica/{id}"),
        _ => object.to_owned(),
    }
}

/// All events of a request in order, page by page, each handed to `each`. Says where the log ended.
/// A page may be empty and still have a next. While one is handed out, the next is on its way.
pub(crate) async fn events(
    client: &Client,
    mut request: LogRequest,
    mut each: impl FnMut(&str) -> Result<(), CliError>,
) -> Result<Place, CliError> {
    // The newest come page by page from the end: they are in order once all are there.
    let mut newest = Vec::new();
    let mut asked = ask(client, request.clone());
    let at = loop {
        let page = asked.join_next().await.transpose();
        let page = page.map_err(|error| CliError::internal(error.to_string()))?;
        let page = page.ok_or_else(|| CliError::internal("nothing was asked"))??;
        let found = u64::try_from(page.events.len()).unwrap_or(u64::MAX);
        request.limit = request.limit.map(|limit| limit.saturating_sub(found));
        match page.next {
            Some(next) if request.newest => request.to = Some(next),
            Some(next) => request.from = next,
            None => {}
        }
        if page.next.is_some() {
            asked = ask(client, request.clone());
        }
        if request.newest {
            newest.push(page.events);
        } else {
            for event in &page.events {
                each(event.get())?;
            }
        }
        if page.next.is_none() {
            break page.place;
        }
    };
    for event in newest.iter().rev().flatten() {
        each(event.get())?;
    }
    Ok(at)
}

/// A page that is on its way; nobody wants it any more once this is dropped.
type Asked = tokio::task::JoinSet<Result<LogPage, CliError>>;

fn ask(client: &Client, request: LogRequest) -> Asked {
    let (client, mut asked) = (client.clone(), Asked::new());
    asked.spawn(async move { client.log(&request).await });
    asked
}

pub(crate) fn decode(text: &str) -> Result<Envelope, CliError> {
    Envelope::decode(text.as_bytes()).map_err(|error| CliError::internal(error.to_string()))
}

pub(crate) fn schema(name: Option<&str>, output: Format) -> Result<(), CliError> {
    let all = Command::json_schemas().into_iter().chain(Event::json_schemas());
    match name {
        None if output == Format::Json => {
            let names: Vec<&str> = all.map(|(name, _)| name).collect();
            json(&serde_json::json!({ "kind": "MessageList", "items": names }))
        }
        None => {
            for (name, _) in all {
                println!("{name}");
            }
            Ok(())
        }
        Some(wanted) => {
            let mut all = all;
            let Some((_, schema)) = all.find(|(name, _)| *name == wanted) else {
                return Err(CliError::new(
                    Code::NotFound,
                    format!("no message {wanted:?}: `muster schema` lists them"),
                ));
            };
            json(&schema)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn workload(declared: Option<u32>, replicas: u64, ready: u64, completed: u64) -> WorkloadView {
        let view = json!({ "image": "i", "declared": declared, "replicas": replicas,
            "ready": ready, "completed": completed });
        serde_json::from_value(view).expect("a view")
    }

    #[test]
    fn a_job_that_has_run_is_done_and_lacks_nothing() {
        let told = |declared, replicas, is_ready, completed| {
            ready(&workload(declared, replicas, is_ready, completed))
        };
        assert_eq!(told(Some(1), 0, 0, 1), "done");
        assert_eq!(told(Some(1), 0, 0, 0), "0/1");
        assert_eq!(told(Some(1), 1, 0, 0), "0/1");
        assert_eq!(told(Some(3), 2, 1, 1), "1/3, 1 done");
        assert_eq!(told(Some(2), 2, 2, 0), "2/2");
        assert_eq!(told(None, 2, 2, 0), "2/global");
    }

    #[test]
    fn what_looks_like_an_app_of_a_tenant_may_be_a_workload_of_an_app() {
        let typed = AppKey::parse("shop/web").expect("a name");
        let (app, name) = of_app(&typed).expect("names");
        assert_eq!((app.short(), name.to_string()), ("shop".to_owned(), "web".to_owned()));
        let mut page: StatePage = serde_json::from_value(json!({
            "place": Place::START, "nodes": [], "replicas": [],
            "apps": [{ "app": app, "revision": 1, "status": "converged", "workloads": {
                "web": workload(Some(1), 1, 1, 0), "db": workload(Some(1), 1, 1, 0) } }],
        }))
        .expect("a page");
        let (other, mut without) = (WorkloadName::new("no").expect("a name"), page.clone());
        assert!(keep_only(&mut page, &name) && !keep_only(&mut without, &other));
        assert_eq!(page.apps[0].workloads.keys().collect::<Vec<_>>(), [&name]);
    }
}
