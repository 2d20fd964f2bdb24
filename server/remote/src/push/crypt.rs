//! What a push service carries without reading it (RFC 8291), and the proof of who sends it
//! (RFC 8292).

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// The size of a record, in bytes: there is never more than one.
const RECORD: u32 = 4_096;
/// The longest text that fits into it, in bytes: less the delimiter and the tag.
const TEXT_MAX: usize = 4_096 - 17;

/// Keys are no keys, or the text is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the subscription's keys cannot be used, or the text is too long")]
pub(super) struct CryptError;

/// A text that only the subscriber reads: `Content-Encoding: aes128gcm`.
///
/// # Errors
/// [`CryptError`].
pub(super) fn encrypt(subscriber: &[u8], auth: &[u8], text: &[u8]) -> Result<Vec<u8>, CryptError> {
    let ours = PrivateKey::generate(&ECDH_P256).map_err(|_| CryptError)?;
    let mut salt = [0; 16];
    SystemRandom::new()
        .fill(&mut salt)
        .map_err(|_| CryptError)?;
    encrypt_with(&ours, salt, subscriber, auth, text)
}

fn encrypt_with(
    ours: &PrivateKey,
    salt: [u8; 16],
    subscriber: &[u8],
    auth: &[u8],
    text: &[u8],
) -> Result<Vec<u8>, CryptError> {
    if text.len() > TEXT_MAX || auth.len() != 16 {
        return Err(CryptError);
    }
    let public = ours.compute_public_key().map_err(|_| CryptError)?;
    let public = public.as_ref();
    let theirs = UnparsedPublicKey::new(&ECDH_P256, subscriber);
    let shared = agree(ours, theirs, CryptError, |secret| {
        Ok(hmac_of(auth, &[secret]))
    })?;
    let input = expand(&shared, &[b"WebPush: info\0", subscriber, public]);
    let key = hmac_of(&salt, &[&input]);
    let content_key = expand(&key, &[b"Content-Encoding: aes128gcm\0"]);
    let nonce = expand(&key, &[b"Content-Encoding: nonce\0"]);

    let content_key = content_key.get(..16).ok_or(CryptError)?;
    let content_key = UnboundKey::new(&AES_128_GCM, content_key).map_err(|_| CryptError)?;
    let nonce = nonce.get(..12).ok_or(CryptError)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| CryptError)?;
    // The last record ends with a 2.
    let mut sealed = [text, &[2]].concat();
    LessSafeKey::new(content_key)
        .seal_in_place_append_tag(nonce, Aad::empty(), &mut sealed)
        .map_err(|_| CryptError)?;
    let length = u8::try_from(public.len()).map_err(|_| CryptError)?;
    let mut body = Vec::with_capacity(86 + sealed.len());
    body.extend(salt);
    body.extend(RECORD.to_be_bytes());
    body.push(length);
    body.extend(public);
    body.extend(sealed);
    Ok(body)
}

/// HKDF's one step, and its extraction (RFC 5869).
fn hmac_of(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    context.sign().as_ref().to_vec()
}

/// HKDF's expansion, for up to 32 bytes.
fn expand(key: &[u8], info: &[&[u8]]) -> Vec<u8> {
    let parts: Vec<&[u8]> = info.iter().copied().chain([&[1_u8][..]]).collect();
    hmac_of(key, &parts)
}

/// The key pair by which push services know us.
pub(super) struct Signer {
    pair: EcdsaKeyPair,
    public: Vec<u8>,
}

impl Signer {
    /// From the 32 secret bytes of a key of the curve P-256.
    ///
    /// # Errors
    /// [`CryptError`] where they are none.
    pub(super) fn new(secret: &[u8; 32]) -> Result<Signer, CryptError> {
        let private = PrivateKey::from_private_key(&ECDH_P256, secret).map_err(|_| CryptError)?;
        let public = private.compute_public_key().map_err(|_| CryptError)?;
        let public = public.as_ref().to_vec();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = EcdsaKeyPair::from_private_key_and_public_key(algorithm, secret, &public);
        Ok(Signer {
            pair: pair.map_err(|_| CryptError)?,
            public,
        })
    }

    /// The public key, uncompressed, in URL-safe base64 without padding.
    pub(super) fn public(&self) -> String {
        URL_SAFE_NO_PAD.encode(&self.public)
    }

    /// The `Authorization` header that carries these claims.
    ///
    /// # Errors
    /// [`CryptError`] if there is no randomness.
    pub(super) fn authorization(&self, claims: &Value) -> Result<String, CryptError> {
        let encoded = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let header = serde_json::json!({ "typ": "JWT", "alg": "ES256" });
        let text = format!("{}.{}", encoded(&header), encoded(claims));
        let signature = self.pair.sign(&SystemRandom::new(), text.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(signature.map_err(|_| CryptError)?);
        Ok(format!("vapid t={text}.{signature}, k={}", self.public()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;

    fn bytes(text: &str) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(text).unwrap()
    }

    /// RFC 8291, appendix A.
    #[test]
    fn the_example_of_the_rfc() {
        let ours = bytes("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw");
        let subscriber = bytes(
            "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
        );
        let body = encrypt_with(
            &PrivateKey::from_private_key(&ECDH_P256, &ours).unwrap(),
            bytes("DGv6ra1nlYgDCS1FRnbzlw").try_into().unwrap(),
            &subscriber,
            &bytes("BTBZMqHH6r4Tts7J_aSIgg"),
            b"When I grow up, I want to be a watermelon",
        );
        let expected = "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIg\
            Dll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXL\
            WyouBWLVWGNWQexSgSxsj_Qulcy4a-fN";
        assert_eq!(URL_SAFE_NO_PAD.encode(body.unwrap()), expected);
    }

    #[test]
    fn what_is_no_key_and_what_is_too_long_is_refused() {
        let good = PrivateKey::generate(&ECDH_P256).unwrap();
        let good = good.compute_public_key().unwrap();
        assert!(encrypt(good.as_ref(), &[0; 16], &[0; TEXT_MAX]).is_ok());
        assert!(encrypt(good.as_ref(), &[0; 16], &[0; TEXT_MAX + 1]).is_err());
        assert!(encrypt(good.as_ref(), &[0; 15], b"x").is_err());
        for bad in [&[][..], &[4; 65], &[0; 64]] {
            assert!(encrypt(bad, &[0; 16], b"x").is_err());
        }
        assert!(Signer::new(&[0; 32]).is_err());
    }

    #[test]
    fn a_proof_is_signed_by_the_key_that_it_names() {
        let signer = Signer::new(&[7; 32]).unwrap();
        let claims = serde_json::json!({ "aud": "https://push.example", "exp": 1 });
        let header = signer.authorization(&claims).unwrap();
        let (token, key) = header
            .strip_prefix("vapid t=")
            .unwrap()
            .split_once(", k=")
            .unwrap();
        let (text, signature) = token.rsplit_once('.').unwrap();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, bytes(key))
            .verify(text.as_bytes(), &bytes(signature))
            .unwrap();
        let (_, said) = text.split_once('.').unwrap();
        let said: Value = serde_json::from_slice(&bytes(said)).unwrap();
        assert_eq!(said, claims);
    }
}
