//! INFO requests within a call: keys of phones that send them so, and whatever else two ends
//! of a bridge have to tell each other.

use strowger_core::call::Stage;
use strowger_core::ids::LegId;
use strowger_core::ivr::speech::Key;
use tracing::debug;

use super::{Shared, sound};

/// Takes in an INFO of a leg: a key is told to the call, and the other side of the bridge has
/// it too.
pub fn pass(shared: &Shared, leg: LegId, content_type: &str, body: bytes::Bytes) {
    let Some(call) = shared.legs.call_of(leg) else {
        return;
    };
    if let Some(key) = key_of_info(content_type, &body) {
        sound::key_pressed(shared, leg, key);
    }
    let other = {
        let state = shared.state.read();
        state.calls.get(&call).and_then(|row| {
            let caller = row.caller().map(|caller| caller.id);
            match row.stage {
                Stage::Bridged { far } if far == leg => caller,
                // Others who are still being cleared have nobody to tell.
                Stage::Bridged { far } if caller == Some(leg) => Some(far),
                _ => None,
            }
        })
    };
    if let Some(sip) = other.and_then(|other| shared.legs.sip(other))
        && let Err(why) = sip.info(content_type, body)
    {
        debug!(%leg, %why, "a leg did not take an INFO");
    }
}

/// The key an INFO names, in either of the two forms phones use: `Signal=5` in
/// application/dtmf-relay, the bare key in application/dtmf.
fn key_of_info(content_type: &str, body: &[u8]) -> Option<Key> {
    let kind = content_type.split(';').next()?.trim();
    let text = std::str::from_utf8(body).ok()?;
    let key = if kind.eq_ignore_ascii_case("application/dtmf-relay") {
        let mut lines = text.lines().filter_map(|line| line.split_once('='));
        let (_, value) = lines.find(|(name, _)| name.trim().eq_ignore_ascii_case("signal"))?;
        value.trim()
    } else if kind.eq_ignore_ascii_case("application/dtmf") {
        text.trim()
    } else {
        return None;
    };
    // Some phones write the event's number for the two signs.
    let key = match key {
        "10" => "*",
        "11" => "#",
        key => key,
    };
    let mut chars = key.chars();
    let first = chars.next()?;
    Key::parse(first).filter(|_| chars.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_from_both_kinds_of_info() {
        let key = |kind: &str, body: &str| key_of_info(kind, body.as_bytes()).map(Key::as_char);
        let relay = "application/dtmf-relay";
        assert_eq!(key(relay, "Signal=5\r\nDuration=160\r\n"), Some('5'));
        assert_eq!(key(relay, "Duration=160\r\nSignal= * \r\n"), Some('*'));
        assert_eq!(key(relay, "signal=11"), Some('#'));
        assert_eq!(key("Application/DTMF; charset=utf-8", "7\r\n"), Some('7'));
        for (kind, body) in [
            (relay, ""),
            (relay, "Signal=55"),
            (relay, "Signal="),
            ("application/dtmf", "x"),
            ("text/plain", "5"),
        ] {
            assert_eq!(key(kind, body), None, "{kind} {body}");
        }
    }
}
