//! Credentials for registries, as the Docker configuration of this user has them.

use base64::Engine as _;
use bollard::auth::DockerCredentials;

/// The credentials for the registry of an image reference, if there are any.
#[must_use]
pub(crate) fn of(reference: &str) -> Option<DockerCredentials> {
    let config = std::fs::read(runtime::settings::docker_config()).ok()?;
    from(&serde_json::from_slice(&config).ok()?, registry(reference))
}

fn registry(reference: &str) -> &str {
    match reference.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "https://index.docker.io/v1/",
    }
}

fn from(config: &serde_json::Value, registry: &str) -> Option<DockerCredentials> {
    let auth = config.get("auths")?.get(registry)?.get("auth")?.as_str()?;
    let decoded = base64::engine::general_purpose::STANDARD.decode(auth).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    Some(DockerCredentials {
        username: Some(user.to_owned()),
        password: Some(password.to_owned()),
        serveraddress: Some(registry.to_owned()),
        ..DockerCredentials::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_s_registry_has_its_own_credentials() {
        let config = serde_json::json!({ "auths": { "reg.example:5000": { "auth": "YW5hOnB3" } } });
        let found = from(&config, registry("reg.example:5000/team/web:1")).expect("it is there");
        assert_eq!(
            (found.username.as_deref(), found.password.as_deref()),
            (Some("ana"), Some("pw"))
        );
        assert!(from(&config, registry("web:1")).is_none());
    }
}
