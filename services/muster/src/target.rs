//! Which replicas a person means.

use schemas::read::{ReplicaView, StatePage};

/// The replicas that a name means: a replica's own, those of APP, TENANT/APP, APP/WORKLOAD or
/// TENANT/APP/WORKLOAD.
pub(crate) fn replicas<'a>(page: &'a StatePage, name: &str) -> Vec<&'a ReplicaView> {
    let by = |means: &dyn Fn(&ReplicaView) -> bool| -> Vec<&'a ReplicaView> {
        page.replicas.iter().filter(|replica| means(replica)).collect()
    };
    let main = schemas::id::DEFAULT_TENANT;
    let is = |replica: &ReplicaView, tenant: &str, app: &str| {
        replica.app.tenant.as_str() == tenant && replica.app.name.as_str() == app
    };
    match name.split('/').collect::<Vec<_>>().as_slice() {
        [one] => {
            let own = by(&|r| r.replica.as_str() == *one);
            if own.is_empty() { by(&|r| is(r, main, one)) } else { own }
        }
        [first, second] => {
            let workload = by(&|r| is(r, main, first) && r.workload.as_str() == *second);
            if workload.is_empty() { by(&|r| is(r, first, second)) } else { workload }
        }
        [tenant, app, workload] => by(&|r| is(r, tenant, app) && r.workload.as_str() == *workload),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use schemas::id::{AppKey, ReplicaId, WorkloadName};
    use schemas::place::Place;

    use super::*;

    fn replica(id: &str, app: &str, workload: &str) -> ReplicaView {
        ReplicaView {
            replica: ReplicaId::new(id).expect("an id"),
            app: AppKey::parse(app).expect("a name"),
            workload: WorkloadName::new(workload).expect("a name"),
            revision: 1,
            status: "ready".to_owned(),
            node: None,
            run: 1,
            image: "web:1".to_owned(),
            container: None,
            since_ms: 0,
            requested_ms: 0,
            trouble: None,
            endpoints: Vec::new(),
        }
    }

    #[test]
    fn a_name_means_a_replica_an_app_or_a_workload() {
        let page = StatePage {
            place: Place::START,
            apps: Vec::new(),
            nodes: Vec::new(),
            replicas: vec![
                replica("shop-web-aaaaa", "shop", "web"),
                replica("shop-db-bbbbb", "shop", "db"),
                replica("shop-web-ccccc", "team/shop", "web"),
            ],
            next: None,
        };
        for (name, ids) in [
            ("shop", vec!["shop-web-aaaaa", "shop-db-bbbbb"]),
            ("shop/web", vec!["shop-web-aaaaa"]),
            ("team/shop", vec!["shop-web-ccccc"]),
            ("team/shop/web", vec!["shop-web-ccccc"]),
            ("shop-db-bbbbb", vec!["shop-db-bbbbb"]),
            ("shop/none", vec![]),
        ] {
            let found: Vec<_> = replicas(&page, name).iter().map(|r| r.replica.as_str()).collect();
            assert_eq!(found, ids, "{name}");
        }
    }
}
