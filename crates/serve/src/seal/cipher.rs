//! The ciphers of values on disk, in upstream's form: what follows a value's prefix.
//!
//! - aesgcm: a nonce of 12 bytes, then what is encrypted and its tag; bound to the value's own key, so that it opens nowhere else.
//! - secretbox: a nonce of 24 bytes, then the tag and what is encrypted (XSalsa20, Poly1305).
//! - aescbc: 16 bytes to begin with, then what is encrypted, filled up to whole blocks. Nothing in it shows that it was changed:
//!   it is for those who bring its keys from elsewhere.

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockCipher, BlockDecryptMut, BlockEncryptMut, KeyInit, KeyIvInit};
use aes::{Aes128, Aes192, Aes256};
use anyhow::{Context, Result, bail};
use crypto_secretbox::XSalsa20Poly1305;
use crypto_secretbox::aead::Aead;
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

const BLOCK: usize = 16;
const BOX_NONCE: usize = 24;

pub enum Cipher {
    AesGcm(Box<LessSafeKey>),
    /// A key of 16, 24 or 32 bytes.
    AesCbc(Vec<u8>),
    SecretBox(Box<XSalsa20Poly1305>),
}

impl Cipher {
    /// The cipher of a provider.
    ///
    /// # Errors
    /// A secret of a length that it does not take.
    pub fn of(provider: &str, secret: &[u8]) -> Result<Cipher> {
        let unfit = |lengths: &str| {
            format!("a secret of {} bytes is not supported by {provider}, only of {lengths}", secret.len())
        };
        match provider {
            "aescbc" if [16, 24, 32].contains(&secret.len()) => Ok(Cipher::AesCbc(secret.to_vec())),
            "aescbc" => bail!(unfit("16, 24 or 32")),
            "secretbox" => {
                let cipher = XSalsa20Poly1305::new_from_slice(secret).map_err(|_| anyhow::anyhow!(unfit("32")))?;
                Ok(Cipher::SecretBox(Box::new(cipher)))
            }
            _ => {
                let algorithm = match secret.len() {
                    16 => &AES_128_GCM,
                    32 => &AES_256_GCM,
                    _ => bail!(unfit("16 or 32")),
                };
                let key = UnboundKey::new(algorithm, secret).map_err(|_| anyhow::anyhow!("this is no key"))?;
                Ok(Cipher::AesGcm(Box::new(LessSafeKey::new(key))))
            }
        }
    }

    /// # Errors
    /// When the system gives no random numbers.
    pub fn seal(&self, random: &SystemRandom, key: &[u8], plain: &[u8]) -> Result<Vec<u8>> {
        let too_large = || anyhow::anyhow!("a value is too large to be encrypted");
        match self {
            Cipher::AesGcm(cipher) => {
                let nonce: [u8; NONCE_LEN] = fresh(random)?;
                let mut content = plain.to_vec();
                let bound = Nonce::assume_unique_for_key(nonce);
                let sealed = cipher.seal_in_place_append_tag(bound, Aad::from(key), &mut content);
                sealed.map_err(|_| too_large())?;
                Ok([&nonce[..], &content].concat())
            }
            Cipher::AesCbc(secret) => {
                let begin: [u8; BLOCK] = fresh(random)?;
                let sealed = match secret.len() {
                    16 => cbc_seal::<Aes128>(secret, &begin, plain),
                    24 => cbc_seal::<Aes192>(secret, &begin, plain),
                    _ => cbc_seal::<Aes256>(secret, &begin, plain),
                };
                Ok([&begin[..], &sealed.with_context(too_large)?].concat())
            }
            Cipher::SecretBox(cipher) => {
                let nonce: [u8; BOX_NONCE] = fresh(random)?;
                let sealed = cipher.encrypt(&nonce.into(), plain).map_err(|_| too_large())?;
                Ok([&nonce[..], &sealed].concat())
            }
        }
    }

