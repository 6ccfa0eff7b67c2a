//! A small user agent on top of the endpoint: registers, calls, is called. For demo traffic and
//! tests; it does signalling only, the RTP is its owner's.
//!
//! One phone is one endpoint on one address. Nothing here is used by the exchange itself.

use crate::digest::{ClientChallenge, authorize};
use crate::endpoint::{
    Endpoint, EndpointConfig, Handler, IncomingInvite, IncomingRequest, RequestError, StartError,
};
use crate::leg::{Credentials, InviteSpec, Leg, LegSink};
use crate::message::{HeaderName, Method, NameAddr, Request, Response, Uri, new_request};
use crate::token::LegToken;
use crate::transport::{BindError, Flow, Protocol};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::mpsc;

/// Incoming calls a phone queues; one more is refused as busy.
const CALLS_WAITING_MAX: usize = 16;

/// What a phone is told at its start.
#[derive(Debug, Clone)]
pub struct PhoneConfig {
    /// Our address; UDP on this port (0 takes any), TCP on any.
    pub ip: IpAddr,
    /// Our UDP port.
    pub port: u16,
    /// Over what to reach the exchange.
    pub protocol: Protocol,
    /// The exchange.
    pub server: SocketAddr,
    /// Domain in our address of record.
    pub domain: String,
    /// Extension, also the user name for digest.
    pub user: String,
    /// Password.
    pub password: String,
}

/// Why a phone could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PhoneError {
    /// No socket.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The call could not be made.
    #[error(transparent)]
    Start(#[from] StartError),
    /// No response.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The exchange refused.
    #[error("refused with {status} {reason}")]
    Refused {
        /// Status.
        status: u16,
        /// Reason phrase.
        reason: String,
    },
}

struct Inbox(mpsc::Sender<IncomingInvite>);

impl Handler for Inbox {
    fn on_request(&self, request: IncomingRequest) {
        let response = request.response(405);
        request.respond(&response);
    }

    fn on_invite(&self, invite: IncomingInvite) {
        invite.trying();
        if let Err(refused) = self.0.try_send(invite) {
            let invite = match refused {
                mpsc::error::TrySendError::Full(invite)
                | mpsc::error::TrySendError::Closed(invite) => invite,
            };
            let response = invite.response(486);
            invite.reject(&response);
        }
    }
}

/// A phone; cheap to clone.
#[derive(Debug, Clone)]
pub struct Phone {
    endpoint: Endpoint,
    config: Arc<PhoneConfig>,
    flow: Flow,
    index: u64,
    calls: Arc<AtomicU32>,
}

impl Phone {
    /// Starts a phone; incoming calls arrive at the receiver (turn one into a leg with
    /// [`Phone::accept`]).
    ///
    /// # Errors
    /// [`PhoneError::Bind`].
    pub fn start(
        config: PhoneConfig,
    ) -> Result<(Self, mpsc::Receiver<IncomingInvite>), PhoneError> {
        let (sender, receiver) = mpsc::channel(CALLS_WAITING_MAX);
        let mut settings = EndpointConfig::new(rand::random());
        settings.product = "Strowger phone".to_owned();
        let endpoint = Endpoint::start(settings, Arc::new(Inbox(sender)));
        let bound = endpoint.bind(config.ip, config.port, Some(0))?;
        let flow = match (config.protocol, bound.tcp) {
            (Protocol::Tcp, Some(local)) => Flow::tcp(local, config.server),
            _ => Flow::udp(bound.udp, config.server),
        };
        let phone = Self {
            endpoint,
            config: Arc::new(config),
            flow,
            index: rand::random::<u64>() >> 1,
            calls: Arc::new(AtomicU32::new(0)),
        };
        Ok((phone, receiver))
    }

    /// The path to the exchange, local address included.
    #[must_use]
    pub fn flow(&self) -> Flow {
        self.flow
    }

