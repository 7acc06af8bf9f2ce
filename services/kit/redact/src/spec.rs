//! What in a spec is words. Every field is named: a new one does not pass unlooked at.

use schemas::spec::{Check, Probe, Route, WorkloadSpec};

use crate::words::{Each, Word};

pub(crate) fn words(spec: &mut WorkloadSpec, each: &mut Each<'_>) {
    let WorkloadSpec {
        image: _,
        mode: _,
        replicas: _,
        entrypoint,
        command,
        env,
        labels,
        user: _,
        working_dir: _,
        resources: _,
        security: _,
        tmpfs: _,
        mounts: _,
        configs: _,
        ports: _,
        probe,
        restart: _,
        stop_signal: _,
        stop_grace_ms: _,
        depends_on: _,
        placement: _,
        update: _,
        min_ready: _,
        drain_ms: _,
        routes,
        balance: _,
        pull: _,
        autoscale: _,
        overlap: _,
        priority: _,
        open: _,
        task: _,
    } = spec;
    env.values_mut().chain(labels.values_mut()).for_each(|value| each(Word::Value, value));
    let programs = entrypoint.iter_mut().chain(command).flatten();
    programs.for_each(|argument| each(Word::Argument, argument));
    if let Some(Probe { check, .. }) = probe {
        self::check(check, each);
    }
    for route in routes {
        self::route(route, each);
    }
}

fn check(check: &mut Check, each: &mut Each<'_>) {
    match check {
        Check::Http { port: _, path } => each(Word::Told, path),
        Check::Exec { command } => {
            command.iter_mut().for_each(|argument| each(Word::Argument, argument));
        }
        Check::Tcp { port: _ } | Check::None => {}
    }
}

fn route(route: &mut Route, each: &mut Each<'_>) {
    let Route {
        host: _,
        path: _,
        port: _,
        tls: _,
        redirect,
        rate_limit: _,
        timeout_ms: _,
        retries: _,
        set_headers,
    } = route;
    redirect.iter_mut().for_each(|url| each(Word::Told, url));
    set_headers.values_mut().for_each(|value| each(Word::Value, value));
}
