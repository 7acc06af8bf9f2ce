//! `muster config`: what a file becomes, and what files may say. Needs no cluster.

use schemas::command::Command;
use schemas::spec::{Mode, Port, WorkloadSpec};

use crate::args::{Config, Format};
use crate::error::CliError;
use crate::input;
use crate::table::table;

pub(crate) fn config(config: &Config) -> Result<(), CliError> {
    if config.support {
        print!("{}", support());
        return Ok(());
    }
    let input = input::read(&config.files)?;
    if config.output == Format::Table {
        print!("{}", workloads(&input.deploy.app.workloads));
        return Ok(());
    }
    if !input.contents.is_empty() {
        eprintln!(
            "note: {} config contents must be stored by config.put before this is published; \
             muster deploy does it",
            input.contents.len()
        );
    }
    let command = Command::Deploy(input.deploy);
    let value: serde_json::Value = serde_json::from_slice(&command.encode(&input.common))
        .map_err(|error| CliError::internal(error.to_string()))?;
    println!("{value:#}");
    Ok(())
}

fn workloads<'a>(
    workloads: impl IntoIterator<Item = (&'a schemas::id::WorkloadName, &'a WorkloadSpec)>,
) -> String {
    let rows: Vec<Vec<String>> = workloads
        .into_iter()
        .map(|(name, spec)| {
            let count = match spec.mode {
                Mode::Replicated => spec.replicas.to_string(),
                Mode::Global => "every node".to_owned(),
                Mode::Job => format!("{} to complete", spec.replicas),
            };
            let ports: Vec<String> = spec.ports.iter().map(port).collect();
            let needs: Vec<&str> = spec.depends_on.keys().map(|name| name.as_str()).collect();
            vec![name.to_string(), spec.image.clone(), count, ports.join(","), needs.join(",")]
        })
        .collect();
    table(&["WORKLOAD", "IMAGE", "REPLICAS", "PORTS", "DEPENDS ON"], &rows)
}

fn port(port: &Port) -> String {
    let inner = format!("{}/{}", port.container, port.protocol.as_str());
    match (port.published, port.host) {
        (Some(published), _) => format!("{published}->{inner}"),
        (None, Some(host)) => format!("host:{host}->{inner}"),
        (None, None) => inner,
    }
}

/// Every key of Compose files with what becomes of it.
fn support() -> String {
    let mut rows = Vec::new();
    for scope in compose::support::scopes() {
        for row in scope.rows {
            let dot = if scope.path.is_empty() { "" } else { "." };
            rows.push(vec![
                format!("{}{dot}{}", scope.path, row.key),
                row.verdict.as_str().to_owned(),
                compose::support::describe(row),
            ]);
        }
    }
    let rules: Vec<String> =
        compose::support::RULES.iter().map(|rule| format!("\n{rule}")).collect();
    table(&["KEY", "VERDICT", "NOTE"], &rows) + &rules.concat() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_on_the_page() {
        let page = support();
        for part in ["services.*.image", "services.*.privileged", "refused", "volumes.*.driver"] {
            assert!(page.contains(part), "{part} is not in\n{page}");
        }
    }
}
