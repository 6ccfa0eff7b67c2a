//! Checksums on stored values: value, then the first 8 bytes of BLAKE3 over family, key
//! and value. The key takes part, so that a value cannot turn up under another key.

use super::Family;
use crate::error::StoreError;

const SUM: usize = 8;

/// `value` with its checksum behind it.
pub fn seal(family: Family, key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(value.len() + SUM);
    sealed.extend_from_slice(value);
    sealed.extend_from_slice(&sum(family, key, value));
    sealed
}

/// The value in `sealed`.
///
/// # Errors
/// [`StoreError::Corrupt`] when the checksum does not match.
pub fn unseal(family: Family, key: &[u8], mut sealed: Vec<u8>) -> Result<Vec<u8>, StoreError> {
    let corrupt = || StoreError::Corrupt {
        family: family.name(),
        key: hex::encode(key),
    };
    let length = sealed.len().checked_sub(SUM).ok_or_else(corrupt)?;
    let (value, found) = sealed.split_at(length);
    if found != sum(family, key, value) {
        return Err(corrupt());
    }
    sealed.truncate(length);
    Ok(sealed)
}

fn sum(family: Family, key: &[u8], value: &[u8]) -> [u8; SUM] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(family.name().as_bytes());
    hasher.update(&(key.len() as u64).to_be_bytes());
    hasher.update(key);
    hasher.update(value);
    let mut sum = [0; SUM];
    hasher.finalize_xof().fill(&mut sum);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_noticed() {
        let sealed = seal(Family::State, b"key", b"value");
        assert_eq!(
            unseal(Family::State, b"key", sealed.clone()).expect("intact"),
            b"value"
        );
        for bit in 0..sealed.len() * 8 {
            let mut rotten = sealed.clone();
            rotten[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal(Family::State, b"key", rotten).is_err(), "bit {bit}");
        }
        assert!(unseal(Family::State, b"kez", sealed.clone()).is_err());
        assert!(unseal(Family::Crm, b"key", sealed).is_err());
        assert!(unseal(Family::Crm, b"key", vec![1, 2]).is_err());
    }
}
