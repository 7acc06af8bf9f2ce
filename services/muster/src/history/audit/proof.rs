//! Signed heads, proofs that an event is in the log, and checking them without a cluster.

use std::io::Read as _;
use std::path::Path;

use ring::signature::{ED25519, UnparsedPublicKey};
use schemas::proof::{Proof, ProofRequest, SignedHead};

use crate::client::Client;
use crate::error::{CliError, Code};
use crate::{look, tell};

/// Prints the signed end of the log.
pub(crate) async fn head(client: &Client) -> Result<(), CliError> {
    look::json(&client.proof(&ProofRequest::default()).await?.head)
}

/// Prints the proof that an event is in the log.
pub(crate) async fn prove(client: &Client, position: u64) -> Result<(), CliError> {
    let proof = client.proof(&ProofRequest { position: Some(position) }).await?;
    // The event's exact bytes are what is proven, so it is not laid out anew.
    let text = serde_json::to_string(&proof).map_err(|e| CliError::internal(e.to_string()))?;
    println!("{text}");
    Ok(())
}

/// Checks a proof: the way to the head, the head's signature, and that it is the head or the key that
/// one trusts. Needs no cluster.
pub(crate) fn check(proof: &Path, head: Option<&Path>, key: Option<&str>) -> Result<(), CliError> {
    let proof: Proof = read(proof)?;
    let trusted = head.map(read::<SignedHead>).transpose()?;
    let Some(event) = &proof.event else {
        return Err(CliError::usage(
            "it holds no event, only a head: `muster audit prove POSITION`",
        ));
    };
    let no = |text: String| Err(CliError::new(Code::No, text));
    if !proof.holds() {
        let at = proof.head.place.position;
        return no(format!("the event does not lead to the root of the head at r{at}"));
    }
    if !is_signed(&proof.head) {
        let at = proof.head.place.position;
        return no(format!("the head at r{at} is not signed by its key"));
    }
    if let Some(trusted) = &trusted
        && (trusted.place, trusted.root, &trusted.key)
            != (proof.head.place, proof.head.root, &proof.head.key)
    {
        return no(format!(
            "the proof leads to the head at r{} (epoch {}), not to that at r{} (epoch {}): ask for a \
             proof when the log ends there, or take the head of the proof's time",
            proof.head.place.position,
            proof.head.place.epoch,
            trusted.place.position,
            trusted.place.epoch
        ));
    }
    if let Some(key) = key
        && key != proof.head.key
    {
        return no(format!("the head is signed by {}, not by {key}", proof.head.key));
    }
    println!("{}", tell::line(&look::decode(event.get())?));
    let SignedHead { genesis, place, key: signer, .. } = &proof.head;
    println!("is in the log {genesis} that ended at r{}, signed by {signer}", place.position);
    if trusted.is_none() && key.is_none() {
        println!("whose key that is, the proof cannot say: compare it, with --key or --head");
    }
    Ok(())
}

fn is_signed(head: &SignedHead) -> bool {
    match (bytes(&head.key), bytes(&head.signature)) {
        (Some(key), Some(signature)) => {
            UnparsedPublicKey::new(&ED25519, key).verify(&head.message(), &signature).is_ok()
        }
        _ => false,
    }
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// A file, or standard input where it is called `-`.
fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, CliError> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).map(|_| ())
    } else {
        std::fs::read_to_string(path).map(|content| text = content)
    };
    read.map_err(|error| CliError::usage(format!("cannot read {}: {error}", path.display())))?;
    serde_json::from_str(&text)
        .map_err(|error| CliError::usage(format!("{}: {error}", path.display())))
}