    /// The endpoint underneath.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Registers for this many seconds (0 removes the binding), answering one challenge.
    /// Returns the seconds granted.
    ///
    /// # Errors
    /// [`PhoneError`] without a 2xx.
    pub async fn register(&self, expires_s: u32) -> Result<u32, PhoneError> {
        let first = self.register_request(expires_s, 1);
        let call_id = format!("{:032x}", rand::random::<u128>());
        let mut request = first;
        request.headers.push(HeaderName::CallId, call_id.as_str());
        let mut response = self.endpoint.request(request.clone(), self.flow).await?;
        if let Some(value) = self.authorization(&response, &request) {
            request = self.register_request(expires_s, 2);
            request.headers.push(HeaderName::CallId, call_id.as_str());
            request.headers.push(HeaderName::Authorization, value);
            response = self.endpoint.request(request, self.flow).await?;
        }
        if !response.is_success() {
            return Err(PhoneError::Refused {
                status: response.status,
                reason: response.reason,
            });
        }
        let granted = response
            .headers
            .list(&HeaderName::Contact)
            .into_iter()
            .filter_map(NameAddr::parse)
            .find(|contact| contact.uri.socket_address() == Some(self.flow.local))
            .and_then(|contact| contact.param("expires").flatten()?.parse().ok());
        Ok(granted.or(response.headers.expires()).unwrap_or(expires_s))
    }

    fn address_of_record(&self) -> NameAddr {
        NameAddr::new(Uri::sip(Some(&self.config.user), &self.config.domain, None))
    }

    fn register_request(&self, expires_s: u32, cseq: u32) -> Request {
        let registrar = Uri::sip(None, &self.config.domain, None);
        let mut request = new_request(Method::Register, registrar);
        let me = self.address_of_record().to_string();
        let mut contact = Uri::of_address(Some(&self.config.user), self.flow.local);
        if self.flow.protocol == Protocol::Tcp {
            contact = contact.with_param("transport", Some("tcp"));
        }
        request.headers.push(HeaderName::From, me.as_str());
        request.headers.push(HeaderName::To, me);
        request
            .headers
            .push(HeaderName::CSeq, format!("{cseq} REGISTER"));
        request
            .headers
            .push(HeaderName::Contact, format!("<{contact}>"));
        request
            .headers
            .push(HeaderName::Expires, expires_s.to_string());
        request
    }

    fn authorization(&self, response: &Response, request: &Request) -> Option<String> {
        if response.status != 401 {
            return None;
        }
        let challenge = response
            .headers
            .get_all(&HeaderName::WwwAuthenticate)
            .find_map(ClientChallenge::parse)?;
        let (user, password) = (&self.config.user, &self.config.password);
        let uri = request.uri.to_string();
        Some(authorize(
            &challenge,
            user,
            password,
            request.method.as_str(),
            &uri,
        ))
    }

    /// Calls a number through the exchange; a challenge is answered by the leg.
    ///
    /// # Errors
    /// [`PhoneError::Start`].
    pub fn call(
        &self,
        number: &str,
        sdp: Option<String>,
        sink: LegSink,
    ) -> Result<Leg, PhoneError> {
        let callee = Uri::sip(Some(number), &self.config.domain, None);
        let spec = InviteSpec {
            token: self.next_token(),
            target: callee.clone(),
            flow: self.flow,
            route: Vec::new(),
            from: self.address_of_record(),
            to: NameAddr::new(callee),
            sdp,
            headers: Vec::new(),
            credentials: Some(Credentials {
                user: self.config.user.clone(),
                password: self.config.password.clone(),
            }),
            keeps_crossed: false,
        };
        Ok(self.endpoint.invite(spec, sink)?)
    }

    /// Makes an incoming call a leg; nothing is answered yet.
    ///
    /// # Errors
    /// [`PhoneError::Start`].
    pub fn accept(&self, invite: IncomingInvite, sink: LegSink) -> Result<Leg, PhoneError> {
        Ok(invite.accept(self.next_token(), sink)?)
    }

    fn next_token(&self) -> LegToken {
        LegToken {
            index: self.index,
            n: self.calls.fetch_add(1, Ordering::Relaxed),
            epoch: 0,
        }
    }

    /// Closes the sockets.
    pub async fn stop(&self) {
        self.endpoint.shutdown().await;
    }
}
