//! Credentials for registries, as the Docker configuration of this user has them: written down, or
//! with a helper that keeps them.

use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use bollard::auth::DockerCredentials;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;

/// How long a helper may take.
const HELPER_DEADLINE: Duration = Duration::from_secs(10);

/// What the default registry is called in the configuration.
const DEFAULT: &str = "https://index.docker.io/v1/";

/// The user name that says that the secret is a token.
const TOKEN_USER: &str = "<token>";

/// The credentials for the registry of an image reference, if there are any.
///
/// # Errors
///
/// When the configuration names some and they cannot be read.
pub(crate) async fn of(reference: &str) -> Result<Option<DockerCredentials>, String> {
    let path = runtime::settings::docker_config();
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    let config: Value = serde_json::from_slice(&text)
        .map_err(|error| format!("{} does not decode: {error}", path.display()))?;
    let registry = registry(reference);
    match helper(&config, registry) {
        Some(helper) => ask(helper, registry).await,
        None => Ok(written(&config, registry)),
    }
}

/// The registry of a reference, as the configuration calls it.
pub(crate) fn registry(reference: &str) -> &str {
    match reference.split_once('/') {
        Some(("docker.io", _)) => DEFAULT,
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => DEFAULT,
    }
}

/// The helper that keeps a registry's credentials: its own one, or the one for all.
fn helper<'a>(config: &'a Value, registry: &str) -> Option<&'a str> {
    let own = config.get("credHelpers").and_then(|helpers| helpers.get(registry));
    let helper = own.or(config.get("credsStore"))?.as_str()?;
    // It becomes part of a program's name, and of no path.
    let plain = helper.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    (!helper.is_empty() && plain).then_some(helper)
}

fn written(config: &Value, registry: &str) -> Option<DockerCredentials> {
    let auths = config.get("auths")?;
    // Some are written with a scheme, some with a path.
    let entry = auths
        .get(registry)
        .or_else(|| auths.get(format!("https://{registry}")))
        .or_else(|| auths.get(format!("https://{registry}/v1/")))?;
    let text = |name: &str| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let found = DockerCredentials {
        identitytoken: text("identitytoken").map(str::to_owned),
        registrytoken: text("registrytoken").map(str::to_owned),
        serveraddress: Some(registry.to_owned()),
        ..DockerCredentials::default()
    };
    let pair = text("auth").and_then(|auth| {
        let decoded = base64::engine::general_purpose::STANDARD.decode(auth).ok()?;
        let pair = String::from_utf8(decoded).ok()?;
        pair.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()))
    });
    match pair {
        Some((user, password)) => {
            Some(DockerCredentials { username: Some(user), password: Some(password), ..found })
        }
        None => (found.identitytoken.is_some() || found.registrytoken.is_some()).then_some(found),
    }
}

/// Asks a helper, by the protocol that all of them speak.
async fn ask(helper: &str, registry: &str) -> Result<Option<DockerCredentials>, String> {
    let program = format!("docker-credential-{helper}");
    let failed = |error: std::io::Error| {
        format!("{program}, which the Docker configuration names, does not run: {error}")
    };
    let asking = async {
        let mut child = tokio::process::Command::new(&program)
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that does not read it says so by how it ends.
            let _ = stdin.write_all(registry.as_bytes()).await;
        }
        child.wait_with_output().await.map_err(failed)
    };
    let late = || format!("{program} did not answer in {} s", HELPER_DEADLINE.as_secs());
    let output = tokio::time::timeout(HELPER_DEADLINE, asking).await.map_err(|_| late())??;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        // That is how it says that it has none.
        if said.contains("credentials not found") {
            return Ok(None);
        }
        return Err(format!("{program} failed: {}", schemas::command::printable(said.trim(), 200)));
    }
    let answer: Value = serde_json::from_str(&said)
        .map_err(|error| format!("the answer of {program} does not decode: {error}"))?;
    Ok(told(&answer, registry))
}

fn told(answer: &Value, registry: &str) -> Option<DockerCredentials> {
    let text = |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned);
    let (user, secret) = (text("Username")?, text("Secret")?);
    let serveraddress = Some(registry.to_owned());
    Some(if user == TOKEN_USER {
        DockerCredentials {
            identitytoken: Some(secret),
            serveraddress,
            ..DockerCredentials::default()
        }
    } else {
        DockerCredentials {
            username: Some(user),
            password: Some(secret),
            serveraddress,
            ..DockerCredentials::default()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_s_registry_has_its_own_credentials() {
        let config = serde_json::json!({ "auths": {
            "reg.example:5000": { "auth": "YW5hOnB3" },
            "https://index.docker.io/v1/": { "identitytoken": "t" },
            "none.example": {},
        } });
        let found = written(&config, registry("reg.example:5000/team/web:1")).expect("it is there");
        assert_eq!(
            (found.username.as_deref(), found.password.as_deref()),
            (Some("ana"), Some("pw"))
        );
        for reference in ["web:1", "docker.io/library/web:1"] {
            let token = written(&config, registry(reference)).expect("it is there");
            assert_eq!(token.identitytoken.as_deref(), Some("t"));
        }
        assert!(written(&config, registry("none.example/web:1")).is_none());
    }

    #[test]
    fn a_helper_of_its_own_comes_before_the_one_for_all() {
        let config = serde_json::json!({
            "credsStore": "pass", "credHelpers": { "reg.example": "ecr-login", "bad.example": "../x" },
        });
        assert_eq!(helper(&config, "reg.example"), Some("ecr-login"));
        assert_eq!(helper(&config, "other.example"), Some("pass"));
        assert_eq!(helper(&config, "bad.example"), None);
        assert_eq!(helper(&serde_json::json!({}), "reg.example"), None);
    }

    #[test]
    fn a_helper_tells_a_password_or_a_token() {
        let answer = serde_json::json!({ "Username": "ana", "Secret": "pw" });
        let found = told(&answer, "reg.example").expect("it is there");
        assert_eq!((found.username.as_deref(), found.identitytoken), (Some("ana"), None));
        let answer = serde_json::json!({ "Username": "<token>", "Secret": "t" });
        let found = told(&answer, "reg.example").expect("it is there");
        assert_eq!((found.username, found.identitytoken.as_deref()), (None, Some("t")));
    }

    #[tokio::test]
    async fn a_helper_that_is_not_there_is_named() {
        let error = ask("no-such-helper", "reg.example").await.expect_err("it is not there");
        assert!(error.contains("docker-credential-no-such-helper"), "{error}");
    }
}
