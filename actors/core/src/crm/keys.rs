//! Keys of customers and of what hangs on them. Names end with a zero byte, which no
//! name holds, so that no key is the beginning of another tenant's or customer's.

use crate::ids::{CustomerId, InteractionId, TenantId};
use crate::number::E164;
use crate::time::TimeMs;

fn ended(parts: &[&str]) -> Vec<u8> {
    let mut key = Vec::with_capacity(parts.iter().map(|part| part.len() + 1).sum());
    for part in parts {
        key.extend_from_slice(part.as_bytes());
        key.push(0);
    }
    key
}

/// Beginning of the keys of a tenant's customers.
pub fn customers(tenant: &TenantId) -> Vec<u8> {
    ended(&[tenant.as_str()])
}

/// Key of a customer.
pub fn customer(tenant: &TenantId, id: &CustomerId) -> Vec<u8> {
    let mut key = customers(tenant);
    key.extend_from_slice(id.as_str().as_bytes());
    key
}

/// Beginning of the index rows of a number.
pub fn number(tenant: &TenantId, number: E164) -> Vec<u8> {
    let mut key = ended(&[tenant.as_str()]);
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// Index row of a number of a customer.
pub fn by_number(tenant: &TenantId, e164: E164, id: &CustomerId) -> Vec<u8> {
    let mut key = number(tenant, e164);
    key.extend_from_slice(id.as_str().as_bytes());
    key
}

/// Beginning of the index rows of names that begin like this.
pub fn name(tenant: &TenantId, beginning: &str) -> Vec<u8> {
    let mut key = ended(&[tenant.as_str()]);
    // Letters beyond ASCII stay as written: what is large and small among them differs
    // between versions of Unicode, and every node must write the same key.
    key.extend(beginning.bytes().map(|byte| byte.to_ascii_lowercase()));
    key
}

/// Index row of the name of a customer.
pub fn by_name(tenant: &TenantId, of: &str, id: &CustomerId) -> Vec<u8> {
    let mut key = name(tenant, of);
    key.push(0);
    key.extend_from_slice(id.as_str().as_bytes());
    key
}

/// The customer an index row ends with, given the bytes before the id.
pub fn id_after(key: &[u8], before: usize) -> Option<CustomerId> {
    let id = key.get(before..)?;
    std::str::from_utf8(id).ok().map(CustomerId::from)
}

/// The customer an index row of a name ends with.
pub fn id_of_name(key: &[u8]) -> Option<CustomerId> {
    let zero = key.iter().rposition(|byte| *byte == 0)?;
    id_after(key, zero + 1)
}

/// Beginning of a customer's timeline.
pub fn timeline(tenant: &TenantId, customer: &CustomerId) -> Vec<u8> {
    ended(&[tenant.as_str(), customer.as_str()])
}

/// Key of a contact. Time counts down in it, so the newest comes first.
pub fn interaction(
    tenant: &TenantId,
    customer: &CustomerId,
    at: TimeMs,
    id: InteractionId,
) -> Vec<u8> {
    let mut key = timeline(tenant, customer);
    key.extend_from_slice(&(!at.0).to_be_bytes());
    key.extend_from_slice(&(!id.0).to_be_bytes());
    key
}

/// Beginning of the keys of a tenant's imports.
pub fn imports(tenant: &TenantId) -> Vec<u8> {
    let mut key = ended(&[tenant.as_str()]);
    key.push(b'i');
    key
}

/// Key of an import.
pub fn import(tenant: &TenantId, id: &str) -> Vec<u8> {
    let mut key = imports(tenant);
    key.extend_from_slice(id.as_bytes());
    key
}

/// Beginning of the refused lines of an import.
pub fn rejects(tenant: &TenantId, import: &str) -> Vec<u8> {
    let mut key = ended(&[tenant.as_str()]);
    key.push(b'r');
    key.extend_from_slice(import.as_bytes());
    key.push(0);
    key
}

/// Key of a refused line.
pub fn reject(tenant: &TenantId, import: &str, line: u64) -> Vec<u8> {
    let mut key = rejects(tenant, import);
    key.extend_from_slice(&line.to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_contact_comes_first() {
        let (tenant, customer) = (TenantId::from("t"), CustomerId::from("c"));
        let key = |at, id| interaction(&tenant, &customer, TimeMs(at), InteractionId(id));
        assert!(key(2, 1) < key(1, 9) && key(1, 9) < key(1, 8));
        assert!(key(1, 1).starts_with(&timeline(&tenant, &customer)));
        assert!(!key(1, 1).starts_with(&timeline(&tenant, &CustomerId::from("c1"))));
    }

    #[test]
    fn an_index_row_ends_with_its_customer() {
        let (tenant, id) = (TenantId::from("t"), CustomerId::from("7"));
        assert_eq!(
            id_of_name(&by_name(&tenant, "Amy Lee", &id)),
            Some(id.clone())
        );
        let number = E164::from_digits("861062345678").expect("a number");
        let before = super::number(&tenant, number).len();
        let key = by_number(&tenant, number, &id);
        assert_eq!(id_after(&key, before), Some(id));
        assert!(by_name(&tenant, "Amy", &CustomerId::from("1")).starts_with(&name(&tenant, "aM")));
    }
}