    /// # Errors
    /// When it was sealed with another key, or was changed.
    pub fn open(&self, key: &[u8], content: &[u8]) -> Result<Vec<u8>> {
        let begin = match self {
            Cipher::AesGcm(_) => NONCE_LEN,
            Cipher::AesCbc(_) => BLOCK,
            Cipher::SecretBox(_) => BOX_NONCE,
        };
        let (begin, sealed) = content.split_at_checked(begin).context("is cut off")?;
        let opened = match self {
            Cipher::AesGcm(cipher) => gcm_open(cipher, key, begin, sealed),
            Cipher::AesCbc(secret) => match secret.len() {
                16 => cbc_open::<Aes128>(secret, begin, sealed),
                24 => cbc_open::<Aes192>(secret, begin, sealed),
                _ => cbc_open::<Aes256>(secret, begin, sealed),
            },
            Cipher::SecretBox(cipher) => {
                let nonce = <[u8; BOX_NONCE]>::try_from(begin).ok();
                nonce.and_then(|nonce| cipher.decrypt(&nonce.into(), sealed).ok())
            }
        };
        opened.context("cannot be decrypted: its key has changed, or it was")
    }
}

fn fresh<const LENGTH: usize>(random: &SystemRandom) -> Result<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    random.fill(&mut bytes).map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
    Ok(bytes)
}

fn gcm_open(cipher: &LessSafeKey, key: &[u8], nonce: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let mut sealed = sealed.to_vec();
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let length = cipher.open_in_place(nonce, Aad::from(key), &mut sealed).ok()?.len();
    sealed.truncate(length);
    Some(sealed)
}

fn cbc_seal<C: BlockEncryptMut + BlockCipher + KeyInit>(secret: &[u8], begin: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
    let cipher = cbc::Encryptor::<C>::new_from_slices(secret, begin).ok()?;
    Some(cipher.encrypt_padded_vec_mut::<Pkcs7>(plain))
}

fn cbc_open<C: BlockDecryptMut + BlockCipher + KeyInit>(secret: &[u8], begin: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let cipher = cbc::Decryptor::<C>::new_from_slices(secret, begin).ok()?;
    cipher.decrypt_padded_vec_mut::<Pkcs7>(sealed).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    #[test]
    fn what_upstream_wrote_is_read() {
        // NIST SP 800-38A F.2.1, with the block that the padding adds.
        let secret = bytes("2b7e151628aed2a6abf7158809cf4f3c");
        let begin = bytes("000102030405060708090a0b0c0d0e0f");
        let sealed = bytes("7649abac8119b246cee98e9b12e9197d 8964e0b149c10b7b682e6e39aaeb731c");
        let opened = Cipher::of("aescbc", &secret).unwrap().open(b"", &[begin, sealed].concat()).unwrap();
        assert_eq!(opened, bytes("6bc1bee22e409f96e93d7e117393172a"));
        // NaCl's own example: the tag comes first.
        let secret = bytes("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389");
        let nonce = bytes("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37");
        let sealed = bytes(
            "f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb8c531a1186a
             c0dfc17c98dce87b4da7f011ec48c97271d2c20f9b928fe2270d6fb863d51738b48eeee314a7cc8ab932164548e526ae
             90224368517acfeabd6bb3732bc0e9da99832b61ca01b6de56244a9e88d5f9b37973f622a43d14a6599b1f654cb45a74
             e355a5",
        );
        let opened = Cipher::of("secretbox", &secret).unwrap().open(b"", &[nonce, sealed].concat()).unwrap();
        assert_eq!(opened[..8], bytes("be075fc53c81f2d5"));
    }

    #[test]
    fn what_was_sealed_opens_with_its_key_alone() {
        let random = SystemRandom::new();
        for (provider, length) in
            [("aesgcm", 16), ("aesgcm", 32), ("aescbc", 16), ("aescbc", 24), ("aescbc", 32), ("secretbox", 32)]
        {
            let cipher = |byte: u8| Cipher::of(provider, &vec![byte; length]).unwrap();
            for plain in [&b""[..], b"{plain}", &[b'x'; 64]] {
                let sealed = cipher(1).seal(&random, b"k", plain).unwrap();
                assert_ne!(sealed, cipher(1).seal(&random, b"k", plain).unwrap(), "{provider}: never twice the same");
                assert_eq!(cipher(1).open(b"k", &sealed).unwrap(), plain, "{provider}");
                // One in 256 keys makes a padding that looks right.
                assert!((2..6).any(|byte| cipher(byte).open(b"k", &sealed).is_err()), "{provider}");
                assert!(cipher(1).open(b"k", &sealed[..9]).is_err(), "{provider}: cut off");
            }
        }
    }
}
