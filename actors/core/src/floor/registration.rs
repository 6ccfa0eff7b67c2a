//! Registrations: the contacts of an extension (RFC 3261 §10.3).

use serde::{Deserialize, Serialize};

use crate::call::{FlowRef, LegTarget};
use crate::ids::{Extension, TenantId};
use crate::limits;
use crate::time::TimeMs;

/// One contact of a phone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// Contact URI as the phone gave it.
    pub contact: String,
    /// Path the REGISTER came on.
    pub flow: FlowRef,
    /// Call-ID of the last REGISTER that touched it.
    pub call_id: String,
    /// CSeq of that REGISTER.
    pub cseq: u32,
    /// When it ends.
    pub expires_at: TimeMs,
    /// Preference, 0 to 1000 (q = 0.0 to 1.0).
    pub q: u16,
    /// `+sip.instance` and `reg-id` of RFC 5626, when given.
    pub instance: Option<(String, u32)>,
}

impl Binding {
    /// Where a leg to this phone is sent.
    pub fn target(&self) -> LegTarget {
        LegTarget {
            uri: self.contact.clone(),
            flow: Some(self.flow.clone()),
        }
    }

    /// True when `other` names the same phone: same instance and flow number, or the
    /// same contact.
    fn is_same(&self, contact: &str, instance: Option<&(String, u32)>) -> bool {
        match (&self.instance, instance) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => self.contact == contact,
        }
    }
}

/// One wish of a REGISTER.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactWish {
    /// Contact URI.
    pub contact: String,
    /// Wanted lifetime, s; 0 removes the binding.
    pub expires_s: u32,
    /// Preference, 0 to 1000.
    pub q: u16,
    /// `+sip.instance` and `reg-id`.
    pub instance: Option<(String, u32)>,
}

/// What a REGISTER wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Register {
    /// Whose extension.
    pub tenant: TenantId,
    /// The extension.
    pub extension: Extension,
    /// Path it came on.
    pub flow: FlowRef,
    /// Call-ID.
    pub call_id: String,
    /// CSeq number.
    pub cseq: u32,
    /// Contacts; empty with `remove_all` unset asks for the list only.
    pub contacts: Vec<ContactWish>,
    /// `Contact: *` with `Expires: 0`.
    pub remove_all: bool,
}

/// The contacts of one extension.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrationRow {
    /// Whose extension.
    pub tenant: TenantId,
    /// The extension.
    pub extension: Extension,
    /// Its bindings, oldest first.
    pub bindings: Vec<Binding>,
}

/// Why a REGISTER was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterRefusal {
    /// An older CSeq of the same Call-ID (RFC 3261 §10.3 step 7): answered 500.
    OutOfOrder,
    /// More contacts than an extension may have: answered 403.
    TooMany,
}

impl RegistrationRow {
    /// Carries out `wish` completely or not at all.
    pub fn register(&mut self, wish: &Register, now: TimeMs) -> Result<(), RegisterRefusal> {
        let mut bindings = self.bindings.clone();
        bindings.retain(|binding| binding.expires_at > now);
        let stale = |binding: &Binding| binding.call_id == wish.call_id && binding.cseq > wish.cseq;
        if wish.remove_all {
            if bindings.iter().any(stale) {
                return Err(RegisterRefusal::OutOfOrder);
            }
            bindings.clear();
        }
        for contact in &wish.contacts {
            let place = bindings
                .iter()
                .position(|binding| binding.is_same(&contact.contact, contact.instance.as_ref()));
            if place
                .and_then(|place| bindings.get(place))
                .is_some_and(stale)
            {
                return Err(RegisterRefusal::OutOfOrder);
            }
            let place = place.unwrap_or(bindings.len());
            if contact.expires_s == 0 {
                if place < bindings.len() {
                    bindings.remove(place);
                }
                continue;
            }
            let lifetime = u64::from(contact.expires_s.min(limits::REGISTRATION_S_MAX)) * 1_000;
            let binding = Binding {
                contact: contact.contact.clone(),
                flow: wish.flow.clone(),
                call_id: wish.call_id.clone(),
                cseq: wish.cseq,
                expires_at: now.plus(lifetime),
                q: contact.q,
                instance: contact.instance.clone(),
            };
            match bindings.get_mut(place) {
                Some(known) => *known = binding,
                None => bindings.push(binding),
            }
        }
        if bindings.len() > limits::BINDINGS_PER_EXTENSION {
            return Err(RegisterRefusal::TooMany);
        }
        self.bindings = bindings;
        Ok(())
    }

    /// When the next binding ends.
    pub fn next_expiry(&self) -> Option<TimeMs> {
        self.bindings.iter().map(|binding| binding.expires_at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Transport;
    use crate::ids::NodeId;

    fn wish(cseq: u32, contacts: &[(&str, u32)]) -> Register {
        Register {
            tenant: TenantId::from("t"),
            extension: Extension::from("1001"),
            flow: FlowRef {
                transport: Transport::Udp,
                local: ([127, 0, 0, 1], 5060).into(),
                remote: ([127, 0, 0, 9], 5062).into(),
                connection: None,
                node: NodeId(1),
            },
            call_id: String::from("c1"),
            cseq,
            contacts: contacts
                .iter()
                .map(|(contact, expires_s)| ContactWish {
                    contact: (*contact).to_owned(),
                    expires_s: *expires_s,
                    q: 1000,
                    instance: None,
                })
                .collect(),
            remove_all: false,
        }
    }

    fn empty() -> RegistrationRow {
        RegistrationRow {
            tenant: TenantId::from("t"),
            extension: Extension::from("1001"),
            bindings: Vec::new(),
        }
    }

    #[test]
    fn several_contacts_refresh_and_leave_on_their_own() {
        let mut row = empty();
        assert_eq!(
            row.register(&wish(1, &[("sip:a@h", 60), ("sip:b@h", 120)]), TimeMs(0)),
            Ok(())
        );
        assert_eq!(row.bindings.len(), 2);
        assert_eq!(row.next_expiry(), Some(TimeMs(60_000)));
        assert_eq!(
            row.register(&wish(2, &[("sip:a@h", 0)]), TimeMs(10)),
            Ok(())
        );
        assert_eq!(row.bindings.len(), 1);
        assert_eq!(row.register(&wish(3, &[]), TimeMs(200_000)), Ok(()));
        assert!(row.bindings.is_empty(), "what has ended is not listed");
    }

    #[test]
    fn an_older_request_changes_nothing() {
        let mut row = empty();
        assert_eq!(
            row.register(&wish(5, &[("sip:a@h", 60)]), TimeMs(0)),
            Ok(())
        );
        let late = row.register(&wish(4, &[("sip:b@h", 60), ("sip:a@h", 0)]), TimeMs(1));
        assert_eq!(late, Err(RegisterRefusal::OutOfOrder));
        assert_eq!(row.bindings.len(), 1);
    }

    #[test]
    fn one_contact_too_many_is_refused_whole() {
        let mut row = empty();
        let contacts: Vec<String> = (0..11).map(|n| format!("sip:{n}@h")).collect();
        let list: Vec<(&str, u32)> = contacts.iter().map(|text| (text.as_str(), 60)).collect();
        assert_eq!(
            row.register(&wish(1, &list), TimeMs(0)),
            Err(RegisterRefusal::TooMany)
        );
        assert!(row.bindings.is_empty());
    }
}
