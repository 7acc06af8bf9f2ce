//! Speaks ACME with a CA: an account, and an order that is proven by HTTP.

use std::time::Duration;

use instant_acme::{
    Account, AccountBuilder, AccountCredentials, AuthorizationStatus, ChallengeType, Error,
    Identifier, NewAccount, NewOrder, OrderStatus, RetryPolicy,
};
use schemas::tls::{Bundle, Challenge};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

use super::{Acme, validity};

/// How long a CA may take to look, and then to issue.
const PATIENCE: Duration = Duration::from_secs(90);

/// Why an order failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) why: String,
    /// The CA was asked too often.
    pub(crate) limited: bool,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        let limited = matches!(&error, Error::Api(problem)
            if problem.r#type.as_deref().is_some_and(|kind| kind.ends_with(":rateLimited")));
        Self { why: runtime::process::chain(&error), limited }
    }
}

impl Failed {
    pub(crate) fn of(why: impl Into<String>) -> Self {
        Self { why: why.into(), limited: false }
    }
}

/// A certificate with its key, and from when until when it is valid.
pub(crate) struct Issued {
    pub(crate) bundle: Bundle,
    pub(crate) validity: (u64, u64),
}

fn builder(acme: &Acme) -> Result<AccountBuilder, Error> {
    match &acme.acme_ca_root {
        Some(file) => Account::builder_with_root(file),
        None => Account::builder(),
    }
}

/// The account that these credentials are of.
pub(crate) async fn known_account(acme: &Acme, credentials: &[u8]) -> Result<Account, Failed> {
    let credentials: AccountCredentials = serde_json::from_slice(credentials)
        .map_err(|why| Failed::of(format!("the account does not decode: {why}")))?;
    Ok(builder(acme)?.from_credentials(credentials).await?)
}

/// A new account, and its credentials.
pub(crate) async fn new_account(
    acme: &Acme,
    directory: &str,
) -> Result<(Account, Vec<u8>), Failed> {
    let contact: Vec<&str> = acme.acme_contact.iter().map(String::as_str).collect();
    let wanted = NewAccount {
        contact: &contact,
        terms_of_service_agreed: acme.acme_agree_terms,
        only_return_existing: false,
    };
    let made = builder(acme)?.create(&wanted, directory.to_owned(), None).await?;
    let credentials = serde_json::to_vec(&made.1).map_err(|why| Failed::of(why.to_string()))?;
    Ok((made.0, credentials))
}

/// Orders a certificate. `announce` has every gateway answer a challenge.
pub(crate) async fn certificate<F: Future<Output = Result<(), Failed>>>(
    account: &Account,
    host: &str,
    announce: impl Fn(Challenge) -> F,
) -> Result<Issued, Failed> {
    let names = [Identifier::Dns(host.to_owned())];
    let mut order = account.new_order(&NewOrder::new(&names)).await?;
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        match authorization.status {
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            _ => return Err(Failed::of("the CA does not let this account prove the host")),
        }
        let challenge = authorization.challenge(ChallengeType::Http01);
        let mut challenge = challenge.ok_or_else(|| Failed::of("the CA does not ask by HTTP"))?;
        let (token, answer) = (challenge.token.clone(), challenge.key_authorization());
        let key_authorization = answer.as_str().to_owned();
        announce(Challenge { host: host.to_owned(), token, key_authorization }).await?;
        challenge.set_ready().await?;
    }
    let patience = RetryPolicy::default().timeout(PATIENCE);
    let status = order.poll_ready(&patience).await?;
    if status != OrderStatus::Ready {
        let why = refusal(&mut order).await;
        return Err(Failed::of(why.unwrap_or_else(|| "the CA refused the order".to_owned())));
    }
    let key = order.finalize().await?;
    let chain = order.poll_certificate(&patience).await?;
    let first = CertificateDer::from_pem_slice(chain.as_bytes());
    let first =
        first.map_err(|why| Failed::of(format!("what the CA sent does not decode: {why}")))?;
    let validity = validity::validity(&first);
    let validity = validity.ok_or_else(|| Failed::of("the CA's certificate has no validity"))?;
    Ok(Issued { bundle: Bundle { chain, key }, validity })
}

/// What the CA says of a challenge that it did not find answered.
async fn refusal(order: &mut instant_acme::Order) -> Option<String> {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let state = authorization.refresh().await.ok()?;
        let mut problems = state.challenges.iter().filter_map(|challenge| challenge.error.as_ref());
        if let Some(problem) = problems.next() {
            return Some(problem.to_string());
        }
    }
    None
}
