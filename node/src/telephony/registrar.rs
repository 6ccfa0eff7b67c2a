//! REGISTER: authenticated, committed, then answered with the bindings (RFC 3261 §10.3).

use std::sync::Arc;
use std::time::Duration;

use strowger_core::call::{FlowRef, Transport};
use strowger_core::floor::registration::{Binding, ContactWish, Register};
use strowger_core::ids::Extension;
use strowger_core::limits;
use strowger_core::state::command::{Command, Refusal, Reply};
use strowger_core::time::TimeMs;
use strowger_sip::endpoint::IncomingRequest;
use strowger_sip::message::{HeaderName, Response, Uri};
use strowger_sip::registrar::{
    ContactBinding, ExpiryBounds, Registration, parse_register, with_bindings,
};
use strowger_sip::transport::{Flow, Protocol};

use super::Shared;
use super::auth::{self, Sender};

/// How long a REGISTER may wait for its commit; the phone sends it again meanwhile.
const DEADLINE: Duration = Duration::from_millis(900);

/// Lifetimes we grant.
const BOUNDS: ExpiryBounds = ExpiryBounds {
    min_s: limits::REGISTRATION_S_MIN,
    max_s: limits::REGISTRATION_S_MAX,
    default_s: 3_600,
};

/// Serves one REGISTER.
pub async fn serve(shared: Arc<Shared>, request: IncomingRequest) {
    let response = answer(&shared, &request).await;
    request.respond(&response);
}

async fn answer(shared: &Shared, incoming: &IncomingRequest) -> Response {
    let request = incoming.request();
    let flow = incoming.flow();
    if !shared.cluster.lease_valid() {
        return busy(incoming);
    }
    let Some((tenant, site)) = auth::tenant_of(shared, request) else {
        return incoming.response(404);
    };
    let address_of_record = request.headers.to().and_then(|to| to.uri.user_text());
    let Some(user) = address_of_record.filter(|user| !user.is_empty()) else {
        return incoming.response(404);
    };
    let extension = Extension::from(user);
    // An extension that does not exist is challenged all the same: whoever guesses
    // numbers learns nothing.
    if let Err(sender) = auth::verify(shared, &site, &extension, request) {
        if matches!(sender, Sender::Misdirected) {
            return incoming.response(400);
        }
        let stale = matches!(sender, Sender::Challenge { stale: true });
        return auth::challenge(shared, &site, incoming.response(401), stale);
    }
    let wanted = match parse_register(request, BOUNDS) {
        Ok(wanted) => wanted,
        Err(why) => return why.complete(incoming.response(why.status())),
    };
    let (contacts, remove_all) = match wanted {
        Registration::Query => (Vec::new(), false),
        Registration::RemoveAll => (Vec::new(), true),
        Registration::Update(contacts) => (contacts.into_iter().map(wish).collect(), false),
    };
    let command = Command::Register(Register {
        tenant,
        extension,
        flow: flow_ref(shared, &flow),
        call_id: request.headers.call_id().to_owned(),
        cseq: request.headers.cseq().map_or(0, |cseq| cseq.number),
        contacts,
        remove_all,
    });
    match shared.desk.propose(&command, DEADLINE).await {
        Ok(Reply::Registered { now, bindings }) => {
            let bindings: Vec<_> = bindings
                .iter()
                .filter_map(|binding| listed(binding, now))
                .collect();
            let list = bindings.iter().map(|(binding, left)| (binding, *left));
            with_bindings(incoming.response(200), list)
        }
        Ok(Reply::Refused(Refusal::OutOfOrder)) => incoming.response(500),
        Ok(Reply::Refused(Refusal::TooManyContacts)) => incoming.response(403),
        Ok(Reply::Refused(_)) => incoming.response(404),
        Ok(_) => incoming.response(500),
        Err(_) => busy(incoming),
    }
}

fn busy(incoming: &IncomingRequest) -> Response {
    incoming.response(503).with(HeaderName::RetryAfter, "1")
}

fn wish(contact: ContactBinding) -> ContactWish {
    let instance = contact
        .instance
        .map(|name| (name, contact.reg_id.unwrap_or(0)));
    ContactWish {
        contact: contact.uri.to_string(),
        expires_s: contact.expires_s,
        q: contact.q,
        instance,
    }
}

fn flow_ref(shared: &Shared, flow: &Flow) -> FlowRef {
    FlowRef {
        transport: match flow.protocol {
            Protocol::Udp => Transport::Udp,
            Protocol::Tcp => Transport::Tcp,
        },
        local: flow.local,
        remote: flow.remote,
        connection: flow.connection,
        node: shared.node,
    }
}

fn listed(binding: &Binding, now: TimeMs) -> Option<(ContactBinding, u32)> {
    let left = u32::try_from(binding.expires_at.since(now) / 1_000).unwrap_or(u32::MAX);
    let contact = ContactBinding {
        uri: Uri::parse(&binding.contact)?,
        expires_s: left,
        q: binding.q,
        instance: binding.instance.as_ref().map(|(name, _)| name.clone()),
        reg_id: binding
            .instance
            .as_ref()
            .map(|(_, number)| *number)
            .filter(|number| *number > 0),
    };
    Some((contact, left))
}
