//! What a dialled number means for a caller: a pure look-up in the site.
//!
//! Exact extensions win over numbers, numbers over routes, the longest prefix among
//! routes. Callers who have not proved who they are reach public numbers only.

use crate::call::{Caller, Cause};
use crate::ids::{BlobId, Extension, HoursName, QueueName};
use crate::ivr::speech::Language;
use crate::site::{Closed, NumberSpec, RouteSpec, Site, Target};

/// A code dialled by an agent's phone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureCode {
    /// `*11`
    SignIn,
    /// `*12`
    SignOut,
    /// `*13`, for the first reason of the site; `*131` to `*139` for the first to ninth.
    Pause(usize),
    /// `*14`
    Ready,
    /// `*15`
    ExtendWrapUp,
}

impl FeatureCode {
    /// The code with these digits.
    pub fn from_digits(digits: &str) -> Option<Self> {
        match digits {
            "*11" => Some(Self::SignIn),
            "*12" => Some(Self::SignOut),
            "*13" => Some(Self::Pause(0)),
            "*14" => Some(Self::Ready),
            "*15" => Some(Self::ExtendWrapUp),
            _ => {
                let place = digits.strip_prefix("*13")?;
                ["1", "2", "3", "4", "5", "6", "7", "8", "9"]
                    .iter()
                    .position(|digit| *digit == place)
                    .map(Self::Pause)
            }
        }
    }
}

/// Where a call goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To the phones of an extension.
    Extension(Extension),
    /// Into a queue.
    Queue {
        /// The queue.
        queue: QueueName,
        /// Prompt played once.
        greeting: Option<BlobId>,
        /// Music while waiting.
        music: Option<BlobId>,
    },
    /// Out over a trunk of the rule that [`beyond`] finds.
    Trunk {
        /// Number dialled beyond it.
        number: String,
    },
    /// A feature code of the phone at this extension.
    Code(FeatureCode, Extension),
    /// To be told in this language that nobody is there at this time.
    Closed(Language),
    /// Nowhere.
    Refused(Cause),
}

/// Decides where `to` leads for `from` while these hours are open.
pub fn route(
    site: &Site,
    is_open: impl Fn(&HoursName) -> bool,
    from: &Caller,
    to: &str,
) -> Destination {
    if let (Some(code), Some(extension)) = (FeatureCode::from_digits(to), &from.extension) {
        return Destination::Code(code, extension.clone());
    }
    let trusted = from.extension.is_some() || from.trunk.is_some();
    let extension = Extension::from(to);
    if site.extensions.contains_key(&extension) {
        return if trusted {
            Destination::Extension(extension)
        } else {
            Destination::Refused(Cause::FORBIDDEN)
        };
    }
    if let Some(number) = site.numbers.get(to) {
        return to_number(site, is_open, number, trusted);
    }
    if from.extension.is_some() {
        return to_trunk(site, to);
    }
    Destination::Refused(if trusted {
        Cause::UNKNOWN_NUMBER
    } else {
        Cause::FORBIDDEN
    })
}

fn to_number(
    site: &Site,
    is_open: impl Fn(&HoursName) -> bool,
    number: &NumberSpec,
    trusted: bool,
) -> Destination {
    if !number.public && !trusted {
        return Destination::Refused(Cause::FORBIDDEN);
    }
    match &number.hours {
        Some((hours, closed)) if !is_open(hours) => match closed {
            // A greeting speaks of what the caller would have reached.
            Closed::To(target) => to_target(site, target, None),
            Closed::Told(language) => Destination::Closed(*language),
        },
        _ => to_target(site, &number.target, number.greeting),
    }
}

fn to_target(site: &Site, target: &Target, greeting: Option<BlobId>) -> Destination {
    match target {
        Target::Extension(extension) => Destination::Extension(extension.clone()),
        Target::Queue(queue) => Destination::Queue {
            queue: queue.clone(),
            greeting,
            music: site.queues.get(queue).and_then(|spec| spec.music),
        },
    }
}

/// The rule that sends `to` out over trunks, and the number dialled beyond them.
pub fn beyond<'s>(site: &'s Site, to: &str) -> Option<(&'s RouteSpec, String)> {
    let found = site
        .routes
        .iter()
        .find(|route| to.starts_with(&route.prefix));
    let rule = found?;
    let number: String = to.chars().skip(rule.strip).collect();
    (!number.is_empty()).then_some((rule, number))
}

fn to_trunk(site: &Site, to: &str) -> Destination {
    match beyond(site, to) {
        Some((_, number)) => Destination::Trunk { number },
        None => Destination::Refused(Cause::UNKNOWN_NUMBER),
    }
}
