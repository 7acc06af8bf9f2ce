//! Seals what is private before it goes on the bus: ChaCha20-Poly1305 under the key that gateways share. What is
//! sealed for one subject opens under no other.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use runtime::entropy;

/// The key of a cluster's gateways.
#[derive(Debug)]
pub(crate) struct Seal(LessSafeKey);

impl Seal {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        let key = UnboundKey::new(&CHACHA20_POLY1305, key).expect("a key of it has 32 bytes");
        Self(LessSafeKey::new(key))
    }

    /// Seals for a subject: a fresh nonce, then what nobody reads without the key, in base64.
    pub(crate) fn close(&self, subject: &str, plain: &[u8]) -> String {
        let nonce: [u8; NONCE_LEN] = entropy::nonce();
        let mut sealed = plain.to_vec();
        let aad = Aad::from(subject.as_bytes());
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed)
            .expect("it is short enough");
        STANDARD.encode([nonce.as_slice(), &sealed].concat())
    }

    /// What was sealed for a subject. None when it was another, another key, or was changed.
    pub(crate) fn open(&self, subject: &str, sealed: &str) -> Option<Vec<u8>> {
        let mut bytes = STANDARD.decode(sealed).ok()?;
        if bytes.len() < NONCE_LEN {
            return None;
        }
        let mut rest = bytes.split_off(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(&bytes).ok()?;
        let plain = self.0.open_in_place(nonce, Aad::from(subject.as_bytes()), &mut rest).ok()?;
        Some(plain.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_with_the_key_for_its_subject_and_unchanged() {
        let seal = Seal::new(&[7; 32]);
        let sealed = seal.close("a", b"secret");
        assert_eq!(seal.open("a", &sealed).as_deref(), Some(b"secret".as_slice()));
        assert_ne!(sealed, seal.close("a", b"secret"), "never twice the same");
        assert_eq!(seal.open("b", &sealed), None);
        assert_eq!(Seal::new(&[8; 32]).open("a", &sealed), None);
        for at in 0..STANDARD.decode(&sealed).expect("it is base64").len() {
            let mut bytes = STANDARD.decode(&sealed).expect("it is base64");
            bytes[at] ^= 1;
            assert_eq!(seal.open("a", &STANDARD.encode(bytes)), None, "{at}");
        }
        for junk in ["", "?", "AAAA"] {
            assert_eq!(seal.open("a", junk), None);
        }
    }
}
