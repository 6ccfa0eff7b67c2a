//! What rows hold that only the daemon reads, and what daemons say to each other, written down
//! in `tests/frozen/`.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use strowger_core::state::FEATURE_LEVEL;
use strowger_frozen::Listing;

use crate::peer::{Held, PeerRequest, PeerStatus, Piece};
use crate::secrets::Hashes;
use crate::telephony::checkpoint::Checkpoint;
use crate::telephony::forward::Forward;

fn add<T: Serialize + DeserializeOwned>(listing: Listing, what: &str) -> Listing {
    let encode = |value: &T| postcard::to_stdvec(value).expect("plain values");
    listing.of::<T>(what, encode, |bytes| postcard::from_bytes(bytes).ok())
}

#[test]
fn checkpoints_secrets_and_messages_keep_their_encodings() {
    let listing = add::<Checkpoint>(Listing::default(), "Checkpoint");
    let listing = add::<Hashes>(listing, "Hashes");
    let listing = add::<Forward>(listing, "Forward");
    let listing = add::<PeerRequest>(listing, "PeerRequest");
    let listing = add::<PeerStatus>(listing, "PeerStatus");
    let listing = add::<Piece>(listing, "Piece");
    let listing = add::<Held>(listing, "Held");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frozen");
    listing.check(&folder, FEATURE_LEVEL);
}
