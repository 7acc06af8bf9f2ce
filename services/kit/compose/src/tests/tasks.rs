//! Jobs of a rollout are made from their service.

use schemas::id::WorkloadName;
use schemas::spec::{Condition, Mode, Task, When};

use super::*;

fn name(name: &str) -> WorkloadName {
    WorkloadName::new(name).expect("a name")
}

#[test]
fn a_job_has_all_that_is_in_the_containers_of_its_service_and_nothing_that_they_serve() {
    let text = "
services:
  db: {image: db:1}
  web:
    image: shop:2
    command: serve
    environment: {DATABASE: db}
    ports: ['8080:80']
    depends_on: [db]
    deploy: {replicas: 4}
    x-muster:
      min_ready: 2
      probe: {tcp: {port: 80}}
      pre_deploy: ./migrate up
      post_deploy: {image: 'smoke:1', rollback: true}
";
    let app = files(&[text]).expect("it is right").app;
    let web = &app.workloads[&name("web")];
    assert_eq!((web.task.as_ref(), web.replicas), (None, 4));
    let before = &app.workloads[&name("web-pre-deploy")];
    let task = Task { of: name("web"), when: When::Before, rollback: false };
    assert_eq!((before.task.as_ref(), before.mode, before.replicas), (Some(&task), Mode::Job, 1));
    assert_eq!((before.image.as_str(), &before.env), ("shop:2", &web.env));
    let command = before.command.as_ref().expect("it is given");
    assert_eq!(command, &["./migrate".to_owned(), "up".to_owned()]);
    assert_eq!(before.depends_on, [(name("db"), Condition::Started)].into());
    assert!(before.ports.is_empty() && before.probe.is_none() && before.min_ready.is_none());
    let after = &app.workloads[&name("web-post-deploy")];
    let task = Task { of: name("web"), when: When::After, rollback: true };
    assert_eq!((after.task.as_ref(), after.image.as_str()), (Some(&task), "smoke:1"));
    assert_eq!((&after.command, after.depends_on.len()), (&None, 0));
}

#[test]
fn a_job_that_would_have_the_name_of_another_service_or_nothing_to_run_is_refused() {
    let other =
        "services: {web: {image: a, x-muster: {pre_deploy: x}}, web-pre-deploy: {image: b}}";
    let wrong = files(&[other]).expect_err("it is wrong").to_string();
    assert!(wrong.contains("would be named `web-pre-deploy`"), "{wrong}");
    let nothing = "services: {web: {image: a, x-muster: {post_deploy: {rollback: true}}}}";
    let wrong = files(&[nothing]).expect_err("it is wrong").to_string();
    assert!(wrong.contains("give `command`, `image` or both"), "{wrong}");
}
